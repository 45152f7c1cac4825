"""Which ways of sampling and updating a run of src/grpo.py uses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from transformers import AutoConfig

from trl_training import techniques
from trl_training.own_keys import GrpoArguments

PLAIN, OTHER = AutoConfig.for_model("qwen2"), AutoConfig.for_model("gemma2")
for config in (PLAIN, OTHER):
    config._attn_implementation = "sdpa"


def chosen(config, capsys, *, device="cpu", zero=0, vllm=False, repetition_penalty=1.0, continuous=False, **own):
    """({what the trainer gets}, what was printed)."""
    args = SimpleNamespace(
        device=SimpleNamespace(type=device),
        use_vllm=vllm,
        cache_implementation=None,
        use_transformers_continuous_batching=continuous,
        repetition_penalty=repetition_penalty,
        deepspeed_plugin=SimpleNamespace(zero_stage=zero) if zero else None,
    )
    script = GrpoArguments(data="x", **own)
    way = techniques.way_of_rollouts(script, args, SimpleNamespace(use_peft=True), config)
    return {"rollouts": way, "shared_prompt": techniques.shares_prompts(script, config)}, capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "rollouts", "printed"),
    [
        ({}, "shared", ""),
        ({"device": "cuda"}, "transformers", ""),
        ({"device": "cuda", "rollouts": "shared"}, "shared", ""),
        ({"device": "cuda", "rollouts": "compiled"}, "compiled", ""),
        ({"rollouts": "transformers"}, "transformers", ""),
        ({"dora_generation": "stock"}, "transformers", "dora_generation stock samples with dropout"),
        ({"zero": 3}, "transformers", "ZeRO-3 shards the weights"),
        ({"repetition_penalty": 1.1}, "transformers", "repetition_penalty, cache_implementation and"),
        ({"continuous": True}, "transformers", "repetition_penalty, cache_implementation and"),
        ({"device": "cuda", "vllm": True}, "vllm", ""),
    ],
    ids=str,
)
def test_a_family_that_was_checked(capsys, given, rollouts, printed):
    found, out = chosen(PLAIN, capsys, **given)
    assert found == {"rollouts": rollouts, "shared_prompt": True}
    assert out.startswith(f"completions are sampled by transformers: {printed}") if printed else out == ""


def test_a_family_that_was_not_prints_what_is_computed_as_trl_does(capsys):
    assert chosen(OTHER, capsys) == (
        {"rollouts": "transformers", "shared_prompt": False},
        "completions are sampled by transformers: models of type gemma2 have not been checked\n"
        "updates run a prompt once for each completion: models of type gemma2 have not been checked\n",
    )


def test_what_is_switched_off_is_not_reported(capsys):
    found, out = chosen(OTHER, capsys, rollouts="transformers", shared_prompt=False)
    assert (found, out) == ({"rollouts": "transformers", "shared_prompt": False}, "")


def test_compiled_decoding_on_a_cpu(capsys):
    found, out = chosen(PLAIN, capsys, rollouts="compiled")
    assert found == {"rollouts": "transformers", "shared_prompt": True}
    assert out == "decoding is not compiled: transformers compiles on a GPU only\n"


@pytest.mark.parametrize(
    ("asked", "dora", "zero", "used", "printed"),
    [
        ("factored", True, 0, "factored", ""),
        ("peft", True, 0, "peft", ""),
        ("factored", True, 3, "peft", "DoRA's norms are computed by peft: ZeRO-3 shards the weights\n"),
        ("factored", False, 0, None, ""),
    ],
)
def test_how_dora_s_norms_are_computed(capsys, asked, dora, zero, used, printed):
    args = SimpleNamespace(deepspeed_plugin=SimpleNamespace(zero_stage=zero) if zero else None)
    script, model = GrpoArguments(data="x", dora_norm=asked), SimpleNamespace(use_peft=True, use_dora=dora)
    assert techniques.norm_of_dora(script, args, model) == used
    assert capsys.readouterr().out == printed
