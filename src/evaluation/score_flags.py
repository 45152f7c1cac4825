"""The command line of src/score.py."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import sandbox
from common.cli import Parser, above_zero
from evaluation.benchmarks import BENCHMARKS
from evaluation.flags import add_benchmark_flags
from evaluation.idle_flags import users_of
from evaluation.tables import paper_rows

SCORE_FLAGS = {name: benchmark.score_flags for name, benchmark in BENCHMARKS.items()}
INPUT_FLAGS = ("--benchmark", "--data", "--samples", "--limit", "--label")
RUN_FLAGS = ("--k", *dict.fromkeys(flag for own in SCORE_FLAGS.values() for flag in own))
# What src/score.py does -> the flags that have an effect then.
MODE_USERS = users_of(
    {
        "--samples": (*INPUT_FLAGS, *RUN_FLAGS, "--out"),
        "--no-run": (*INPUT_FLAGS, "--no-run", "--out"),
        "--compare": ("--compare", "--out"),
        "--paper": ("--paper", "--out"),
    }
)


def pass_ks(text: str) -> list[int]:
    """An argparse type: the k of Pass@k, ascending."""
    if not re.fullmatch(r" *[1-9][0-9]{0,5} *(, *[1-9][0-9]{0,5} *)*", text):
        raise argparse.ArgumentTypeError(f"{text}: expected numbers from 1, such as 1,5")
    return sorted(set(map(int, text.split(","))))


def make_score_parser(description: str | None) -> argparse.ArgumentParser:
    """All flags of src/score.py but --help and --config."""
    parser = Parser(description=description)
    add = parser.add_argument
    add("--benchmark", choices=list(BENCHMARKS), help="default: the samples'")
    add("--data", help="JSONL file or hf://datasets/OWNER/NAME[@REVISION][/FILE]; default: the samples'")
    add("--samples", type=Path, help="what src/generate.py wrote")
    add("--out", type=Path, help="folder for results.json, table.md and verdicts.jsonl; --compare, --paper: a file")
    add("--k", type=pass_ks, help="Pass@k for these k, as 1,5 (default: 1, and 5 if there are 5 samples)")
    add("--limit", type=above_zero(int), help="score the fixed subset of this size; default: the samples'")
    labels = [row["label"] for row in paper_rows()]
    add("--label", choices=labels, metavar="MODEL/METHOD", help="the row of results/paper.json to compare with")
    add("--compare", nargs="+", type=Path, metavar="DIR", help="two or more folders that hold results.json")
    add("--paper", nargs="*", type=Path, metavar="DIR", help="the paper's numbers beside these results with a --label")
    add_benchmark_flags(parser, SCORE_FLAGS)
    sandbox.add_flags(parser, f"{sandbox.DEFAULT.seconds:g}; migration: {BENCHMARKS['migration'].seconds:g}")
    return parser
