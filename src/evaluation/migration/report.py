"""Verdicts of the migration benchmark -> numbers -> a table.

Every mean is over records (the samples of one are averaged first), every interval a 95 % bootstrap over updates, since
the records of one update are alike. A part that has a single update gets no interval.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from common.estimates import mean_and_interval
from curation.evidence import Evidence
from evaluation.tables import (
    by_part,
    counted,
    headline,
    number,
    per_task,
    percent,
    rates,
    scores,
    table,
    task_means,
    title,
)
from records import Record

WAYS = ("passed",)
MEASURES = {
    "em": "exact match, %",
    "es": "edit similarity, 0 to 1",
    "dm_star": "DM* (ours), -2 to 2",
    "is_copy": "returns the old code, %",
    "old_api": "still uses the old API, %",
}


def summarise(
    records: Mapping[str, Record],
    evidence: Mapping[str, Evidence],
    verdicts: Sequence[Mapping[str, Any]],
    ks: Sequence[int],
) -> dict[str, Any]:
    """Every number of one run."""
    counts, means = per_task(verdicts, WAYS), task_means(verdicts, MEASURES)
    update_of = {identity: evidence[identity].update for identity in records}
    parts = {
        "kind": {identity: evidence[identity].kind for identity in records},
        "library": {identity: record.dependency for identity, record in records.items()},
    }
    measures: dict[str, Any] = {}
    for name in MEASURES:
        values = {i: means[i][name] for i in records if means[i][name] is not None}
        updates = [update_of[i] for i in values]
        measures[name] = {"problems": len(values), **mean_and_interval([*values.values()], updates)} if values else None
    return {
        "problems": len(records),
        "updates": len(set(update_of.values())),
        "samples_per_problem": len(verdicts) // len(records),
        "scores": scores([counts[i] for i in records], ks, WAYS, list(update_of.values())),
        "measures": measures,
        **{f"by_{key}": by_part(part_of, counts, ks[:1], WAYS, update_of) for key, part_of in parts.items()},
        "rates": rates(verdicts, ["syntax", "no_code", "format", "truncated"]),
        "verdicts": dict(Counter(row["status"] for row in verdicts).most_common()),
        "tasks": {
            i: {**counts[i], "update": update_of[i], **{key: part_of[i] for key, part_of in parts.items()}, **means[i]}
            for i in records
        },
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The table of one run; 95 % intervals in brackets."""
    rows = [(f"{title(name)}, %", str(result["problems"]), percent(value)) for name, value in result["scores"].items()]
    for name, words in MEASURES.items():
        if value := result["measures"][name]:
            rows.append((words, str(value["problems"]), percent(value) if words.endswith("%") else number(value)))
    header = [f"mean over records, interval over {result['updates']} updates", "records", "here"]
    sizes = {"updates": "updates", "problems": "records"}
    blocks = [headline(result), table(header, rows), *counted(result, ("by_kind", "by_library"), sizes)]
    return "\n\n".join(blocks)
