"""The file of a study: its runs, and how each is trained and measured.

model: Qwen/Qwen2.5-Coder-0.5B-Instruct
configs: {grpo: configs/study/grpo.yaml}    # method -> the configuration of its trainer
data: {ours: data/train.jsonl}              # name -> records
runs:                                       # one run for each seed
  - {method: untrained}
  - {method: grpo, data: ours, reward: [format, es_star], seeds: [42, 43]}
evaluation: configs/study/eval.yaml         # what all measures share
measures:                                   # name -> flags of src/generate.py
  migration: --benchmark migration --data data/heldout.jsonl
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from common.cli import one_line
from common.errors import InputError, message_of
from common.settings import not_a_file

UNTRAINED, TRAIN = "untrained", "train"
Method = Literal["untrained", "sft", "grpo", "dapo"]
WITH_REWARD = ("grpo", "dapo")


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Entry(Strict):
    """A line of `runs`."""

    method: Method
    data: str | None = None
    reward: list[str] | None = Field(None, min_length=1)
    weights: list[float] | None = None
    seeds: list[int] = Field([42], min_length=1)

    @model_validator(mode="after")
    def _has_what_its_method_needs(self) -> Self:
        if (self.data is None) != (self.method == UNTRAINED):
            raise ValueError(f"data: {self.method} {'has no' if self.data else 'needs'} training data")
        if (self.reward is None) != (self.method not in WITH_REWARD):
            raise ValueError(f"reward: {self.method} {'has no' if self.reward else 'needs a'} reward")
        if self.reward is not None and "format" not in self.reward:
            raise ValueError("reward: format is missing")
        if self.method == "dapo" and {"dm_star", "execution"} <= set(self.reward or ()):
            raise ValueError("reward: verl reads one file of rewards: dm_star or execution")
        if self.weights is not None and len(self.weights) != len(self.reward or ()):
            raise ValueError(f"weights: expected one for each of {', '.join(self.reward or ('no reward',))}")
        return self


class Study(Strict):
    """The whole file."""

    model: str
    configs: dict[Method, str]
    data: dict[str, str]
    runs: list[Entry] = Field(min_length=1)
    evaluation: str
    measures: dict[str, str] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for kind, known in {"data": self.data, "measures": self.measures}.items():
            if wrong := [name for name in known if not re.fullmatch(r"\w[\w.-]*", name) or name == TRAIN]:
                raise ValueError(f"{kind}: {wrong[0]!r}: expected letters, digits, dots and dashes, and not {TRAIN}")
        for entry in self.runs:
            if entry.method != UNTRAINED and entry.method not in self.configs:
                raise ValueError(f"configs: none for {entry.method}")
            if entry.data is not None and entry.data not in self.data:
                raise ValueError(f"runs: data {entry.data!r}: expected one of {', '.join(self.data)}")
        if "dapo" in self.configs and not self.configs["dapo"].startswith("configs/"):
            raise ValueError(f"configs.dapo: {self.configs['dapo']}: expected a file in configs/, as scripts/dapo.sh")
        names = [run.name for run in runs_of(self)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"runs: {twice[0]} is there twice")
        return self


@dataclass(frozen=True)
class Run:
    """One run of the grid."""

    method: Method
    data: str | None = None
    reward: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    seed: int | None = None

    @property
    def name(self) -> str:
        """METHOD-REWARD-DATA-SEED, without `format`, which every reward has; a weight is written as 0.5x."""
        factors = [f"{weight}x" for weight in self.weights] or [""] * len(self.reward)
        parts = [f"{factor}{part}" for factor, part in zip(factors, self.reward, strict=True) if part != "format"]
        return "-".join(str(part) for part in (self.method, "+".join(parts), self.data, self.seed) if part)


def runs_of(study: Study) -> Iterator[Run]:
    """The runs in the order in which they are made: the first seed of every entry, then the second ones, …"""
    for turn in range(max(len(entry.seeds) for entry in study.runs)):
        for entry in study.runs:
            if turn < len(entry.seeds):
                seed = None if entry.method == UNTRAINED else entry.seeds[turn]
                yield Run(entry.method, entry.data, tuple(entry.reward or ()), tuple(entry.weights or ()), seed)


def choose(names: Collection[str], patterns: Sequence[str], flag: str) -> list[str]:
    """The names that fit a pattern; all, without patterns. Raises InputError if a pattern fits none."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(f"{flag} {pattern}: expected one of {', '.join(names)}, or a pattern of them")
    return [name for name in names if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]


def read_study(path: Path) -> Study:
    """The file, checked. Raises InputError."""
    import yaml

    if not path.is_file():
        raise not_a_file(path)
    try:
        return Study.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not YAML: {message_of(error)}") from None
    except ValidationError as error:
        raise InputError(*(f"{path}: {place(problem)}" for problem in error.errors())) from None


def place(problem: Mapping[str, Any]) -> str:
    """A problem of pydantic's in one line, with the key that it is about."""
    keys = ".".join(map(str, problem["loc"]))
    return one_line(f"{keys + ': ' if keys else ''}{problem['msg'].removeprefix('Value error, ')}")
