"""Small random models of several families, with weights large enough that attention matters."""

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


def small_model(family: str, **settings: Any) -> Any:
    """A model of the family in eval mode, float32."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZE, **TOKENS, **OWN.get(family, {}), **settings)
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model
