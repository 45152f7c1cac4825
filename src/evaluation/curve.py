"""The scores of a run's checkpoints as one table and two figures: what src/checkpoint_curve.py writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import InputError
from common.estimates import mean_and_interval, pass_at_k
from common.markdown import table
from common.run_logs import MEASURES, at_step, ema, series
from evaluation.tables import paper_row, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRIC = "pass@1"
BASELINES = ("Qwen2.5-Coder-32B-Instruct/untrained", "DeepSeek-R1-Distill-Qwen-32B/untrained")  # paper Fig. 2, Table 1
PAPER_PROBLEMS = 670
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#4D4D4D"  # Okabe and Ito's, for colour-blind readers
DASHES = ("dashed", "dashdot")
PLACE = ("data", "model", "adapter", "adapter_sha256", "model_sha256", "model_commit")  # differ between checkpoints


def baselines() -> dict[str, float]:
    """Model -> the paper's Pass@1 of the untrained 32B models, in percent."""
    return {label.partition("/")[0]: paper_row(label, "arena")[METRIC] for label in BASELINES}


def shared(result: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same for all checkpoints."""
    made = {key: value for key, value in result["samples"]["made"].items() if key not in PLACE}
    return made | {key: result[key] for key in ("problems", "samples_per_problem", "errata", "executed_with")}


def evaluation(results: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """How the checkpoints were evaluated. Raises InputError if not all of them were evaluated in the same way."""
    first, *others = sorted(results)
    how = shared(results[first])
    for step in others:
        mine = shared(results[step])
        for key in how:
            if mine.get(key) != how[key]:
                raise InputError(f"steps {first} and {step} differ in {key} ({how[key]} and {mine.get(key)})")
        if results[step]["tasks"].keys() != results[first]["tasks"].keys():
            raise InputError(f"steps {first} and {step} are not of the same problems")
    made = {step: results[step]["samples"]["made"] for step in sorted(results)}
    bases = [step for step in made if step == 0 or made[step].get("adapter")]  # the base, alone or with an adapter
    for step in bases[1:]:
        if any(made[step].get(key) != made[bases[0]].get(key) for key in ("model_sha256", "model_commit")):
            raise InputError(f"steps {bases[0]} and {step} are not of the same base model")
    return how | {key: results[first].get(key) for key in ("versions", "hardware")}


def gain(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, float | None]:
    """Pass@1 of `after` - `before`, paired by problem, with its bootstrap interval."""

    def rates(result: Mapping[str, Any]) -> dict[str, float]:
        return {i: pass_at_k(task["n"], task["passed"], 1) for i, task in result["tasks"].items()}

    old, new = rates(before), rates(after)
    return mean_and_interval([new[i] - old[i] for i in old])


def curve_rows(
    results: Mapping[int, Mapping[str, Any]], log: Sequence[Mapping[str, Any]], weight: float
) -> list[dict[str, Any]]:
    """One row per checkpoint: its scores as src/score.py wrote them, and what the run had logged by then."""
    logged = {measure: series(log, measure) for measure in MEASURES}
    rows = []
    for step, result in sorted(results.items()):
        row: dict[str, Any] = {
            "step": step,
            "scores": result["scores"],
            "scores_without_errata": result["scores_without_errata"],
            "gain": gain(results[0], result) if step and 0 in results else None,
            "rates": result["rates"],
            "samples_sha256": result["samples"]["sha256"],
            **{key: result["samples"]["made"].get(key) for key in ("model", "adapter", "adapter_sha256")},
        }
        for measure, (steps, values) in logged.items():
            row[measure] = {"logged": at_step(steps, values, step), "ema": at_step(steps, ema(values, weight), step)}
        rows.append(row)
    return rows


def markdown(curve: Mapping[str, Any]) -> str:
    """The table, with what identifies the run above it."""
    made, run = curve["evaluation"], curve["run"]
    sampling = ", ".join(f"{key} {value}" for key, value in made["sampling"].items())

    def number(value: float | None, digits: int = 2) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    rows = [
        (
            str(row["step"]),
            percent(row["scores"][METRIC]),
            percent(row["gain"]) if row["gain"] else "-",
            number(row["reward"]["ema"]),
            number(row["response_length"]["ema"], 0),
            number(row["zero_variance_share"]["ema"]),
        )
        for row in curve["steps"]
    ]
    header = ("step", "Pass@1, %", "change against step 0", "reward", "response, tokens", "zero-variance groups")
    paper = "; ".join(f"{name} {value:.1f}" for name, value in curve["paper"].items())
    return "\n\n".join(
        [
            f"{curve['folder']}: started {run.get('started')}, commit {run.get('commit')}, seed {run.get('seed')}, "
            f"base model {curve['base']}",
            f"CodeUpdateArena, {made['problems']} problems x {made['samples_per_problem']} samples, {made['prompt']} "
            f"prompt{'' if made['docs'] else ', update withheld'}, {made['backend']}, {made['dtype']}. {sampling}. "
            f"Data {made['data_sha256'][:12]}.",
            table(header, rows),
            "Percent, with bootstrap 95 % intervals over problems; the change is paired by problem. Reward, length and "
            f"share are the training log's, smoothed (EMA {curve['ema']}).",
            f"The paper's untrained 32B models, on all {PAPER_PROBLEMS} problems: {paper}.",
        ]
    )


def draw_measure(
    axis: Axes,
    log: Sequence[Mapping[str, Any]],
    measure: str,
    weight: float,
    color: str,
    *,
    scale: float = 1.0,
    dots: bool = False,
) -> None:
    """The logged values of one measure, times `scale`, and their moving average; a note if there are none."""
    steps, values = series(log, measure)
    if steps:
        values = [scale * value for value in values]
        faint: dict[str, Any] = {"marker": ".", "linestyle": "none", "markersize": 4} if dots else {"linewidth": 0.8}
        axis.plot(steps, values, **faint, alpha=0.3, color=color, label="logged")
        axis.plot(steps, ema(values, weight), linewidth=1.8, color=color, label=f"EMA {weight}")
        axis.legend(fontsize=9, frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.98))  # over the panel
    else:
        axis.text(0.5, 0.5, "not in metrics.jsonl", ha="center", va="center", transform=axis.transAxes, color=GREY)
    axis.grid(alpha=0.25)


def new_figure(curve: Mapping[str, Any], heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Panels of these heights in inches, stacked, over the same steps."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, sum(heights) + 1), dpi=130, layout="constrained")
    axes = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights))
    figure.suptitle(f"{curve['folder']}, base model {Path(curve['base']).name}", fontsize=10)
    axes[-1].set_xlabel("optimizer step")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 2.5, 5, 10]))
    return figure, axes


def cut_axis(upper: Axes, lower: Axes) -> None:
    """Mark two panels as one axis with its middle cut out."""
    upper.spines.bottom.set_visible(False)
    lower.spines.top.set_visible(False)
    upper.tick_params(bottom=False, labelbottom=False)
    marks: dict[str, Any] = {"marker": [(-1, -0.5), (1, 0.5)], "markersize": 9, "clip_on": False}
    for axis, height in ((upper, 0), (lower, 1)):
        axis.plot([0, 1], [height] * 2, linestyle="none", color="black", transform=axis.transAxes, **marks)


def learning_curve(curve: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> Figure:
    """Reward and Pass@1 against steps, the paper's 32B baselines dashed (its Figure 2).

    If the baselines are more than twice as high as anything here, the axis is cut between them, and marked.
    """
    steps = [row["step"] for row in curve["steps"]]
    scores = [{key: 100 * value for key, value in row["scores"][METRIC].items()} for row in curve["steps"]]
    far = min(curve["paper"].values()) > 2 * max(score["high"] for score in scores)
    figure, (top, *others) = new_figure(curve, [2.7, 0.6, 2.4] if far else [2.7, 3])
    draw_measure(top, log, "reward", curve["ema"], BLUE)
    top.set_title("Training reward, mean over the step's completions", fontsize=11, loc="left")
    top.set_ylabel("total reward")

    upper, lower = others[0], others[-1]
    means = [score["mean"] for score in scores]
    spread = [[s["mean"] - s["low"] for s in scores], [s["high"] - s["mean"] for s in scores]]
    style: dict[str, Any] = {"color": VERMILION, "marker": "o", "markersize": 4, "linewidth": 1.8, "capsize": 2.5}
    drawn = lower.errorbar(steps, means, spread, label="this run, with its 95 % interval", elinewidth=1, **style)
    low, high = lower.get_ylim()
    lower.set_ylim(max(0, low), max(1, high))
    lines = [
        upper.axhline(value, color=GREY, linewidth=1.4, linestyle=dash, label=f"{name}: {value:.1f} in the paper")
        for dash, (name, value) in zip(DASHES, curve["paper"].items(), strict=True)
    ]
    if far:
        upper.set_ylim(min(curve["paper"].values()) - 3, max(curve["paper"].values()) + 3)
        cut_axis(upper, lower)
    drawn_from = "{problems} problems x {samples_per_problem} samples".format_map(curve["evaluation"])
    title = f"CodeUpdateArena: {drawn_from} (the paper: {PAPER_PROBLEMS} problems)"
    upper.set_title(title, fontsize=11, loc="left")
    lower.set_ylabel("Pass@1, %")
    for axis in {upper, lower}:
        axis.grid(alpha=0.25)
    figure.legend(handles=[drawn, *lines], loc="outside lower center", fontsize=9)
    return figure


def lengths(curve: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> Figure:
    """Response length, and the share of groups whose rewards are all equal (the paper's Figure 5)."""
    figure, (top, bottom) = new_figure(curve, [2.5, 2.5])
    draw_measure(top, log, "response_length", curve["ema"], BLUE)
    top.set_title("Response length", fontsize=11, loc="left")
    top.set_ylabel("tokens, mean of the step")
    # With one prompt per step the share is 0 or 100: a line through such values would be a block of colour.
    draw_measure(bottom, log, "zero_variance_share", curve["ema"], VERMILION, scale=100, dots=True)
    bottom.set_title("Groups whose rewards are all equal: no gradient", fontsize=11, loc="left")
    bottom.set_ylabel("% of the step's groups")
    bottom.set_ylim(-4, 104)
    return figure
