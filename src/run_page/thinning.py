"""Which samples are in the page, if not all of them fit. The page states the rule.

Samples belong to units that are kept whole: the steps of a run, or the problems of evaluations of the same problems.
Every n-th unit is kept, from the first, and the last one; n is the smallest with which the samples take no more than
the share of their source. The sources share the room equally; what one does not need is left to the others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

ROOM = 3_600_000  # bytes of samples in a page: with curves and tables it stays below 5 MB
OVERHEAD = 600  # bytes of a sample besides its text, about: rewards with their reasons, labels, its share of the record
LONGEST = 20_000  # characters of a text; longer ones are cut, and say so


def stride(sizes: Sequence[int], room: float) -> int:
    """The smallest n with which every n-th of these sizes, and the last, fit into the room; else only the ends stay."""
    for n in range(1, len(sizes)):
        if sum(kept(sizes, n)) <= room:
            return n
    return max(1, len(sizes))


def kept(units: Sequence[T], n: int) -> list[T]:
    """Every n-th unit and the last."""
    last = [units[-1]] if units and (len(units) - 1) % n else []
    return [*units[::n], *last]


def strides(sources: Sequence[Sequence[int]], room: float = ROOM) -> list[int]:
    """The n of each source, from the sizes of its units."""
    found = [1] * len(sources)
    left = float(room)
    for there, i in enumerate(sorted(range(len(sources)), key=lambda i: sum(sources[i]))):
        found[i] = stride(sources[i], left / (len(sources) - there))
        left -= sum(kept(sources[i], found[i]))
    return found


def size(text: str) -> int:
    """Bytes of a sample with this text in the page, at most about."""
    text = text[:LONGEST]
    escapes = 5 * sum(map(text.count, "<>&"))
    twice = 2 if text and max(text) > "\uffff" else 1  # the code is then stored beside the text (samples.py)
    return twice * (len(json.dumps(text)) + escapes) + OVERHEAD


def cut(text: str) -> str:
    """The text, or its beginning and how much of it is missing."""
    more = len(text) - LONGEST
    return text if more <= 0 else f"{text[:LONGEST]}\n[… {more:,} more characters]"
