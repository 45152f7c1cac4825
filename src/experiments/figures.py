"""The two figures of a study: completions over steps, and scores before and after; legible without colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from common.run_logs import ema
from experiments.curves import LIMITS, PANELS, Line
from experiments.grid import UNTRAINED
from experiments.tables import Results, columns, heading

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00")  # Okabe and Ito's
DASHES = ("solid", "dashed", "dashdot", "dotted", (0, (5, 1)), (0, (1, 1)))
SIZES: dict[str, Any] = {"dpi": 130, "layout": "constrained"}


def completion_figure(lines: Mapping[str, Mapping[str, Line]], weight: float) -> Figure:
    """A panel for each of PANELS, a line for each run: its moving average, and the means of the steps as points."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    drawn = Figure(figsize=(7, 1.75 * len(PANELS) + 0.8), **SIZES)
    axes: Sequence[Any] = list(drawn.subplots(len(PANELS), 1, sharex=True))
    for axis, (name, words) in zip(axes, PANELS.items(), strict=True):
        for number, (run, panels) in enumerate(lines.items()):
            steps, values = panels[name]
            again = number // len(COLOURS)  # a colour that is used again has another dash
            colour, dash = COLOURS[number % len(COLOURS)], DASHES[(number + again) % len(DASHES)]
            axis.plot(steps, values, ".", markersize=3, alpha=0.35, color=colour)
            axis.plot(steps, ema(values, weight), linewidth=2, color=colour, linestyle=dash, label=run)
        axis.set_title(words, fontsize=11, loc="left")
        axis.grid(alpha=0.25)
        if name in LIMITS:
            low, high = LIMITS[name]
            axis.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[-1].set_xlabel("optimizer step")
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return drawn


def score_figure(results: Results) -> Figure:
    """A panel for each measure, a row for each run: Pass@k in percent with its 95 % interval."""
    from matplotlib.figure import Figure

    shown = columns(results)
    height = 0.55 + 0.24 * len(results)
    drawn = Figure(figsize=(7, height * len(shown) + 0.4), **SIZES)
    axes: Sequence[Any] = list(drawn.subplots(len(shown), 1, squeeze=False)[:, 0])
    for axis, (measure, metric) in zip(axes, shown, strict=True):
        for row, (run, measured) in enumerate(results.items()):
            score = measured[measure].scores.get(metric) if measure in measured else None
            values = {key: 100 * value for key, value in (score or {}).items() if value is not None}
            if {"low", "high"} <= values.keys():
                axis.plot([values["low"], values["high"]], [row, row], linewidth=2, color=COLOURS[0])
            if "mean" in values:
                marker, colour = ("D", "black") if run == UNTRAINED else ("o", COLOURS[0])
                axis.plot(values["mean"], row, marker, markersize=6, color=colour, clip_on=False)
        axis.set_yticks(range(len(results)), list(results), fontsize=9)
        axis.set_ylim(len(results) - 0.5, -0.5)
        axis.set_xlim(left=0)
        axis.set_title(f"{heading(measure, metric)}, %", fontsize=11, loc="left")
        axis.grid(alpha=0.25)
    return drawn
