"""Plot a run's curves: total reward, its parts, completion length, zero-variance groups.

    python src/plot.py runs/quickstart/grpo --out reward.png
    python src/plot.py runs/quickstart/grpo runs/quickstart/dapo --out compare.png --ema 0.9

Thin lines are the logged values, thick ones their exponential moving average (paper Fig. 2: weight 0.9).
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from common.cli import Parser, in_range, one_line, program
from common.errors import InputError
from common.files import read_jsonl, replacing, require_writable
from common.ranges import BELOW_ONE
from common.run_logs import ema, points

# title, y label, {key in metrics.jsonl: legend}; GRPO's keys (trl), then DAPO's (src/verl_training/trainer.py, verl)
PANELS = [
    (
        "Reward (format + correctness)",
        "mean over the step's completions",
        {
            "reward": "total",
            "reward/before_filter/score": "total, all groups",
            "reward/after_filter/score": "total, groups kept by dynamic sampling",
        },
    ),
    (
        "Parts of the reward",
        "mean over the step's completions",
        {
            "rewards/format_reward/mean": "format, ±1",
            "rewards/es_star/mean": "ES*",
            "rewards/em_star/mean": "EM*",
            "rewards/dm_star/mean": "DM* (ours)",
            "rewards/es/mean": "ES",
            "rewards/em/mean": "EM",
            "reward/before_filter/format": "format, ±1",
            "reward/before_filter/correctness": "correctness",
        },
    ),
    ("Completion length", "tokens", {"completions/mean_length": "mean", "response_length/mean": "mean"}),
    (
        "Groups and completions without a signal",
        "share",
        {
            "frac_reward_zero_std": "groups of equal rewards",
            "completions/clipped_ratio": "truncated completions",
            "groups/zero_variance_share": "groups of equal rewards",
            "response_length/clip_ratio": "truncated completions",
        },
    ),
]


FORMATS = ("png", "pdf", "svg", "jpg", "webp")


def read_log(run: Path) -> list[dict[str, Any]]:
    """The metrics of a run. Values that are not numbers are counted on stderr. Raises InputError if all are."""
    path = run / "metrics.jsonl"
    rows = read_jsonl(path)
    keys = [key for _, _, panel in PANELS for key in panel]
    logged = sum(key in row for row in rows for key in keys)
    drawn = sum(len(points(rows, key)[0]) for key in keys)
    if not drawn:
        raise InputError(f"{path}: nothing to plot: {len(rows)} rows, none with a step and a number under a known key")
    if logged > drawn:
        print(f"plot: {path}: {logged - drawn} values left out: NaN, infinite, null or not numbers", file=sys.stderr)
    return rows


def draw(logs: dict[Path, list[dict[str, Any]]], weight: float, out: Path) -> None:
    """Write the figure: one panel per measure, one colour per run and key."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"text.parse_math": False, "text.usetex": False})  # a run's name can contain $
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 6.5), constrained_layout=True)
    for axis, (title, label, keys) in zip(axes.flat, PANELS, strict=True):
        for run, rows in logs.items():
            for key, legend in keys.items():
                steps, values = points(rows, key)
                if not steps:
                    continue
                name = legend if len(logs) == 1 else f"{one_line(run.name)}: {legend}"
                if name.startswith("_"):
                    name = f" {name}"  # matplotlib leaves such names out of the legend
                [line] = axis.plot(steps, ema(values, weight), linewidth=2.2, label=name)
                axis.plot(steps, values, linewidth=0.8, alpha=0.45, color=line.get_color())
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("step")
        axis.set_ylabel(label)
        axis.grid(alpha=0.25)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)
    axes.flat[3].set_ylim(-0.03, 1.03)
    figure.suptitle(f"{', '.join(one_line(run) for run in logs)}   (EMA {weight})", fontsize=10)
    content = io.BytesIO()  # a pipe, such as /dev/stdout, cannot be searched, as matplotlib requires
    figure.savefig(content, format=out.suffix.removeprefix(".").lower() or "png", dpi=130)
    plt.close(figure)
    with replacing(out) as part:
        part.write_bytes(content.getvalue())


@program()
def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories, each with metrics.jsonl")
    parser.add_argument("--out", type=Path, default=Path("reward.png"), help="default: %(default)s")
    weight = in_range(float, BELOW_ONE)
    parser.add_argument("--ema", type=weight, default=0.9, help="weight of the moving average (default: %(default)s)")
    args = parser.parse_args()
    if args.out.suffix and args.out.suffix.removeprefix(".").lower() not in FORMATS:
        parser.error(f"--out {args.out}: expected a name that ends in {', '.join(f'.{name}' for name in FORMATS)}")
    require_writable(args.out)
    draw({run: read_log(run) for run in args.runs}, args.ema, args.out)
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
