"""Uniqueness: an answer that is right in another form than the target earns more than a copy of the old code."""

from __future__ import annotations

from collections.abc import Iterator

from curation.gates.entries import Entry, Objection
from curation.gates.trees import difference, normalised
from curation.gates.variants import QUOTES, variants
from prompts import reference_completion
from rewards import score


def reward(code: str, target: str) -> float:
    """The ES* of an answer with this code."""
    return score(reference_completion(code), target).es_star


def has_forms(entry: Entry) -> bool:
    """Whether an answer can be right in a form that differs from the target in more than quotes."""
    return any(variant.kind != QUOTES for variant in variants(entry.record, entry.evidence))


def objections(entry: Entry) -> Iterator[Objection]:
    """Forms that score no more than the copy, unless `alternatives` of the evidence lists them."""
    record, target = entry.record, entry.record.new_code
    copied = reward(record.old_code, target)
    known = {normalised(code) for code in entry.evidence.alternatives}
    for variant in variants(record, entry.evidence):
        earned = reward(variant.code, target)
        if earned <= copied and normalised(variant.code) not in known:
            yield (
                "new_code",
                f"a right answer with another form ({variant.kind}) earns {earned:.3f}, a copy of the old code "
                f"{copied:.3f}: {difference(target, variant.code)}",
            )
