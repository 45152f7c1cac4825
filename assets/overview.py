"""Draw assets/overview.png, the README's figure: python assets/overview.py"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

INK, BLUE, GREEN, SAND, ROSE = "#1f2933", "#dbeafe", "#dcfce7", "#fef3c7", "#fce7f3"
MONO = {"family": "monospace", "fontsize": 8.6}


def box(axis, x, y, width, height, title, body, colour, **font):
    axis.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.06,rounding_size=0.12", fc=colour, ec=INK, lw=1.1)
    )
    axis.text(x + 0.08, y + height - 0.06, title, va="top", fontsize=10.5, weight="bold", color=INK)
    axis.text(x + 0.08, y + height - 0.45, body, va="top", color=INK, linespacing=1.4, **({"fontsize": 9.2} | font))


def arrow(axis, start, end, text="", offset=(0, 0.12), bend=0.0):
    axis.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=15, lw=1.5, color=INK, connectionstyle=f"arc3,rad={bend}"
        )
    )
    x, y = (start[0] + end[0]) / 2 + offset[0], (start[1] + end[1]) / 2 + offset[1]
    axis.text(x, y, text, ha="center", fontsize=8.8, color=INK, style="italic")


figure, axis = plt.subplots(figsize=(11.3, 4.3))
axis.set_xlim(0, 11.3)
axis.set_ylim(0, 4.3)
axis.axis("off")

record = "NumPy 2.0.0\n\nupdate:  trapz was renamed\n         to trapezoid\n\nold:     np.trapz(y, x)"
box(axis, 0.15, 1.75, 2.75, 2.35, "Record: the prompt", record, BLUE, **MONO)
rollouts = (
    "1  …</think><answer>\n   np.trapezoid(y, x)\n2  …</think><answer>\n   np.trapz(y, x)\n3  np.trapezoidal(y\n…\n8"
)
box(axis, 4.15, 1.75, 2.6, 2.35, "8 rollouts", rollouts, SAND, **MONO)
rewards = "\n".join(
    (
        "       format   ES*    sum",
        "1        +1    +2.00  +3.00",
        "2        +1    +1.22  +2.22",
        "3        -1    -2.00  -3.00",
        "…",
        "8",
    )
)
box(axis, 8.0, 1.75, 3.1, 2.35, "Rewards, by rule", rewards, GREEN, **MONO)
policy = (
    "base model, frozen  +  DoRA r = 64     (src/adapters.py)\n"
    "GRPO with trl, advantages within the group of 8     (src/grpo.py)"
)
box(axis, 4.15, 0.2, 6.95, 0.95, "Policy", policy, ROSE)

arrow(axis, (2.98, 3.05), (4.07, 3.05), "sample")
arrow(axis, (6.83, 3.05), (7.92, 3.05), "score")
arrow(axis, (9.6, 1.67), (9.6, 1.25), "advantages", (0.62, -0.04))
arrow(axis, (5.4, 1.25), (5.4, 1.67), "merged copy", (0.66, -0.04))
axis.text(
    0.15,
    0.92,
    "Tested on updates that training has not seen.\nThe update is always in the prompt:\nthe model learns to use it.",
    fontsize=9.2,
    color=INK,
    va="top",
    linespacing=1.4,
)
figure.savefig(Path(__file__).with_suffix(".png"), dpi=140, bbox_inches="tight", pad_inches=0.08)
