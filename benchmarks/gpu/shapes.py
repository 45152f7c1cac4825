"""The two models that are measured, both with random weights, and how much of each measurement they get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from adapters import adapter_config


@dataclass(frozen=True)
class Shape:
    """A model and the sizes of the measurements."""

    model: dict[str, int]
    copied: int  # float32 numbers of the memory copy
    side: int  # of the matrix product
    prompt: int  # tokens
    decoded: int  # tokens of a timed generation
    long: int  # tokens of the longest generation
    scored: int  # completion tokens of the comparison of policies
    updates: tuple[int, ...]  # completion tokens of an update
    completion: int  # max_completion_length of the trainer


# fmt: off
SHAPES = {
    "7b": Shape(  # Qwen2.5-Coder-7B (its config.json); prompts of data/train.jsonl have about 230 tokens
        model={
            "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944,
            "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
        },
        copied=2**30, side=8192, prompt=230, decoded=128, long=1024, scored=300, updates=(400, 1024), completion=256,
    ),
    "tiny": Shape(  # the same code on a CPU
        model={
            "vocab_size": 8000, "hidden_size": 128, "intermediate_size": 256,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        },
        copied=2**22, side=256, prompt=20, decoded=16, long=24, scored=20, updates=(20,), completion=12,
    ),
}
# fmt: on
Q_AND_V, ALL_LINEAR = ("q_proj", "v_proj"), ("all-linear",)


def build(shape: Shape, device: torch.device, seed: int) -> Any:
    """A Qwen2 with random weights in bf16, made on the device."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    special = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
    config = Qwen2Config(
        **shape.model, **special, max_position_embeddings=4096, tie_word_embeddings=False, attn_implementation="sdpa"
    )
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            return Qwen2ForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)


def adapt(
    model: Any,
    targets: Sequence[str] = Q_AND_V,
    *,
    use_dora: bool = True,
    dropout: float = 0.01,
    factored: bool = True,
) -> Any:
    """The model with the paper's adapter, moved away from zero: an untrained one would change nothing.

    `factored`: DoRA with src/dora.py, as in every run; otherwise with peft's own norms.
    """
    from peft import get_peft_model

    from dora import use_factored_norms

    policy = get_peft_model(model, adapter_config(64, 64, dropout, list(targets), use_dora=use_dora))
    if factored:
        use_factored_norms(policy)
    move(policy, 0.002)
    return policy


@torch.no_grad()
def move(policy: Any, deviation: float) -> None:
    """Draw the adapter's lora_B again, with this standard deviation."""
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.normal_(0, deviation)
