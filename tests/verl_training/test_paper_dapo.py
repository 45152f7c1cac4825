"""configs/dapo.yaml and configs/dapo_released.yaml train and resume on a CPU, the former on two processes as well.

Overridden is what a machine without a GPU needs and nothing else: data, model, the rollout's engine, lengths, steps,
the device and the number of processes. So gradient checkpointing, dropout, bf16 with a float32 master, offloading,
warm-up, dynamic sampling, 8 prompts x 8 completions and two updates a step are the paper's.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY_ROWS, run_script
from safetensors.torch import load_file
from verl_runs import OTHER, kill_after, lines, settings

from verl_training import checkpoint as verl_checkpoint

pytest.importorskip("hydra", reason="requirements/dapo.txt is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
NAMES = ("area", "total", "power", "dose", "heat", "flow", "work", "mass")  # a step takes 8 prompts
CPU = [
    "trainer.device=cpu",
    "actor_rollout_ref.rollout.name=hf",
    "actor_rollout_ref.actor.fsdp_config.use_torch_compile=false",  # it would compile C++
    "data.max_prompt_length=256",
    "data.max_response_length=64",
    "data.dataloader_num_workers=0",
    "actor_rollout_ref.rollout.agent.num_workers=1",
    "reward.num_workers=1",
    "+ray_kwargs.ray_init.include_dashboard=false",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """(training file, validation file)."""
    folder = tmp_path_factory.mktemp("data")
    rows = [
        {**TINY_ROWS[0], **{key: TINY_ROWS[0][key].replace("area", name) for key in ("old_code", "new_code")}}
        for name in NAMES
    ]
    for name, content in (("train.jsonl", rows), ("val.jsonl", [OTHER])):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in content))
    return folder / "train.jsonl", folder / "val.jsonl"


@pytest.fixture(scope="module", params=[("dapo", 1), ("dapo", 2), ("dapo_released", 1)], ids=lambda p: f"{p[0]}-{p[1]}")
def trained(request, data, warm_model, tmp_path_factory):
    """(configuration, processes, folder, output of the second start): killed after one step of two, and resumed."""
    name, processes = request.param
    run = tmp_path_factory.mktemp("paper") / "run"
    found = settings(data[0], run, warm_model, f"recode.val_data={data[1]}", *CPU)
    found += [f"trainer.n_gpus_per_node={processes}", f"+ray_kwargs.ray_init.num_gpus={processes}"]
    found += [f"ray_kwargs.ray_init.num_cpus={ {1: 6, 2: 9}[processes] }"]  # logical, and no more than it needs
    run_script("data_process.py", "--config-name", name, *found)
    flags = ["--config-name", name, *found, "trainer.total_training_steps=2", "trainer.save_freq=1"]
    kill_after(1, run, [sys.executable, str(ROOT / "src" / "dapo.py"), *flags])
    return name, processes, run, run_script("dapo.py", *flags).stdout


def test_it_trains_and_resumes(trained):
    name, _, run, said = trained
    assert f"resuming from {run}/global_step_1" in said
    starts = json.loads((run / "run.json").read_text())["starts"]
    assert [start["resumed_from"] for start in starts] == [None, f"{run}/global_step_1"]
    rows = lines(run / "metrics.jsonl")
    first = {"dapo": [0], "dapo_released": []}[name]  # the latter does not validate before training
    assert [row["step"] for row in rows] == [*first, 1, 2]
    rise = {"dapo": 5e-5 / 150, "dapo_released": 1e-6 / 10}[name]  # warm-up; verl logs the next step's rate
    for row in rows[len(first) :]:
        assert row["actor/lr"] == pytest.approx(row["step"] * rise)
        assert all(math.isfinite(row[f"actor/{key}"]) for key in ("pg_loss", "ppo_kl", "entropy"))
        assert row["actor/grad_norm"] > 0
        assert row["training/rollout_actor_probs_pearson_corr"] > 0.99
        assert row["groups/sampled"] - row["groups/zero_variance"] >= 8  # eight groups with a signal were found
    trained_on = [sample["step"] for sample in lines(run / "rollouts.jsonl") if sample["advantage"] is not None]
    assert trained_on == [1] * 64 + [2] * 64


def test_the_weights_move_from_the_second_step_on(trained, warm_model):
    """The schedule starts at 0, so the first step leaves the weights as they are; the second takes two updates."""
    name, processes, run, _ = trained
    first, second = (verl_checkpoint.read_weights(run / f"global_step_{step}") for step in (1, 2))
    assert all(value.dtype == torch.float32 for value in second.values())
    if name == "dapo":
        start = load_file(run / "adapter_init" / "adapter_model.safetensors")
        start = {key.removesuffix(".weight"): value for key, value in start.items()}
        first = {key.replace(".default", "").removesuffix(".weight"): value for key, value in first.items()}
        second = {key.replace(".default", "").removesuffix(".weight"): value for key, value in second.items()}
        assert len(second) == 3 * 3 * 2  # A, B and magnitude of q and v in three layers
    else:
        start = {key: value.float() for key, value in load_file(warm_model / "model.safetensors").items()}
    assert set(start) <= set(first) == set(second)  # verl saves the tied output layer under a name of its own
    assert all(torch.equal(first[key], start[key]) for key in start)
    rate = {"dapo": 5e-5 / 150, "dapo_released": 1e-6 / 10}[name]
    for key in second:
        moved = (second[key] - first[key]).abs().max().item()
        assert 0 < moved < 3 * rate  # Adam moves a weight by about the rate in each of its first two updates
    for rank in range(processes):
        path = run / "global_step_2" / "actor" / f"optim_world_size_{processes}_rank_{rank}.pt"
        states = torch.load(path, weights_only=False)["state"].values()
        # Two updates a step, continued after the resume. Offloading leaves an empty state for every frozen weight.
        assert {int(state["step"]) for state in states if state} == {4}


def test_the_checkpoint_becomes_a_model(trained, tmp_path):
    _, _, run, _ = trained
    done = run_script("merge_adapter.py", "--checkpoint", run, "--out", tmp_path / "merged")  # the run's last one
    assert Path(tmp_path / "merged" / "config.json").is_file(), done.stdout
    merged_from = json.loads((tmp_path / "merged" / "merged_from.json").read_text())
    assert merged_from["source"] == str(run / "global_step_2")
