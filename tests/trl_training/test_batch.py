"""The batch arithmetic: sequences a step = processes x per_device x accumulation."""

from __future__ import annotations

import pytest

import grpo
import sft
from common.launch import VARIABLES
from trl_training.arguments import Batch, plan_batch


@pytest.mark.parametrize(
    ("processes", "sequences", "per_device", "accumulation"),
    # At most 4 at once: the share of a process, in parts of 4 or fewer.
    [
        (1, 8, 4, 2),
        (2, 8, 4, 1),
        (4, 8, 2, 1),
        (8, 8, 1, 1),
        (1, 64, 4, 16),
        (8, 64, 4, 2),
        (16, 64, 4, 1),
        (2, 4, 2, 1),
    ],
)
def test_the_same_step_on_any_number_of_processes(processes, sequences, per_device, accumulation):
    assert plan_batch(processes, 4, sequences) == Batch(processes, per_device, accumulation)


@pytest.mark.parametrize(("processes", "per_device", "sequences"), [(3, 4, 8), (16, 4, 8), (1, 3, 8), (2, 3, 8)])
def test_what_does_not_divide_evenly_is_an_error(processes, per_device, sequences):
    with pytest.raises(ValueError, match=f"{sequences} sequences a step cannot be divided evenly"):
        plan_batch(processes, per_device, sequences)


def test_what_a_run_prints():
    assert str(Batch(2, 4, 1, group=8)) == (
        "2 process(es) x 4 per device x 1 accumulation = 8 completions a step; / 8 generations = 1 prompt(s)"
    )
    assert str(Batch(8, 1, 1)) == "8 process(es) x 1 per device x 1 accumulation = 8 examples a step"


def keys(**given: object) -> dict[str, object]:
    defaults = {"check": None, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
    return {**defaults, **given}


def test_trl_s_keys_follow_from_the_launch(monkeypatch):
    for name, value in zip(VARIABLES, ("8", "0", "0", "127.0.0.1", "29500"), strict=True):
        monkeypatch.setenv(name, value)
    more = {"prompts_per_step": 1, "num_generations": 8, "updates_per_generation": 1, "steps_per_generation": None}
    assert grpo.derive(keys(**more)) == {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1}
    more["prompts_per_step"], more["updates_per_generation"] = 8, 2  # 64 completions: 8 on each, in two parts
    expected = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "steps_per_generation": 4}
    assert grpo.derive(keys(**more)) == expected
    assert sft.derive(keys(examples_per_step=8)) == {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1}
    assert sft.derive(keys(examples_per_step=None)) == {}


def test_a_check_for_eight_processes_is_one_process(monkeypatch):
    """trl multiplies by the processes that it sees: 1 x 1 x 8 has to be whole groups here as well."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    expected = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    assert sft.derive(keys(examples_per_step=8, check=8)) == expected
