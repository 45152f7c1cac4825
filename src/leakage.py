"""Does a test set stand in the training data: by update, as clones, or word by word?

    python src/leakage.py data/train.jsonl --test data/heldout.jsonl
    python src/leakage.py data/train.jsonl --test codeupdatearena.jsonl
    python src/leakage.py hf://datasets/zjunlp/ReCode-Train-Data --test data/heldout.jsonl codeupdatearena.jsonl

Test files hold migration records or CodeUpdateArena problems. Training rows with errors (src/validate.py) are left out.

- update: records name their update in the evidence.jsonl beside them; the same one on both sides is leakage. The
  updates of CodeUpdateArena are invented, so no record can hold one. A problem leaks where a training record is about
  its function: the update text names it, and its uses (how often it is named; positional arguments and keywords of its
  calls) differ between old and new code. Uses of one name that differ on both sides, without more, are only counted.
- clone (records alone): edit similarity above 0.9 of both snippets, their own names taken out (validate.py --against).
- contained: 70 % of a test item's token 8-grams stand somewhere in the training set, PaLM's rule (arXiv 2204.02311,
  §8), for code (a record's two snippets; a problem's update and reference solution) and for prose (a record's update
  text; a problem's update, scenario and problem statement), each on its own.

The exit status is 1 where anything leaks, 2 for files that cannot be read.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import Counter
from dataclasses import dataclass
from statistics import quantiles

from common.api_uses import imports, uses
from common.cli import fail, program
from common.errors import InputError
from common.rows import read_rows, resolve
from curation.evidence import read_evidence
from curation.similarity import CLONE, CONTAMINATED, GRAM, Text, canonical, containment, grams, nearest
from evaluation.arena.problems import load_tasks
from records import check_file
from rewards import syntax_tree


@dataclass(frozen=True)
class Item:
    """One training or test row, as leakage looks at it."""

    where: str  # file:line of a record, file and id of a problem
    update: str | None  # its name, where it has one
    changed: frozenset[str]  # what a record changes or a problem is about: dotted paths, `.name` for unknown objects
    packages: frozenset[str]  # what a record's code imports from
    code: str
    prose: str
    clone: Text | None  # both snippets, canonical; None for a problem


def read_records(source: str) -> list[Item]:
    """The records of a file that have no errors, with the names of their updates where evidence stands beside it."""
    checked = check_file(source)
    updates = {row["id"]: row.get("update") for row in read_evidence(resolve(source).parent, ("id",))}
    items = []
    for record, line in zip(checked.records, checked.lines, strict=True):
        old, new = ast.parse(record.old_code), ast.parse(record.new_code)
        before, after = uses(old), uses(new)
        plain = f"{ast.unparse(old)}\n{ast.unparse(new)}"
        items.append(
            Item(
                where=f"{source}:{line}",
                update=updates.get(record.id),
                changed=frozenset(use[0] for use in (before - after) + (after - before)),
                packages=frozenset(name.partition(".")[0] for tree in (old, new) for name in imports(tree).values()),
                code=plain,
                prose=record.update_info,
                clone=Text(source, line, f"{canonical(record.old_code)}\n{canonical(record.new_code)}"),
            )
        )
    if checked.errors:
        print(f"{source}: {checked.rows - len(items)} of {checked.rows} rows have errors and are left out")
    if not items:
        raise InputError(f"{source}: holds no usable record")
    return items


def read_problems(source: str) -> list[Item]:
    """The problems of CodeUpdateArena."""
    items = []
    for task in load_tasks(resolve(source)):
        [update] = task.updates
        tree = syntax_tree(task.reference)
        items.append(
            Item(
                where=f"{source}: {task.id}",
                update=None,
                changed=frozenset({update.path, update.new_path}),
                packages=frozenset({update.package}),
                code=f"{update.implementation}\n{ast.unparse(tree) if tree else task.reference}",
                prose=f"{update.note.description}\n{update.note.docstring}\n{task.scenario}\n{task.problem}",
                clone=None,
            )
        )
    return items


def read_test(source: str) -> list[Item]:
    """A file of records or of CodeUpdateArena problems, told apart by their first row."""
    [(_, first), *_] = read_rows(resolve(source)) or [(0, None)]
    return read_records(source) if isinstance(first, dict) and "old_code" in first else read_problems(source)


def same_update(test: Item, training: Item) -> bool:
    """Whether a training record is about the update, or the updated function, of a test item."""
    if test.clone:
        return test.update is not None and test.update == training.update
    if not any(re.search(rf"\b{re.escape(path.rpartition('.')[2])}\b", training.prose) for path in test.changed):
        return False
    methods = {f".{path.rpartition('.')[2]}" for path in test.changed if path.split(".")[-2][:1].isupper()}
    return bool(test.changed & training.changed or (test.packages & training.packages and methods & training.changed))


def spread(values: list[float]) -> str:
    """Median, 90th percentile and maximum."""
    tenths = quantiles(values, n=10, method="inclusive") if len(values) > 1 else values * 9
    return f"median {tenths[4]:.2f}, 90th percentile {tenths[8]:.2f}, highest {max(values):.2f}"


def examine(training: list[Item], source: str, limit: int) -> bool:
    """Print what of the test file `source` stands in the training items; True where anything leaks."""
    from tqdm import tqdm

    items = read_test(source)
    print(f"{source}: {len(items)} test items against {len(training)} training records")
    leaks = []
    about = [(one, [other for other in training if same_update(one, other)]) for one in items]
    leaks += [f"update: {one.where} and {', '.join(other.where for other in found)}" for one, found in about if found]
    named = any(one.update for one in items) and any(other.update for other in training)
    if named or not items[0].clone:
        found = {other.where for _, others in about for other in others}
        hit = sum(bool(others) for _, others in about)
        print(f"  update      {hit} test items share theirs with {len(found)} training records")
    else:
        print("  update      not compared: no evidence.jsonl names them on both sides")
    touched = Counter(path for other in training for path in other.changed)
    shared = sum(any(path in touched for path in one.changed) for one in items)
    print(f"              {shared} change the uses of a name that a training record changes, too")
    if items[0].clone:
        texts = [other.clone for other in training]
        near = [(*nearest(one.clone, texts), one) for one in tqdm(items, desc="clones", leave=False)]
        leaks += [f"clone: {one.where} and {other.file}:{other.line}" for v, other, one in near if v > CLONE]
        values = [value for value, _, _ in near]
        print(f"  clone       {sum(v > CLONE for v in values)} above {CLONE}; edit similarity {spread(values)}")
    for part in ("code", "prose"):
        inside = containment([grams(getattr(one, part)) for one in items], [grams(getattr(o, part)) for o in training])
        leaks += [
            f"{part}: {one.where} is {value:.0%} contained, most of it in {training[row].where}"
            for one, (value, row) in zip(items, inside, strict=True)
            if value >= CONTAMINATED
        ]
        values = [value for value, _ in inside]
        found = sum(value >= CONTAMINATED for value in values)
        print(f"  {part:<11} {found} with {CONTAMINATED:.0%} of their {GRAM}-grams in training; share {spread(values)}")
    for leak in leaks[:limit]:
        print(f"  LEAK {leak}")
    if len(leaks) > limit:
        print(f"  … and {len(leaks) - limit} more (--limit shows more)")
    return bool(leaks)


@program()
def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("training", nargs="+", metavar="FILE", help="training records: JSONL, JSON or hf://datasets/…")
    parser.add_argument("--test", nargs="+", required=True, metavar="FILE", help="test records or CodeUpdateArena")
    parser.add_argument("--limit", type=int, default=20, help="leaks printed per test file (default: %(default)s)")
    args = parser.parse_args()
    try:
        training = [item for source in args.training for item in read_records(source)]
        leaked = [source for source in args.test if examine(training, source, args.limit)]
    except (InputError, OSError) as error:
        fail(error)
    print(f"leakage: in {', '.join(leaked)}" if leaked else "no leakage")
    return int(bool(leaked))


if __name__ == "__main__":
    sys.exit(main())
