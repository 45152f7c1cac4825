"""Policy: records with the same note follow it in the same way.

The names of the note that a target adds are its choice. Two records of an update with the same note that give up the
same old names (or none, both) must share at least one of these names, if both add any: otherwise one took `connect`
where the other took `begin`. Values that the note quotes ("uint8") count as names.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Sequence

from curation.gates.entries import Entry, Objection
from curation.gates.sufficiency import own_names
from curation.gates.trees import WORD, names_of, parse, words
from records import Record


def tokens(code: str) -> set[str]:
    """The names of code and the words of its strings, without what it defines itself."""
    tree = parse(code)
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return ({*names_of(tree)} | {text for text in strings if WORD.fullmatch(text)}) - own_names(tree)


def choice(record: Record) -> tuple[frozenset[str], frozenset[str]]:
    """(names that the migration gives up, names of the note that it adds)."""
    old, new = tokens(record.old_code), tokens(record.new_code)
    noted = words(record.update_info)
    return frozenset((old - new) & noted), frozenset((new - old) & noted)


def objections(entries: Sequence[Entry]) -> Iterator[tuple[Entry, Objection]]:
    groups = defaultdict(list)
    for entry in entries:
        groups[entry.evidence.update, entry.record.update_info].append((entry, *choice(entry.record)))
    for mine in groups.values():
        for place, (entry, gone, added) in enumerate(mine):
            for other, given_up, taken in mine[:place]:
                if gone == given_up and added and taken and not added & taken:
                    ways = f"{', '.join(sorted(added))} here, {', '.join(sorted(taken))} in line {other.line}"
                    yield entry, ("new_code", f"one note, two ways: {ways}")
                    break
