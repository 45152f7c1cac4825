"""benchmarks/: with src/ on PYTHONPATH the programs start from anywhere, and reject flags in one line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import ROOT


def start(name: str, *flags: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / "benchmarks" / name), *flags]
    return subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["bench_rewards.py", "bench_sandbox.py"])  # the others need the same, and import torch
def test_a_benchmark_starts_without_settings(name):
    done = start(name, "--help")
    assert (done.returncode, done.stdout.startswith(f"usage: {name} ")) == (0, True), done.stderr


def test_a_count_below_one_is_one_line():
    done = start("bench_rewards.py", "--repeats", "0")
    expected = (2, "", "bench_rewards: argument --repeats: 0 is not above 0\n")
    assert (done.returncode, done.stdout, done.stderr) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bench_generation.py", "bench_loss.py"])
def test_a_model_that_is_not_there_is_one_line(name):
    done = start(name, "--model", "models/none")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


@pytest.mark.slow
def test_the_memory_of_a_layer_s_norms():
    """v_proj, 512 rows of 3584: factored, the whole weight in float32 is 7.3 MB; peft's identity matrix is 51 MB."""
    from bench_dora import extra_mb

    assert 5 < extra_mb("v_proj", "factored") < 12
    assert 51 < extra_mb("v_proj", "peft") < 100


@pytest.mark.slow
def test_a_step_of_each_variant(random_model, tiny_data):
    flags = ["--model", random_model, "--data", tiny_data, "--prompts", "1", "--completions", "4", "--new-tokens", "4"]
    done = start("bench_step.py", *map(str, flags), "--rounds", "1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("seconds"))
    names = [line[:30].strip() for line in lines[first + 1 : first + 7]]
    assert names[:3] == ["stock", "before", "now"]
    assert any(line.startswith("equal to stock trl and peft, float32: {'log-probabilities': ") for line in lines)
