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
from collections.abc import Sequence
from pathlib import Path

from common.cli import fail, parse_flags, printable, program
from common.errors import InputError
from common.files import require_writable, write_text
from common.provenance import describe, sha256
from common.rows import resolve
from common.settings import not_a_file
from common.signals import exit_on_sigterm
from evaluation.arena.problems import subset
from evaluation.benchmarks import BENCHMARKS, Problem
from evaluation.compare import compare, paper_table
from evaluation.idle_flags import given, refuse_idle, users_of
from evaluation.results import FILES, check_owner, choose_ks, read_result, write_results
from evaluation.samples import Note, read_note, read_samples
from evaluation.score_flags import MODE_USERS, SCORE_FLAGS, make_score_parser
from sandbox import InfrastructureError


def parse_arguments(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, Note | None]:
    """(the flags, the samples' note, which names benchmark and data if the flags do not)."""
    parser = make_score_parser(__doc__)
    args = parse_flags(parser, argv)
    modes = {"--compare": args.compare, "--paper": args.paper is not None, "--no-run": args.no_run}
    mode = next((name for name, is_on in modes.items() if is_on), "--samples")
    refuse_idle(given(parser, args, argv, modes), MODE_USERS, mode)
    if mode in ("--compare", "--paper"):
        if args.compare and len(args.compare) < 2:
            fail("--compare needs two results or more")
        return args, None
    if not (args.check or (args.samples and args.out)):
        fail("--samples and --out are needed (or --compare A B)")
    if args.samples and not args.samples.is_file():
        raise not_a_file(args.samples)
    note = read_note(args.samples) if args.samples else None
    if args.samples and not (note or (args.benchmark and args.data)):
        fail(f"{args.samples.with_suffix('.json')}: not there, so --benchmark and --data are needed")
    name = args.benchmark or (note.identity.benchmark if note else None)
    if name not in BENCHMARKS:
        fail(f"benchmark {name}: expected one of {', '.join(BENCHMARKS)}")
    refuse_idle(given(parser, args, argv), users_of(SCORE_FLAGS), name)
    args.benchmark, args.data = name, args.data or (note.identity.data if note else None)
    if args.samples and not args.data:
        fail(f"{args.samples.with_suffix('.json')}: identity.data: missing: --data is needed")
    args.seconds = BENCHMARKS[name].seconds if args.seconds is None else args.seconds
    return args, note


def chosen(problems: Sequence[Problem], note: Note | None, limit: int | None) -> Sequence[Problem]:
    """The problems to score, in the order of their draw: a subset of this size, else those that the samples answer."""
    if limit is None and note and note.problems is not None:
        by_id = {problem.id: problem for problem in problems}
        if missing := [identity for identity in note.problems if identity not in by_id]:
            raise InputError(f"the data has no problem {missing[0]}, which the samples answer")
        return [by_id[identity] for identity in note.problems]
    return subset(problems, note.identity.limit if limit is None and note else limit)


def outputs(args: argparse.Namespace) -> list[Path]:
    """The files that will be written."""
    own = [args.write_errata] if args.write_errata else []
    if args.out and (args.compare or args.paper is not None):
        return [args.out]
    return [*own, *(args.out / name for name in FILES)] if args.out else own


@program(InfrastructureError)
def main() -> int:
    started = time.time()
    exit_on_sigterm()
    args, note = parse_arguments()
    require_writable(*outputs(args))
    if args.compare or args.paper is not None:
        text = compare(args.compare) if args.compare else paper_table([read_result(path) for path in args.paper])
        print(printable(text))
        if args.out:
            write_text(args.out, text + "\n")
            print(f"\n{args.out}")
        return 0
    benchmark, made = BENCHMARKS[args.benchmark], note.identity if note else None
    try:
        if args.check and benchmark.check:
            print(benchmark.check(args))
            return 0
        path = resolve(args.data)
        if made and (made.benchmark, made.data_sha256) != (benchmark.name, sha256(path)):
            what = made.benchmark if made.benchmark != args.benchmark else f"other data than {args.data}"
            raise InputError(f"{args.samples} was made for {what}")
        problems = chosen(benchmark.load(path, made is not None and made.skip_bad_tasks), note, args.limit)
        rows = read_samples(args.samples, [problem.id for problem in problems], is_subset=args.limit is not None)
        ks = choose_ks(args.k, len(rows) // len(problems), args.samples)
        check_owner(args.out, args.samples, made)
        scored = benchmark.scorer(args, path)(problems, rows, ks, made)
    except InfrastructureError as error:
        fail(f"the sandbox, not the samples: {error}")
    settings = {key: str(value) for key, value in vars(args).items() if value is not None}
    result = {
        "benchmark": benchmark.reported_as or benchmark.name,
        "label": args.label,
        **scored.numbers,
        "samples": {"sha256": sha256(args.samples), "made": made.model_dump() if made else {}},
        "wall_seconds": round(time.time() - started, 1),
        **describe(settings, {args.data: path, **scored.files}, None),
    }
    write_results(args.out, result, scored.verdicts, scored.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
