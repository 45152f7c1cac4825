"""Does a test set leak into the training data: by update, as clones, or word by word?

    python src/check_data.py leakage data/train.jsonl --test data/heldout.jsonl
    python src/check_data.py leakage data/train.jsonl --test codeupdatearena.jsonl
    python src/check_data.py leakage hf://datasets/zjunlp/ReCode-Train-Data --test data/heldout.jsonl

Test files contain migration records or CodeUpdateArena problems. Training rows with errors are left out.

- update: the evidence.jsonl beside a file of records names their updates; the same update on both sides is leakage. The
  updates of CodeUpdateArena are invented, so no record can be about one. A problem leaks if a training record is about
  its function: the update text names it, and its uses (how often it is named; positional arguments and keywords of its
  calls) differ between old and new code. A name whose uses differ on both sides is only counted.
- clone (records only): edit similarity of both snippets above 0.9, without the code's own names (rows --against).
- contained: 70 % of a test item's token 8-grams are somewhere in the training set, PaLM's rule (arXiv 2204.02311, §8),
  for code (a record's two snippets; a problem's update and reference solution) and for prose (a record's update text; a
  problem's update, scenario and problem statement), each separately.

The exit status is 1 if anything leaks.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass

from common.api_uses import imports, uses
from common.errors import InputError
from common.rows import read_rows, resolve
from curation.evidence import evidence_path, read_evidence
from curation.similarity import CLONE, CONTAMINATED, GRAM, Text, canonical, containment, grams, nearest, spread
from evaluation.arena.problems import load_tasks
from records import check_file
from rewards import syntax_tree

Measured = tuple[str, list[str]]  # the line to print, the leaks


@dataclass(frozen=True)
class Item:
    """A training or test row, reduced to what can leak."""

    where: str  # file:line of a record, file and id of a problem
    update: str | None  # its name, if known
    changed: frozenset[str]  # what a record changes or a problem is about: dotted paths, `.name` for unknown objects
    packages: frozenset[str]  # what a record's code imports from
    code: str
    prose: str
    clone: Text | None  # both snippets, canonical; None for a problem


def read_records(source: str) -> list[Item]:
    """The records of a file that have no errors, with the names of their updates from the evidence beside it."""
    checked = check_file(source)
    evidence = read_evidence(evidence_path(resolve(source)), missing_ok=True)
    items = []
    for _, line, record in checked.kept:
        old, new = ast.parse(record.old_code), ast.parse(record.new_code)
        before, after = uses(old), uses(new)
        items.append(
            Item(
                where=f"{source}:{line}",
                update=evidence[record.id].update if record.id in evidence else None,
                changed=frozenset(use[0] for use in (before - after) + (after - before)),
                packages=frozenset(name.partition(".")[0] for tree in (old, new) for name in imports(tree).values()),
                code=f"{ast.unparse(old)}\n{ast.unparse(new)}",
                prose=record.update_info,
                clone=Text(source, line, f"{canonical(record.old_code)}\n{canonical(record.new_code)}"),
            )
        )
    if checked.errors:
        print(f"{source}: {checked.rows - len(items)} of {checked.rows} rows have errors and are left out")
    if not items:
        raise InputError(f"{source}: no usable record")
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
                prose=f"{update.description}\n{update.docstring}\n{task.scenario}\n{task.problem}",
                clone=None,
            )
        )
    return items


def read_test(source: str) -> list[Item]:
    """A file of records or of CodeUpdateArena problems; its first row decides which."""
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


def by_update(items: list[Item], training: list[Item]) -> Measured:
    """Training records about the update of a test item; names whose uses both sides change."""
    about = [(one, [other for other in training if same_update(one, other)]) for one in items]
    leaks = [f"update: {one.where} and {', '.join(other.where for other in found)}" for one, found in about if found]
    line = "update      not compared: no evidence.jsonl names the updates of both sides"
    if not items[0].clone or (any(one.update for one in items) and any(other.update for other in training)):
        found = {other.where for _, others in about for other in others}
        line = f"update      {len(leaks)} test items share theirs with {len(found)} training records"
    touched = {path for other in training for path in other.changed}
    shared = sum(bool(one.changed & touched) for one in items)
    return f"{line}\n              {shared} change the uses of a name that a training record changes, too", leaks


def by_clone(items: list[Item], training: list[Item]) -> Measured:
    """Training records that are clones of test records."""
    from tqdm import tqdm

    texts = [other.clone for other in training if other.clone]
    bar = tqdm(items, desc="clones", leave=False)
    found = [(one.where, nearest(one.clone, texts)) for one in bar if one.clone]
    leaks = [f"clone: {where} and {near[1].file}:{near[1].line}" for where, near in found if near and near[0] > CLONE]
    values = [near[0] if near else 0.0 for _, near in found]
    return f"clone       {len(leaks)} above {CLONE}; edit similarity {spread(values)}", leaks


def by_words(part: str, items: Iterable[Item], training: list[Item]) -> Measured:
    """Test items whose code or prose (`part`) is contained in the training set."""
    inside = containment([grams(getattr(one, part)) for one in items], [grams(getattr(o, part)) for o in training])
    leaks = [
        f"{part}: {one.where} is {value:.0%} contained, most of it in {training[row].where}"
        for one, (value, row) in zip(items, inside, strict=True)
        if row is not None and value >= CONTAMINATED
    ]
    shares = spread([value for value, _ in inside])
    return f"{part:<11} {len(leaks)} with {CONTAMINATED:.0%} of their {GRAM}-grams in training; share {shares}", leaks


def check_test(source: str, training: list[Item], limit: int) -> bool:
    """Print how the test file `source` leaks into the training items; True if anything does."""
    items = read_test(source)
    print(f"{source}: {len(items)} test items against {len(training)} training records")
    measured = [by_update(items, training), *([by_clone(items, training)] if items[0].clone else [])]
    measured += [by_words(part, items, training) for part in ("code", "prose")]
    for line, _ in measured:
        print(f"  {line}")
    leaks = [leak for _, found in measured for leak in found]
    for leak in leaks[:limit]:
        print(f"  LEAK {leak}")
    if len(leaks) > limit:
        print(f"  … and {len(leaks) - limit} more (--limit shows more)")
    return bool(leaks)


def run(training: list[str], test: list[str], limit: int) -> int:
    """The exit status: 1 if anything leaks."""
    items = [item for source in training for item in read_records(source)]
    leaked = [source for source in test if check_test(source, items, limit)]
    print(f"leakage: in {', '.join(leaked)}" if leaked else "no leakage")
    return int(bool(leaked))
