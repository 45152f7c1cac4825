"""Prove data/ by execution: does the old code break on the new version, and does the new code run there?

Every record of ours has a line in data/evidence.jsonl (keyed by `Record.id`) that names two environments (lists of
exact pins) and a `check`: assertions appended to the code. Where a default or a behaviour changed, it alone tells
old from new.
A record is proven when
  1. the new code, then its check, runs on the new environment with no error and no deprecation warning;
  2. the old code on the new environment raises, or emits a deprecation warning, or fails the check;
  3. the old code, then its check, runs on the old environment without an error.

Programs run in a subprocess with a time limit, a scratch directory and no display. That is enough for our own
records, which were read before they were merged; it is no sandbox for code that a model wrote.

    python src/verify.py                         # every record in data/: makes its environments first (slow once)
    python src/verify.py --sample 10 --library NumPy
    python src/verify.py --record 3f2a9c01b7de   # one record, with what each run said
    python src/verify.py --write                 # store what was seen in data/evidence.jsonl
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from records import Record, RecordError, load_records
from run_context import append_jsonl, read_jsonl

# Runs inside the environment under test. It reads {"code", "check"} on stdin, prints one JSON line, and imports
# nothing beyond the standard library before the snippet does.
RUNNER = r"""
import json, sys, traceback, warnings
job = json.load(sys.stdin)
stdout, sys.stdout = sys.stdout, sys.stderr
out = {"outcome": "ok", "text": ""}
space = {"__name__": "__main__"}
stage = "code"
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    try:
        exec(compile(job["code"], "<record>", "exec"), space)
        stage = "check"
        if job["check"]:
            exec(compile(job["check"], "<check>", "exec"), space)
    except BaseException as error:
        outcome = "error" if stage == "code" else "check"
        out = {"outcome": outcome, "text": traceback.format_exception_only(type(error), error)[-1].strip()[:300]}
kinds = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
old = [w for w in seen if issubclass(w.category, kinds)]
if old and out["outcome"] == "ok":
    out = {"outcome": "warning", "text": f"{old[0].category.__name__}: {old[0].message}"[:300]}
stdout.write(json.dumps(out) + "\n")
"""


def environment(pins: list[str], root: Path) -> Path:
    """The interpreter of a virtual environment that holds exactly `pins`; made once, reused by content hash."""
    home = root / hashlib.sha256("\n".join(sorted(pins)).encode()).hexdigest()[:12]
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"verify: pip could not install {' '.join(pins)}\n{done.stderr[-2000:]}")
        (home / "ready").write_text("\n".join(pins) + "\n")
    return python


def execute(python: Path, code: str, check: str | None, seconds: int) -> dict[str, str]:
    """Run `code`, then `check`, in a fresh interpreter. Returns {"outcome": ok|warning|error|check, "text": …}."""
    with tempfile.TemporaryDirectory() as scratch:
        env = {"PATH": os.environ["PATH"], "HOME": scratch, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                [str(python), "-I", "-c", RUNNER],
                input=json.dumps({"code": code, "check": check}),
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
                cwd=scratch,
                env=env,
            )
        except subprocess.TimeoutExpired:
            return {"outcome": "error", "text": f"still running after {seconds} s"}
    try:
        said = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = {"outcome": "error", "text": f"exit {done.returncode}: {done.stderr.strip()[-300:]}"}
    # An ImportError names the file it looked in: evidence should read the same on every machine.
    return {**said, "text": said["text"].replace(str(python.parent.parent), "ENV")}


def prove(record: Record, evidence: dict, envs: Path, seconds: int) -> dict[str, dict[str, str]]:
    """The three runs of one record, by name."""
    new, old = environment(evidence["new_env"], envs), environment(evidence["old_env"], envs)
    check = evidence.get("check")
    return {
        "new_on_new": execute(new, record.new_code, check, seconds),
        "old_on_new": execute(new, record.old_code, check, seconds),
        "old_on_old": execute(old, record.old_code, check, seconds),
    }


def problems(runs: dict[str, dict[str, str]]) -> list[str]:
    """What the three runs fail to prove; empty when the record holds."""
    found = []
    if runs["new_on_new"]["outcome"] != "ok":
        found.append(f"the new code is not clean on the new version: {runs['new_on_new']['text']}")
    if runs["old_on_new"]["outcome"] == "ok":
        found.append("the old code still runs clean on the new version, and no check tells the two apart")
    if runs["old_on_old"]["outcome"] in ("error", "check"):
        found.append(f"the old code does not run on the old version: {runs['old_on_old']['text']}")
    return found


def load(data: Path) -> list[tuple[Record, dict]]:
    """Every record of data/ with its evidence; stops where one has none or evidence names no record."""
    records = {r.id: (split, r) for split in ("train", "heldout") for r in load_records(data / f"{split}.jsonl")}
    evidence = {row["id"]: row for row in read_jsonl(data / "evidence.jsonl")}
    if lost := sorted(records.keys() ^ evidence.keys()):
        raise RecordError(f"{data}/evidence.jsonl: record and evidence do not pair up: {', '.join(lost)}")
    wrong = [i for i, (split, _) in records.items() if evidence[i]["split"] != split]
    if wrong:
        raise RecordError(f"{data}/evidence.jsonl: another split than the record's file: {', '.join(wrong)}")
    return [(record, evidence[i]) for i, (_, record) in records.items()]


def write_evidence(data: Path, pairs: list[tuple[Record, dict]], seen: dict[str, dict]) -> None:
    """Store what each run said beside the record's evidence."""
    part = data / "evidence.jsonl.part"
    part.unlink(missing_ok=True)
    append_jsonl(part, *({**evidence, "seen": seen.get(r.id, evidence.get("seen"))} for r, evidence in pairs))
    part.replace(data / "evidence.jsonl")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).parent.parent / "data"
    parser.add_argument("--data", type=Path, default=here, help="folder of the records")
    parser.add_argument("--envs", type=Path, default=Path(".venvs"), help="where environments are kept")
    parser.add_argument("--record", help="verify one record and print what each run said")
    parser.add_argument("--library", help="only this library's records")
    parser.add_argument("--sample", type=int, help="verify this many, chosen by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="programs at once (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="time limit of one run (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="store what was seen in evidence.jsonl")
    args = parser.parse_args()
    if sys.version_info[:2] != (3, 11):  # several pins, numpy==1.23.5 among them, have wheels for no later Python
        print("verify: needs Python 3.11, the one that data/evidence.jsonl pins for", file=sys.stderr)
        return 2
    try:
        pairs = load(args.data)
    except (RecordError, OSError) as error:
        print(f"verify: {error}", file=sys.stderr)
        return 2
    chosen = [p for p in pairs if args.record in (None, p[0].id) and args.library in (None, p[0].dependency)]
    if args.sample is not None and args.sample < len(chosen):
        chosen = random.Random(args.seed).sample(chosen, args.sample)
    if not chosen:
        print("verify: no record of that name", file=sys.stderr)
        return 2

    envs = args.envs.resolve()
    pins = {tuple(evidence[key]) for _, evidence in chosen for key in ("old_env", "new_env")}
    for pin in tqdm(sorted(pins), desc="environments"):  # one after the other: pip writes a shared cache
        environment(list(pin), envs)
    seen, failed = {}, 0
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = pool.map(lambda pair: prove(*pair, envs, args.seconds), chosen)
        for (record, evidence), outcome in tqdm(zip(chosen, runs, strict=True), desc="records", total=len(chosen)):
            seen[record.id] = outcome
            found = problems(outcome)
            failed += bool(found)
            for problem in found:
                tqdm.write(f"{record.id} {evidence['update']}: {problem}")
            if args.record:
                print(json.dumps(outcome, indent=1))
    if args.write:
        write_evidence(args.data, pairs, seen)
    print(f"{len(chosen) - failed} of {len(chosen)} records reproduce, in {len(pins)} environments")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
