"""Draw assets/composition.png, what data/ is made of: python assets/composition.py"""

import json
from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

INK, TRAIN, HELDOUT = "#1f2933", "#93b8f2", "#f0a35e"
ROOT = Path(__file__).parent.parent


def read(name):
    return [json.loads(line) for line in (ROOT / "data" / name).read_text("utf-8").splitlines()]


def bars(axis, names, train, heldout, title):
    """A bar for each name: train, then held-out, and the total at its end."""
    left = [train[name] for name in names]
    axis.barh(names, left, color=TRAIN, label="train")
    axis.barh(names, [heldout[name] for name in names], left=left, color=HELDOUT, label="held-out")
    for row, name in enumerate(names):
        axis.text(train[name] + heldout[name] + 0.8, row, train[name] + heldout[name], va="center", fontsize=8)
    axis.invert_yaxis()
    axis.set_title(title, loc="left", fontsize=10.5, weight="bold")


rows = {split: read(f"{split}.jsonl") for split in ("train", "heldout")}
evidence = read("evidence.jsonl")
library = {split: Counter(row["dependency"] for row in rows[split]) for split in rows}
kind = {split: Counter(row["kind"] for row in evidence if row["split"] == split) for split in rows}
seen = {
    split: Counter(row["seen"]["old_on_new"]["outcome"] for row in evidence if row["split"] == split) for split in rows
}

plt.rcParams.update(
    {"text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "font.size": 8.5}
)
figure = plt.figure(figsize=(10.5, 5.8), layout="constrained")
grid = figure.add_gridspec(3, 2, height_ratios=(6, 3, 5))
axes = [figure.add_subplot(grid[:, 0]), *(figure.add_subplot(grid[row, 1]) for row in range(3))]

both = library["train"] + library["heldout"]
updates = len({row["update"] for row in evidence})
title = f"{len(evidence)} records over {updates} updates of {len(both)} libraries"
bars(axes[0], [name for name, _ in both.most_common()], library["train"], library["heldout"], title)
axes[0].legend(loc="lower right", frameon=False)
kinds = [name for name, _ in (kind["train"] + kind["heldout"]).most_common()]
bars(axes[1], kinds, kind["train"], kind["heldout"], "What changed")
outcomes = {"error": "raises", "check": "wrong result", "warning": "deprecated"}
named = {split: Counter({outcomes[key]: count for key, count in seen[split].items()}) for split in seen}
bars(axes[2], list(outcomes.values()), named["train"], named["heldout"], "What the old code does on the new version")
lengths = [[len(row["new_code"].splitlines()) for row in rows[split]] for split in rows]
axes[3].hist(lengths, bins=range(1, 46, 2), stacked=True, color=[TRAIN, HELDOUT])
axes[3].set_title("Lines of the target", loc="left", fontsize=10.5, weight="bold")
for axis in axes:
    axis.spines[["top", "right"]].set_visible(False)
figure.savefig(Path(__file__).with_suffix(".png"), dpi=140)
