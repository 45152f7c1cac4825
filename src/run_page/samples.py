"""The samples as the page's script reads them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from common.cli import printable
from common.run_logs import is_number
from run_page.reasons import Reason
from run_page.tasks import Task
from run_page.thinning import cut

DIGITS = 4  # decimals of a reward


@dataclass
class Sample:
    """One completion with everything that the page shows of it."""

    place: str  # name of its run or evaluation
    path: tuple[str, ...]  # its address within the place
    label: str
    task: Task
    text: str
    code: str | None  # what was scored
    value: float | None  # the reward, or 1 if it passed
    parts: list[Reason]
    advantage: float | None = None
    is_trained: bool = True  # whether dynamic sampling kept it
    step: int | None = None
    tags: list[str] = field(default_factory=list)


def shown(text: str) -> str:
    """A text as the page shows it: cut if it is very long, with control characters and lone surrogates as escapes."""
    return printable(cut(text.replace("\r\n", "\n")))


def number(value: float | None) -> float | None:
    """A number that JSON knows."""
    return round(value, DIGITS) if value is not None and is_number(value) else None


def place_of(code: str | None, text: str) -> Any:
    """[start, end] of the code in the text, so that it is not stored twice; the code itself if it is not part of it."""
    at = -1 if code is None else text.find(code)
    if code is None or at < 0 or not code or max(text) > "\uffff":  # JavaScript counts such characters twice
        return code
    return [at, at + len(code)]


def plain(value: Any) -> Any:
    """A JSON value of this page with its texts as they are shown, and its numbers as JSON knows them."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return number(value) if isinstance(value, float) else value


def payload(
    samples: Sequence[Sample], places: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Everything that the script needs; a task is stored once."""
    tasks: dict[Task, int] = {}
    numbers = {place["name"]: i for i, place in enumerate(places)}
    rows = []
    for sample in samples:
        text = shown(sample.text)
        code = None if sample.code is None else shown(sample.code)
        row = {
            "place": numbers[sample.place],
            "path": [printable(part) for part in sample.path],
            "label": printable(sample.label),
            "task": tasks.setdefault(sample.task, len(tasks)),
            "text": text,
            "code": place_of(code, text),
            "value": number(sample.value),
            "parts": [[printable(name), number(value), printable(why)] for name, value, why in sample.parts],
            "advantage": number(sample.advantage),
            "tags": sample.tags,
        }
        if sample.step is not None:
            row |= {"step": sample.step, "trained": sample.is_trained}
        rows.append(row)
    mark_best(rows)
    keys = ("id", "title", "note", "old", "target")
    return {
        "places": plain(list(places)),
        "pairs": plain(list(pairs)),
        "tasks": [{key: shown(getattr(task, key)) for key in keys} for task in tasks],
        "samples": rows,
    }


def mark_best(rows: Sequence[dict[str, Any]]) -> None:
    """Tag the answers with the highest reward among those to the same question in the same step or evaluation."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["value"] is not None:
            groups[row["place"], *row["path"][:-1]].append(row)
    for group in groups.values():
        best = max(row["value"] for row in group)
        if best > min(row["value"] for row in group):
            for row in group:
                row["tags"] = [*row["tags"], *(["best of its group"] if row["value"] == best else [])]


def embedded(value: Any) -> Markup:
    """A value as JSON inside a script element: no text can close the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
