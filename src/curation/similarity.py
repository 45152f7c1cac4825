"""How similar two pieces of code or text are.

Edit similarity (1 - Levenshtein distance / length of the longer) of canonical code finds clones: code that differs only
in layout and variable names has similarity 1. Containment of 8-grams finds text in whatever context.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import quantiles

import Levenshtein

from common.errors import InputError
from common.rows import RECORDS, expect_kind, read_rows, resolve
from common.syntax_trees import too_large
from rewards import syntax_tree

CLONE = 0.9  # edit similarity above which two rows count as one
# PaLM (arXiv 2204.02311, §8): a test item is contaminated if 70 % of its 8-grams are in the training data.
GRAM = 8
CONTAMINATED = 0.7


@dataclass(frozen=True)
class Text:
    """A text and its place."""

    file: str
    line: int
    text: str


def bound(tree: ast.AST) -> Iterator[str]:
    """What code binds itself: variables, parameters, functions, classes, errors."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler)):
            yield node.name or ""


def canonical(code: str) -> str:
    """The code without comments and layout, its own names as v0, v1, …; code that has no tree: without white space."""
    tree = syntax_tree(code)
    if tree is None or too_large(tree):
        return "".join(code.split())
    numbers = {name: f"v{number}" for number, name in enumerate(dict.fromkeys(bound(tree)))}
    for node in ast.walk(tree):
        for field in ("id", "arg", "name"):
            if getattr(node, field, None) in numbers and not isinstance(node, (ast.alias, ast.keyword)):
                setattr(node, field, numbers[getattr(node, field)])
    return ast.unparse(tree)


def read_snippets(source: str) -> list[Text]:
    """Both snippets, canonical, of every row of a file that has them, even if the row has errors."""
    rows = [(line, row) for line, row in read_rows(resolve(source)) if isinstance(row, dict)]
    expect_kind(source, rows, RECORDS)
    if not rows:
        raise InputError(f"{source}: no rows")
    codes = [(line, row.get("old_code"), row.get("new_code")) for line, row in rows]
    return [
        Text(source, line, f"{canonical(old)}\n{canonical(new)}")
        for line, old, new in codes
        if isinstance(old, str) and isinstance(new, str) and (old + new).strip()
    ]


def nearest(one: Text, others: Sequence[Text]) -> tuple[float, Text] | None:
    """(highest edit similarity in (0, 1], the text that has it), itself left out; None if no text shares anything."""
    best, found = 0.0, None
    for other in others:
        if (one.file, one.line) == (other.file, other.line):
            continue
        longer = max(len(one.text), len(other.text))
        room = int((1 - best) * longer)  # more edits than this cannot beat the best so far
        edits = Levenshtein.distance(one.text, other.text, score_cutoff=room)
        if edits <= room and 1 - edits / longer > best:
            best, found = 1 - edits / longer, other
    return (best, found) if found else None


def spread(values: Sequence[float]) -> str:
    """Median, 90th percentile and maximum."""
    tenths = quantiles(values, n=10, method="inclusive") if len(values) > 1 else [*values] * 9
    return f"median {tenths[4]:.2f}, 90th percentile {tenths[8]:.2f}, highest {max(values):.2f}"


def grams(text: str) -> set[tuple[str, ...]]:
    """The distinct runs of 8 tokens (words and punctuation marks, in lower case); a shorter text is one run."""
    tokens = re.findall(r"\w+|[^\w\s]", text.lower())
    return {tuple(tokens[i : i + GRAM]) for i in range(max(1, len(tokens) - GRAM + 1))} if tokens else set()


def containment(items: Iterable[set], training: Sequence[set]) -> list[tuple[float, int | None]]:
    """For the grams of each item: (the share in [0, 1] that is anywhere in `training`, the row with most of them)."""
    index: dict[tuple[str, ...], list[int]] = {}
    for row, found in enumerate(training):
        for gram in found:
            index.setdefault(gram, []).append(row)
    out: list[tuple[float, int | None]] = []
    for item in items:
        shared = [gram for gram in item if gram in index]
        rows = Counter(row for gram in shared for row in index[gram])
        out.append((len(shared) / len(item), min(rows, key=lambda row: (-rows[row], row))) if shared else (0.0, None))
    return out
