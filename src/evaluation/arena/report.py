"""Verdicts of CodeUpdateArena and of the multi-update set -> numbers -> a table beside the paper's.

Intervals are over problems; those of one update are alike, so they are somewhat narrow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from evaluation.arena.problems import Task
from evaluation.tables import (
    RATES,
    by_part,
    counted,
    headline,
    in_paper,
    paper_row,
    per_task,
    percent,
    rates,
    scores,
    table,
    title,
)

WAYS = ("passed", "upassed")


def summarise(
    tasks: Mapping[str, Task], verdicts: Sequence[Mapping[str, Any]], ks: Sequence[int], errata: Collection[str]
) -> dict[str, Any]:
    """Every number of one run: scores with and without the errata, breakdowns, rates over samples, counts per task."""
    counts = per_task(verdicts, WAYS)

    def by(group: Callable[[Task], str]) -> dict[str, Any]:
        return by_part({i: group(task) for i, task in tasks.items()}, counts, ks[:1], WAYS)

    sound = [count for identity, count in counts.items() if identity not in errata]
    return {
        "problems": len(tasks),
        "samples_per_problem": len(verdicts) // len(tasks),
        "scores": scores(counts.values(), ks, WAYS),
        "problems_without_errata": len(sound),
        "scores_without_errata": scores(sound, ks, WAYS) if sound else {},
        "by_package": by(lambda task: task.updates[0].package),
        "by_update_type": by(lambda task: task.updates[0].type),
        "by_kind": by(lambda task: task.kind),
        "rates": rates(verdicts, RATES),
        "verdicts": dict(Counter(row["status"] for row in verdicts).most_common()),
        "tasks": counts,
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The table of one run; percentages, 95 % intervals in brackets."""
    paper = paper_row(result["label"], result["benchmark"])
    sound = result["scores_without_errata"]
    rows = [
        (title(name), percent(value), percent(sound[name]) if sound else "-", in_paper(paper.get(name)))
        for name, value in result["scores"].items()
    ]
    header = ["metric", "all problems", f"without errata ({result['problems_without_errata']})", "paper"]
    parts = ("by_package", "by_update_type", "by_kind")
    return "\n\n".join([headline(result), table(header, rows), *counted(result, parts, {"problems": "problems"})])
