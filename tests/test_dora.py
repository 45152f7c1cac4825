"""DoRA with factored norms: the same forward pass, gradients and merges as peft's."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.variants import DoraLinearVariant
from small_models import small_model

from adapters import adapter_config, adapter_layers, rollout_policy, start_from_base
from dora import FactoredDora, fixed_norms, row_norms, squared_norms, use_factored_norms

IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [20, 21, 22, 23, 24, 25]])
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def policy(family: str = "qwen2", targets=None, dropout: float = 0.0, dtype=torch.float32):
    """A model with a DoRA adapter that has moved from its start."""
    model = get_peft_model(small_model(family).to(dtype), adapter_config(4, 8, dropout, targets)).train()
    for layer in adapter_layers(model):
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.3)
    return model


def factors(layer):
    """A, B and the scaling of a layer's adapter."""
    return layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.scaling["default"]


def passed(model, dtype=None):
    """(logits, gradients by name) of one pass; dropout draws the same every time."""
    torch.manual_seed(7)
    model.zero_grad()
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        logits = model(input_ids=IDS).logits.float()
    logits.square().mean().backward()
    return logits.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def test_norms_by_hand():
    # W + 2 B A = [[3, 4], [0, 1]] + 2 [[1], [2]] [[1, 0]] = [[5, 4], [4, 1]]
    W, A, B = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0], [2.0]])
    assert squared_norms(W).tolist() == [25.0, 1.0]
    assert row_norms(squared_norms(W), W, A, B, 2.0).square().tolist() == pytest.approx([41.0, 17.0])


@pytest.mark.parametrize("out, into", [(896, 4864), (8960, 1536), (512, 3584)], ids=["0.5B", "1.5B", "7B"])
def test_the_shapes_of_real_models(out, into):
    """down_proj of Qwen2.5 0.5B, up_proj of 1.5B, v_proj of 7B, in bf16 and in several chunks; truth in float64."""
    generator = torch.Generator().manual_seed(0)
    W = (torch.randn(out, into, generator=generator) * 0.02).bfloat16()
    A, B = torch.randn(64, into, generator=generator) * 0.02, torch.randn(out, 64, generator=generator) * 0.02
    truth = (W.double() + B.double() @ A.double()).norm(dim=1)
    found = row_norms(squared_norms(W), W, A, B, 1.0)
    assert found.dtype == torch.float32
    assert (found / truth - 1).abs().max() < 1e-6


@pytest.mark.parametrize("family", ["llama", "qwen2"])  # without and with biases
@pytest.mark.parametrize("targets", [None, LINEAR], ids=["q and v", "all linear"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_forward_and_gradients_are_peft_s(family, targets, dropout):
    model = policy(family, targets, dropout)
    theirs, their_gradients = passed(model)
    use_factored_norms(model)
    assert {type(v) for layer in adapter_layers(model) for v in layer.lora_variant.values()} == {FactoredDora}
    mine, gradients = passed(model)
    assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max())
    assert gradients.keys() == their_gradients.keys()
    for name, gradient in gradients.items():
        assert (gradient - their_gradients[name]).abs().max() <= 1e-4 * their_gradients[name].abs().max(), name


def test_in_bf16_the_error_is_not_above_peft_s():
    """bf16 weights and autocast, as GRPO trains; truth: the same weights in float32."""
    model = policy(targets=LINEAR, dtype=torch.bfloat16)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    truth, _ = passed(copy.deepcopy(model).float())
    theirs, _ = passed(model, torch.bfloat16)
    use_factored_norms(model)
    mine, _ = passed(model, torch.bfloat16)
    assert (mine - truth).abs().mean() <= 1.1 * (theirs - truth).abs().mean()


def test_dropout_with_bf16_weights_and_without_autocast():
    """peft computes the dropped inputs in the adapter's float32, the base in its own bf16: here all of it is bf16."""
    model = policy(targets=LINEAR, dropout=0.3, dtype=torch.bfloat16)
    theirs, _ = passed(model)
    use_factored_norms(model)
    mine, gradients = passed(model)
    assert (mine - theirs).norm() < 0.02 * theirs.norm()
    assert all(gradient.dtype == torch.float32 for gradient in gradients.values())


def test_merging_and_unmerging_are_peft_s():
    theirs, mine = policy(), policy()
    use_factored_norms(mine)
    for their_layer, layer in zip(adapter_layers(theirs), adapter_layers(mine), strict=True):
        before = layer.get_base_layer().weight.detach().clone()
        their_layer.merge(safe_merge=True)
        layer.merge(safe_merge=True)
        merged = layer.get_base_layer().weight
        assert torch.allclose(merged, their_layer.get_base_layer().weight, atol=1e-6)
        assert not torch.allclose(merged, before, atol=1e-2)
        layer.unmerge()
        assert torch.allclose(layer.get_base_layer().weight, before, atol=1e-6)


def test_the_untrained_policy_is_the_base_exactly():
    base = small_model("qwen2").bfloat16()
    expected = base(input_ids=IDS).logits
    model = get_peft_model(base, adapter_config(4, 8, 0.0, LINEAR))
    use_factored_norms(model)
    start_from_base(model)
    assert torch.equal(model(input_ids=IDS).logits, expected)


def test_kept_norms_follow_the_base_weights():
    model = policy()
    use_factored_norms(model)
    layer = adapter_layers(model)[0]
    variant, weight = layer.lora_variant["default"], layer.get_base_layer().weight
    first = variant.norms(layer, "default")
    with torch.no_grad():
        weight.mul_(2)  # in place
    second = variant.norms(layer, "default")
    assert not torch.allclose(first, second)
    weight.data = weight.data / 2  # another tensor
    assert torch.allclose(variant.norms(layer, "default"), first)


def test_kept_norms_are_not_those_of_a_weight_that_had_the_same_address():
    model = policy()
    use_factored_norms(model)
    layer = adapter_layers(model)[0]
    variant, weight, buffer = layer.lora_variant["default"], layer.get_base_layer().weight, bytearray(4 * 32 * 32)
    for factor in (1.0, 2.0):  # two tensors over the same memory, one after the other
        weight.data = torch.frombuffer(buffer, dtype=torch.float32).view(32, 32).fill_(factor)
        expected = row_norms(squared_norms(weight), weight, *factors(layer))
        assert torch.equal(variant.norms(layer, "default"), expected)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_keeps_no_norms(copied):
    model = policy()
    use_factored_norms(model)
    layer = adapter_layers(model)[0]
    variant = layer.lora_variant["default"]
    variant.norms(layer, "default")
    assert (copied(variant).of, copied(variant).fixed) == (None, None)
    assert variant.of is not None


def test_merged_rollouts_compute_no_norms_of_their_own(monkeypatch):
    """Neither of the copies, which have their norms already, nor of the base again afterwards."""
    calls = []
    monkeypatch.setattr("dora.squared_norms", lambda weight: calls.append(weight.shape) or squared_norms(weight))
    model = policy()
    use_factored_norms(model)
    model(input_ids=IDS)
    assert len(calls) == len(adapter_layers(model))
    with rollout_policy(model, "merge"):
        model(input_ids=IDS)
    model(input_ids=IDS)
    assert len(calls) == len(adapter_layers(model))


def test_fixed_norms_hold_for_the_context_only():
    model = policy()
    use_factored_norms(model)
    layer = adapter_layers(model)[0]
    variant = layer.lora_variant["default"]
    before = variant.norms(layer, "default")
    with fixed_norms(model):
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=1.0)
        assert torch.equal(variant.norms(layer, "default"), before)
    assert not torch.allclose(variant.norms(layer, "default"), before)


def test_layers_that_are_not_plain_keep_peft_s_variant():
    config = LoraConfig(use_dora=True, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    from transformers import GPT2Config, GPT2LMHeadModel

    model = get_peft_model(GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=97)), config)
    use_factored_norms(model)
    assert [type(v) for layer in adapter_layers(model) for v in layer.lora_variant.values()] == [DoraLinearVariant]
