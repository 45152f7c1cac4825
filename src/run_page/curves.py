"""The curves of all runs: one panel for each measure, as SVG for the page.

Colours are variables of the page's style, so that the same picture serves on a light and on a dark page. No text of a
user is in a picture: the page names the runs.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from pydantic import BaseModel, Field

from common.errors import InputError
from common.files import read_json
from common.run_logs import ema, points
from evaluation.curve import METRIC
from run_page.training import Training

# title, unit, keys in metrics.jsonl: trl's, then verl's (src/verl_training/trainer.py); one of each trainer has values
MEASURES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Reward", "total", ("reward", "reward/before_filter/score")),
    ("Format reward", "±1", ("rewards/format_reward/mean", "reward/before_filter/format")),
    ("ES*", "-2 to 2", ("rewards/es_star/mean",)),
    ("EM*", "-2 to 2", ("rewards/em_star/mean",)),
    ("Correctness reward", "what DAPO adds to the format", ("reward/before_filter/correctness",)),
    ("Exact match", "share", ("reward/before_filter/em",)),
    ("Completion length", "tokens", ("completions/mean_length", "response_length/mean")),
    ("Truncated completions", "share", ("completions/clipped_ratio", "response_length/clip_ratio")),
    ("Groups of equal rewards", "share: no gradient", ("frac_reward_zero_std", "groups/zero_variance_share")),
    ("KL", "to the reference or the old policy", ("kl", "actor/kl_loss", "actor/ppo_kl")),
    ("Clip fraction", "share of tokens", ("clip_ratio/region_mean", "actor/pg_clipfrac")),
    ("Entropy", "nats per token", ("entropy", "actor/entropy")),
    ("Loss", "", ("loss", "actor/pg_loss")),
    ("Token accuracy", "share, SFT", ("mean_token_accuracy",)),
    ("Gradient norm", "before clipping", ("grad_norm", "actor/grad_norm")),
    ("Seconds per step", "", ("step_time", "timing_s/step")),
)
COPIES = ("Copies of the old code", "share of completions")
KNOWN = {key for _, _, keys in MEASURES for key in keys}
POINTS = 300  # of a line; more steps are averaged in groups
COLOURS = 8  # of runs, in the page's style; more runs repeat them
INK = "#010203"  # stands for the colour of the page's text
HUES = [f"#0a0b{i:02x}" for i in range(COLOURS)]
SIZE = (4.2, 2.5)  # inches

Line = tuple[Sequence[float], Sequence[float]]  # steps, values


@dataclass(frozen=True)
class Panel:
    """One picture with what is said about it."""

    title: str
    unit: str
    svg: Markup
    summary: str  # for readers who do not see it


def lines_of(runs: Sequence[Training]) -> list[tuple[str, str, dict[int, Line]]]:
    """(title, unit, number of the run -> its line) of every measure that a run has logged."""
    logs = [[row for _, row in run.metrics] for run in runs]
    keys_there = {key for log in logs for row in log for key in row}
    others = sorted(key for key in keys_there - KNOWN if re.fullmatch(r"rewards/.*/mean", key))
    measures = [*MEASURES, *((f"Reward {key.split('/')[1]}", "mean", (key,)) for key in others)]
    found = []
    for title, unit, keys in measures:
        lines: dict[int, Line] = {}
        for i, log in enumerate(logs):
            line = next((one for key in keys if (one := points(log, key))[0]), None)
            if line:
                lines[i] = line
        found.append((title, unit, lines))
    copied = {i: copy_shares(run.copies) for i, run in enumerate(runs) if run.copies}
    found.insert(9, (*COPIES, copied))
    return [(title, unit, lines) for title, unit, lines in found if lines]


def copy_shares(copies: Mapping[int, Sequence[bool]]) -> Line:
    return list(copies), [sum(flags) / len(flags) for flags in copies.values()]


def averaged(steps: Sequence[float], values: Sequence[float]) -> Line:
    """At most POINTS points, each the mean of as many neighbours."""
    n = -(-len(steps) // POINTS)
    groups = range(0, len(steps), n)
    return (
        [sum(steps[i : i + n]) / len(steps[i : i + n]) for i in groups],
        [sum(values[i : i + n]) / len(values[i : i + n]) for i in groups],
    )


def panels(runs: Sequence[Training], weight: float) -> list[Panel]:
    """A picture of each measure. Thin: logged values; thick: their moving average."""
    measures, names = lines_of(runs), [run.place.name for run in runs]
    steps = [step for _, _, lines in measures for line in lines.values() for step in (line[0][0], line[0][-1])]
    return [
        Panel(title, unit, draw(title, lines, (min(steps), max(steps)), weight), summary(lines, names))
        for title, unit, lines in measures
    ]


def summary(lines: Mapping[int, Line], names: Sequence[str]) -> str:
    return "; ".join(f"{names[i]}: first {line[1][0]:.3g}, last {line[1][-1]:.3g}" for i, line in lines.items())


class Checkpoint(BaseModel):
    """A row of curve.json (src/evaluation/curve.py)."""

    step: int
    scores: dict[str, dict[str, float | None]]


class CheckpointCurve(BaseModel):
    """curve.json, as far as it is drawn."""

    folder: str
    steps: list[Checkpoint] = Field(min_length=1)
    paper: dict[str, float]


def checkpoints(path: Path) -> Panel:
    """The Pass@1 of a run's checkpoints with 95 % intervals. Raises InputError."""
    curve = read_json(path, CheckpointCurve)
    rows = [
        (row.step, score) for row in curve.steps if (score := row.scores.get(METRIC)) and None not in score.values()
    ]
    if not rows:
        raise InputError(f"{path}: steps: no {METRIC} with its interval")
    steps = [step for step, _ in rows]
    means, lows, highs = ([100 * float(score[key] or 0) for _, score in rows] for key in ("mean", "low", "high"))
    spread = [[m - low for m, low in zip(means, lows, strict=True)], [h - m for m, h in zip(means, highs, strict=True)]]
    figure, axis = figure_and_axis()
    axis.errorbar(steps, means, spread, color=HUES[0], marker="o", markersize=4, capsize=2.5)
    theirs = ", ".join(f"{name} {number:.1f}" for name, number in curve.paper.items())
    what = f"Pass@1, % of {curve.folder}, with 95 % intervals; the paper's untrained: {theirs}"
    said = f"first {means[0]:.1f}, last {means[-1]:.1f} percent"
    return Panel("Checkpoints on CodeUpdateArena", what, svg(figure, f"checkpoints {path}"), said)


def figure_and_axis() -> tuple[Any, Any]:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"svg.fonttype": "none", "text.parse_math": False, "svg.hashsalt": "recode"})
    figure = Figure(figsize=SIZE, layout="constrained")
    axis = figure.subplots()
    figure.patch.set_alpha(0)
    axis.patch.set_alpha(0)
    axis.tick_params(colors=INK, labelsize=9)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    axis.grid(alpha=0.15, color=INK)
    axis.set_xlabel("step", fontsize=9, color=INK)
    return figure, axis


def draw(title: str, lines: Mapping[int, Line], span: tuple[float, float], weight: float) -> Markup:
    """The panel of one measure; `span`: the steps of all panels."""
    from matplotlib.ticker import MaxNLocator

    figure, axis = figure_and_axis()
    for i, (steps, values) in lines.items():
        colour, dash = HUES[i % COLOURS], "solid" if i < COLOURS else "dashed"
        marker = "o" if len(steps) == 1 else None
        axis.plot(*averaged(steps, values), color=colour, alpha=0.45, linewidth=0.9, linestyle=dash, marker=marker)
        axis.plot(*averaged(steps, ema(values, weight)), color=colour, linewidth=2, linestyle=dash)
    margin = 0.03 * (span[1] - span[0]) or 0.5
    axis.set_xlim(span[0] - margin, span[1] + margin)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    low, high = axis.get_ylim()
    if high - low < 1e-6 * max(1.0, abs(high)):  # matplotlib would label an offset
        axis.set_ylim(low - 0.5, high + 0.5)
    return svg(figure, title)


def svg(figure: Any, title: str) -> Markup:
    """The figure as an element for the page."""
    content = io.StringIO()
    figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = content.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', text, count=1)
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d+\.\d\d)\d+", r"\1", tag[0]), text)  # not in labels
    text = re.sub(r' id="[a-zA-Z]+\w*_\d+"', "", text)  # names that repeat in every picture and are never referred to
    # the page's own font and colours
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = text.replace(INK, "var(--ink)")
    for i, hue in enumerate(HUES):
        text = text.replace(hue, f"var(--run-{i + 1})")
    prefix = re.sub(r"\W", "", title.lower())  # names of clip paths are unique in the page
    names = re.findall(r' id="([^"]+)"', text)
    for name in names:
        text = text.replace(f'"{name}"', f'"{prefix}-{name}"').replace(f"#{name}", f"#{prefix}-{name}")
    return Markup(re.sub(r">\s+<", "><", text))
