"""Variety: the records of an update differ in their edit, and no two records of the set are near-copies."""

from __future__ import annotations

import ast
import difflib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from curation.gates.entries import Entry, Objection
from curation.similarity import Text, canonical, nearest
from records import Record
from rewards import syntax_tree

EDITS = 3  # different ones, of an update with as many records
ALIKE = 0.8  # edit similarity of canonical code
VALUES = (str, bytes, int, float, complex)


def blank(code: str) -> str:
    """Canonical code with its strings and numbers replaced by one of each."""
    tree = syntax_tree(canonical(code))
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Constant) and type(node.value) in VALUES:  # not bool, None or ...
            node.value = "" if isinstance(node.value, str | bytes) else 0
    return ast.unparse(tree) if tree else code


def edit(record: Record) -> frozenset[tuple[str, str]]:
    """What a migration replaces by what, in tokens, whatever the snippet's own names and values are."""
    old, new = (re.findall(r"\w+|[^\w\s]", blank(code)) for code in (record.old_code, record.new_code))
    opcodes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return frozenset((" ".join(old[i:j]), " ".join(new[k:m])) for tag, i, j, k, m in opcodes if tag != "equal")


def few_edits(entries: Sequence[Entry]) -> Iterator[tuple[Entry, Objection]]:
    """The first record of each update whose records have too few different edits."""
    updates = defaultdict(list)
    for entry in entries:
        updates[entry.evidence.update].append(entry)
    for update, mine in updates.items():
        count = len({edit(entry.record) for entry in mine})
        if len(mine) >= EDITS > count:
            yield mine[0], ("new_code", f"{update} has {count} different edits in {len(mine)} records, not {EDITS}")


def near_copies(entries: Sequence[Entry]) -> Iterator[tuple[Entry, Objection]]:
    """The records that are similar to an earlier one, of whatever update and split."""
    texts = [
        Text(entry.file, entry.line, f"{canonical(entry.record.old_code)}\n{canonical(entry.record.new_code)}")
        for entry in entries
    ]
    for place, (entry, text) in enumerate(zip(tqdm(entries, desc="similarity"), texts, strict=True)):
        found = nearest(text, texts[:place])
        if found and found[0] > ALIKE:
            yield entry, ("new_code", f"similarity {found[0]:.2f} to {found[1].file}:{found[1].line}")


def objections(entries: Sequence[Entry]) -> Iterator[tuple[Entry, Objection]]:
    yield from few_edits(entries)
    yield from near_copies(entries)
