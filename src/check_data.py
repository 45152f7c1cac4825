"""Check data: the rows of a file, the proofs of records, rows without proofs, leakage of a test set, composition.

    python src/check_data.py rows data/train.jsonl                  # is every row a migration?
    python src/check_data.py proofs --sample 2                      # are the records of data/ true when they are run?
    python src/check_data.py gates                                  # would their checks reject wrong code?
    python src/check_data.py published rows.jsonl --out v.jsonl     # which rows of another file run?
    python src/check_data.py leakage data/train.jsonl --test data/heldout.jsonl    # does the test set leak?
    python src/check_data.py composition                            # what is the set made of?

`python src/check_data.py VERB --help` describes each. Exit status 1: rows with errors, copies, records that are not
proven, or leaks were found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from common.cli import Parser, above_zero, program
from common.errors import ReCodeError
from curation import check_gates, check_proofs, check_published, check_rows, composition, proof
from evaluation import leakage
from sandbox import InfrastructureError

DATA = Path(__file__).parent.parent / "data"


def add_rows(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="JSONL or JSON file, or hf://datasets/OWNER/NAME")
    add("--write-clean", type=Path, metavar="OUT", help="write the rows of --clean to OUT (JSONL)")
    add("--clean", choices=check_rows.LEVELS, help="rows to write (default: real-change, the rows without errors)")
    add("--verdicts", type=Path, metavar="FILE", help="the output of check_data.py published for the file")
    add("--table", action="store_true", help="print the counts per check and library as Markdown")
    add("--against", nargs="+", metavar="FILE", help="find the most similar rows in these files")
    add("--json", dest="as_json", action="store_true", help="print one JSON object instead of text")
    add("--ids", action="store_true", help="print the id of each good row, which names it in evidence.jsonl")
    add("--limit", type=above_zero(int), default=10, help="problems printed per file (default: %(default)s)")


def add_proofs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", nargs="?", type=Path, default=DATA, help="folder or file of records (default: data/)")
    add("--record", help="prove one record and print the outcome of each run")
    add("--sample", type=above_zero(int), help="prove this many records, chosen by --seed")
    add("--environments", type=above_zero(int), help="with --sample: use at most N environments, preferring cheap ones")
    add("--without", nargs="+", default=[], metavar="LIBRARY", help="prove no records of these, such as PyTorch (9 GB)")
    add("--seed", default="0", help="any text, such as a commit's hash (default: %(default)s)")
    add("--log", type=Path, help="append the outcomes to this file, record by record; the next run resumes from it")
    add("--write", action="store_true", help="store the outcomes, and what pip installed, beside the records")
    proof.add_flags(parser)


def add_gates(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", nargs="?", type=Path, default=DATA, help="folder or file of records (default: data/)")
    add("--record", help="one record, compared with all the others")
    add("--log", type=Path, help="append the runs of each record to this file; the next run resumes from it")
    proof.add_flags(parser)


def add_published(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE", help="rows: JSONL, JSON or hf://datasets/…")
    add("--out", type=Path, required=True, help="verdicts (JSONL)")
    proof.add_flags(parser)


def add_leakage(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("training", nargs="+", metavar="FILE", help="training records: JSONL, JSON or hf://datasets/…")
    add("--test", nargs="+", required=True, metavar="FILE", help="test records or CodeUpdateArena problems")
    add("--limit", type=above_zero(int), default=20, help="leaks printed per test file (default: %(default)s)")


def add_composition(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", nargs="?", type=Path, default=DATA, help="folder or file of records (default: data/)")
    add("--figure", type=Path, metavar="FILE", help="draw it, as PNG")
    add("--tokenizer", metavar="MODEL", help="also count tokens, with this model's tokenizer")


# verb -> (its flags, its module)
VERBS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], ModuleType]] = {
    "rows": (add_rows, check_rows),
    "proofs": (add_proofs, check_proofs),
    "gates": (add_gates, check_gates),
    "published": (add_published, check_published),
    "leakage": (add_leakage, leakage),
    "composition": (add_composition, composition),
}


@program(InfrastructureError)
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", help=", ".join(VERBS))
    for name, (add_flags, module) in VERBS.items():
        verb = verbs.add_parser(name, description=module.__doc__)
        add_flags(verb)
    flags = vars(parser.parse_args(argv))
    run = VERBS[flags.pop("verb")][1].run
    if "envs" in flags:
        if sys.version_info[:2] != (3, 11):  # several pins, numpy==1.23.5 among them, have no wheels for a later Python
            raise ReCodeError("needs Python 3.11, the version that the environments are pinned for")
        settings = {name: flags.pop(name) for name in ("envs", "seconds", "unsafe", "jobs")}
        flags["settings"] = proof.ProofSettings(**settings)
    return run(**flags)


if __name__ == "__main__":
    sys.exit(main())
