"""Rewards of one's own, by dotted path, through the real src/grpo.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import ROOT, run_script
from transformers import AutoTokenizer

from common.chat import chat_of
from common.errors import InputError
from trl_training.reward_functions import check_rewards, load_rewards

REWARDS = '''
"""One number per completion."""

def shorter(completions, target, old_code, record_id, completion_ids, log_extra, **kwargs):
    """-1 for each 100 tokens."""
    assert len(target) == len(old_code) == len(record_id) == len(completion_ids) == len(completions)
    log_extra("shorter reason", [f"{len(ids)} tokens" for ids in completion_ids])
    return [-len(ids) / 100 for ids in completion_ids]

async def later(completions, **kwargs):
    return [None if "x" in text else 1 for text in completions]

def one_for_all(completions, **kwargs):
    return 1.0

def too_many(completions, **kwargs):
    return [1.0, 2.0]

def text(completions, **kwargs):
    return ["good"] * len(completions)

def other_columns(completions, answers):
    return [0.0] * len(completions)

def broken(completions, **kwargs):
    raise RuntimeError("no judge\\nat this address")

def em(completions, **kwargs):
    return [0.0] * len(completions)

NUMBER = 3
'''


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with my_rewards.py, on the path as PYTHONPATH=. puts it there."""
    (tmp_path / "my_rewards.py").write_text(REWARDS)
    (tmp_path / "broken.py").write_text("def mine(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("my_rewards", "broken"):
        sys.modules.pop(name, None)
    return tmp_path


def test_names_and_dotted_paths_mix(folder):
    rewards = load_rewards("format, my_rewards.shorter,es_star")
    assert list(rewards) == ["format_reward", "shorter", "es_star"]
    assert list(load_rewards("my_rewards.later")) == ["later"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            "format,absent.mine",
            "reward absent.mine: there is no module absent: its folder must be on PYTHONPATH (PYTHONPATH=. for ",
        ),
        ("my_rewards.absent", "reward my_rewards.absent: absent does not exist in "),
        ("my_rewards.NUMBER", "reward my_rewards.NUMBER: NUMBER is not callable in "),
        ("broken.mine", "reward broken.mine: SyntaxError: invalid syntax (broken.py, line 1)"),
        ("em,my_rewards.em", "reward em,my_rewards.em: two functions are named em"),
        ("format,fromat", "unknown reward 'fromat': choose from format, em"),
        ("format,my_rewards.shorter,format", "rewards must be named once each"),
        (".mine", "reward .mine: "),
        ("my_rewards.", "reward my_rewards.: "),
    ],
)
def test_mistakes_in_the_name(folder, names, said):
    with pytest.raises(InputError) as stopped:
        load_rewards(names)
    assert str(stopped.value).startswith(said)
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("shorter", None),
        ("later", None),
        ("one_for_all", "returned 1.0: expected a list with a number for each completion"),
        ("too_many", "returned [1.0, 2.0]: expected a list with a number for each completion"),
        ("text", "returned ['good']: expected a list with a number for each completion"),
        ("other_columns", "TypeError: other_columns() got an unexpected keyword argument 'prompts'"),
        ("broken", "RuntimeError: no judge at this address"),
    ],
)
def test_one_reference_answer_is_scored_first(folder, random_model, name, said):
    chat = chat_of(AutoTokenizer.from_pretrained(random_model))
    row = {"prompt": "p", "target": "x = 1\n", "old_code": "x = 0\n", "record_id": "r"}
    rewards = load_rewards(f"my_rewards.{name},dm_star")
    if said is None:
        check_rewards(rewards, [row], chat, "rows.jsonl")
        return
    with pytest.raises(InputError) as stopped:
        check_rewards(rewards, [row], chat, "rows.jsonl")
    assert str(stopped.value) == f"reward {name}: {said}"


@pytest.mark.slow
def test_a_run_with_a_reward_of_one_s_own(folder, random_model, tiny_data):
    out = folder / "run"
    flags = ["--config", ROOT / "configs" / "quickstart" / "grpo.yaml", "--model_name_or_path", random_model]
    flags += ["--data", tiny_data, "--output_dir", out, "--max_steps", 1, "--max_completion_length", 16]
    flags += ["--num_generations", 4, "--save_strategy", "no", "--report_to", "none", "--bf16", "false"]
    flags += ["--dtype", "float32", "--max_target_length", 200]
    mine = ["--reward", "format,my_rewards.shorter", "--reward_weights", "1.0", "0.5"]
    bad = run_script("grpo.py", *flags, *mine, check=False)
    assert (bad.returncode, bad.stderr.splitlines()[-1]) == (
        2,
        "grpo: reward my_rewards.shorter: there is no module my_rewards: its folder must be on PYTHONPATH "
        "(PYTHONPATH=. for the working directory)",
    )
    here = {"PYTHONPATH": str(folder)}
    bad = run_script("grpo.py", *flags, "--reward", "my_rewards.text", env=here, check=False)
    assert (bad.returncode, bad.stderr.splitlines()[-1]) == (
        2,
        "grpo: reward text: returned ['good']: expected a list with a number for each completion",
    )
    run_script("grpo.py", *flags, *mine, env=here)
    [metrics] = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rollouts = [json.loads(line) for line in (out / "rollouts.jsonl").read_text().splitlines()]
    assert len(rollouts) == 8
    for rollout in rollouts:
        # Random weights neither close the think tag nor stop: -1 for the format, 16 tokens at most.
        assert rollout["rewards"].keys() == {"format_reward", "shorter"}
        tokens = -round(rollout["rewards"]["shorter"] * 100)
        assert 0 < tokens <= 16
        assert rollout["reason"] == f"{tokens} tokens"
    shorter = sum(rollout["rewards"]["shorter"] for rollout in rollouts) / 8
    assert metrics["rewards/shorter/mean"] == pytest.approx(shorter, abs=1e-5)
    assert metrics["reward"] == pytest.approx(-1 + 0.5 * shorter, abs=1e-5)
    starts = json.loads((out / "run.json").read_text())["starts"]
    assert starts[-1]["config"]["reward"] == "format,my_rewards.shorter"
