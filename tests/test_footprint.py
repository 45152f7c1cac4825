"""Estimates against what small real runs allocate and compute on a CPU."""

from __future__ import annotations

import weakref
from dataclasses import replace

import pytest
from preflight_runs import GB, grpo, rows

from common import footprint, step_time
from common.model_shape import FAMILIES, shape_of
from trl_training import memory


def tiny(kind: str = "qwen2", **sizes):
    """(config, shape) of a small model of a family."""
    from transformers import AutoConfig

    given = {"num_hidden_layers": 3, "hidden_size": 128, "intermediate_size": 320, "num_attention_heads": 4}
    given |= {"num_key_value_heads": 2, "head_dim": 32, "vocab_size": 512, "pad_token_id": 0} | sizes
    config = AutoConfig.for_model(kind, **given, bos_token_id=1, eos_token_id=2)
    return config, shape_of(config.to_dict(), kind)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", FAMILIES)
def test_parameters_of_every_family_are_exact(kind, tied):
    from transformers import AutoModelForCausalLM

    config, shape = tiny(kind, tie_word_embeddings=tied)
    found = AutoModelForCausalLM.from_config(config)
    assert sum(parameter.numel() for parameter in found.parameters()) == shape.parameters
    linears = {
        name.rpartition(".")[2]: (module.in_features, module.out_features)
        for name, module in found.named_modules()
        if hasattr(module, "in_features") and "layers.0." in name
    }
    assert linears == shape.linears


def dora_model(shape_config, targets, dropout=0.0):
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    from adapters import adapter_config

    base = AutoModelForCausalLM.from_config(shape_config).to(torch.bfloat16)
    return get_peft_model(base, adapter_config(16, 16, dropout, targets))


def size_of(tensors) -> int:
    """Bytes of the storages of tensors, each storage once."""
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["all-linear"]])
def test_state_of_a_real_run_agrees(targets):
    """Weights, adapter, gradients, AdamW and merged or cached rollouts, in bytes that torch holds."""
    import torch

    from adapters import adapter_layers, rollout_policy

    config, shape = tiny()
    model = dora_model(config, targets)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    ids = torch.randint(3, 512, (2, 24))
    with torch.autocast("cpu", torch.bfloat16):
        model(input_ids=ids, labels=ids).loss.backward()
    gradients = size_of(parameter.grad for parameter in trained)
    optimizer.step()
    moments = size_of(v for one in optimizer.state.values() for k, v in one.items() if k.startswith("exp"))

    adapter = footprint.adapter_of(shape, 16, targets, dora=True, dropout=0.0)
    run = replace(grpo(), adapter=adapter)
    found = rows(memory.estimate(shape, run, 80 * GB))
    assert found["weights"]["update"] == size_of(p for p in model.parameters() if not p.requires_grad)
    assert found["adapter"]["update"] == size_of(trained)
    assert found["gradients"]["update"] == gradients
    assert found["AdamW"]["update"] == moments
    originals = [layer.get_base_layer().weight.data for layer in adapter_layers(model)]
    with rollout_policy(model, "merge"):
        held = size_of([*originals, *(layer.get_base_layer().weight.data for layer in adapter_layers(model))])
    assert found["merge: copies of targets"]["rollout"] == held - size_of(originals)  # 0 if merged in place
    with rollout_policy(model, "cache"), torch.no_grad():
        cached = model.generate(ids, max_new_tokens=2, do_sample=False, use_cache=True)
        assert cached.shape[1] > 24
        kept = size_of(
            value
            for module in model.modules()
            for value in getattr(module, "_dora_cache", {}).values()
            if isinstance(value, torch.Tensor)
        )
    estimate = memory.estimate(shape, replace(run, rollouts="cache"), 80 * GB)
    assert rows(estimate)["cache: copies of targets"]["rollout"] == pytest.approx(kept, rel=0.1)


def test_state_of_a_real_run_of_all_weights_agrees():
    """In float32, as --use_peft false needs without DeepSpeed."""
    import torch
    from transformers import AutoModelForCausalLM

    config, shape = tiny()
    model = AutoModelForCausalLM.from_config(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ids = torch.randint(3, 512, (2, 24))
    model(input_ids=ids, labels=ids).loss.backward()
    gradients = size_of(parameter.grad for parameter in model.parameters())
    optimizer.step()
    moments = size_of(v for one in optimizer.state.values() for k, v in one.items() if k.startswith("exp"))
    found = rows(memory.estimate(shape, grpo("--use_peft", "false", "--dtype", "float32"), 80 * GB))
    held = [size_of(model.parameters()), gradients, moments]
    assert [found[name]["update"] for name in ("weights", "gradients", "AdamW")] == held


def test_a_real_kv_cache_agrees():
    import torch
    from transformers import AutoModelForCausalLM

    config, shape = tiny()
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    with torch.no_grad():
        cache = model(input_ids=torch.randint(3, 512, (2, 40)), use_cache=True).past_key_values
    held = size_of(tensor for layer in cache.layers for tensor in (layer.keys, layer.values))
    assert held == 2 * 40 * footprint.cache_token(shape)


class Live:
    """The bytes of all tensors that live at once, in and below a `with` block; those named before do not count."""

    def __init__(self, *before) -> None:
        from torch.utils._python_dispatch import TorchDispatchMode
        from torch.utils._pytree import tree_iter

        outer = self
        self.now = self.peak = 0
        self.before = [tensor.untyped_storage() for tensor in before]
        self.sizes = {storage._cdata: 0 for storage in self.before}

        class Mode(TorchDispatchMode):
            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                out = function(*args, **(kwargs or {}))
                for tensor in tree_iter(out):
                    if hasattr(tensor, "untyped_storage"):
                        outer.add(tensor.untyped_storage())
                return out

        self.mode = Mode()

    def add(self, storage) -> None:
        if storage._cdata not in self.sizes:
            self.sizes[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.drop, storage._cdata)

    def drop(self, key) -> None:
        self.now -= self.sizes.pop(key, 0)


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["all-linear"], []])
def test_the_peak_of_a_real_update_agrees(targets, checkpointing):
    """Forward and backward below the LM head, with DoRA or all weights, within 15 %: CPU kernels are not a GPU's."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config, shape = tiny(num_hidden_layers=4, hidden_size=256, intermediate_size=1024, head_dim=64)
    model = dora_model(config, targets) if targets else AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    base = model.get_base_model() if targets else model
    if targets:
        base.enable_input_require_grads()
    if checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    ids, mask = torch.randint(3, 512, (2, 512)), torch.ones(2, 512, dtype=torch.long)
    mask[0, :3] = 0  # padding, so that keys and values are repeated as in GRPO
    live = Live(*model.parameters(), *model.buffers(), ids, mask)
    with live.mode:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = base.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        hidden.float().sum().backward()
    adapter = footprint.adapter_of(shape, 16, targets, dora=True, dropout=0.0) if targets else None
    expected = footprint.kept(shape, adapter, 1024, checkpointing)
    expected += footprint.backward(shape, adapter, 1024, checkpointing)
    assert expected == pytest.approx(live.peak, rel=0.15)


def test_trl_s_log_probabilities_take_a_tile():
    """trl's own function: nearly all is the tile, whatever the vocabulary, and the hidden states' float32 gradients."""
    import torch
    from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE, ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    assert (memory.TILE_TOKENS, memory.TILE_WORDS) == (TOKEN_CHUNK_SIZE, _CHUNKED_LOGPROB_CHUNK_SIZE)
    hidden = torch.randn(64, 32, dtype=torch.bfloat16, requires_grad=True)
    weight, targets = torch.randn(50, 32, dtype=torch.bfloat16), torch.randint(0, 50, (64,))
    live = Live(hidden, weight, targets)
    with live.mode:
        out = ChunkedLogProbFunction.apply(hidden, weight, None, targets, 1.0, memory.TILE_WORDS)[0]
        out.sum().backward()
    assert live.peak == pytest.approx(2 * 64 * memory.TILE_WORDS + 6 * 32 * 64, rel=0.1)


def test_verl_s_logits_take_what_is_counted(verl, monkeypatch):
    """verl's own log-probabilities of bf16 logits: 2 V t, and in an update 4 V t of float32 log-softmax, which CUDA's
    autocast computes (a CPU's does not). By hand, 64 tokens of 4,096 words: 6 x 64 x 4096 = 1,572,864 bytes. The
    entropy without torch.compile, which is not modelled, would take 10."""
    import torch
    from verl.utils import torch_functional

    log_softmax, softmax = torch.nn.functional.log_softmax, torch.nn.functional.softmax
    monkeypatch.setattr(torch.nn.functional, "log_softmax", lambda x, dim: log_softmax(x.float(), dim=dim))
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda x, dim: softmax(x.float(), dim=dim))
    monkeypatch.setattr(torch_functional, "FLAH_ATTN_CROSS_ENTROPY_LOSS_AVAILABLE", False)
    head, labels = torch.randn(4096, 32, dtype=torch.bfloat16), torch.randint(0, 4096, (64,))
    hidden = torch.randn(64, 32, dtype=torch.bfloat16, requires_grad=True)

    def peak(step) -> int:
        live = Live(head, hidden, labels)
        with live.mode:
            step()
        return live.peak

    def logits():
        return hidden @ head.T

    def log_probabilities():
        return torch_functional.logprobs_from_logits(logits(), labels)

    assert peak(lambda: log_probabilities().sum().backward()) == pytest.approx(1_572_864, rel=0.1)
    with torch.no_grad():
        assert peak(log_probabilities) == pytest.approx(2 * 64 * 4096, rel=0.1)
        assert peak(lambda: torch_functional.entropy_from_logits(logits())) == pytest.approx(10 * 64 * 4096, rel=0.1)


def kernels(run) -> int:
    """The operations that compute something: not those whose outputs are all views of an input."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    count = 0

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal count
            out = function(*args, **(kwargs or {}))
            outs = [one for one in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(one, torch.Tensor)]
            there = {one.untyped_storage()._cdata for one in args if isinstance(one, torch.Tensor)}
            is_view = outs and all(one.untyped_storage()._cdata in there for one in outs)
            count += not is_view or function.__name__.partition(".")[0].endswith("_")
            return out

    with Count():
        run()
    return count


@pytest.mark.parametrize("how", [None, "merge", "cache", "stock"])
def test_the_kernels_of_a_token_are_counted(how):
    import torch
    from transformers import AutoModelForCausalLM

    from adapters import rollout_policy

    def decode(layers: int):
        config, _ = tiny(num_hidden_layers=layers)
        model = dora_model(config, ["q_proj", "v_proj"]) if how else AutoModelForCausalLM.from_config(config).bfloat16()
        ids, mask = torch.randint(3, 512, (2, 24)), torch.ones(2, 26, dtype=torch.long)
        mask[0, :3] = 0  # padding, as in GRPO

        counted: list[int] = []
        with rollout_policy(model.eval(), how or "stock"), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            cache = model(input_ids=ids, attention_mask=mask[:, :24], use_cache=True).past_key_values
            for length in (25, 26):  # with `cache`, the first computes what later ones reuse
                token = {"input_ids": ids[:, :1], "attention_mask": mask[:, :length], "past_key_values": cache}
                counted.append(kernels(lambda token=token: model(**token, use_cache=True)))
        return counted[-1]

    found = decode(3) - decode(2)
    assert found == step_time.FORWARD + 2 * step_time.DORA_FORWARD[how or "merge"]


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["all-linear"], []])
def test_the_kernels_of_an_update_are_counted(targets, checkpointing):
    """Within 5 %."""
    import torch
    from transformers import AutoModelForCausalLM

    def update(layers: int):
        config, _ = tiny(num_hidden_layers=layers)
        model = dora_model(config, targets) if targets else AutoModelForCausalLM.from_config(config).bfloat16()
        base = model.get_base_model() if targets else model
        if targets:
            base.enable_input_require_grads()
        if checkpointing:
            base.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
        ids, mask = torch.randint(3, 512, (2, 24)), torch.ones(2, 24, dtype=torch.long)
        mask[0, :3] = 0

        def step():
            with torch.autocast("cpu", torch.bfloat16):
                hidden = base.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            hidden.float().sum().backward()

        return kernels(step)

    adapter = footprint.adapter_of(tiny()[1], 16, targets, dora=True, dropout=0.0) if targets else None
    assert step_time.update_kernels(adapter, checkpointing) == pytest.approx(update(3) - update(2), rel=0.05)
