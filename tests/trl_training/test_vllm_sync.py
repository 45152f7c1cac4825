"""The weights that vLLM gets are peft's own merge of DoRA, and the trainer's own weights survive the sync.

Real: the trainer, trl's VLLMGeneration (its walk over the parameters, its merge, its calls in both modes), peft.
Replaced: vLLM, by a transformers model that takes the weights by name, and samples and scores with them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from trainers import build
from transformers import AutoModelForCausalLM

LENGTH = 6  # tokens of a completion
Tensors = dict[str, torch.Tensor]


class Engine:
    """What both modes need of vLLM. `syncs` gets the tensors of each sync."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()  # float32
        self.syncs: list[Tensors] = []
        self.at_reset: Callable[[], None] = lambda: None

    def load(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        own = dict(self.model.named_parameters())
        for name, tensor in tensors:
            own[name].data.copy_(tensor)  # KeyError: a name that vLLM does not know
            self.syncs[-1][name] = tensor.clone()

    def reset_prefix_cache(self) -> None:
        self.at_reset()

    def sample(self, prompt: list[int]) -> tuple[list[int], list[float]]:
        """A completion and its tokens' log-probabilities, at temperature 1 without filters."""
        ids = torch.tensor([prompt])
        with torch.no_grad():
            drawing = {"do_sample": True, "top_k": 0, "min_new_tokens": LENGTH, "max_new_tokens": LENGTH}
            all_ids = self.model.generate(ids, attention_mask=torch.ones_like(ids), **drawing)
            scores = self.model(all_ids).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
        completion = all_ids[0, len(prompt) :]
        return completion.tolist(), scores.gather(1, completion[:, None])[:, 0].tolist()


class Colocated(Engine):
    """vllm.LLM, as far as trl uses it: it loads each weight at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        worker = SimpleNamespace(model_runner=SimpleNamespace(model=self))
        self.llm_engine = SimpleNamespace(model_executor=SimpleNamespace(driver_worker=worker))
        self.syncs.append({})

    def load_weights(self, tensors: list[tuple[str, torch.Tensor]]) -> None:
        self.load(tensors)

    def reset_prefix_cache(self) -> None:
        super().reset_prefix_cache()
        self.syncs.append({})

    def generate(self, prompts: list[dict[str, Any]], sampling_params: Any, use_tqdm: bool) -> list[SimpleNamespace]:
        found = []
        for prompt in prompts:
            tokens, logprobs = self.sample(prompt["prompt_token_ids"])
            ranked = [{t: SimpleNamespace(rank=1, logprob=p)} for t, p in zip(tokens, logprobs, strict=True)]
            output = SimpleNamespace(token_ids=tokens, logprobs=ranked)
            found.append(SimpleNamespace(prompt_token_ids=prompt["prompt_token_ids"], outputs=[output]))
        return found


class Server(Engine):
    """trl's VLLMClient: it packs up to a gigabyte (vllm's pack_tensors), here everything, before it reads any value."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.metadata: list[tuple[str, str, list[int]]] = []

    def get_server_info(self) -> dict[str, Any]:
        return {"model_config": {"logprobs_mode": "processed_logprobs"}}

    def update_named_params(self, metadata: list, tensors: Iterator[tuple[str, torch.Tensor]]) -> None:
        self.metadata = metadata
        self.syncs.append({})
        self.load(list(tensors))

    def generate(self, prompts: list[list[int]], n: int, **_: Any) -> dict[str, list]:
        drawn = [self.sample(prompt) for prompt in prompts for _ in range(n)]
        return {
            "prompt_ids": prompts,
            "completion_ids": [tokens for tokens, _ in drawn],
            "logprobs": [[[p] for p in logprobs] for _, logprobs in drawn],
        }


def merged(model: Any, dtype: torch.dtype) -> Tensors:
    """peft's own merge of a copy of the policy, computed in `dtype`."""
    whole = copy.deepcopy(model).to(dtype).merge_and_unload()
    return {name: value.detach() for name, value in whole.named_parameters()}


def base_weights(model: Any) -> Tensors:
    return {name: value.clone() for name, value in model.named_parameters() if not value.requires_grad}


def moved(trainer: Any) -> None:
    """Give the adapter values as after many steps: at the start B is 0, and merging changes nothing."""
    torch.manual_seed(1)
    for name, value in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.05)
        elif "magnitude" in name:
            value.data *= 1 + 0.1 * torch.rand_like(value)


def trainer_with(engine: Engine, folder: Path, out: Path, monkeypatch, mode: str, **keys: Any) -> Any:
    from trl.generation import vllm_generation

    def start(self: Any) -> None:
        setattr(self, "llm" if mode == "colocate" else "vllm_client", engine)

    monkeypatch.setattr(vllm_generation.VLLMGeneration, "_init_vllm", start)
    monkeypatch.setattr(vllm_generation, "SamplingParams", SimpleNamespace, raising=False)
    keys = {"beta": 0.0, "gradient_checkpointing": False, "learning_rate": 1e-3, "logging_steps": 1, **keys}
    trainer = build(folder, out, use_vllm=True, vllm_mode=mode, max_completion_length=LENGTH, dropout=0.0, **keys)
    moved(trainer)
    return trainer


@pytest.mark.parametrize("mode", ["colocate", "server"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_vllm_gets_peft_s_merge_and_the_base_stays(mode, dtype, random_model, tmp_path, monkeypatch):
    engine = (Colocated if mode == "colocate" else Server)(random_model)
    keys = {"max_steps": 2, "model_init_kwargs": {"dtype": dtype}}
    trainer = trainer_with(engine, random_model, tmp_path, monkeypatch, mode, **keys)
    before, expected, policies = base_weights(trainer.model), [], []
    generate = type(trainer)._generate_single_turn

    def look(self: Any, *args: Any, **kwargs: Any) -> Any:
        expected.append(merged(self.model, torch.float32))
        found = generate(self, *args, **kwargs)
        assert all(torch.equal(before[name], value) for name, value in base_weights(self.model).items())  # bit for bit
        policies.append({n: v.clone() for n, v in self.model.named_parameters() if v.requires_grad})
        return found

    monkeypatch.setattr(type(trainer), "_generate_single_turn", look)
    trainer.train()

    syncs = [sync for sync in engine.syncs if sync]
    assert len(syncs) == len(expected) == 2
    assert any(not torch.equal(policies[0][name], policies[1][name]) for name in policies[0])  # the second is another
    plain = dict(AutoModelForCausalLM.from_pretrained(random_model).named_parameters())
    for sync, merge in zip(syncs, expected, strict=True):
        assert list(sync) == list(plain)  # every parameter of a checkpoint once, the tied one too, and no other
        for name, tensor in sync.items():
            assert tensor.dtype == getattr(torch, dtype)
            near = {"rtol": 1e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 2**-7, "atol": 1e-6}  # 1 bf16 unit
            assert torch.allclose(tensor.float(), merge[name], **near), name
            adapted = "q_proj.weight" in name or "v_proj.weight" in name
            assert torch.equal(tensor, plain[name].to(tensor.dtype)) != adapted, name
    if mode == "server":
        assert engine.metadata == [(name, dtype, list(value.shape)) for name, value in plain.items()]
    # vLLM sampled from the policy that is trained: pi_trainer / pi_vllm of a completion is 1, but for rounding
    ratios = [row["sampling/importance_sampling_ratio/mean"] for row in trainer.state.log_history if "loss" in row]
    assert ratios == pytest.approx([1, 1], abs=1e-4 if dtype == "float32" else 0.2)


def test_a_server_would_get_lora_without_the_adapter(random_model, tmp_path, monkeypatch):
    """Why src/grpo.py refuses it: peft subtracts LoRA in place at the end of trl's walk, before vLLM packs the rest."""
    engine = Server(random_model)
    trainer = trainer_with(engine, random_model, tmp_path, monkeypatch, "server", use_dora=False)
    expected = merged(trainer.model, torch.float32)
    trainer.vllm_generation.sync_weights()
    wrong = [name for name, tensor in engine.syncs[0].items() if not torch.allclose(tensor, expected[name], atol=1e-5)]
    assert len(wrong) == 6  # q and v of 3 layers
