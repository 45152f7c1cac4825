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


def summarise(
    tasks: Mapping[str, Task], verdicts: Sequence[Mapping[str, Any]], ks: Sequence[int], errata: Collection[str]
) -> dict[str, Any]:
    """Every number of one run: scores with and without the errata, breakdowns, rates over samples, counts per task."""
    counts = per_task(verdicts)

    def by(group: Callable[[Task], str]) -> dict[str, Any]:
        names = sorted({group(task) for task in tasks.values()})
        parts = {name: [counts[i] for i, task in tasks.items() if group(task) == name] for name in names}
        return {name: {"problems": len(part), **scores(part, ks[:1])} for name, part in parts.items()}

    sound = [count for identity, count in counts.items() if identity not in errata]
    return {
        "problems": len(tasks),
        "samples_per_problem": len(verdicts) // len(tasks),
        "scores": scores(counts.values(), ks),
        "problems_without_errata": len(sound),
        "scores_without_errata": scores(sound, ks) if sound else {},
        "by_package": by(lambda task: task.updates[0].package),
        "by_update_type": by(lambda task: task.updates[0].type),
        "by_kind": by(lambda task: task.kind),
        "rates": rates(verdicts, list(RATES)),
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
    first = next(iter(result["scores"]))
    groups = [
        (name, str(group["problems"]), percent(group[first]))
        for part in ("by_package", "by_update_type", "by_kind")
        for name, group in result[part].items()
        if len(result[part]) > 1
    ]
    blocks = [
        headline(result),
        table(["metric", "all problems", f"without errata ({result['problems_without_errata']})", "paper"], rows),
        *counted(result),
    ]
    if groups:
        blocks.append(table(["part", "problems", title(first)], groups))
    return "\n\n".join(blocks)
