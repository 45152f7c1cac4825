"""A folder of scores, as src/score.py writes it.

It belongs to one way of drawing samples: drawn further, they may be scored again into it; others may not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from common.cli import printable
from common.errors import InputError
from common.files import read_json, write_json, write_jsonl, write_text
from common.provenance import sha256
from common.rows import typed
from common.run_logs import is_number
from evaluation.samples import FileFormat, Identity, changed_fields

FILES = ("results.json", "table.md", "verdicts.jsonl")
REWARDS = {"reward": "reward", "format_rate": "format rate", "es_star": "ES*", "em": "EM", "is_copy": "copies old"}
Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Scored:
    """What a benchmark makes of samples."""

    verdicts: Sequence[Numbers]  # one a sample
    numbers: Numbers  # the benchmark's part of results.json
    markdown: Callable[[Numbers], str]  # the table of results.json
    files: Mapping[str, Path] = field(default_factory=dict)  # further data files that the numbers depend on


class Origin(FileFormat):
    """A file of a result: of its data, or of its samples, with their Identity (empty if there was no note)."""

    sha256: str
    made: dict[str, Any] = Field(default_factory=dict)


def _check_score(name: str, score: Mapping[str, float | None], tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ValueError if a Pass@k has no mean, or if the counts of a task do not give one."""
    found = re.fullmatch(r"((?:u|base_)?pass)@([1-9][0-9]{0,5})", name)
    if not found or score.get("mean") is None or not {"low", "high"} <= score.keys():
        raise ValueError(f"scores.{name}: expected a name such as pass@1, and mean, low and high")
    for identity, task in tasks.items():
        n, passed = task.get("n"), task.get(f"{found[1]}ed")
        if not (type(n) is type(passed) is int and int(found[2]) <= n and 0 <= passed <= n):
            raise ValueError(f"tasks.{identity}: n and {found[1]}ed do not give a {name}")


def _check_task(where: str, task: Mapping[str, Any], measures: Iterable[str], rewards: Iterable[str]) -> None:
    """Raise ValueError if a task lacks a measure (a number or null), a reward (a number) or the name of its update."""
    wrong = [name for name in measures if name not in task or not (task[name] is None or is_number(task[name]))]
    wrong += [name for name in rewards if not is_number(task.get(name))]
    if (measures or "update" in task) and not isinstance(task.get("update"), str):
        wrong.append("update")
    if wrong:
        raise ValueError(f"{where}.{wrong[0]}: missing or of another type")


class Result(FileFormat):
    """results.json, as far as it is read again; src/score.py writes `scores` or, with --no-run, `rewards`."""

    benchmark: str
    label: str | None = None
    problems: int
    samples_per_problem: int
    scores: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    measures: dict[str, Any] = Field(default_factory=dict)
    rewards: dict[str, dict[str, float]] = Field(default_factory=dict)
    copy_baseline: dict[str, dict[str, float]] = Field(default_factory=dict)
    tasks: dict[str, dict[str, Any]]
    samples: Origin
    data: dict[str, Origin]
    config: dict[str, Any] = Field(default_factory=dict)
    evalplus: dict[str, Any] = Field(default_factory=dict)  # how evalplus judged
    executed_with: dict[str, Any] | None = None
    references_that_fail: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_what_is_compared(self) -> Result:
        if not self.tasks or not (self.scores or self.rewards):
            raise ValueError("no tasks, or neither scores nor rewards")
        if self.scores and not any(name.startswith("pass@") for name in self.scores):
            raise ValueError("scores: no pass@k")
        for name, score in self.scores.items():
            _check_score(name, score, self.tasks)
        for identity, task in self.tasks.items():
            _check_task(f"tasks.{identity}", task, self.measures, REWARDS if self.rewards else ())
        for part, values in {"rewards": self.rewards, "copy_baseline": self.copy_baseline}.items():
            for name in REWARDS if self.rewards else ():
                if not {"mean", "standard_error"} <= values.get(name, {}).keys():
                    raise ValueError(f"{part}.{name}: expected mean and standard_error")
        if not isinstance(self.samples.made.get("sampling", {}), dict):
            raise ValueError("samples.made.sampling: not a JSON object")
        return self


class CurveResult(Result):
    """The results.json of one checkpoint, as far as src/checkpoint_curve.py reads it."""

    scores_without_errata: dict[str, dict[str, float | None]]
    errata: dict[str, Any] | None
    rates: dict[str, float | None]

    @model_validator(mode="after")
    def _is_of_a_checkpoint(self) -> CurveResult:
        if None in self.scores.get("pass@1", {"low": None}).values():
            raise ValueError("scores.pass@1: expected mean, low and high")
        made = typed(Identity, self.samples.made, "samples.made")
        if made.benchmark != "arena" or not {"prompt", "backend", "dtype"} <= self.samples.made.keys():
            raise ValueError("samples.made: not samples of a model for CodeUpdateArena")
        return self


def read_result(folder: Path) -> Result:
    """A folder's results.json, or that file itself. Raises InputError."""
    path = folder if folder.suffix == ".json" else folder / "results.json"
    return read_json(path, Result)


def choose_ks(given: Sequence[int] | None, n: int, samples: Path) -> list[int]:
    """The k of --k; by default 1, and 5 if there are as many samples a problem. Raises InputError if n is too small."""
    ks = [k for k in (1, 5) if k <= n] if given is None else list(given)
    if ks[-1] > n:
        raise InputError(f"Pass@{ks[-1]} needs {ks[-1]} samples a problem, {samples} has {n}: choose --k")
    return ks


def check_owner(out: Path, samples: Path, identity: Identity | None) -> None:
    """Raise InputError if the folder holds results of other samples: of other bytes, unless made in the same way.

    Without an identity nothing shows that more of the same samples were drawn.
    """
    if not (out / "results.json").exists():
        return
    old = read_result(out).samples
    before = typed(Identity, old.made, str(out / "results.json")) if old.made else None
    is_same_run = before is not None and identity is not None and not changed_fields(before, identity)
    if not is_same_run and old.sha256 != sha256(samples):
        raise InputError(f"{out} holds the results of other samples: choose another --out")


def write_results(out: Path, result: Numbers, verdicts: Sequence[Numbers], markdown: Callable[[Numbers], str]) -> None:
    """Write the three files, then print the table and where they are."""
    write_jsonl(out / "verdicts.jsonl", verdicts)
    write_json(out / "results.json", result)
    text = markdown(result)
    write_text(out / "table.md", text + "\n")
    print(printable(text))
    print("\n" + "\n".join(f"{out / name}" for name in FILES))
