"""preflight's answer: whether an estimate fits, the one key that makes it fit, and the table that shows why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from common.footprint import Estimate
from common.gpu_types import GpuType
from common.node import GB
from common.step_time import Lengths, Part

R = TypeVar("R")
LEGEND = (
    "P, A: parameters of model and adapter; N: GPUs; L: layers; h, i, kv, V: hidden, intermediate, KV and vocabulary "
    "size; t: tokens at once"
)


@dataclass(frozen=True)
class Place:
    """Where a run would go: GPUs of a node, equal nodes, bytes of the smallest GPU in all and free, for times its type,
    and what the launcher decides, the stage of DeepSpeed's ZeRO (0: DDP)."""

    gpus: int
    nodes: int
    card: int
    free: int
    kind: GpuType | None = None
    lengths: Lengths = field(default_factory=Lengths)
    zero: int = 0


@dataclass(frozen=True)
class Change:
    """One setting, and the peak with it."""

    setting: str
    peak: float


@dataclass(frozen=True)
class Report:
    """Everything about one run on one kind of node."""

    model: str
    parameters: int
    run: str  # in one line
    estimate: Estimate
    fits: bool
    change: Change | None  # with which it fits, if it does not
    parts: tuple[Part, ...]  # of a step; empty if the type of the GPU is not known
    steps: int | None
    cpus: tuple[int, str]  # needed on all nodes, and what for
    output: Path


def size(number: float) -> str:
    return f"{number / GB:.1f}"


def first_change(
    singles: Iterable[tuple[str, R]],
    others: Callable[[R], Iterable[tuple[str, R]]],
    estimate: Callable[[R], Estimate],
    free: int,
) -> Change | None:
    """The first of `singles` that fits; if none does, the first that fits together with one of the `others`."""
    tried = []
    for setting, run in singles:
        if (found := estimate(run)).fits(free):
            return Change(setting, found.peak)
        tried.append((setting, run))
    for setting, run in tried:
        for second, both in others(run):
            if (found := estimate(both)).fits(free):
                return Change(f"{setting} and {second}", found.peak)
    return None


def verdict(report: Report, place: Place) -> str:
    """The last line: fits, or why not and the one key to change."""
    estimate, change = report.estimate, report.change
    if report.fits:
        return f"fits: {size(estimate.peak)} of a GPU's {size(place.free)} GB (estimate)"
    why = estimate.problems[0] if estimate.problems else f"{size(estimate.peak)} of a GPU's {size(place.free)} GB"
    remedy = "one or two keys are not enough: use GPUs with more memory, or a smaller model"
    if change:
        remedy = f"set {change.setting} ({size(change.peak)} GB)"
    return f"does not fit: {why} (estimate): {remedy}"


def memory_table(estimate: Estimate) -> list[str]:
    """Rows of GB, a column for each phase, and the formulas."""
    names = [line.name for line in estimate.lines]
    wide = max(map(len, [*names, "memory of a GPU, GB"]))
    columns = [max(8, len(phase) + 1) for phase in estimate.phases]

    def row(name: str, cells: Sequence[str], formula: str) -> str:
        numbers = "".join(cell.rjust(column) for cell, column in zip(cells, columns, strict=True))
        return f"{name:<{wide}}{numbers}   {formula}".rstrip()

    def cell(number: float) -> str:
        return f"{number / GB:.2f}" if number else "-"

    rows = [row("memory of a GPU, GB", estimate.phases, "formula")]
    rows += [row(x.name, [cell(x.phases.get(p, 0)) for p in estimate.phases], x.formula) for x in estimate.lines]
    rows.append(row("sum", [cell(estimate.total(p)) for p in estimate.phases], "estimate"))
    return [*rows, LEGEND]


def time_table(parts: Sequence[Part], steps: int | None, place: Place) -> list[str]:
    """Rows of seconds, and hours if the number of steps is known."""
    wide = max(len(part.name) for part in parts) + 2
    total = sum(part.seconds for part in parts)
    assert place.kind is not None  # without it there are no parts
    lengths = f"prompts of {place.lengths.prompt} tokens, completions of {place.lengths.completion}"
    rows = [f"time of a step on {place.kind.name}, s: an estimate that no measurement has calibrated; {lengths}"]
    rows += [f"{part.name:<{wide}}{part.seconds:8.1f}   {part.formula}" for part in parts]
    rows.append(f"{'sum':<{wide}}{total:8.1f}")
    if steps is None:
        rows.append("hours: not estimated: the number of steps depends on the data, which is not in a local file")
    else:
        hours = total * steps / 3600
        gpu_hours = hours * place.gpus * place.nodes
        rows.append(f"{steps:,} steps: {hours:.1f} hours, {gpu_hours:.0f} GPU-hours (estimate)")
    return rows
