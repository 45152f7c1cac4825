"""The tables and figures of a study, with numbers worked out by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from evaluation.results import Result
from experiments.curves import completion_measures, curves
from experiments.figures import completion_figure, score_figure
from experiments.report import curves_of
from experiments.tables import gain, markdown
from records import Record
from run_page.tasks import of_record

AREA = Record(
    "gizmo",
    "2.0",
    "",
    "`area` is now `surface`.",
    "import gizmo\na = gizmo.area(2)",
    "import gizmo\na = gizmo.surface(2)",
)


def result(passed: dict[str, int], **more: object) -> Result:
    """Of CodeUpdateArena: one sample of each problem."""
    mean = sum(passed.values()) / len(passed)
    return Result.model_validate(
        {
            "benchmark": "arena",
            "problems": len(passed),
            "samples_per_problem": 1,
            "scores": {"pass@1": {"mean": mean, "low": 0.0, "high": 1.0}},
            "tasks": {name: {"n": 1, "passed": count} for name, count in passed.items()},
            "samples": {"sha256": "0"},
            "data": {},
            **more,
        }
    )


def migration(passed: dict[str, int], share: float) -> Result:
    """Of migration: each problem is an update of its own; `share` is the value of every measure."""
    value = {"problems": len(passed), "mean": share, "low": share, "high": share}
    names = ("es_star", "dm_star", "em", "is_copy", "old_api")
    return result(
        passed,
        benchmark="migration",
        measures={**dict.fromkeys(names, value), "old_api": None},
        tasks={
            name: {"n": 1, "passed": count, "update": name, **dict.fromkeys(names, share), "old_api": None}
            for name, count in passed.items()
        },
        rates={"format": 0.75, "no_code": 0.25, "truncated": 0.0},
        mean_tokens=41.4,
    )


def test_a_gain_is_paired_by_problem():
    before, after = result({"a": 0, "b": 1, "c": 0, "d": 0}), result({"d": 1, "c": 1, "b": 1, "a": 0})
    assert gain(before, after, "pass@1") == "50.0 (0.0 to 100.0)"  # 0, 0, 1, 1
    assert gain(before, result({"a": 1}), "pass@1") == "other problems"


def test_the_tables_of_two_runs():
    both = {"a": 1, "b": 1}
    results = {
        "untrained": {
            "arena": result({"a": 0, "b": 1}),
            "arena-no-note": result({"a": 0, "b": 0}),
            "migration": migration({"a": 0, "b": 0}, 0.25),
        },
        "sft-ours-1": {
            "arena": result(both),
            "arena-no-note": result({"a": 0, "b": 0}),
            "migration": migration(both, 0.5),
        },
    }
    empty = "0.0 (0.0 to 0.0)"
    half, whole = "50.0 (0.0 to 100.0)", "100.0 (100.0 to 100.0)"
    assert [block.splitlines() for block in markdown(results, "untrained").split("\n\n")[1:]] == [
        [
            "| Pass@k, % | arena Pass@1 | arena Pass@1, no note | migration Pass@1 |",
            "| --- | --- | --- | --- |",
            "| untrained | 50.0 (0.0 to 100.0) | 0.0 (0.0 to 100.0) | 0.0 (0.0 to 100.0) |",
            "| sft-ours-1 | 100.0 (0.0 to 100.0) | 0.0 (0.0 to 100.0) | 100.0 (0.0 to 100.0) |",
        ],
        [
            "| points over untrained, paired | arena Pass@1 | arena Pass@1, no note | migration Pass@1 |",
            "| --- | --- | --- | --- |",
            f"| sft-ours-1 | {half} | {empty} | {whole} |",
        ],
        [
            "| points with the note over without, paired | arena Pass@1 |",
            "| --- | --- |",
            f"| untrained | {half} |",
            f"| sft-ours-1 | {whole} |",
        ],
        ["| ... and more than untrained, paired | arena Pass@1 |", "| --- | --- |", f"| sft-ours-1 | {half} |"],
        [
            "| answers to migration | ES* | DM* | exact match, % | returns the old code, % | uses the old API, % "
            "| well formed, % | no code, % | cut, % | tokens |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            "| untrained | 0.25 (0.25 to 0.25) | 0.25 (0.25 to 0.25) | 25.0 (25.0 to 25.0) | 25.0 (25.0 to 25.0) |  "
            "| 75.0 | 25.0 | 0.0 | 41 |",
            "| sft-ours-1 | 0.50 (0.50 to 0.50) | 0.50 (0.50 to 0.50) | 50.0 (50.0 to 50.0) | 50.0 (50.0 to 50.0) |  "
            "| 75.0 | 25.0 | 0.0 | 41 |",
        ],
        [
            "| answers to migration, over untrained, paired | ES* | DM* | exact match, % | returns the old code, % "
            "| uses the old API, % |",
            "| --- | --- | --- | --- | --- | --- |",
            "| sft-ours-1 | 0.25 (0.25 to 0.25) | 0.25 (0.25 to 0.25) | 25.0 (25.0 to 25.0) | 25.0 (25.0 to 25.0) |  |",
        ],
    ]


def answer(code: str) -> str:
    return f" x </think>\n<answer>\n```python\n{code}\n```\n</answer>"


COPY = 3.5 * (1 - 5 / 33) - 1.5  # ES* of the old code: 5 edits from `area` to `surface`, in 33 characters


def test_what_a_completion_is_like():
    right = {"copies": 0.0, "exact": 100.0, "format": 100.0, "es_star": 2.0, "dm_star": 2.0}
    assert completion_measures(answer(AREA.new_code + "  # renamed"), of_record(AREA)) == right
    copied = {"copies": 100.0, "exact": 0.0, "format": 100.0, "es_star": COPY, "dm_star": -1.5}
    assert completion_measures(answer(AREA.old_code), of_record(AREA)) == copied
    nothing = {"copies": 0.0, "exact": 0.0, "format": 0.0, "es_star": -2.0, "dm_star": -2.0}
    assert completion_measures("I do not know", of_record(AREA)) == nothing


def log(folder: Path) -> Path:
    """Two steps of two completions; the last one's record is not known."""
    texts = [
        (1, AREA.id, AREA.old_code),
        (1, AREA.id, AREA.new_code),
        (2, AREA.id, AREA.new_code),
        (2, "other", "x = 1"),
    ]
    rows = [{"step": step, "record_id": identity, "completion": answer(code)} for step, identity, code in texts]
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics = [{"step": 1, "completions/mean_length": 60.0}, {"step": 2, "completions/mean_length": 50.0}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    return folder


def test_the_curves_of_a_run(tmp_path):
    assert curves(log(tmp_path), {AREA.id: of_record(AREA)}) == {
        "copies": ([1, 2], [50.0, 0.0]),
        "exact": ([1, 2], [50.0, 100.0]),
        "format": ([1, 2], [100.0, 100.0]),
        "es_star": ([1, 2], [(COPY + 2) / 2, 2.0]),
        "dm_star": ([1, 2], [0.25, 2.0]),
        "length": ([1, 2], [60.0, 50.0]),
    }


def test_the_curves_outlive_the_rollouts(tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps(asdict(AREA)) + "\n")
    (log(tmp_path) / "run.json").write_text(json.dumps({"starts": [{"config": {}, "data": {str(data): {}}}]}))
    curves_of(tmp_path)  # with a completion to a record that is not known
    assert not (tmp_path / "curves.jsonl").exists()
    rollouts = (tmp_path / "rollouts.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "rollouts.jsonl").write_text("".join(rollouts[:-1]))
    lines = curves_of(tmp_path)
    assert lines == curves(tmp_path, {AREA.id: of_record(AREA)})
    assert json.loads((tmp_path / "curves.jsonl").read_text().splitlines()[0]) == (
        {"step": 1, "copies": 50.0, "es_star": (COPY + 2) / 2, "dm_star": 0.25}
        | {"exact": 50.0, "format": 100.0, "length": 60.0}
    )
    (tmp_path / "rollouts.jsonl").unlink()
    assert curves_of(tmp_path) == lines


def test_the_figures(tmp_path):
    lines = curves(log(tmp_path), {AREA.id: of_record(AREA)})
    drawn = completion_figure({"one": lines, "two": lines}, 0.5)
    top = drawn.axes[0]
    assert top.get_title(loc="left") == "Completions that return the old code, %"
    assert top.get_ylim() == (-5, 105)
    thick = [line for line in top.lines if line.get_linewidth() == 2 and line.get_linestyle() != "None"]
    assert [line.get_label() for line in thick] == ["one", "two"]
    assert thick[0].get_linestyle() != thick[1].get_linestyle()  # told apart without colour
    assert list(thick[0].get_ydata()) == [50.0, pytest.approx(50 / 3)]  # (0.25 * 50 + 0.5 * 0) / 0.75
    seven = completion_figure({str(n): lines for n in range(7)}, 0.5).axes[0].lines
    styles = {(line.get_color(), line.get_linestyle()) for line in seven if line.get_linestyle() != "None"}
    assert len(styles) == 7
    scores = score_figure({"untrained": {"arena": result({"a": 0, "b": 1})}, "sft": {}})
    [axis] = scores.axes
    assert axis.get_title(loc="left") == "arena Pass@1, %"
    assert [text.get_text() for text in axis.get_yticklabels()] == ["untrained", "sft"]
    assert [list(line.get_xdata()) for line in axis.lines] == [[0.0, 100.0], [50.0]]
    scores.savefig(tmp_path / "scores.png")
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")
