"""Every number of the paper beside ours: a Markdown table, with "not run" where there is no result.

    python src/paper_table.py results/eval/*/results.json

A result belongs to a row when src/score.py was given the row's --label (MODEL/METHOD, as results/paper.json spells it).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.cli import parse_flags, program
from evaluation.tables import PAPER, table

NAMES = {"arena": "CodeUpdateArena", "multi": "multi-update (ours: other questions)", "humaneval+": "HumanEval+"}


def cell(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "not run"
    return f"{100 * found['mean']:.1f} ({100 * found['low']:.1f} to {100 * found['high']:.1f})"


def rows(paper: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """A row per model, method, benchmark and metric of the paper."""
    ours = {(result["label"], result["benchmark"]): result["scores"] for result in results}
    return [
        (
            row["model"],
            row["method"],
            NAMES[benchmark],
            metric.replace("pass", "Pass"),
            f"{number:.1f}",
            cell(ours.get((row["label"], benchmark), {}).get(metric)),
        )
        for row in paper["rows"]
        for benchmark, metrics in row["results"].items()
        for metric, number in metrics.items()
    ]


@program()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="*", type=Path, help="results.json files of src/score.py")
    args = parse_flags(parser)
    for path in args.results:
        if not path.is_file():
            parser.error(f"{path}: no such file")
    results = [json.loads(path.read_text("utf-8")) for path in args.results]
    header = ["model", "method", "benchmark", "metric", "paper", "here (95 % interval)"]
    print(table(header, rows(json.loads(PAPER.read_text("utf-8")), results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
