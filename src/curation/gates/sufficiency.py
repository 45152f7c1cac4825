"""Sufficiency: every API name of the target can be known from the note, the old code, or Python itself.

Python itself: builtins, the methods of common types of the standard library, and what is imported from it.
"""

from __future__ import annotations

import ast
import builtins
import collections
import datetime
import decimal
import fractions
import io
import pathlib
import re
import sys
from collections.abc import Iterator

from common.api_uses import imports
from curation.gates.entries import Entry, Objection
from curation.gates.trees import names_of, parse, words
from curation.similarity import bound

TYPES = (
    *(object, str, bytes, bytearray, int, float, complex, list, tuple, dict, set, frozenset, range, Exception),
    *(
        datetime.datetime,
        datetime.timedelta,
        decimal.Decimal,
        fractions.Fraction,
        pathlib.Path,
        io.StringIO,
        io.BytesIO,
    ),
    *(collections.Counter, collections.deque, re.Pattern, re.Match, type(lambda: None)),
)
KNOWN = frozenset(dir(builtins)) | frozenset(name for kind in TYPES for name in dir(kind))


def own_names(tree: ast.AST) -> set[str]:
    """What code defines itself, aliases of imports included."""
    aliases = {node.asname for node in ast.walk(tree) if isinstance(node, ast.alias) and node.asname}
    return {*bound(tree), *aliases}


def standard_names(tree: ast.AST) -> set[str]:
    """The names that code takes from modules of the standard library: `from datetime import timezone`, `math.inf`."""
    standard = {name for name, path in imports(tree).items() if path.partition(".")[0] in sys.stdlib_module_names}
    found = {part for name in standard for part in imports(tree)[name].split(".")} | standard
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root: ast.expr = node
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in standard:
                found.add(node.attr)
    return found


def unknown_names(old: str, new: str, note: str) -> list[str]:
    """The names of the new code that are in neither the note nor the old code.

    scikit-learn's `step__parameter` counts as two names.
    """
    tree = parse(new)
    told = {*words(old), *words(note)}  # words of the old code's strings too: they can become keywords
    untold = {*names_of(tree)} - told - KNOWN - own_names(tree) - standard_names(tree)
    return sorted(name for name in untold if not told.issuperset(filter(None, name.split("__"))))


def objections(entry: Entry) -> Iterator[Objection]:
    record = entry.record
    if found := unknown_names(record.old_code, record.new_code, record.update_info):
        yield "update_info", f"the target uses {', '.join(found)}: in neither the note nor the old code"
