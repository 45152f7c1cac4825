"""Score samples by execution: Pass@k with 95 % intervals, the paper's numbers beside them if it has any.

    python src/score.py --samples samples.jsonl --out results/run    # benchmark and data as src/generate.py noted
    python src/score.py --benchmark arena --data FILE --samples samples.jsonl --out results/run
    python src/score.py --benchmark humaneval --check                          # are evalplus and its data here?
    python src/score.py --samples heldout.jsonl --no-run --out results/run     # migration: the training rewards alone
    python src/score.py --compare results/base results/grpo [--out FILE.md]    # paired difference, and what changed
    python src/score.py --paper results/eval/*/*/results.json                  # every number of the paper beside ours

Pass@k is the unbiased estimate over the n samples of a problem (a --k above n is an error). What is executed is the
samples' `code`, in the sandbox (src/sandbox/). Refused: incomplete files, doubled samples, other data than the
samples were made for. Writes OUT/results.json, OUT/table.md and OUT/verdicts.jsonl (one line a sample).

arena, multi      UPass counts samples that pass with the update in force and fail without it. Intervals: bootstrap over
                  problems. Needs requirements/eval.txt, here or in the environment of --python.
migration         A sample passes if it and the record's check run on the new version without an exception or a
                  deprecation warning. Intervals: bootstrap over updates. Environments: --evidence, --envs.
humaneval, mbpp   evalplus's verdicts, by the interpreter of --python (src/evaluation/humaneval/score.py).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sandbox
from common.cli import fail, parse_flags, printable, program
from common.errors import InputError
from common.files import write_text
from common.provenance import describe, sha256
from common.rows import resolve
from evaluation.arena.problems import subset
from evaluation.benchmarks import BENCHMARKS, Benchmark, Problem, Scorer
from evaluation.compare import compare
from evaluation.flags import add_benchmark_flags, refuse_others
from evaluation.paper import check_label, paper_table
from evaluation.results import check_owner, fit_ks, parse_ks, read_result, write_results
from evaluation.samples import Note, read_note, read_samples
from sandbox import InfrastructureError

SCORE_FLAGS = {name: benchmark.score_flags for name, benchmark in BENCHMARKS.items()}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--benchmark", choices=list(BENCHMARKS), help="default: the samples'")
    add("--data", help="JSONL file or hf://datasets/OWNER/NAME[@REVISION][/FILE]; default: the samples'")
    add("--samples", type=Path, help="what src/generate.py wrote")
    add("--out", type=Path, help="folder for results.json, table.md and verdicts.jsonl; --compare, --paper: a file")
    add("--k", help="Pass@k for these k, as 1,5 (default: 1, and 5 if there are 5 samples)")
    add("--limit", type=int, help="score the fixed subset of this size; default: the samples'")
    add("--label", help="the row of results/paper.json to compare with, as MODEL/METHOD")
    add("--compare", nargs="+", type=Path, metavar="DIR", help="two or more folders that hold results.json")
    add("--paper", nargs="*", type=Path, metavar="DIR", help="the paper's numbers beside these results with a --label")
    add_benchmark_flags(parser, SCORE_FLAGS)
    sandbox.add_flags(parser, f"{sandbox.DEFAULT.seconds:g}; migration: {BENCHMARKS['migration'].seconds:g}")
    return parser


@dataclass(frozen=True)
class Scoring:
    """The samples to score, and where the scores go."""

    samples: Path
    note: Note | None
    benchmark: Benchmark
    data: str  # as named
    path: Path  # of the data
    out: Path
    ks: list[int]  # as asked for
    label: str | None
    limit: int | None


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags; benchmark and data are those of the samples' note if they are not given."""
    parser = make_parser()
    args = parse_flags(parser, argv)
    if args.compare or args.paper is not None:
        if args.compare and len(args.compare) < 2:
            fail("--compare needs two results or more")
        return args
    if not (args.check or (args.samples and args.out)):
        fail("--samples and --out are needed (or --compare A B)")
    parse_ks(args.k)
    check_label(args.label)
    note = read_note(args.samples) if args.samples else None
    if args.samples and not (note or (args.benchmark and args.data)):
        fail(f"{args.samples.with_suffix('.json')}: not there, so --benchmark and --data are needed")
    name = args.benchmark or (note.identity.benchmark if note else None)
    if name not in BENCHMARKS:
        fail(f"benchmark {name}: expected one of {', '.join(BENCHMARKS)}")
    refuse_others(parser, args, name, SCORE_FLAGS)
    data = args.data or (note.identity.data if note else None)
    seconds = BENCHMARKS[name].seconds if args.seconds is None else args.seconds
    return argparse.Namespace(**{**vars(args), "benchmark": name, "data": data, "seconds": seconds})


def chosen(problems: Sequence[Problem], note: Note | None, limit: int | None) -> Sequence[Problem]:
    """The problems to score, in the order of their draw: a subset of this size, else those that the samples answer."""
    if limit is None and note and note.problems is not None:
        by_id = {problem.id: problem for problem in problems}
        return [by_id[identity] for identity in note.problems]
    return subset(problems, note.identity.limit if limit is None and note else limit)


def score(how: Scoring, scorer: Scorer, settings: Mapping[str, str]) -> None:
    """Judge the samples, write the results, print the table. `settings`: the flags, to be recorded."""
    started = time.time()
    made = how.note.identity if how.note else None
    if made and (made.benchmark, made.data_sha256) != (how.benchmark.name, sha256(how.path)):
        raise InputError(f"{how.samples} was made for {made.benchmark} and other data than {how.data}")
    problems = chosen(how.benchmark.load(how.path, made is not None and made.skip_bad_tasks), how.note, how.limit)
    rows = read_samples(how.samples, [problem.id for problem in problems], is_subset=how.limit is not None)
    ks = fit_ks(how.ks, len(rows) // len(problems), how.samples)
    check_owner(how.out, how.samples, made)
    scored = scorer(problems, rows, ks, made)
    result = {
        "benchmark": how.benchmark.reported_as or how.benchmark.name,
        "label": how.label,
        **scored.numbers,
        "samples": {"sha256": sha256(how.samples), "made": made.model_dump() if made else {}},
        "wall_seconds": round(time.time() - started, 1),
        **describe(settings, {how.data: how.path, **scored.files}, None),
    }
    write_results(how.out, result, scored.verdicts, scored.markdown)


@program(InfrastructureError)
def main() -> int:
    args = parse_arguments()
    if args.compare or args.paper is not None:
        text = compare(args.compare) if args.compare else paper_table([read_result(path) for path in args.paper])
        print(printable(text))
        if args.out:
            write_text(args.out, text + "\n")
            print(f"\n{args.out}")
        return 0
    benchmark = BENCHMARKS[args.benchmark]
    try:
        if args.check and benchmark.check:
            print(benchmark.check(args))
            return 0
        path, note, ks = resolve(args.data), read_note(args.samples), parse_ks(args.k)
        how = Scoring(args.samples, note, benchmark, args.data, path, args.out, ks, args.label, args.limit)
        settings = {key: str(value) for key, value in vars(args).items() if value is not None}
        score(how, benchmark.scorer(args, path), settings)
    except InfrastructureError as error:
        fail(f"the sandbox, not the samples: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
