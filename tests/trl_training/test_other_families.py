"""SFT, GRPO and evaluation of a model whose tokenizer adds BOS and eos, and whose turns do not end with its eos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chat_templates import FAMILIES, make_family
from conftest import CPU, run_script, save_random_model

from prompts import load_chat

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def gemma(tmp_path_factory) -> Path:
    """Random weights with a tokenizer of Gemma 3's structure; its files name only eos as the end of an answer."""
    tokenizer = make_family(FAMILIES["gemma-3"], adds_bos=True, adds_eos=True)
    return save_random_model(tmp_path_factory.mktemp("models") / "gemma", tokenizer)


@pytest.fixture(scope="module")
def warm(gemma, tiny_data, tmp_path_factory) -> tuple[Path, str]:
    """(the model after SFT until it writes the tags, what src/sft.py printed)."""
    out = tmp_path_factory.mktemp("models") / "warm-gemma"
    done = run_script(
        *("sft.py", "--model_name_or_path", gemma, "--data", tiny_data, "--output_dir", out, "--save_strategy", "no"),
        *("--max_steps", 80, "--per_device_train_batch_size", 4, "--learning_rate", "3e-3", *CPU),
        *("--lr_scheduler_type", "cosine", "--gradient_checkpointing", "false"),
    )
    return out, done.stdout


NOTE = "a turn ends with <end_of_turn>, not with the tokenizer's eos token <eos>"


def test_sft_teaches_the_end_of_a_turn(warm):
    folder, printed = warm
    assert NOTE in printed
    assert "</answer><end_of_turn>\n" in printed  # the end of the first completion, as it is shown
    run = json.loads((folder / "run.json").read_text())
    assert run["starts"][-1]["chat_template"] == [NOTE]
    assert load_chat(str(folder)).notes == ()  # the saved tokenizer's eos is the end of a turn


def test_grpo_stops_there_and_sees_one_bos(warm, tiny_data, tmp_path):
    folder, _ = warm
    done = run_script(
        *("grpo.py", "--model_name_or_path", folder, "--data", tiny_data, "--output_dir", tmp_path / "run", *CPU),
        *("--use_peft", "true", "--use_dora", "true", "--lora_r", 8, "--lora_dropout", "0.0", "--max_steps", 1),
        *("--num_generations", 4, "--per_device_train_batch_size", 8, "--prompts_per_step", 2, "--beta", "0.0"),
        *("--max_completion_length", 100, "--gradient_checkpointing", "false", "--temperature", "0.3"),
    )
    assert "model sees it:\n<bos><start_of_turn>user\n" in done.stdout
    [row] = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert row["completions/clipped_ratio"] < 1
    rollouts = [json.loads(line) for line in (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()]
    assert max(rollout["rewards"]["format_reward"] for rollout in rollouts) == 1.0
    assert not [rollout for rollout in rollouts if "<end_of_turn>" in rollout["completion"]]
