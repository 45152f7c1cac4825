"""Which values the keys of a trl run take. trl, peft and torch check most of them after the model has loaded, or never:
top_p 2, beta -1 and learning_rate inf train without a message."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from adapters import GENERATION_MODES
from common.errors import InputError
from common.ranges import BELOW_ONE, COUNT, POSITIVE, SEED, SHARE, UNSIGNED, Range
from common.rows import loads
from prompts import WORDINGS
from records import BAD_ROWS, SURROGATE

NUMBERS = {  # range -> its keys; a key that is null or that the script does not have is skipped
    COUNT: (
        *("per_device_train_batch_size", "gradient_accumulation_steps", "max_completion_length", "max_prompt_length"),
        *("max_target_length", "max_length", "lora_r", "lora_alpha", "check", "prompts_per_step", "examples_per_step"),
        *("num_iterations", "steps_per_generation", "updates_per_generation", "overlong_buffer"),
        *("vllm_max_model_length", "vllm_tensor_parallel_size", "ddp_timeout", "ref_model_sync_steps"),
    ),
    UNSIGNED: (
        *("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps", "adam_epsilon", "beta", "epsilon"),
        *("epsilon_high", "top_k", "print_samples", "save_total_limit"),
    ),
    POSITIVE: (*("temperature", "repetition_penalty", "delta", "num_train_epochs", "save_steps", "logging_steps"),),
    BELOW_ONE: ("lora_dropout", "adam_beta1", "adam_beta2"),
    SHARE: ("top_p", "vllm_gpu_memory_utilization"),
    SEED: ("seed", "data_seed"),
    Range(0, 1): ("min_p", "top_entropy_quantile"),
    Range(2): ("num_generations",),
    Range(1, also=-1): ("max_steps",),  # -1: epochs count
}
CHOICES = {  # key -> its values; trl checks its own when the trainer computes the first loss
    "bad_rows": BAD_ROWS,
    "prompt": tuple(WORDINGS),
    "dora_generation": GENERATION_MODES,
    "dora_norm": ("factored", "peft"),
    "rollouts": ("auto", "shared", "transformers", "compiled"),
    "scale_rewards": ("group", "batch", "none"),
    "eval_strategy": ("no",),  # the trainers here get no evaluation data
    "vllm_mode": ("server", "colocate"),
    "save_strategy": ("no", "steps", "epoch"),  # best: by evaluation
    "assistant_only_loss": ("False",),  # of trl's own chat format
}
OF_GRPO = {
    # trl 1.16, GRPOTrainer._compute_loss
    "loss_type": ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"),
    "importance_sampling_level": ("token", "sequence"),
    "remove_unused_columns": ("False",),  # the rewards and rollouts.jsonl need them
}
OWN_KEYS = ("dtype", "torch_dtype", "revision", "attn_implementation", "device_map")  # not of model_init_kwargs


def check_values(values: Mapping[str, Any]) -> None:
    """Raise InputError, which names the first key whose value is out of its range."""
    for key, value in values.items():
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise InputError(f"{key} {value}: must be finite")
        if isinstance(value, str) and key.endswith("_kwargs"):
            read_object(key, value)
        if isinstance(value, str) and SURROGATE.search(value):
            raise InputError(f"{key}: not UTF-8 text")
    for accepted, keys in NUMBERS.items():
        for key in keys:
            if (value := values.get(key)) is not None and value not in accepted:
                raise InputError(f"{key} {value}: must be {accepted}")
    for key, known in choices(is_grpo="num_generations" in values).items():
        given = values.get(key)
        for value in given if isinstance(given, list) else [given]:
            is_kernel = key == "attn_implementation" and "/" in str(value)  # on the hub: OWNER/NAME
            if value is not None and not is_kernel and str(getattr(value, "value", value)) not in known:
                raise InputError(f"{key} {value}: choose from {', '.join(known)}")
    check_together(values)
    folder = values["output_dir"]
    if folder is not None and (not folder or Path(folder).is_file()):
        raise InputError(f"output_dir {folder!r}: must name a folder")


def check_together(values: Mapping[str, Any]) -> None:
    """Keys whose values depend on each other."""
    trackers = values["report_to"]
    if isinstance(trackers, list) and "none" in trackers and len(trackers) > 1:
        raise InputError(f"report_to {' '.join(trackers)}: none stands alone")
    if values.get("sync_ref_model") and (values["use_peft"] or not values["beta"]):
        raise InputError("sync_ref_model true: needs beta above 0 and use_peft false: else there is no reference model")
    for name in values["lora_target_modules"] or ():
        if re.fullmatch(r"[\w.]+(,[\w.]*)+", name):
            raise InputError(f"lora_target_modules {name}: separate the names by spaces, or list them in the YAML")
    loading = values["model_init_kwargs"] or {}
    loading = read_object("model_init_kwargs", loading) if isinstance(loading, str) else loading
    if own := [key for key in OWN_KEYS if key in loading]:
        raise InputError(f"model_init_kwargs: {own[0]}: set dtype, model_revision or attn_implementation instead")


def read_object(key: str, text: str) -> dict[str, Any]:
    """The JSON object that transformers will read from a key's text. Raises InputError."""
    try:
        found = loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{key} {text!r}: expected a JSON object")
    return found


def choices(*, is_grpo: bool) -> dict[str, Collection[str]]:
    """Key -> its values, with those that transformers lists."""
    from transformers.generation.configuration_utils import ALL_CACHE_IMPLEMENTATIONS
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    listed: dict[str, Collection[str]] = {
        "report_to": ("none", "all", *sorted(INTEGRATION_TO_CALLBACK)),
        "cache_implementation": ALL_CACHE_IMPLEMENTATIONS,
        "attn_implementation": tuple(dict.fromkeys(("eager", "sdpa", *sorted(ALL_ATTENTION_FUNCTIONS.keys())))),
    }
    return {**CHOICES, **listed, **(OF_GRPO if is_grpo else {})}
