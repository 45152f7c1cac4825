"""The picture of a data set: libraries, kinds of update, how the old code ends, lengths; a colour for each split."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from common.files import replacing
from curation.check_proofs import Pairs
from curation.composition import OUTCOMES, TITLES, counts, groups_of, lines_of, outcome, slugs
from curation.evidence import SPLITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"train": "#4c78a8", "heldout": "#f58518"}
BIN = 2  # lines


def bars(axis: Axes, title: str, groups: dict[str, Pairs]) -> None:
    """One horizontal bar for each group, the splits stacked, with the sum at its end."""
    values = [counts(mine) for mine in groups.values()]
    left = [0] * len(values)
    for column, split in enumerate(SPLITS):
        widths = [row[column] for row in values]
        axis.barh(list(groups), widths, left=left, color=COLOURS[split], label=TITLES[split], height=0.75)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axis.bar_label(axis.containers[-1], [str(total) for total in left], padding=3, fontsize=9)  # type: ignore[arg-type]
    axis.margins(x=0.1, y=0.02)
    axis.invert_yaxis()
    axis.set_title(title, loc="left", fontsize=11, fontweight="bold")


def histogram(axis: Axes, pairs: Pairs) -> None:
    """Lines of the targets."""
    lengths = [[lines_of(record.new_code) for record, evidence in pairs if evidence.split == split] for split in SPLITS]
    edges = range(0, max(map(max, filter(None, lengths))) + BIN + 1, BIN)
    axis.hist(lengths, bins=list(edges), stacked=True, color=list(COLOURS.values()))
    axis.set_title("Lines of the target", loc="left", fontsize=11, fontweight="bold")


def draw(pairs: Pairs, out: Path) -> None:
    """Write the figure as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    libraries = groups_of(pairs, lambda record, _: record.dependency)
    kinds = groups_of(pairs, lambda _, evidence: evidence.kind)
    endings = groups_of(pairs, lambda _, evidence: OUTCOMES.get(outcome(evidence), outcome(evidence)))
    figure, axes = plt.subplot_mosaic(
        [["libraries", "kinds"], ["libraries", "endings"], ["libraries", "lengths"]],
        figsize=(11.5, max(6.5, 0.23 * len(libraries) + 1)),
        height_ratios=[len(kinds), len(endings) + 1, 6],
        layout="constrained",
    )
    size = f"{len(pairs):,} records over {len(slugs(pairs))} updates of {len(libraries)} libraries"
    bars(axes["libraries"], size, libraries)
    bars(axes["kinds"], "What changed", kinds)
    bars(axes["endings"], "Old code on the new version", endings)
    histogram(axes["lengths"], pairs)
    axes["libraries"].legend(loc="lower right", frameon=False)
    for axis in axes.values():
        axis.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    plt.close(figure)
    with replacing(out) as part:
        part.write_bytes(content.getvalue())
