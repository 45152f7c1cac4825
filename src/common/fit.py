"""preflight's answer: whether an estimate fits, the one key that makes it fit, and the table that shows why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from common.footprint import Estimate
from common.node import GB, gb
from common.step_time import GpuType, Lengths, Part

R = TypeVar("R")
Changes = Callable[[R], Iterable[tuple[str, R]]]  # (what to set, the run with it); those that change the result last
HEADROOM = 0.05  # of a GPU: a run that leaves less is tight, because parts of the estimate are assumed
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
    summary: str  # of the run, in one line
    answer: str  # fits, tight, or does not fit
    estimate: Estimate
    change: Change | None  # with which it fits or, if nothing does that, is tight; None if it fits
    parts: tuple[Part, ...]  # of a step; empty if the type of the GPU is not known
    steps: int | None
    cpus: tuple[int, str]  # needed on all nodes, and what for
    output: Path


def report(
    run: R,
    estimate: Callable[[R], Estimate],
    changes: Changes[R],
    seconds: Callable[[R, Lengths, GpuType], list[Part]],
    place: Place,
    **facts: Any,
) -> Report:
    """The report on a run; `facts` are the fields of Report that a trainer knows."""
    found, room = estimate(run), int((1 - HEADROOM) * place.free)
    answer = "fits" if found.fits(room) else "tight" if found.fits(place.free) else "does not fit"
    limits = {"fits": (), "tight": (room,), "does not fit": (room, place.free)}[answer]
    options = (first_change(run, changes, estimate, limit) for limit in limits)
    return Report(
        answer=answer,
        estimate=found,
        change=next((option for option in options if option), None),
        parts=tuple(seconds(run, place.lengths, place.kind)) if place.kind else (),
        **facts,
    )


def first_change(run: R, changes: Changes[R], estimate: Callable[[R], Estimate], free: int) -> Change | None:
    """The first change with which the run fits; if no single one is enough, the first two that are together."""
    tried = []
    for setting, one in changes(run):
        if (found := estimate(one)).fits(free):
            return Change(setting, found.peak)
        tried.append((setting, one))
    for setting, one in tried:
        for second, both in changes(one):
            if (found := estimate(both)).fits(free):
                return Change(f"{setting} and {second}", found.peak)
    return None


def verdict(report: Report, place: Place) -> str:
    """The last line: fits, or why not and the one key to change."""
    estimate, change = report.estimate, report.change
    taken = f"{estimate.peak / GB:.1f} of a GPU's {gb(place.free)}"
    if report.answer == "fits":
        return f"fits: {taken} (estimate)"
    if report.answer == "tight":
        more = f"; for more room set {change.setting} ({gb(change.peak)})" if change else ""
        return f"tight: {taken} (estimate), less than {HEADROOM:.0%} free{more}"
    remedy = "one or two keys are not enough: use GPUs with more memory, or a smaller model"
    if change:
        tight = ", tight" if change.peak > (1 - HEADROOM) * place.free else ""
        remedy = f"set {change.setting} ({gb(change.peak)}{tight})"
    return f"does not fit: {estimate.problems[0] if estimate.problems else taken} (estimate): {remedy}"


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
