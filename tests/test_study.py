"""The queue of a study: what runs, what is skipped, what a failure stops, and a real study of a small model."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import mini_migration
import pytest
from conftest import ROOT, environment, run_script
from wheels import only

import study
from experiments.stages import Stage


def stage(name: str, folder: Path, command: str) -> Stage:
    return Stage(name, (("bash", "-c", command),), folder / f"{name}.done", ("true",))


def test_a_failed_measure_does_not_stop_the_others(tmp_path):
    todo = [
        stage("train", tmp_path, f"touch {tmp_path}/train.done"),
        stage("arena", tmp_path, "echo no problems; exit 3"),
        stage("multi", tmp_path, f"touch {tmp_path}/multi.done"),
    ]
    assert study.work_on(todo, tmp_path) == {"arena": "status 3: no problems"}
    assert (tmp_path / "multi.done").exists()
    log = (tmp_path / "log.txt").read_text()
    assert "$ bash -c 'echo no problems; exit 3'\nno problems\n# status 3, 0 s\n" in log


def test_nothing_is_measured_without_training(tmp_path):
    todo = [stage("train", tmp_path, "exit 2"), stage("arena", tmp_path, f"touch {tmp_path}/arena.done")]
    assert list(study.work_on(todo, tmp_path)) == ["train"]
    assert not (tmp_path / "arena.done").exists()


def test_what_is_done_is_not_done_again(tmp_path):
    (tmp_path / "train.done").touch()
    assert study.work_on([stage("train", tmp_path, "exit 2")], tmp_path) == {}
    assert not (tmp_path / "log.txt").exists()


def test_the_second_command_of_a_stage_needs_the_first(tmp_path):
    todo = [Stage("arena", (("false",), ("touch", f"{tmp_path}/scored")), tmp_path / "scored", ("true",))]
    assert list(study.work_on(todo, tmp_path)) == ["arena"]
    assert not (tmp_path / "scored").exists()


def test_states(tmp_path):
    todo = [stage("train", tmp_path, "true")]
    assert study.state(tmp_path / "none", todo) == "waiting"
    with study.locked(tmp_path) as is_free:
        assert is_free
        assert study.state(tmp_path, todo) == "running"
    (tmp_path / "log.txt").touch()
    assert study.state(tmp_path, todo) == "interrupted"
    (tmp_path / "failed.txt").write_text("arena: status 3: no problems\n")
    assert study.state(tmp_path, todo) == "failed: arena: status 3: no problems"
    (tmp_path / "train.done").touch()
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
    return [str(folder / "tiny.yaml"), "--out", str(folder / "runs"), "--envs", str(folder / "envs")]


def test_a_study_from_its_start_to_its_end(small):
    out = Path(small[2])
    pip = only(out.parent)
    done = run_script("study.py", *small, env=pip)
    assert "| untrained  | -              | 1 of 1   | done  |" in done.stdout
    assert "| sft-ours-1 | 1 steps, saved | 1 of 1   | done  |" in done.stdout
    results = json.loads((out / "sft-ours-1" / "migration" / "results.json").read_text())
    assert results["samples"]["made"]["adapter"] == str(out / "sft-ours-1" / "train")
    assert len(results["tasks"]) == 4
    log = (out / "sft-ours-1" / "log.txt").read_text()
    assert log.count("\n$ ") == 3
    again = run_script("study.py", *small, env=pip)
    assert again.stdout.splitlines()[0] == f"1/2 untrained  (log: {out}/untrained/log.txt)"
    assert (out / "sft-ours-1" / "log.txt").read_text() == log


def test_a_run_of_another_queue_is_skipped(small):
    folder = Path(small[2]).parent / "locked" / "untrained"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        flags = [small[0], "--out", str(folder.parent), "--only", "untrained"]
        done = run_script("study.py", *flags)
    assert "1/1 untrained  (another process works on it)" in done.stdout
    assert not (folder / "log.txt").exists()


def test_a_model_that_is_not_there_is_found_before_anything_runs(small):
    out = Path(small[2]).parent / "checked"
    flags = [small[0], "--out", str(out), "--model", "none/such"]
    done = run_script("study.py", *flags, check=False)
    assert done.returncode == 2
    why, command = done.stderr.splitlines()[-2:]
    assert why.startswith("study: untrained, migration: generate: none/such: ")
    assert command.startswith("  found by ")
    assert not list(out.glob("*/log.txt"))


def test_a_failure_is_the_exit_status_and_is_listed(small):
    """pip finds no wheel for the records' environment: the samples are there, the score is not."""
    out = Path(small[2]).parent / "failing"
    flags = [small[0], "--out", str(out), "--only", "untrained", "--envs", str(out / "envs")]
    done = run_script("study.py", *flags, env=only(out), check=False)
    assert done.returncode == 1
    assert "s: failed: status 2: score: pip could not install gizmo==2.0: " in done.stdout
    listed = run_script("study.py", *flags, "--list").stdout
    assert "| failed: migration: status 2: score: pip could not install gizmo==2.0" in listed


def test_sigterm_ends_the_running_command(tmp_path):
    """The command, which would run for minutes, ends with the queue; nothing is marked as failed."""
    child = "import study, sys; from pathlib import Path; from common.signals import exit_on_sigterm; exit_on_sigterm()"
    child += "; print('go', flush=True); study.call(['sleep', '300.25'], Path(sys.argv[1]))"
    process = subprocess.Popen(
        [sys.executable, "-c", child, str(tmp_path / "log.txt")],
        env=environment({"PYTHONPATH": str(ROOT / "src")}),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    while "sleep" not in ((tmp_path / "log.txt").read_text() if (tmp_path / "log.txt").exists() else ""):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert subprocess.run(["pgrep", "-f", "sleep 300.25"], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--only", "dapo"], "program: --only dapo: no such run: untrained, sft-ours-1"),
        (["--data", "ours"], "program: --data ours: expected NAME=FILE"),
        (["--data", "theirs=x"], "program: --data theirs: expected one of ours"),
    ],
)
def test_mistakes_in_flags(small, stops, flags, message):
    assert stops(study.main, *small, *flags) == message
