"""What is known of a study so far, as files: its tables and its two figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.files import replacing, write_text
from common.run_logs import ROLLOUTS
from evaluation.results import Result, read_result
from experiments.curves import curves
from experiments.figures import completion_figure, score_figure
from experiments.grid import UNTRAINED, Run, Study
from experiments.stages import TRAIN, Stage
from experiments.tables import markdown
from records import load_records

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EMA = 0.8  # ours: about the mean of the last five steps


def results_of(runs: Mapping[Run, Sequence[Stage]]) -> dict[str, dict[str, Result]]:
    """Run -> measure -> its result, of what is measured."""
    measured = {
        run.name: {stage.name: read_result(stage.done) for stage in todo if stage.name != TRAIN and stage.is_done}
        for run, todo in runs.items()
    }
    return {name: mine for name, mine in measured.items() if mine}


def write_report(runs: Mapping[Run, Sequence[Stage]], study: Study, out: Path) -> list[str]:
    """Write the tables and figures of what is there. Returns the files."""
    written: list[str] = []
    if results := results_of(runs):
        write_text(out / "study.md", markdown(results) + "\n")
        written += [str(out / "study.md"), save(score_figure(results), out / "scores.png")]
    lines = {}
    for run in runs:
        if run.method != UNTRAINED and (out / run.name / TRAIN / ROLLOUTS).is_file():
            records = {record.id: record for record in load_records(study.data[str(run.data)], "drop")}
            lines[run.name] = curves(out / run.name / TRAIN, records)
    return [*written, save(completion_figure(lines, EMA), out / "completions.png")] if lines else written


def save(figure: Figure, path: Path) -> str:
    with replacing(path) as part:
        figure.savefig(part, format="png")
    return str(path)
