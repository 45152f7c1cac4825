"""Two nodes rehearsed on one machine: a launch script twice, as on two nodes with a GPU each, over gloo on the CPU."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CPU, ROOT, environment
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
RUN = ["--use_peft", "true", "--use_dora", "true", "--lora_r", "8", "--lora_alpha", "8", "--lora_dropout", "0.0"]
RUN += ["--learning_rate", "1e-2", "--lr_scheduler_type", "constant", "--per_device_train_batch_size", "4", *CPU]
RUN += ["--save_steps", "2", "--gradient_checkpointing", "false"]
OWN = {  # a step is 8 sequences
    "grpo": ["--num_generations", "4", "--prompts_per_step", "2", "--beta", "0.0", "--max_completion_length", "80"],
    "sft": ["--examples_per_step", "8"],
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def installed(folder: Path) -> Path:
    """A python for PATH that has everything installed: the launch script must not change this environment."""
    (folder / "bin").mkdir()
    (folder / "bin" / "python").write_text(
        f'#!/bin/sh\ncase "$*" in *"-m pip"*) exit;; *sys.prefix*) echo {folder}; exit;; esac\n'
        f'exec {sys.executable} "$@"\n'
    )
    (folder / "bin" / "python").chmod(0o755)
    return folder / "bin"


def both_nodes(folder: Path, trainer: str, *flags: str) -> list[str]:
    """What each node printed. Each sees only the variables that its user sets."""
    port = str(free_port())
    launchers = []
    for rank in ("0", "1"):
        variables = {"NNODES": "2", "NODE_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        variables |= {"GPUS": "1", "PREFLIGHT": "0", "OMP_NUM_THREADS": "1", "VIRTUAL_ENV": str(folder)}
        variables["PATH"] = f"{folder}/bin:{os.environ['PATH']}"
        launchers.append(
            subprocess.Popen(
                ["bash", str(ROOT / "scripts" / f"{trainer}.sh"), *flags],
                env=environment(variables),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    printed = [launcher.communicate(timeout=600)[0] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0], "\n\n".join(text[-4000:] for text in printed)
    return printed


def steps(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("trainer", ["grpo", "sft"])
def test_two_nodes_train_one_run_and_resume_it(trainer, warm_model, tiny_data, tmp_path):
    installed(tmp_path)
    out = tmp_path / "run"
    config = tmp_path / "empty.yaml"  # in place of configs/grpo.yaml
    config.write_text("logging_steps: 1\n")
    run = [trainer, "--config", str(config), *RUN, *OWN[trainer], "--model_name_or_path", str(warm_model)]
    run += ["--data", str(tiny_data), "--output_dir", str(out)]
    first, second = both_nodes(tmp_path, *run, "--max_steps", "2")
    sequences = "completions" if trainer == "grpo" else "examples"
    assert f"batch: 2 process(es) x 4 per device x 1 accumulation = 8 {sequences} a step" in first
    assert "batch: " not in second  # the first node reports, and writes
    assert steps(out) == [1, 2]
    if trainer == "grpo":
        rollouts = [json.loads(line) for line in (out / "rollouts.jsonl").read_text().splitlines()]
        assert len(rollouts) == 2 * 8  # the completions of both nodes
        assert len({rollout["record_id"] for rollout in rollouts if rollout["step"] == 1}) == 2
    assert len(list((out / "checkpoint-2").glob("rng_state_*.pth"))) == 2  # the folder is shared
    trained = load_file(out / "adapter_model.safetensors")
    assert all(value.abs().max() > 0 for key, value in trained.items() if "lora_B" in key)

    first, second = both_nodes(tmp_path, *run, "--max_steps", "4", "--resume_from_checkpoint", "auto")
    assert "(step 2)" in first
    assert steps(out) == [1, 2, 3, 4]
    assert (out / "checkpoint-4" / "trainer_state.json").is_file()
    starts = json.loads((out / "run.json").read_text())["starts"]
    assert [(start["resumed_from"] is None, start["config"]["max_steps"]) for start in starts] == [
        (True, 2),
        (False, 4),
    ]
