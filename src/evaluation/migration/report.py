"""Verdicts of the migration benchmark -> numbers -> a table.

Every mean is over records (the samples of one are averaged first), every interval a 95 % bootstrap over updates, since
the records of one update are alike. A part that has a single update gets no interval.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from common.estimates import mean_and_interval, pass_at_k
from curation.evidence import Evidence
from evaluation.tables import counted, headline, number, percent, rates, table, title
from records import Record

MEASURES = {
    "em": "exact match, %",
    "es": "edit similarity, 0 to 1",
    "dm_star": "DM* (ours), -2 to 2",
    "is_copy": "returns the old code, %",
    "old_api": "still uses the old API, %",
}


def per_record(
    records: Mapping[str, Record], evidence: Mapping[str, Evidence], verdicts: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Record id -> {"n", "passed", "update", "kind", "library", and the mean of each measure, None if undefined}."""
    found = {}
    for identity, record in records.items():
        mine = [row for row in verdicts if row["task_id"] == identity]
        row: dict[str, Any] = {"n": len(mine), "passed": sum(row["passed"] for row in mine)}
        row |= {"update": evidence[identity].update, "kind": evidence[identity].kind, "library": record.dependency}
        for name in MEASURES:
            values = [float(verdict[name]) for verdict in mine if verdict[name] is not None]
            row[name] = sum(values) / len(values) if values else None
        found[identity] = row
    return found


def summarise(
    records: Mapping[str, Record],
    evidence: Mapping[str, Evidence],
    verdicts: Sequence[Mapping[str, Any]],
    ks: Sequence[int],
) -> dict[str, Any]:
    """Every number of one run."""
    tasks = per_record(records, evidence, verdicts)

    def scores(part: Sequence[Mapping[str, Any]], ks: Sequence[int]) -> dict[str, Any]:
        updates = [task["update"] for task in part]
        passed = {k: [pass_at_k(task["n"], task["passed"], k) for task in part] for k in ks}
        return {f"pass@{k}": mean_and_interval(values, updates) for k, values in passed.items()}

    def by(key: str) -> dict[str, Any]:
        parts: dict[str, list] = {}
        for task in sorted(tasks.values(), key=lambda task: task[key].lower()):
            parts.setdefault(task[key], []).append(task)
        return {
            name: {"problems": len(part), "updates": len({task["update"] for task in part}), **scores(part, ks[:1])}
            for name, part in parts.items()
        }

    measures: dict[str, Any] = {}
    for name in MEASURES:
        part = [task for task in tasks.values() if task[name] is not None]
        values, updates = [task[name] for task in part], [task["update"] for task in part]
        measures[name] = {"problems": len(part), **mean_and_interval(values, updates)} if part else None
    return {
        "problems": len(tasks),
        "updates": len({task["update"] for task in tasks.values()}),
        "samples_per_problem": len(verdicts) // len(tasks),
        "scores": scores(list(tasks.values()), ks),
        "measures": measures,
        "by_kind": by("kind"),
        "by_library": by("library"),
        "rates": rates(verdicts, ["syntax", "no_code", "format", "truncated"]),
        "verdicts": dict(Counter(row["status"] for row in verdicts).most_common()),
        "tasks": tasks,
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The table of one run; 95 % intervals in brackets."""
    rows = [(f"{title(name)}, %", str(result["problems"]), percent(value)) for name, value in result["scores"].items()]
    for name, words in MEASURES.items():
        if value := result["measures"][name]:
            rows.append((words, str(value["problems"]), percent(value) if words.endswith("%") else number(value)))
    first = next(iter(result["scores"]))
    groups = [
        (name, str(group["updates"]), str(group["problems"]), percent(group[first]))
        for part in ("by_kind", "by_library")
        for name, group in result[part].items()
        if len(result[part]) > 1
    ]
    blocks = [
        headline(result),
        table([f"mean over records, interval over {result['updates']} updates", "records", "here"], rows),
        *counted(result),
    ]
    if groups:
        blocks.append(table(["part", "updates", "records", f"{title(first)}, %"], groups))
    return "\n\n".join(blocks)
