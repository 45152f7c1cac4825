"""The training run whose checkpoints src/checkpoint_curve.py evaluates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from common.checkpoints import base_of, run_start
from common.errors import InputError
from common.files import read_jsonl
from common.run_logs import MEASURES, METRICS

KEYS = [key for names in MEASURES.values() for key in names]  # what a curve reads of metrics.jsonl


@dataclass(frozen=True)
class Run:
    """A training run: its entry in run.json, the base model that it started from, its metrics.jsonl."""

    folder: Path
    start: Mapping[str, Any]
    base: str
    revision: str
    log: Sequence[Mapping[str, Any]]


def read_run(folder: Path, base: str | None) -> Run:
    """The run in a folder; `base` overrides the base model that it recorded. Raises InputError."""
    path = folder / METRICS
    if not path.is_file():
        raise InputError(f"{folder}: no {METRICS} there")
    log = read_jsonl(path)
    for line, row in enumerate(log, start=1):
        wrong = [key for key in KEYS if not isinstance(row.get(key), float | int | NoneType)]
        wrong += [] if isinstance(row.get("step"), int) else ["step"]
        if wrong:
            raise InputError(f"{path}:{line}: {wrong[0]}: missing or not a number")
    start = run_start(folder)
    return Run(folder, start, *((base, "main") if base else base_of(start)), log)
