"""The completions of a training, step by step: copies of the old code, ES*, DM*, exact matches, format, length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.files import read_jsonl
from common.run_logs import METRICS, ROLLOUTS, points, series
from diff_match import diff_match
from rewards import score
from run_page.tasks import Task

PANELS = {
    "copies": "Completions that return the old code, %",
    "es_star": "ES*, -2 to 2",
    "dm_star": "DM*, -2 to 2",
    "exact": "Exact matches, %",
    "format": "Well formed, %",
    "length": "Mean length, tokens",
}
LIMITS = {"copies": (0, 100), "format": (0, 100), "es_star": (-2, 2), "dm_star": (-2, 2)}  # of the values
Line = tuple[list[int], list[float]]  # steps, values


def completion_measures(completion: str, task: Task) -> dict[str, float]:
    """Of one completion; ES* and DM* as the rewards count them, -2 without code."""
    found = score(completion, task.target)
    match = diff_match(found.code, task.old, task.target)
    return {
        "copies": 100.0 * task.is_copy(found.code),
        "exact": 100.0 * found.exact,
        "format": 100.0 * (found.format > 0),
        "es_star": found.es_star,
        **({} if match is None else {"dm_star": match}),
    }


def curves(folder: Path, tasks: Mapping[str, Task]) -> dict[str, Line]:
    """Panel -> (steps, means over a step's completions); completions to unknown records are left out."""
    by_step: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in read_jsonl(folder / ROLLOUTS):
        if task := tasks.get(row["record_id"]):
            for name, value in completion_measures(row["completion"], task).items():
                by_step[row["step"]][name].append(value)
    found: dict[str, Line] = {"length": series(read_jsonl(folder / METRICS), "response_length")}
    for name in PANELS.keys() - found.keys():
        steps = [step for step, values in sorted(by_step.items()) if values[name]]
        found[name] = (steps, [sum(by_step[step][name]) / len(by_step[step][name]) for step in steps])
    return found


def as_rows(lines: Mapping[str, Line]) -> list[dict[str, float]]:
    """The same values as a row for each step."""
    rows: dict[int, dict[str, float]] = defaultdict(dict)
    for name in PANELS:
        for step, value in zip(*lines[name], strict=True):
            rows[step][name] = value
    return [{"step": step, **values} for step, values in sorted(rows.items())]


def from_rows(rows: Sequence[Mapping[str, float]]) -> dict[str, Line]:
    """What `as_rows` was given."""
    return {name: points(rows, name) for name in PANELS}
