"""Score samples on CodeUpdateArena or the multi-update set: Pass@k, UPass@k, 95 % intervals, the paper's beside them.

    python src/score.py --benchmark arena --data FILE --samples samples.jsonl --out results/run
    python src/score.py --samples samples.jsonl --out results/run    # benchmark and data as src/generate.py noted
    python src/score.py --compare results/base results/grpo            # paired difference, and the tasks that changed

Pass@k is the unbiased estimate over the n samples of a problem (n < k is an error); UPass counts samples that pass with
the update in force and fail without it. Intervals: bootstrap over problems (those of one update are alike, so it is
somewhat narrow). What is executed is the samples' `code`, in
src/sandbox.py's sandbox, as src/execution.py says. Refused: incomplete files, doubled samples, other data than the
samples were made for. Writes OUT/results.json, OUT/table.md and OUT/verdicts.jsonl (one line a sample, with the end of
its traceback). Needs requirements-eval.txt, here or in the environment of --python.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sandbox
from arguments import fail, parse_flags
from execution import LIBRARIES, Outcome, broken_updates, calls, judge, preload
from record_files import RecordError, resolve
from rewards import is_well_formed
from run_context import append_jsonl, describe, read_jsonl, sha256, write_json
from sample_files import read_samples
from score_report import compare, markdown, paper_labels, summarise
from tasks import BENCHMARKS, Task, load_tasks, subset

ROOT = Path(__file__).parent.parent
ERRATA = ROOT / "data" / "arena_errata.jsonl"


def read_errata(path: Path | None) -> dict[str, str]:
    """Task id -> why its reference solution cannot pass; empty without a file. Raises RecordError."""
    try:
        return {row["task_id"]: row["reason"] for row in read_jsonl(path)} if path else {}
    except (OSError, ValueError, TypeError) as error:
        raise RecordError(f"{path}: {error}") from None
    except KeyError as error:
        raise RecordError(f"{path}: a line without {error}") from None


def verdict_row(task: Task, row: dict[str, Any], patched: Outcome, plain: Outcome | None) -> dict[str, Any]:
    """What is kept of one sample."""
    return {
        "task_id": task.id,
        "sample_id": row["sample_id"],
        "passed": patched.passed,
        "upassed": patched.passed and plain is not None and not plain.passed,
        "status": patched.status,
        "test": patched.test,
        "detail": patched.detail,
        "without_update": plain.status if plain else None,
        "format": is_well_formed(row["completion"]),
        "truncated": row["finish_reason"] == "length",
        "calls_update": all(calls(row["code"], update, task.imports) for update in task.updates),
    }


def execute(tasks: dict[str, Task], rows: list[dict[str, Any]], options: dict[str, Any]) -> list[dict[str, Any]]:
    """The verdict rows of the samples: with the update, then, of those that pass, without."""
    pairs = [(tasks[row["task_id"]], row["code"]) for row in rows]
    print(f"{len(rows)} samples of {len(tasks)} problems, with the update in force", file=sys.stderr)
    patched = judge(pairs, **options)
    passing = [pair for pair, outcome in zip(pairs, patched, strict=True) if outcome.passed]
    print(f"{len(passing)} passed; these without the update", file=sys.stderr)
    plain = iter(judge(passing, in_force=(), **options))
    return [
        verdict_row(task, row, outcome, next(plain) if outcome.passed else None)
        for (task, _), row, outcome in zip(pairs, rows, patched, strict=True)
    ]


def library_versions(python: str) -> dict[str, str | None]:
    """What the samples were run with: the versions of the benchmark's libraries in the environment of `python`."""
    names = sorted({name.partition(".")[0] for name in LIBRARIES})
    code = (
        "import importlib.metadata as m, json, sys\nfound = {}\nfor name in sys.argv[1:]:\n"
        "    try: found[name] = m.version(name)\n    except m.PackageNotFoundError: found[name] = None\n"
        "print(json.dumps({'python': sys.version.split()[0], **found}))"
    )
    done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def check_environment(tasks: list[Task], known: dict[str, str], options: dict[str, Any]) -> None:
    """Stop in one line where an update cannot even be put in force: every sample of its tasks would fail."""
    if options["python"] == sys.executable:
        lacking = [name for name in preload(tasks) if find_spec(name.partition(".")[0]) is None]
        if lacking:
            fail(f"{lacking[0].partition('.')[0]} is not installed: pip install -r requirements-eval.txt")
    broken = {task: seen for task, seen in broken_updates(tasks, **options).items() if task not in known}
    if broken:
        task, seen = next(iter(broken.items()))
        fail(f"the updates of {len(broken)} tasks cannot be put in force, first {task}: {seen.splitlines()[-1]}")


def write_errata(path: Path, verdicts: list[dict[str, Any]]) -> None:
    """The tasks whose reference does not pass, each with the reason as seen."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    for row in verdicts:
        if not row["passed"]:
            last = (row["detail"].strip().splitlines() or [""])[-1]
            append_jsonl(part, {"task_id": row["task_id"], "reason": f"{row['test']}: {row['status']}: {last}"})
    part.touch()
    part.replace(path)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", choices=BENCHMARKS, help="default: the samples'")
    parser.add_argument(
        "--data", help="JSONL file or hf://datasets/OWNER/NAME[@REVISION][/FILE]; default: the samples'"
    )
    parser.add_argument("--samples", type=Path, help="what src/generate.py wrote")
    parser.add_argument("--out", type=Path, help="folder for results.json, table.md and verdicts.jsonl")
    parser.add_argument("--k", default="1,5", help="Pass@k for these k (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="score the fixed subset of this size; default: the samples'")
    parser.add_argument("--skip-bad-tasks", action="store_true", help="leave out rows of the data that cannot be used")
    parser.add_argument("--errata", type=Path, help=f"tasks to leave out of a second score (arena: {ERRATA.name})")
    parser.add_argument("--label", help="the row of results/paper.json to compare with, as MODEL/METHOD")
    parser.add_argument("--write-errata", type=Path, metavar="FILE", help="from reference samples: those that fail")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"), help="two folders that hold results.json")
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter that runs the samples (default: this one)"
    )
    sandbox.add_flags(parser)
    return parse_flags(parser, argv)


def main() -> int:
    args = parse_arguments()
    try:
        if args.compare:
            print(compare(*args.compare))
            return 0
        if not (args.samples and args.out):
            fail("--samples and --out are needed (or --compare A B)")
        return score(args)
    except RecordError as error:
        fail(error)
    except sandbox.InfrastructureError as error:
        fail(f"the sandbox, not the samples: {error}")


def score(args: argparse.Namespace) -> int:
    started = time.time()
    try:
        ks = sorted({int(k) for k in args.k.split(",")})
    except ValueError:
        fail(f"--k {args.k!r}: expected numbers such as 1,5")
    if ks[0] < 1:
        fail(f"--k {args.k}: starts at 1")
    note = args.samples.with_suffix(".json")
    made = json.loads(note.read_text("utf-8")).get("identity", {}) if note.is_file() else {}
    benchmark, data = args.benchmark or made.get("benchmark"), args.data or made.get("data")
    if not (benchmark and data):
        fail(f"{note}: not there, so --benchmark and --data are needed")
    limit = args.limit if args.limit is not None else made.get("limit")
    path = resolve(data)
    if made and (made["benchmark"], made["data_sha256"]) != (benchmark, sha256(path)):
        fail(f"{args.samples} was made for {made['benchmark']} and other data than {data}")
    skip_bad = args.skip_bad_tasks or made.get("skip_bad_tasks", False)
    tasks = subset(load_tasks(path, benchmark, skip_bad=skip_bad), limit)
    rows = read_samples(args.samples, [task.id for task in tasks], is_subset=limit is not None)
    n = len(rows) // len(tasks)
    if ks[-1] > n:
        fail(f"Pass@{ks[-1]} needs {ks[-1]} samples a problem, {args.samples} has {n}: choose --k")
    errata_file = args.errata or (ERRATA if benchmark == "arena" and ERRATA.is_file() else None)
    errata = read_errata(errata_file)
    done = args.out / "results.json"
    if done.exists() and json.loads(done.read_text("utf-8"))["samples"]["sha256"] != sha256(args.samples):
        fail(f"{args.out} holds the results of other samples: choose another --out")
    if args.label and args.label not in paper_labels():
        fail(f"--label {args.label}: results/paper.json has {', '.join(paper_labels())}")
    if args.write_errata and made.get("backend") != "reference":
        fail("--write-errata needs the samples of src/generate.py --reference")

    options = {**sandbox.settings(args), "python": args.python}
    check_environment(tasks, errata, options)
    by_id = {task.id: task for task in tasks}
    verdicts = execute(by_id, rows, options)
    args.out.mkdir(parents=True, exist_ok=True)
    part = args.out / "verdicts.jsonl.part"
    part.unlink(missing_ok=True)
    append_jsonl(part, *verdicts)
    part.replace(args.out / "verdicts.jsonl")
    if args.write_errata:
        write_errata(args.write_errata, verdicts)
        print(f"wrote {args.write_errata}")
    mine = {key: str(value) for key, value in vars(args).items() if value is not None}
    result = {
        "benchmark": benchmark,
        "label": args.label,
        **summarise(by_id, verdicts, ks, errata),
        "samples": {"sha256": sha256(args.samples), "made": made},
        "errata": {"sha256": sha256(errata_file), "tasks": sorted(errata.keys() & by_id.keys())}
        if errata_file
        else None,
        "executed_with": library_versions(args.python),
        "wall_seconds": round(time.time() - started, 1),
        **describe(mine, {data: path}, None),
    }
    if made.get("prompt") == "one-shot":  # which asks for no think and answer parts
        result["rates"]["format"] = None
    write_json(done, result)
    table = markdown(result)
    part = args.out / "table.md.part"
    part.write_text(table + "\n", encoding="utf-8")
    part.replace(args.out / "table.md")
    print(table)
    print("\n" + "\n".join(f"{args.out / name}" for name in ("results.json", "table.md", "verdicts.jsonl")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
