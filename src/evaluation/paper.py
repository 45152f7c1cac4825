"""The paper's numbers (results/paper.json), and the table of all of them beside ours."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import InputError
from evaluation.results import Result
from evaluation.tables import percent, table, title

PAPER = Path(__file__).parents[2] / "results" / "paper.json"
NAMES = {"arena": "CodeUpdateArena", "multi": "multi-update (ours: other questions)", "humaneval+": "HumanEval+"}


@functools.cache
def paper_rows() -> list[dict[str, Any]]:
    """A row per model and method: label, model, method, results (benchmark -> metric -> percent)."""
    return json.loads(PAPER.read_text("utf-8"))["rows"]


def check_label(label: str | None) -> None:
    """Raise InputError if the paper has no such MODEL/METHOD."""
    known = [row["label"] for row in paper_rows()]
    if label and label not in known:
        raise InputError(f"--label {label}: results/paper.json has {', '.join(known)}")


def paper_row(label: str | None, benchmark: str) -> dict[str, float]:
    """The paper's numbers for MODEL/METHOD on a benchmark, in percent; empty if it has none."""
    return next((row["results"].get(benchmark, {}) for row in paper_rows() if row["label"] == label), {})


def beside_ours(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Model, method, benchmark, metric, the paper's number and ours, for every number of the paper.

    A result belongs to the row whose label src/score.py was given as --label.
    """
    ours = {(result.label, result.benchmark): result.scores for result in results}
    rows: list[tuple[str, ...]] = []
    for row in paper_rows():
        for benchmark, metrics in row["results"].items():
            found = ours.get((row["label"], benchmark), {})
            for metric, number in metrics.items():
                here = percent(found[metric]) if metric in found else "not run"
                rows.append((row["model"], row["method"], NAMES[benchmark], title(metric), f"{number:.1f}", here))
    return rows


def in_paper(number: float | None) -> str:
    return "-" if number is None else f"{number:.1f}"


def paper_table(results: Sequence[Result]) -> str:
    header = ["model", "method", "benchmark", "metric", "paper", "here (95 % interval)"]
    return table(header, beside_ours(results))
