"""What a run's completions are like, step by step: copies of the old code, DM*, the format, their length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from common.files import read_jsonl
from common.run_logs import METRICS, ROLLOUTS, series
from diff_match import diff_match
from records import Record
from rewards import clean, extract, is_well_formed

PANELS = {
    "copies": "Completions that return the old code, %",
    "dm_star": "DM*, -2 to 2",
    "exact": "Exact matches, %",
    "format": "Well formed, %",
    "length": "Mean length, tokens",
}
Line = tuple[list[int], list[float]]


def completion_measures(completion: str, record: Record) -> dict[str, float]:
    """Of one completion; DM* as the reward counts it, -2 without code."""
    code = extract(completion)
    mine = clean(code)[0] if code else None
    match = diff_match(code, record.old_code, record.new_code)
    return {
        "copies": 100.0 * (mine == clean(record.old_code)[0]),
        "exact": 100.0 * (mine == clean(record.new_code)[0]),
        "format": 100.0 * is_well_formed(completion),
        **({} if match is None else {"dm_star": match}),
    }


def curves(folder: Path, records: Mapping[str, Record]) -> dict[str, Line]:
    """Panel -> (steps, means over a step's completions); completions of unknown records are left out."""
    by_step: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in read_jsonl(folder / ROLLOUTS):
        if record := records.get(row["record_id"]):
            for name, value in completion_measures(row["completion"], record).items():
                by_step[row["step"]][name].append(value)
    found: dict[str, Line] = {"length": series(read_jsonl(folder / METRICS), "response_length")}
    for name in PANELS.keys() - found.keys():
        steps = [step for step, values in sorted(by_step.items()) if values[name]]
        found[name] = (steps, [sum(v := by_step[step][name]) / len(v) for step in steps])
    return found
