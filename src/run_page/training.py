"""A training run: its rollouts, and what is counted in them step by step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from common.alternatives import read_alternatives
from common.errors import InputError
from common.files import numbered_jsonl
from common.provenance import Start
from common.rows import typed
from common.run_logs import METRICS, ROLLOUTS, is_number
from rewards import best_score, extract
from run_page.find import Place, starts_of
from run_page.reasons import explain
from run_page.samples import Sample
from run_page.tasks import Task, load


class Row(BaseModel):
    """A line of rollouts.jsonl."""

    model_config = ConfigDict(strict=True, frozen=True)
    step: int
    record_id: str
    group: int
    completion: str
    target: str
    rewards: dict[str, float | None]
    advantage: float | None = None
    reason: str = ""


@dataclass
class Training:
    """What the page shows of a training run."""

    place: Place
    starts: list[Start]
    metrics: list[tuple[int, dict[str, Any]]]  # with their lines
    rows: list[Row]
    tasks: dict[str, Task]
    remarks: list[str]
    weights: dict[str, float]  # of the rewards
    others: dict[str, list[str]]  # record id -> other right targets that the rewards took
    copies: dict[int, list[bool]] = field(default_factory=dict)  # step -> for each completion

    @property
    def config(self) -> Mapping[str, Any]:
        return self.starts[-1].config if self.starts else {}

    def steps(self) -> dict[int, list[Row]]:
        """The rows of each step, in order."""
        found: dict[int, list[Row]] = defaultdict(list)
        for row in self.rows:
            found[row.step].append(row)
        return dict(sorted(found.items()))

    def value(self, row: Row) -> float | None:
        """The reward that is trained on."""
        if "score" in row.rewards:
            return row.rewards["score"]
        values = [self.weights.get(name, 1.0) * v for name, v in row.rewards.items() if v is not None and is_number(v)]
        return sum(values) if values else None


def read(place: Place) -> Training:
    """The run in a folder. Raises InputError, which names file, line and field."""
    folder = place.folder
    starts = starts_of(folder)
    metrics = numbered_jsonl(folder / METRICS) if (folder / METRICS).is_file() else []
    lines = numbered_jsonl(folder / ROLLOUTS) if (folder / ROLLOUTS).is_file() else []
    rows = [typed(Row, row, f"{folder / ROLLOUTS}:{line}") for line, row in lines]
    sources = {name: str(one.get("sha256", "")) for start in starts for name, one in start.data.items()}
    tasks, remarks = load(sources, [row.record_id for row in rows]) if rows else ({}, [])
    run = Training(place, starts, metrics, rows, tasks, remarks, weights(starts, rows), others(starts))
    if tasks:
        run.copies = copies(run)
    return run


def weights(starts: Sequence[Start], rows: Sequence[Row]) -> dict[str, float]:
    """Reward -> its weight, as GRPO's configuration lists them; empty if they are all 1."""
    given = starts[-1].config.get("reward_weights") if starts else None
    if not isinstance(given, list) or not rows or not all(map(is_number, given)):
        return {}
    return dict(zip(rows[0].rewards, map(float, given), strict=False))


def others(starts: Sequence[Start]) -> dict[str, list[str]]:
    """What the key `alternatives` added to the targets; nothing if its file is no longer there."""
    config = starts[-1].config if starts else {}
    own = config.get("recode", config)  # DAPO's keys
    if not isinstance(own, Mapping) or own.get("alternatives") is not True:
        return {}
    try:
        return read_alternatives(str(own.get("data")))
    except InputError:
        return {}


def copies(run: Training) -> dict[int, list[bool]]:
    """Step -> whether each of its completions returns the old code; for all samples, not only those in the page."""
    found: dict[int, list[bool]] = defaultdict(list)
    for row in run.rows:
        if task := run.tasks.get(row.record_id):
            found[row.step].append(task.is_copy(extract(row.completion)))
    return dict(sorted(found.items()))


def samples(run: Training, rows: Sequence[tuple[int, Row]]) -> list[Sample]:
    """The samples of some rows, each with its number within its group."""
    out = []
    for number, row in rows:
        task = run.tasks.get(row.record_id, Task(row.record_id, target=row.target))
        if task.target != row.target:
            task = Task(row.record_id, task.title, task.note, task.old, row.target)
        found = best_score(row.completion, [row.target, *run.others.get(row.record_id, [])])
        out.append(
            Sample(
                place=run.place.name,
                path=(str(row.step), str(row.group), str(number)),
                label=f"step {row.step}, group {row.group}, completion {number + 1}",
                task=task,
                text=row.completion,
                code=found.code,
                value=run.value(row),
                parts=explain(row.rewards, found, row.completion, row.reason),
                advantage=row.advantage,
                is_trained=row.advantage is not None,
                step=row.step,
                tags=tags(found.code, found.parses, found.exact, task),
            )
        )
    return out


def tags(code: str | None, parses: bool, exact: bool, task: Task) -> list[str]:
    """What the filters ask."""
    named = {
        "no answer": code is None,
        "does not parse": code is not None and not parses,
        "equals the target": exact and bool(task.target) and parses,
        "copy": task.is_copy(code),
    }
    return [name for name, holds in named.items() if holds]


def numbered(rows: Sequence[Row]) -> list[tuple[int, Row]]:
    """The rows of one step with their numbers within their groups."""
    counts: dict[int, int] = defaultdict(int)
    out = []
    for row in rows:
        out.append((counts[row.group], row))
        counts[row.group] += 1
    return out
