"""The base model as a trl run asks for it: tokenizer, settings for from_pretrained, adapter."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

import prompts
from adapters import adapter_config


def load_tokenizer(model: Any, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """The base model's tokenizer, its chat template untouched, padding on the left as generation needs."""
    tokenizer = prompts.load_tokenizer(
        model.model_name_or_path,
        revision=model.model_revision,
        trust_remote_code=trust_remote_code,
        padding_side="left",
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def model_kwargs(model: Any) -> dict[str, Any]:
    """What trl passes to from_pretrained, from ModelConfig."""
    kwargs = {"revision": model.model_revision, "dtype": model.dtype, "attn_implementation": model.attn_implementation}
    return {key: value for key, value in kwargs.items() if value is not None}


def peft_config(model: Any) -> Any:
    """The adapter that ModelConfig asks for, or None for full fine-tuning."""
    if not model.use_peft:
        return None
    return adapter_config(
        model.lora_r, model.lora_alpha, model.lora_dropout, model.lora_target_modules, use_dora=model.use_dora
    )
