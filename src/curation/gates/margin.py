"""Margin: the target must score clearly more than a copy of the old code."""

from __future__ import annotations

from collections.abc import Iterator

from curation.gates.entries import Entry, Objection
from records import Record
from rewards import MATCH, MISS, clean, similarity

LEAST = 0.1  # of ES*, whose range is 3.5


def margin(record: Record) -> float:
    """How much less ES* a copy of the old code earns than the target."""
    return (MATCH - MISS) * (1 - similarity(clean(record.old_code)[0], clean(record.new_code)[0]))


def objections(entry: Entry) -> Iterator[Objection]:
    found = margin(entry.record)
    if found < LEAST:
        yield (
            "new_code",
            f"a copy of the old code scores only {found:.3f} less than the target, at least {LEAST} needed",
        )
