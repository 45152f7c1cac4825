"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, aligned: bool = False) -> str:
    """A Markdown table; `aligned` pads its cells, for a terminal."""
    cells = [[str(cell) for cell in row] for row in (header, ["---"] * len(header), *rows)]
    widths = [max(len(row[i]) for row in cells) if aligned else 0 for i in range(len(header))]
    return "\n".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in cells
    )
