"""What a run measured, compared with what is expected: alarms, failures, and other versions than the pinned ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpu.expected import EXPECTED, Expected

PINNED = ("torch", "transformers", "trl", "peft")  # the libraries whose versions change these numbers


def measured(rows: Sequence[Mapping[str, Any]], expected: Expected) -> float | None:
    """The last measurement of a number; None if there is none."""
    found = [row.get(expected.name) for row in rows if (row["part"], row["what"]) == (expected.part, expected.what)]
    value = found[-1] if found else None
    return None if value is None else float(value)


def applies(environment: Mapping[str, Any]) -> bool:
    """Whether the expectations are for this shape and card."""
    card = environment["card"] or ""
    return environment["shape"] == "7b" and ("H100" in card or "H200" in card)


def failures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What did not run, unless a later attempt did."""
    last = {(row["part"], row["what"]): row for row in rows}
    return [f"{part}, {what}: {row['failed']}" for (part, what), row in last.items() if "failed" in row]


def alarms(rows: Sequence[Mapping[str, Any]]) -> list[Expected]:
    """The measurements that are alarming."""
    found = [(expected, measured(rows, expected)) for expected in EXPECTED]
    return [expected for expected, value in found if value is not None and "ALARM" in expected.verdict(value)]


def other_versions(versions: Mapping[str, str], pins: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Library -> (version here, pinned version), if they differ in more than the build (2.13.0+cpu)."""
    pairs = {name: (versions.get(name, "none"), pins[name]) for name in PINNED}
    return {name: pair for name, pair in pairs.items() if pair[0].partition("+")[0] != pair[1]}
