"""Score samples by execution: Pass@k with 95 % intervals, the paper's numbers beside them where it has any.

    python src/score.py --benchmark arena --data FILE --samples samples.jsonl --out results/run
    python src/score.py --samples samples.jsonl --out results/run    # benchmark and data as src/generate.py noted
    python src/score.py --benchmark migration --data data/heldout.jsonl --samples samples.jsonl --out results/run
    python src/score.py --compare results/base results/grpo            # paired difference, and the tasks that changed

Pass@k is the unbiased estimate over the n samples of a problem (a --k above n is an error). What is executed is the
samples' `code`, in the sandbox (src/sandbox/). Refused: incomplete files, doubled samples, other data than the
samples were made for. Writes OUT/results.json, OUT/table.md and OUT/verdicts.jsonl (one line a sample, with the end of
its traceback).

arena, multi   (src/evaluation/arena/) UPass counts samples that pass with the update in force and fail without it.
               Intervals: bootstrap over problems (those of one update are alike, so it is somewhat narrow). Needs
               requirements/eval.txt, here or in the environment of --python.
migration      (src/evaluation/migration/) A sample passes when it and the record's check run on the new version without
               an exception or a deprecation warning. Intervals: bootstrap over updates. Makes the environments of
               --evidence in --envs: Python 3.11 for data/, and a package index the first time.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import sandbox
from common.cli import fail, parse_flags, program
from common.errors import InputError
from common.provenance import describe, sha256
from common.rows import resolve
from curation.virtualenvs import EnvironmentFailed
from evaluation import tables as score_report
from evaluation.arena import score as arena_score
from evaluation.arena.problems import BENCHMARKS, load_tasks, subset
from evaluation.migration import report as migration_report
from evaluation.migration import score as migration_score
from evaluation.results import check_owner, fit_ks, made_how, parse_ks, write_results
from evaluation.samples import read_samples
from sandbox.mounts import InfrastructureError

ONLY = {"migration": ("evidence", "envs"), "arena": ("errata", "write_errata", "python")}  # flags of one protocol


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", choices=BENCHMARKS, help="default: the samples'")
    parser.add_argument(
        "--data", help="JSONL file or hf://datasets/OWNER/NAME[@REVISION][/FILE]; default: the samples'"
    )
    parser.add_argument("--samples", type=Path, help="what src/generate.py wrote")
    parser.add_argument("--out", type=Path, help="folder for results.json, table.md and verdicts.jsonl")
    parser.add_argument("--k", help="Pass@k for these k, as 1,5 (default: 1, and 5 where there are 5 samples)")
    parser.add_argument("--limit", type=int, help="score the fixed subset of this size; default: the samples'")
    parser.add_argument("--skip-bad-tasks", action="store_true", help="leave out rows of the data that cannot be used")
    parser.add_argument(
        "--errata", type=Path, help="tasks to leave out of a second score (arena: data/arena_errata.jsonl)"
    )
    parser.add_argument("--label", help="the row of results/paper.json to compare with, as MODEL/METHOD")
    parser.add_argument("--write-errata", type=Path, metavar="FILE", help="from reference samples: those that fail")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"), help="two folders that hold results.json")
    parser.add_argument("--python", help="arena, multi: interpreter that runs the samples (default: this one)")
    parser.add_argument("--evidence", type=Path, help="migration: the records' proofs (default: beside the data)")
    parser.add_argument("--envs", type=Path, help="migration: where environments are kept (default: .venvs)")
    sandbox.add_flags(parser, f"{sandbox.DEFAULT.seconds:g}; migration: {migration_score.SECONDS:g}")
    return parse_flags(parser, argv)


@program(InfrastructureError)
def main() -> int:
    args = parse_arguments()
    try:
        if args.compare:
            print(score_report.compare(*args.compare))
            return 0
        if not (args.samples and args.out):
            fail("--samples and --out are needed (or --compare A B)")
        return score(args)
    except (InputError, EnvironmentFailed) as error:
        fail(error)
    except sandbox.InfrastructureError as error:
        fail(f"the sandbox, not the samples: {error}")


def score(args: argparse.Namespace) -> int:
    started = time.time()
    asked = parse_ks(args.k)
    made = made_how(args.samples)
    args.benchmark, data = args.benchmark or made.get("benchmark"), args.data or made.get("data")
    if not (args.benchmark and data):
        fail(f"{args.samples.with_suffix('.json')}: not there, so --benchmark and --data are needed")
    is_migration = args.benchmark == "migration"
    for flag in ONLY["arena" if is_migration else "migration"]:
        if getattr(args, flag):
            fail(f"--{flag.replace('_', '-')}: not for {args.benchmark}")
    if args.seconds is None:
        args.seconds = migration_score.SECONDS if is_migration else sandbox.DEFAULT.seconds
    limit = args.limit if args.limit is not None else made.get("limit")
    path = resolve(data)
    if made and (made["benchmark"], made["data_sha256"]) != (args.benchmark, sha256(path)):
        fail(f"{args.samples} was made for {made['benchmark']} and other data than {data}")
    skip_bad = args.skip_bad_tasks or made.get("skip_bad_tasks", False)
    tasks = subset(load_tasks(path, args.benchmark, skip_bad=skip_bad), limit)
    rows = read_samples(args.samples, [task.id for task in tasks], is_subset=limit is not None)
    ks = fit_ks(asked, len(rows) // len(tasks), args.samples)
    check_owner(args.out, args.samples, made)
    if args.label and args.label not in score_report.paper_labels():
        fail(f"--label {args.label}: results/paper.json has {', '.join(score_report.paper_labels())}")
    if is_migration:
        args.evidence = args.evidence or path.with_name("evidence.jsonl")
        args.envs = args.envs or Path(".venvs")  # as check_data.py proofs
    protocol = migration_score if is_migration else arena_score
    verdicts, numbers, used = protocol.score(tasks, rows, ks, args, made)
    mine = {key: str(value) for key, value in vars(args).items() if value is not None}
    result = {
        "benchmark": args.benchmark,
        "label": args.label,
        **numbers,
        "samples": {"sha256": sha256(args.samples), "made": made},
        "wall_seconds": round(time.time() - started, 1),
        **describe(mine, {data: path, **used}, None),
    }
    write_results(args.out, result, verdicts, (migration_report if is_migration else score_report).markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
