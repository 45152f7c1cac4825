"""The results of a study so far: its tables and its two figures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from common.files import read_jsonl, replacing, write_jsonl, write_text
from common.provenance import read_starts
from common.run_logs import ROLLOUTS
from evaluation.results import Result, read_result
from experiments.curves import Line, as_rows, curves, from_rows
from experiments.figures import completion_figure, score_figure
from experiments.grid import TRAIN
from experiments.stages import Stages
from experiments.tables import markdown
from run_page.tasks import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = "curves.jsonl"
EMA = 0.8  # ours: about the mean of the last five steps


def results_of(runs: Stages) -> dict[str, dict[str, Result]]:
    """Run -> measure -> its result, of what is measured.

    For each stage, training too, that was done with other settings than today's, stderr names the first of them.
    """
    measured: dict[str, dict[str, Result]] = {}
    for run, todo in runs.items():
        for stage in todo:
            if change := stage.change:
                print(change, file=sys.stderr)
            if stage.name != TRAIN and stage.marker.is_file():
                measured.setdefault(run.name, {})[stage.name] = read_result(stage.results)
    return measured


def curves_of(folder: Path) -> dict[str, Line]:
    """The curves of a training, with the records that its run.json names. What is not known of them is on stderr.

    They are kept beside the rollouts: a copy of a study's results, such as results/study/, does not need those.
    """
    if not (folder / ROLLOUTS).is_file():
        return from_rows(read_jsonl(folder / CURVES))
    sources = {name: str(file.get("sha256", "")) for start in read_starts(folder) for name, file in start.data.items()}
    tasks, remarks = load(sources, [row["record_id"] for row in read_jsonl(folder / ROLLOUTS)])
    for remark in remarks:
        print(f"{folder}: {remark}", file=sys.stderr)
    found = curves(folder, tasks)
    if not remarks:  # else completions may be left out
        write_jsonl(folder / CURVES, as_rows(found))
    return found


def write_report(runs: Stages, out: Path, base: str) -> list[str]:
    """Write tables, with gains over the run `base` if it is measured, and figures. Returns the files."""
    written: list[str] = []
    if results := results_of(runs):
        if base not in results:
            print(f"{base} is not measured yet, so there are no gains over it", file=sys.stderr)
        write_text(out / "study.md", markdown(results, base) + "\n")
        written += [str(out / "study.md"), save(score_figure(results), out / "scores.png")]
    folders = {run.name: out / run.name / TRAIN for run in runs}
    trained = {name: one for name, one in folders.items() if (one / ROLLOUTS).is_file() or (one / CURVES).is_file()}
    if trained:
        lines = {name: curves_of(folder) for name, folder in trained.items()}
        written.append(save(completion_figure(lines, EMA), out / "completions.png"))
    return written


def save(figure: Figure, path: Path) -> str:
    with replacing(path) as part:
        figure.savefig(part, format="png")
    return str(path)
