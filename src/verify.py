"""Prove records by execution: does the old code break on the new version, and does the new code run there?

Every record has a line in the evidence.jsonl beside it (keyed by `Record.id`) that names two environments (lists of
exact pins) and a `check`: assertions appended to the code. Where a default or a behaviour changed, it alone tells
old from new. A record is proven when
  1. the new code, then its check, runs on the new environment with no error and no deprecation warning;
  2. the old code on the new environment raises, or emits a deprecation warning, or fails the check;
  3. the old code, then its check, runs on the old environment without an error.
src/curation/proof.py runs them, in the sandbox (src/sandbox/): no network, no display, limits on time and memory.

    python src/verify.py                         # every record in data/: makes its environments first (slow once)
    python src/verify.py out/records.jsonl       # another file of records, or a folder, with evidence.jsonl beside it
    python src/verify.py --log run.jsonl         # killed and started again, it goes on
    python src/verify.py --sample 20 --environments 5 --seed "$(git rev-parse HEAD)"    # as in CI
    python src/verify.py --record 3f2a9c01b7de   # one record, with what each run said
    python src/verify.py --write                 # store what was seen in evidence.jsonl, what pip installed beside it

Where environments.jsonl beside the records knows a list of pins, pip is held to all that it says
(src/curation/virtualenvs.py).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from common.cli import fail, printable, program
from common.errors import InputError
from common.files import append_jsonl, read_jsonl, read_log, write_jsonl
from curation.proof import problems, prove_all
from curation.virtualenvs import (
    EnvironmentFailed,
    Locks,
    Pins,
    environment,
    environment_name,
    installed,
    is_pins,
    read_locks,
    write_locks,
)
from records import Record, load_records
from sandbox import InfrastructureError

SPLITS = ("train", "heldout")


def check_evidence(path: Path) -> dict[str, dict]:
    """The rows of a side table by record id; InputError names line and field of what is wrong."""
    found: dict[str, dict] = {}
    for line, row in enumerate(read_jsonl(path), start=1):
        for field, kind in (("id", str), ("old_env", list), ("new_env", list)):
            if not isinstance(row.get(field), kind) or not row[field]:
                raise InputError(f"{path}:{line}: {field}: missing, empty, or of the wrong type")
        for field in ("old_env", "new_env"):
            if not is_pins(row[field]):
                raise InputError(f"{path}:{line}: {field}: not a list of pins, as numpy==2.0.0")
        if not isinstance(row.get("check"), str | None):
            raise InputError(f"{path}:{line}: check: neither text nor null")
        if row["id"] in found:
            raise InputError(f"{path}:{line}: id: {row['id']} has evidence on an earlier line")
        found[row["id"]] = row
    return found


def load(data: Path) -> list[tuple[Record, dict]]:
    """Every record of a folder (train.jsonl, heldout.jsonl) or of one file, with its evidence.

    InputError where a record has no evidence; for a folder also where evidence names no record, or another split.
    """
    files = [data / f"{split}.jsonl" for split in SPLITS] if data.is_dir() else [data]
    table = files[0].with_name("evidence.jsonl")
    records = {
        record.id: (file.stem, record)
        for file in files
        if file.exists() or not data.is_dir()
        for record in load_records(file)
    }
    evidence = check_evidence(table)
    lost = records.keys() ^ evidence.keys() if data.is_dir() else records.keys() - evidence.keys()
    if lost:
        raise InputError(f"{table}: record and evidence do not pair up: {', '.join(sorted(lost))}")
    wrong = [i for i, (split, _) in records.items() if split in SPLITS and evidence[i].get("split") != split]
    if wrong:
        raise InputError(f"{table}: another split than the record's file: {', '.join(wrong)}")
    return [(record, evidence[i]) for i, (_, record) in records.items()]


def draw(pairs: list[tuple[Record, dict]], size: int, environments: int | None, seed: str) -> list[tuple[Record, dict]]:
    """`size` records by the text `seed`: the same text, the same records. InputError where that many do not fit.

    With `environments`, all of them live in that many: pairs of environments come in a random order that favours few
    pins per record (quick to install, and many records each), and those that fit are taken. Every record can be drawn.
    """
    rng = random.Random(seed)
    groups: dict[tuple[tuple[str, ...], ...], list[tuple[Record, dict]]] = {}
    for pair in pairs:
        groups.setdefault(tuple(tuple(pair[1][key]) for key in ("old_env", "new_env")), []).append(pair)
    for _ in range(100):
        used: set[tuple[str, ...]] = set()
        fit: list[tuple[Record, dict]] = []
        for both in sorted(groups, key=lambda both: rng.random() * sum(map(len, both)) / len(groups[both])):
            if environments is None or len(used | {*both}) <= environments:
                used |= {*both}
                fit += groups[both]
        if len(fit) >= size:
            return rng.sample(fit, size)
    raise InputError(f"no {environments} environments hold {size} records" if environments else f"not {size} records")


def environments_of(pairs: list[tuple[Record, dict]]) -> list[tuple[str, ...]]:
    """The lists of pins that these records need."""
    return sorted({tuple(evidence[key]) for _, evidence in pairs for key in ("old_env", "new_env")})


def store(folder: Path, seen: dict[str, dict], locks: Locks) -> None:
    """Store what the runs said in evidence.jsonl, and what their environments held in environments.jsonl.

    Rows of other records and environments stay as they are.
    """
    rows = check_evidence(folder / "evidence.jsonl").items()
    write_jsonl(folder / "evidence.jsonl", [{**row, "seen": seen[i]} if i in seen else row for i, row in rows])
    write_locks(folder, {**read_locks(folder), **locks})


def table(runs: dict[str, dict[str, dict[str, str]]]) -> str:
    """How many records ended how, one line for each of the three runs."""
    lines = []
    for name in ("new_on_new", "old_on_new", "old_on_old"):
        counts = Counter(run[name]["outcome"] for run in runs.values())
        lines.append(f"  {name.replace('_', ' '):<11} " + ", ".join(f"{n} {kind}" for kind, n in counts.most_common()))
    return "\n".join(lines)


def verify(
    chosen: list[tuple[Record, dict]], locks: Locks, args: argparse.Namespace
) -> tuple[dict[str, dict[str, dict[str, str]]], dict[Pins, list[str]]]:
    """(the runs of every record by id, what the environments of these runs held, by their pins).

    The runs come also in the file args.log; what that holds already, of the same check and environments, is not run.
    """
    facts = {}
    for record, row in chosen:
        places = [environment_name(row[key], locks) for key in ("old_env", "new_env")]
        facts[record.id] = {"environments": places, "check": row.get("check")}
    seen: dict[str, dict[str, dict[str, str]]] = {}
    held: dict[str, list[str]] = {}
    for line, row in enumerate(read_log(args.log) if args.log else [], start=1):
        kinds = {"id": str, "facts": dict, "installed": dict, "runs": dict}
        if any(not isinstance(row.get(key), kind) for key, kind in kinds.items()):
            raise InputError(f"{args.log}:{line}: no line of this program's log: choose another --log")
        if row["facts"] == facts.get(row["id"]) and {*row["installed"]} == {*row["facts"]["environments"]}:
            seen[row["id"]] = row["runs"]
            held |= row["installed"]
    left = [pair for pair in chosen if pair[0].id not in seen]
    for pins in tqdm(environments_of(left), desc="environments"):  # one after the other: pip writes a shared cache
        found = installed(environment(pins, args.envs, locks))
        if held.setdefault(environment_name(pins, locks), found) != found:
            raise InputError(f"{args.log}: of runs in other environments than {args.envs} has: choose another --log")
    runs = prove_all(left, args.envs, args.seconds, args.jobs, locks, unsafe=args.unsafe)
    for record, evidence, run in tqdm(runs, desc="records", total=len(chosen), initial=len(seen)):
        seen[record.id] = run
        if args.log:
            both = {place: held[place] for place in facts[record.id]["environments"]}
            append_jsonl(args.log, {"id": record.id, "facts": facts[record.id], "installed": both, "runs": run})
        for problem in problems(run):
            tqdm.write(printable(f"{record.id} {evidence.get('update', '')}: {problem}"), file=sys.stderr)
    return seen, {tuple(sorted(pins)): held[environment_name(pins, locks)] for pins in environments_of(chosen)}


@program(InfrastructureError)
def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    here = Path(__file__).parent.parent / "data"
    parser.add_argument("data", nargs="?", type=Path, default=here, help="folder or file of records (default: data/)")
    parser.add_argument("--data", dest="folder", type=Path, help=argparse.SUPPRESS)  # the older way to say it
    parser.add_argument("--envs", type=Path, default=Path(".venvs"), help="where environments are kept")
    parser.add_argument("--record", help="verify one record and print what each run said")
    parser.add_argument("--library", help="only this library's records")
    parser.add_argument("--sample", type=int, help="verify this many, chosen by --seed")
    parser.add_argument("--environments", type=int, help="with --sample: over at most this many, cheap ones rather")
    parser.add_argument("--seed", default="0", help="any text, such as a commit's hash (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="programs at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="time limit of one run (default: %(default)s)")
    parser.add_argument(
        "--log", type=Path, help="write what was seen here, record by record; a next run goes on from it"
    )
    parser.add_argument(
        "--write", action="store_true", help="store what was seen, and what pip installed, beside the records"
    )
    parser.add_argument("--unsafe", action="store_true", help="no sandbox: programs can read and delete your files")
    args = parser.parse_args()
    data = args.folder or args.data
    for name in ("sample", "environments", "jobs", "seconds"):
        if getattr(args, name) is not None and getattr(args, name) <= 0:
            fail(f"--{name} {getattr(args, name)}: expected a number above 0")
    if sys.version_info[:2] != (3, 11):  # several pins, numpy==1.23.5 among them, have wheels for no later Python
        fail("needs Python 3.11, the one that data/evidence.jsonl pins for")
    try:
        pairs = load(data)
        chosen = [p for p in pairs if args.record in (None, p[0].id) and args.library in (None, p[0].dependency)]
        if args.sample is not None:
            chosen = draw(chosen, min(args.sample, len(chosen)), args.environments, args.seed)
        if not chosen:
            fail("no record of that name")
        folder = data if data.is_dir() else data.parent
        seen, held = verify(chosen, read_locks(folder), args)
        if args.write:
            store(folder, seen, held)
    except (InputError, OSError, EnvironmentFailed, InfrastructureError) as error:
        fail(error)
    if args.record:
        print(json.dumps(seen[args.record], indent=1))
    proven = sum(not problems(seen[record.id]) for record, _ in chosen)
    shown = table({record.id: seen[record.id] for record, _ in chosen})
    print(f"{proven} of {len(chosen)} records reproduce, in {len(environments_of(chosen))} environments\n{shown}")
    return int(proven < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
