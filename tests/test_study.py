"""The queue of a study: what runs, what is skipped, what a failure stops, and a real study of a small model."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import mini_migration
import pytest
from conftest import ROOT, environment, run_command, run_script
from wheels import only

import study
from common.locks import is_locked, locked
from experiments.grid import Run
from experiments.stages import Stage


def stage(name: str, folder: Path, command: str) -> Stage:
    return Stage(name, folder, (("bash", "-c", command),), (("true",),), {"command": command})


def work_on(todo: list[Stage], folder: Path) -> dict[str, str]:
    with locked(folder) as lock:
        return study.work_on(todo, folder / "log.txt", {}, lock)


def test_a_failed_measure_does_not_stop_the_others(tmp_path):
    todo = [
        stage("train", tmp_path, "true"),
        stage("arena", tmp_path, "echo no problems; exit 3"),
        stage("multi", tmp_path, "true"),
    ]
    assert work_on(todo, tmp_path) == {"arena": "status 3: no problems"}
    assert [one.is_done for one in todo] == [True, False, True]
    log = (tmp_path / "log.txt").read_text()
    assert "$ bash -c 'echo no problems; exit 3'\nno problems\n\n# status 3, 0 s\n" in log


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("echo early; printf 'the reason'; exit 3", "status 3: the reason"),
        ("exit 3", "status 3: $ bash -c 'exit 3'"),
        ("kill -KILL $$", "ended by SIGKILL: $ bash -c 'kill -KILL $$'"),
    ],
)
def test_the_reason_of_a_failure(tmp_path, command, why):
    assert work_on([stage("arena", tmp_path, command)], tmp_path) == {"arena": why}


def test_a_long_line_does_not_end_the_queue(tmp_path):
    found = work_on([stage("arena", tmp_path, "head -c 9000 /dev/zero | tr '\\0' x; exit 3")], tmp_path)
    assert set(found["arena"].removeprefix("status 3: ")) == {"x"}


def test_nothing_is_measured_without_training(tmp_path):
    todo = [stage("train", tmp_path, "exit 2"), stage("arena", tmp_path, "true")]
    assert list(work_on(todo, tmp_path)) == ["train"]
    assert not todo[1].is_done


def test_what_is_done_is_not_done_again(tmp_path):
    todo = stage("train", tmp_path, "exit 2")
    todo.finish()
    assert work_on([todo], tmp_path) == {}
    assert not (tmp_path / "log.txt").exists()


def test_what_was_measured_of_an_earlier_training_does_not_count(tmp_path):
    todo = [stage("train", tmp_path, "true"), stage("arena", tmp_path, "exit 3")]
    todo[1].finish()
    assert list(work_on(todo, tmp_path)) == ["arena"]


def test_a_file_that_a_killed_training_left_is_not_a_result(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "adapter_model.safetensors").touch()
    assert not stage("train", tmp_path, "true").is_done


def test_the_second_command_of_a_stage_needs_the_first(tmp_path):
    todo = Stage("arena", tmp_path, (("false",), ("touch", f"{tmp_path}/scored")), (), {})
    assert list(work_on([todo], tmp_path)) == ["arena"]
    assert not (tmp_path / "scored").exists()


def test_the_markers_of_measures_that_are_not_chosen_go_too(tmp_path):
    train, arena = stage("train", tmp_path, "true"), stage("arena", tmp_path, "true")
    arena.finish()
    assert work_on([train], tmp_path) == {}
    assert (train.is_done, arena.is_done) == (True, False)


def test_a_failure_is_listed_until_its_stage_is_tried_again(tmp_path):
    run, out = Run("untrained"), tmp_path / "untrained"
    problems = tmp_path / "problems"
    arena = stage("arena", out, f"test -e {problems} || {{ echo no problems; exit 3; }}")
    multi = stage("multi", out, "true")
    assert not study.work({run: [arena]}, tmp_path, {})
    assert study.work({run: [multi]}, tmp_path, {})
    assert study.state(out, [arena, multi]) == "failed: arena: status 3: no problems"
    problems.touch()
    assert study.work({run: [arena]}, tmp_path, {})
    assert study.state(out, [arena, multi]) == "done"


def test_states(tmp_path):
    todo = [stage("train", tmp_path, "true")]
    assert study.state(tmp_path / "none", todo) == "waiting"
    with locked(tmp_path):
        assert study.state(tmp_path, todo) == "running"
    (tmp_path / "log.txt").touch()
    assert study.state(tmp_path, todo) == "interrupted"
    (tmp_path / "failed.txt").write_text("arena: status 3: no problems\n")
    assert study.state(tmp_path, todo) == "failed: arena: status 3: no problems"
    todo[0].finish()
    assert study.state(tmp_path, todo) == "done"


@pytest.fixture(scope="module")
def small(tmp_path_factory, random_model, tiny_data) -> list[str]:
    """The flags of a study of a random model: untrained and one step of SFT, on a toy library."""
    folder = tmp_path_factory.mktemp("study")
    records = mini_migration.write(folder)
    (folder / "sft.yaml").write_text(
        "max_steps: 1\nlogging_steps: 1\nper_device_train_batch_size: 1\nuse_peft: true\nuse_dora: true\n"
        "report_to: none\nsave_strategy: no\nmax_length: 512\ngradient_checkpointing: false\n"
        "bf16: false\ndtype: float32\n"
    )
    (folder / "eval.yaml").write_text("samples: 1\ntemperature: 0\nmax_new_tokens: 8\ndtype: float32\n")
    spec = {
        "model": str(random_model),
        "configs": {"sft": str(folder / "sft.yaml")},
        "data": {"ours": str(tiny_data)},
        "runs": [{"method": "untrained"}, {"method": "sft", "data": "ours", "seeds": [1]}],
        "evaluation": str(folder / "eval.yaml"),
        "measures": {"migration": f"--benchmark migration --data {records}"},
    }
    (folder / "tiny.yaml").write_text(json.dumps(spec))  # JSON is YAML
    return [str(folder / "tiny.yaml"), "--out", str(folder / "runs")]


@pytest.fixture
def root(tmp_path) -> Path:
    """A folder with the scripts of the repository, for the environments that scoring makes in .venvs."""
    for name in ("scripts", "src", "configs", "requirements", "requirements.txt", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run_study(root: Path, *flags: str, check: bool = True, **environment: str):
    command = [sys.executable, "src/study.py", *flags]
    return run_command(command, env=environment, check=check, cwd=root)


@pytest.mark.slow
def test_a_study_from_its_start_to_its_end(small, root):
    out = Path(small[2])
    pip = only(out.parent)
    assert run_study(root, *small, "--check", **pip).stdout == "\n"
    done = run_study(root, *small, **pip)
    assert "| untrained  | -             | 1 of 1   | done  |" in done.stdout
    assert "| sft-ours-1 | 1 steps, done | 1 of 1   | done  |" in done.stdout
    results = json.loads((out / "sft-ours-1" / "migration" / "results.json").read_text())
    assert results["samples"]["made"]["adapter"] == str(out / "sft-ours-1" / "train")
    assert len(results["tasks"]) == 4
    log = (out / "sft-ours-1" / "log.txt").read_text()
    assert log.count("\n$ ") == log.count("\n# status 0, ") == 3
    tables = (out / "study.md").read_text()
    assert "| Pass@k, % | migration Pass@1 |" in tables
    assert "| points over untrained, paired | migration Pass@1 |" in tables
    again = run_study(root, *small, "--only", "sft-*", **pip)
    assert again.stdout.splitlines()[0] == f"1/1 sft-ours-1  (log: {out}/sft-ours-1/log.txt)"
    assert (out / "sft-ours-1" / "log.txt").read_text() == log
    assert (out / "study.md").read_text() == tables  # of all runs, whichever were chosen
    changed = run_study(root, *small, "--list", "--model", "other")
    assert changed.stdout.count("| changed: ") == 2
    assert ", now other: remove it and " in changed.stdout


def test_a_run_of_another_queue_is_skipped(small):
    out = Path(small[2]).parent / "locked"
    with locked(out / "untrained"):
        done = run_script("study.py", small[0], "--out", str(out), "--only", "untrained")
    assert done.stdout.splitlines()[0] == "1/1 untrained  (another process works on it)"
    assert not (out / "untrained" / "log.txt").exists()


def test_a_model_that_is_not_there_is_found_before_anything_runs(small):
    out = Path(small[2]).parent / "checked"
    flags = [small[0], "--out", str(out), "--model", "none/such", "--only", "untrained", "--check"]
    done = run_script("study.py", *flags, check=False)
    assert done.returncode == 2
    why, command = done.stderr.splitlines()[-2:]
    assert why.startswith("study: untrained, migration: generate: model none/such: cannot be loaded: ")
    assert command.startswith("  found by ")
    assert not list(out.glob("*/log.txt"))


def test_measures_are_chosen_by_name(stops, monkeypatch, capsys):
    words = ["study.py", "configs/study/small.yaml", "--dry-run", "--only", "sft-*", "--measures", "arena*"]
    monkeypatch.setattr(sys, "argv", [*words, "--measures", "multi"])
    monkeypatch.chdir(ROOT)
    assert study.main() == 0
    said = capsys.readouterr().out
    arena = ["arena", "arena-no-note", "multi", "arena-sampled", "arena-sampled-no-note"]
    assert re.findall("^# (sft.*)", said, re.MULTILINE) == [f"sft-ours-42, {name}" for name in ["train", *arena]]


@pytest.mark.slow
def test_a_failure_is_the_exit_status_and_is_listed(small, root):
    """pip finds no wheel for the records' environment: the samples are there, the score is not."""
    out = Path(small[2]).parent / "failing"
    flags = [small[0], "--out", str(out), "--only", "untrained"]
    done = run_study(root, *flags, **only(out), check=False)
    assert done.returncode == 1
    assert "s: failed: status 2: score: pip could not install gizmo==2.0: " in done.stdout
    listed = run_study(root, *flags, "--list").stdout
    assert "| failed: migration: status 2: score: pip could not install gizmo==2.0" in listed


CHILD = """
import study, sys
from pathlib import Path
from common.locks import locked
from common.signals import exit_on_sigterm

exit_on_sigterm()
folder = Path(sys.argv[1])
with locked(folder) as lock:
    study.call(["bash", "-c", "echo began; exec sleep 300.25"], folder / "log.txt", {}, lock)
"""


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_queue_leaves_no_two_programs_in_a_folder(tmp_path, ended_by):
    """SIGTERM ends the command too; after SIGKILL it lives on, and the run stays locked until it ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], env=environment({"PYTHONPATH": str(ROOT / "src")})
    )
    log = tmp_path / "log.txt"
    while not (log.exists() and "\nbegan" in log.read_text()):
        time.sleep(0.05)
    process.send_signal(ended_by)
    assert process.wait(timeout=30) == (143 if ended_by == signal.SIGTERM else -signal.SIGKILL)
    assert is_locked(tmp_path) == (ended_by == signal.SIGKILL)
    subprocess.run(["pkill", "-f", "^sleep 300.25"], check=False)
    while is_locked(tmp_path):
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--only", "dapo"], "program: --only dapo: expected one of untrained, sft-ours-1, or a pattern of them"),
        (["--measures", "x"], "program: --measures x: expected one of migration, or a pattern of them"),
        (["--data", "ours"], "program: --data ours: expected NAME=FILE"),
        (["--data", "theirs=x"], "program: --data theirs: expected one of ours"),
    ],
)
def test_mistakes_in_flags(small, stops, flags, message):
    assert stops(study.main, *small, *flags) == message
