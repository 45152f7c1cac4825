"""Small random models of several families, with weights and biases large enough that they matter."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

SIZE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 97,
    "max_position_embeddings": 256,
}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
OWN = {"mistral": {"sliding_window": None}}


# One layer of each is enough: hidden size, MLP, query and key heads of Qwen2.5-Coder.
REAL_SIZES = {"0.5B": (896, 4864, 14, 2), "1.5B": (1536, 8960, 12, 2), "7B": (3584, 18944, 28, 4)}


def real_layer(name: str) -> Any:
    """A model with one layer of this size and a small vocabulary, in eval mode, float32 (7B: 0.9 GB)."""
    torch.manual_seed(0)
    hidden, mlp, heads, key_heads = REAL_SIZES[name]
    config = AutoConfig.for_model(
        "qwen2",
        hidden_size=hidden,
        intermediate_size=mlp,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        num_hidden_layers=1,
        vocab_size=97,
    )
    return AutoModelForCausalLM.from_config(config).eval()


def small_model(family: str, **settings: Any) -> Any:
    """A model of the family in eval mode, float32."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZE, **TOKENS, **OWN.get(family, {}), **settings)
    model = AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 or name.endswith(".bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return model
