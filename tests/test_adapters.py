"""DoRA rollouts: the policy that samples is the one that is scored, and the base weights stay, bit for bit."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model

from adapters import (
    GENERATION_MODES,
    adapter_config,
    adapter_layers,
    base_weights_kept,
    merged_copies,
    rollout_policy,
    start_from_base,
)


@pytest.fixture
def policy(random_model):
    """A function: the tiny model with a DoRA adapter that is no longer at its start."""
    from transformers import AutoModelForCausalLM

    def make(dtype: torch.dtype, dropout: float = 0.0, targets=None):
        torch.manual_seed(0)
        base = AutoModelForCausalLM.from_pretrained(random_model, dtype=dtype)
        model = get_peft_model(base, adapter_config(8, 8, dropout, targets))
        move(model, 0)
        return model.train()

    return make


def move(model, seed: int) -> None:
    """Change the adapter, as an optimizer step would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
            if "magnitude" in name:
                parameter.mul_(1 + 0.05 * torch.randn(parameter.shape, generator=generator))


def bases(model) -> list[torch.Tensor]:
    return [layer.get_base_layer().weight.data.clone() for layer in adapter_layers(model)]


IDS = torch.arange(10, 50).unsqueeze(0)


def test_the_released_adapter():
    config = adapter_config()
    assert (config.r, config.lora_alpha, config.lora_dropout, config.use_dora) == (64, 64, 0.01, True)
    assert set(config.target_modules) == {"q_proj", "v_proj"}
    assert adapter_config(target_modules=["all-linear"]).target_modules == "all-linear"


@pytest.mark.parametrize("how", GENERATION_MODES)
@pytest.mark.parametrize("targets", [None, "all-linear"])
def test_every_mode_samples_from_the_policy(policy, how, targets):
    model = policy(torch.float32, targets=targets)
    with torch.no_grad():
        expected = model(IDS).logits
        with rollout_policy(model, how):
            actual = model(IDS).logits
        after = model(IDS).logits
    assert torch.allclose(actual, expected, atol=1e-4)
    assert torch.equal(after, expected)
    assert model.training


@pytest.mark.parametrize("how", ["merge", "cache"])
def test_dropout_is_off_while_sampling(policy, how):
    model = policy(torch.float32, dropout=0.5)
    with torch.no_grad(), rollout_policy(model, how):
        assert torch.equal(model(IDS).logits, model(IDS).logits)
    with torch.no_grad():
        assert not torch.equal(model(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_hundred_moving_merges_leave_the_base_alone(policy, dtype):
    model = policy(dtype)
    before = bases(model)
    storages = [layer.get_base_layer().weight.data_ptr() for layer in adapter_layers(model)]
    for step in range(100):
        move(model, step)
        with merged_copies(model):
            assert all(layer.merged for layer in adapter_layers(model))
    assert all(torch.equal(a, b) for a, b in zip(before, bases(model), strict=True))
    assert storages == [layer.get_base_layer().weight.data_ptr() for layer in adapter_layers(model)]
    assert not any(layer.merged or layer._caches for layer in adapter_layers(model))


def test_an_error_while_sampling_restores_everything(policy):
    model = policy(torch.bfloat16)
    before = bases(model)
    with pytest.raises(RuntimeError, match="out of memory"), rollout_policy(model, "merge"):
        raise RuntimeError("out of memory")
    assert all(torch.equal(a, b) for a, b in zip(before, bases(model), strict=True))
    assert model.training


def test_the_vllm_guard_undoes_the_drift_of_merging_into_the_live_base(policy):
    model = policy(torch.bfloat16)
    before = bases(model)
    with base_weights_kept(model):
        for step in range(20):
            move(model, step)
            model.merge_adapter()
            model.unmerge_adapter()
        assert not all(torch.equal(a, b) for a, b in zip(before, bases(model), strict=True))  # it does drift
    assert all(torch.equal(a, b) for a, b in zip(before, bases(model), strict=True))


def test_greedy_rollouts_are_the_same_in_every_mode(policy):
    model = policy(torch.float32, targets="all-linear")
    outs = []
    for how in GENERATION_MODES:
        with torch.no_grad(), rollout_policy(model, how):
            outs.append(model.generate(input_ids=IDS, max_new_tokens=12, do_sample=False, pad_token_id=0).tolist())
    assert outs[0] == outs[1] == outs[2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_untrained_policy_is_the_base_model(random_model, dtype, dropout):
    """peft's own magnitudes are rounded to bf16 with a bf16 base, so that its untrained policy is another model."""
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(random_model, dtype=dtype)
    model = get_peft_model(base, adapter_config(8, 8, dropout)).train()

    def logits() -> torch.Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            return model(IDS).logits

    with model.disable_adapter():
        expected = logits()
    if dtype == torch.bfloat16:
        assert not torch.equal(logits(), expected)
    start_from_base(model)
    assert torch.equal(logits(), expected)
    with rollout_policy(model, "merge"):
        assert torch.equal(logits(), expected)
    for layer in adapter_layers(model):
        magnitude = layer.lora_magnitude_vector["default"].weight
        assert magnitude.dtype == torch.float32
        assert magnitude.requires_grad
        assert torch.equal(magnitude, layer.get_base_layer().weight.float().norm(dim=1))


def test_plain_lora_has_no_magnitudes_to_set(random_model):
    from transformers import AutoModelForCausalLM

    model = get_peft_model(AutoModelForCausalLM.from_pretrained(random_model), adapter_config(8, 8, use_dora=False))
    start_from_base(model)
    assert len(adapter_layers(model)) == 6
