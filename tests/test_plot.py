"""src/plot.py: logs and names of any content."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import pytest

import plot
from common.run_logs import ema, points


def write_log(run: Path, *rows: object) -> Path:
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def main(monkeypatch, *argv: object) -> int:
    monkeypatch.setattr(sys, "argv", ["plot.py", *map(str, argv)])
    return plot.main()


ODD = [float("nan"), float("inf"), -float("inf"), None, "3", True, [1], 10**400]


def test_values_that_are_not_numbers_are_left_out_with_a_count(monkeypatch, capsys, tmp_path):
    rows = [{"step": 1, "reward": 1.0}, *({"step": 2, "reward": value} for value in ODD), {"step": 3, "reward": 3}]
    rows += [{"reward": 1.0}, {"step": "4", "reward": 1.0}]
    run = write_log(tmp_path / "run", *rows)
    assert points(rows, "reward") == ([1, 3], [1.0, 3])
    assert ema(points(rows, "reward")[1], 0.5) == [1.0, pytest.approx(2.3333, abs=1e-4)]  # (0.5 * 0.5 + 1.5) / 0.75
    assert main(monkeypatch, run, "--out", tmp_path / "reward.png") == 0
    assert capsys.readouterr().err == (
        f"plot: {run}/metrics.jsonl: 10 values left out: NaN, infinite, null or not numbers\n"
    )
    assert (tmp_path / "reward.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("error")
def test_names_of_runs_are_drawn_as_they_are(monkeypatch, tmp_path):
    from matplotlib.axes import Axes

    names = ["$x", "a$b$c$", "_x", "50%", "a\nb", "a\\b", "{", "x_1^2", "\udce9"]
    runs = [write_log(tmp_path / "runs" / name, {"step": 1, "reward": 1.0}) for name in names]
    drawn: list[str] = []
    legend = Axes.legend
    monkeypatch.setattr(
        Axes, "legend", lambda self, **how: drawn.extend(self.get_legend_handles_labels()[1]) or legend(self, **how)
    )
    assert main(monkeypatch, *runs, "--out", tmp_path / "new" / "compare.svg") == 0
    shown = ["$x", "a$b$c$", " _x", "50%", r"a\nb", r"a\b", "{", "x_1^2", r"\udce9"]
    assert drawn == [f"{name}: total" for name in shown]


def test_a_picture_can_be_written_to_a_pipe(monkeypatch, tmp_path):
    run, pipe, read = write_log(tmp_path / "run", {"step": 1, "reward": 1.0}), tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    assert main(monkeypatch, run, "--out", pipe) == 0
    reader.join(10)
    assert (read[0][:4], pipe.is_fifo()) == (b"\x89PNG", True)


@pytest.mark.parametrize("rows", [[], [{"step": 1, "loss": 0.5}], [{"step": 1, "reward": None}], [{"reward": 1.0}]])
def test_a_log_without_numbers_draws_nothing(monkeypatch, capsys, tmp_path, rows):
    run, good = write_log(tmp_path / "run", *rows), write_log(tmp_path / "good", {"step": 1, "reward": 1.0})
    with pytest.raises(SystemExit) as stopped:
        main(monkeypatch, good, run, "--out", tmp_path / "reward.png")
    error = capsys.readouterr().err
    expected = (
        f"{run}/metrics.jsonl: nothing to plot: {len(rows)} rows, none with a step and a number under a known key"
    )
    assert (stopped.value.code, error) == (2, f"plot: {expected}\n")
    assert not (tmp_path / "reward.png").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out", "{tmp}"], "{tmp}: is a folder; expected a file to write"),
        (["--out", "/proc/none/reward.png"], "/proc/none/reward.png: cannot be written: No such file or directory"),
        (["--out", "a.docx"], "--out a.docx: expected a name that ends in .png, .pdf, .svg, .jpg, .webp"),
        (["--ema", "nan"], "argument --ema: nan is not at least 0 and below 1"),
        (["--ema", "1"], "argument --ema: 1 is not at least 0 and below 1"),
        (["--ema", "-0.1"], "argument --ema: -0.1 is not at least 0 and below 1"),
        (["{tmp}"], "{tmp}/metrics.jsonl: no such file"),
        (["{tmp}/metrics.jsonl"], "{tmp}/metrics.jsonl/metrics.jsonl: no such file"),
    ],
)
def test_flags_that_cannot_be_used_are_one_line(monkeypatch, capsys, tmp_path, flags, message):
    run = write_log(tmp_path / "run", {"step": 1, "reward": 1.0})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(monkeypatch, run, *(flag.format(tmp=tmp_path) for flag in flags))
    assert (stopped.value.code, capsys.readouterr().err) == (2, f"plot: {message.format(tmp=tmp_path)}\n")
