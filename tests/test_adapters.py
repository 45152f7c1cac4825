"""DoRA rollouts: the policy that samples is the one that is scored, and the base weights stay, bit for bit."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft import get_peft_model

from adapters import (
    GENERATION_MODES,
    adapter_config,
    adapter_layers,
    base_weights_kept,
    check_base,
    find_adapter,
    initial_adapter,
    load_merged,
    merged_copies,
    rollout_policy,
    start_from_base,
)
from common.errors import InputError
from common.models import load_base, refuse_unusable


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


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["q_proj"], {"q_proj"}),
        ("q_proj", {"q_proj"}),  # trl makes a text of a list of one, and peft takes it for a pattern of whole names
        (("k_proj", "v_proj"), {"k_proj", "v_proj"}),
        (["all-linear"], "all-linear"),
        ("all-linear", "all-linear"),
        (r".*\.(q|k)_proj", r".*\.(q|k)_proj"),
    ],
)
def test_target_modules(targets, expected):
    assert adapter_config(target_modules=targets).target_modules == expected


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            ["foo"],
            "lora_target_modules foo: .* has down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, ",
        ),
        (["q_proj", "nope"], "lora_target_modules nope: "),  # peft is content with one that matches
        (["q_proj", "mlp"], "lora_target_modules: not usable in .*random.*: "),
        (["layers"], "lora_target_modules: not usable in .*random.*: "),
        ("foo.*", "lora_target_modules: not usable in .*random.*: "),
    ],
)
def test_targets_that_the_model_lacks_are_refused(random_model, targets, message):
    with pytest.raises(InputError, match=f"^{message}") as stopped:
        check_base(str(random_model), adapter_config(target_modules=targets))
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize("settings", [{"do_sample": False, "temperature": 0.9}, {"do_sample": False, "top_p": 0.6}])
def test_a_generation_configuration_that_contradicts_itself_can_be_saved(random_model, tmp_path, settings):
    """As Llama 2's: transformers loads it with a warning, and would refuse to save it after the training."""
    shutil.copytree(random_model, tmp_path / "model")
    eos = load_base(str(random_model), torch.float32).generation_config.eos_token_id
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": eos}))
    model = load_base(str(tmp_path / "model"), torch.float32)
    model.save_pretrained(tmp_path / "saved")
    assert load_base(str(tmp_path / "saved"), torch.float32).generation_config.eos_token_id == eos


def damaged(model, tmp_path, name: str, content: bytes | None):
    """A copy of a model with one file replaced, or removed."""
    folder = tmp_path / "damaged"
    shutil.copytree(model, folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "config.json is missing"),
        ("config.json", b"", "config.json: "),
        ("config.json", b'{"a":', "config.json: not JSON"),
        ("config.json", b"[1]", "config.json: "),
        ("config.json", b"{}", "config.json: model_type: "),
        ("config.json", b'{"model_type": "nonesuch"}', "cannot be loaded: "),
        ("model.safetensors", None, "cannot be loaded: "),
        ("model.safetensors", b"", "cannot be loaded: "),
        ("model.safetensors", b"junk", "cannot be loaded: Error while deserializing header"),
        ("model.safetensors", (2).to_bytes(8, "little") + b"{}", "its files lack lm_head.weight (39 such weights)"),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"device_map": "meta"}], ids=["whole", "headers"])
def test_a_damaged_model_is_one_line(random_model, tmp_path, name, content, message, settings):
    """transformers fills missing weights with random numbers, and only warns."""
    folder = damaged(random_model, tmp_path, name, content)
    with pytest.raises(InputError) as stopped:
        load_base(str(folder), torch.float32, **settings)
    assert message in str(stopped.value)
    assert "\n" not in str(stopped.value)


def test_what_is_not_a_model(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"model .*file: is a file; expected a model's folder$"):
        refuse_unusable(str(tmp_path / "file"))
    for path in (tmp_path / "absent", "./absent", "runs/no/such"):
        with pytest.raises(InputError, match=r": no such folder$"):
            refuse_unusable(str(path))
    refuse_unusable("Qwen/Qwen2.5-Coder-7B-Instruct")  # a name on the hub
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="an adapter, not a model: merge it with its base first"):
        refuse_unusable(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("adapter_config.json", b"{", "adapter_config.json: not JSON"),
        ("adapter_config.json", b"[]", "adapter_config.json: "),
        ("adapter_model.safetensors", None, "adapter_model.safetensors: no such file"),
        ("adapter_model.safetensors", b"junk", "damaged or cut short: Error while deserializing header"),
        (
            "adapter_model.safetensors",
            (2).to_bytes(8, "little") + b"{}",
            "cannot be loaded: Found missing adapter keys",
        ),
    ],
)
def test_a_damaged_adapter_is_one_line(random_model, tmp_path, name, content, message):
    initial_adapter(str(random_model), adapter_config(2, 2), tmp_path / "adapter", seed=0)
    folder = damaged(tmp_path / "adapter", tmp_path, name, content)
    with pytest.raises(InputError) as stopped:
        load_merged(str(random_model), find_adapter(folder))
    assert message in str(stopped.value)
    assert "\n" not in str(stopped.value)
