"""Draw assets/architecture.png, the figure of docs/architecture.md: python assets/architecture.py"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

INK, BLUE, GREEN, ROSE, SAND, GREY = "#1f2933", "#dbeafe", "#dcfce7", "#fce7f3", "#fef3c7", "#eef1f4"
WIDTH, HEIGHT = 1.36, 0.88  # of a box, in inches
STEP = 1.6  # from the left edge of a box to that of the next one

# (module, what it does), in the order in which a record or an answer passes them
RECORD = [
    ("common/rows.py", "reads a row,\nkeeps file:line"),
    ("records.py", "checks the six\nfields: a Record"),
    ("prompts.py", "the model's chat\ntemplate, <think>"),
]
GRPO = [
    ("trl_training/data.py", "prompt rows;\ndrops long ones"),
    ("trl_training/grpo_trainer.py", "8 completions\na prompt"),
    ("adapters.py", "DoRA; samples from\nmerged copies"),
    ("rewards.py", "format + ES*,\nfor each answer"),
]
DAPO = [
    ("verl_training/parquet.py", "rows for verl;\nhash of sources"),
    ("verl_training/fixes.py", "DoRA merged for\nthe rollout"),
    ("rewards.py", "format + ES*,\nfor each answer"),
    ("verl_training/buffer.py", "drops groups of\nequal rewards"),
]
ANSWER = [
    ("evaluation/arena/problems.py", "update, tests;\nthe prompt's parts"),
    ("evaluation/backends.py", "vLLM, transformers\nor a server"),
    ("evaluation/samples.py", "samples.jsonl:\nanswer and code"),
    ("evaluation/arena/programs.py", "update, code and\none test each"),
    ("sandbox/pool.py", "runs each program;\na verdict"),
    ("evaluation/arena/score.py", "Pass@1, UPass@1,\nintervals"),
]
COLOURS = {"trl_training": GREEN, "verl_training": ROSE, "evaluation": SAND, "common": GREY, "sandbox": GREY}


def box(axis: Axes, x: float, y: float, number: str, module: str, body: str) -> None:
    folder, _, name = module.rpartition("/")
    colour = COLOURS.get(folder.partition("/")[0], BLUE)
    shape = "round,pad=0,rounding_size=0.07"
    axis.add_patch(FancyBboxPatch((x, y), WIDTH, HEIGHT, boxstyle=shape, fc=colour, ec=INK, lw=1))
    axis.text(x + 0.07, y + HEIGHT - 0.07, f"{folder or 'src'}/", va="top", fontsize=7.6, color="#52606d")
    axis.text(x + WIDTH - 0.07, y + HEIGHT - 0.07, number, va="top", ha="right", fontsize=7.6, color="#52606d")
    axis.text(x + 0.07, y + HEIGHT - 0.24, name, va="top", fontsize=9.2, weight="bold", color=INK)
    axis.text(x + 0.07, y + HEIGHT - 0.45, body, va="top", fontsize=8.3, color=INK, linespacing=1.3)


def arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, lw=1.3, color=INK, shrinkA=0))


def lane(axis: Axes, x: float, y: float, first: int, modules: list[tuple[str, str]], end: str = "") -> None:
    """Boxes from left to right; `end` is what comes out of the last one."""
    for i, (module, body) in enumerate(modules):
        left = x + i * STEP
        box(axis, left, y, str(first + i), module, body)
        if i + 1 < len(modules) or end:
            arrow(axis, (left + WIDTH, y + HEIGHT / 2), (left + STEP - 0.02, y + HEIGHT / 2))
    axis.text(x + len(modules) * STEP + 0.04, y + HEIGHT / 2, end, va="center", fontsize=9.2, weight="bold", color=INK)


def title(axis: Axes, x: float, y: float, text: str) -> None:
    axis.text(x, y, text, fontsize=10.5, weight="bold", color=INK)


def main() -> None:
    figure, axis = plt.subplots(figsize=(9.5, 5.3))
    axis.set_xlim(0, 9.5)
    axis.set_ylim(0, 5.3)
    axis.axis("off")

    title(axis, 0.05, 5.1, "A record")
    for i, (module, body) in enumerate(RECORD):
        y = 4.05 - i * 1.1
        box(axis, 0.05, y, str(i + 1), module, body)
        if i + 1 < len(RECORD):
            arrow(axis, (0.05 + WIDTH / 2, y), (0.05 + WIDTH / 2, y - 0.21))
    bus, out, upper, lower = 0.05 + WIDTH + 0.07, 1.85 + HEIGHT / 2, 4.05, 2.4
    axis.plot([0.05 + WIDTH, bus, bus], [out, out, upper + HEIGHT / 2], lw=1.3, color=INK)
    for y in (upper, lower):
        arrow(axis, (bus, y + HEIGHT / 2), (0.05 + STEP - 0.02, y + HEIGHT / 2))
    title(axis, 0.05 + STEP, 5.1, "… to a gradient in GRPO (src/grpo.py)")
    lane(axis, 0.05 + STEP, upper, 4, GRPO, "trl's loss,\ngradient")
    title(axis, 0.05 + STEP, 3.42, "… to a gradient in DAPO (src/data_process.py, src/dapo.py)")
    lane(axis, 0.05 + STEP, lower, 4, DAPO, "verl's loss,\ngradient")

    title(axis, 0.05, 1.25, "An answer to Pass@1 (src/generate.py, src/score.py)")
    lane(axis, 0.05, 0.2, 1, ANSWER)
    figure.subplots_adjust(0, 0, 1, 1)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
