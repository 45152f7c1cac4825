"""Rollouts that share a prompt: the tokens of transformers' generate, the distribution of the model."""

from __future__ import annotations

from math import inf

import pytest
import torch
from peft import get_peft_model
from small_models import REAL_SIZES, real_layer, small_model
from transformers import AutoConfig, CompileConfig

import rollouts
from adapters import adapter_config, adapter_layers, rollout_policy
from rollouts import Decoding, complete, pick, remaining

GREEDY = Decoding(temperature=0)
LONG, SHORT = [5, 6, 7, 8, 9, 10, 11], [20, 21, 22]


def greedy(model, prompt, tokens=12, **settings):
    ids = torch.tensor([prompt])
    settings = {"do_sample": False, "max_new_tokens": tokens, "pad_token_id": 0, "eos_token_id": None, **settings}
    return model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, len(prompt) :].tolist()


@pytest.mark.parametrize("family", rollouts.FAMILIES)
def test_greedy_tokens_are_those_of_generate(family):
    model = small_model(family)
    assert rollouts.obstacle(model.config) is None
    prompts = [LONG] * 3 + [SHORT] * 3
    found = complete(model, prompts, torch.zeros(6, 12), [], GREEDY)
    assert found == [greedy(model, prompt) for prompt in prompts]
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("size", REAL_SIZES)
def test_a_layer_of_real_size(size):
    model = real_layer(size)
    found = complete(model, [LONG] * 2 + [SHORT] * 2, torch.zeros(4, 6), [], GREEDY)
    assert found == [greedy(model, LONG, 6)] * 2 + [greedy(model, SHORT, 6)] * 2


@pytest.mark.parametrize("prompts", [[[30]] * 2, [[30], LONG]], ids=["alone", "beside a longer one"])
def test_prompts_of_one_token(prompts):
    model = small_model("qwen2")
    assert complete(model, prompts, torch.zeros(2, 5), [], GREEDY) == [greedy(model, prompt, 5) for prompt in prompts]


@pytest.mark.parametrize("rows", [(1, 1), (2, 4), (3, 5)], ids=str)
def test_groups_of_any_size(rows):
    model = small_model("qwen2")
    prompts = [LONG] * rows[0] + [SHORT] * rows[1]
    found = complete(model, prompts, torch.zeros(sum(rows), 5), [], GREEDY)
    assert found == [greedy(model, LONG, 5)] * rows[0] + [greedy(model, SHORT, 5)] * rows[1]


def test_a_prompt_runs_once(monkeypatch):
    model = small_model("llama")
    shapes = []
    model.model.embed_tokens.register_forward_hook(lambda module, args, out: shapes.append(tuple(args[0].shape)))
    complete(model, [LONG] * 4, torch.zeros(4, 3), [], GREEDY)
    assert shapes == [(1, 6), (4, 1), (4, 1), (4, 1)]  # all but the last token once, then one token of each


def test_completions_that_end_are_dropped_and_change_no_other():
    model = small_model("qwen2")
    prompts, uniforms = [LONG] * 4 + [SHORT] * 4, torch.rand(8, 30, generator=torch.Generator().manual_seed(0))
    uniforms = uniforms.double()
    whole = complete(model, prompts, uniforms, [], Decoding())
    stops = set(range(3, 20))
    sizes = []
    model.model.embed_tokens.register_forward_hook(lambda module, args, out: sizes.append(len(args[0])))
    found = complete(model, prompts, uniforms, sorted(stops), Decoding())
    ends = [next((i + 1 for i, token in enumerate(row) if token in stops), 30) for row in whole]
    assert found == [row[:end] for row, end in zip(whole, ends, strict=True)]
    assert len(set(ends)) > 2
    assert sizes[1:] == sorted(sizes[1:], reverse=True)
    assert sizes[-1] < 8


def test_what_remains_is_a_rectangle():
    # Three prompts of three completions. The second prompt has none left; the first has two, the third one and a
    # completion that has ended to make up the second place.
    alive = torch.tensor([0, 1, 1, 0, 0, 0, 1, 0, 0], dtype=torch.bool)
    prompts, completions = remaining(alive, 3)
    assert (prompts.tolist(), completions.tolist()) == ([0, 2], [1, 2, 6, 7])


def test_a_token_is_drawn_as_often_as_it_is_probable():
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log().expand(8, 4)
    assert pick(logits, (torch.arange(8) + 0.5) / 8).tolist() == [[0], [0], [0], [0], [1], [1], [2], [3]]


def test_a_token_without_probability_is_never_drawn():
    logits = torch.tensor([[-inf, 0.0, -inf, 0.0, -inf]]).expand(3, 5)
    uniforms = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert pick(logits, uniforms).tolist() == [[1], [3], [3]]


def test_a_model_that_computes_nan_draws_nothing():
    with pytest.raises(ValueError, match="the model's logits are not finite"):
        pick(torch.tensor([[0.0, 1.0], [0.0, float("nan")]]), torch.tensor([0.5, 0.5], dtype=torch.float64))


def test_sampling_follows_the_model():
    """4,000 draws of the first token against the model's probabilities: a chi-squared test on the ten likeliest."""
    model = small_model("llama")
    probabilities = model(torch.tensor([SHORT])).logits[0, -1].detach().softmax(-1)
    uniforms = torch.rand(4000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = torch.tensor(complete(model, [SHORT] * 4000, uniforms, [], Decoding()))[:, 0]
    top = probabilities.topk(10).indices
    expected, counts = 4000 * probabilities[top], torch.bincount(drawn, minlength=97)[top]
    assert ((counts - expected) ** 2 / expected).sum() < 29.6  # by chance once in 1,000 (10 degrees of freedom)


def test_the_processors_of_the_logits():
    names = [type(one).__name__ for one in Decoding(0.7, top_p=0.9, top_k=5, min_p=0.1).warpers()]
    assert names == ["TemperatureLogitsWarper", "TopKLogitsWarper", "TopPLogitsWarper", "MinPLogitsWarper"]
    assert list(Decoding().warpers()) == []
    assert list(Decoding(0, top_p=0.7, top_k=5).warpers()) == []  # greedy: a sort of the vocabulary for nothing


@pytest.mark.parametrize(
    "config, expected",
    [
        (AutoConfig.for_model("mistral", sliding_window=4096), "its attention has a sliding window"),
        (
            AutoConfig.for_model("qwen2", use_sliding_window=True, max_window_layers=2),
            "its attention has a sliding window",
        ),
        (
            AutoConfig.for_model("llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}),
            "its rotary embedding depends on the longest row",
        ),
        (AutoConfig.for_model("gemma2"), "models of type gemma2 have not been checked"),
        (AutoConfig.for_model("mamba"), "models of type mamba have not been checked"),
        (AutoConfig.for_model("qwen2"), None),
    ],
    ids=["mistral", "qwen2 with windows", "dynamic", "gemma2", "mamba", "qwen2"],
)
def test_what_cannot_share(config, expected):
    assert rollouts.obstacle(config) == expected


def test_an_error_restores_the_attention():
    model = small_model("llama")
    with pytest.raises(IndexError):
        complete(model, [[500, 501]], torch.zeros(1, 3), [], GREEDY)
    with pytest.raises(RuntimeError):
        model.model.layers[1].register_forward_hook(lambda *args: torch.zeros(1) @ torch.zeros(2))
        complete(model, [LONG], torch.zeros(1, 3), [], GREEDY)
    assert model.config._attn_implementation == "sdpa"


def test_a_model_that_trains_with_checkpointing():
    """All weights are trained: no adapter's context has switched checkpointing off."""
    model = small_model("qwen2").train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    found = complete(model, [LONG] * 2, torch.zeros(2, 5), [], GREEDY)
    assert model.training
    assert found == [greedy(model.eval(), LONG, 5)] * 2


def test_compiled_decoding_sees_the_weights_of_each_step():
    """A static cache and a compiled model, as on a GPU (there with CUDA graphs): merged copies keep their addresses."""
    model = get_peft_model(small_model("llama"), adapter_config(4, 8, 0.0))
    base, buffers = model.get_base_model(), {}
    compiled = {
        "cache_implementation": "static",
        "compile_config": CompileConfig(backend="eager", mode="default", fullgraph=False),
        "disable_compile": False,
    }
    compiled["compile_config"]._compile_all_devices = True
    seen, addresses = [], []
    for step in range(3):
        for layer in adapter_layers(model):
            generator = torch.Generator().manual_seed(step)
            layer.lora_B["default"].weight.data = torch.randn(layer.lora_B["default"].weight.shape, generator=generator)
        with rollout_policy(model, "merge", buffers):
            addresses.append([layer.get_base_layer().weight.data_ptr() for layer in adapter_layers(model)])
            seen.append(greedy(base, LONG, **compiled))
        with rollout_policy(model, "merge"):
            assert seen[-1] == greedy(base, LONG)
    assert hasattr(base, "_compiled_call")
    assert addresses[0] == addresses[1] == addresses[2]
    assert len({tuple(tokens) for tokens in seen}) > 1
