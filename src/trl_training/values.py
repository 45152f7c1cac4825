"""Which values the keys of a trl run take. trl, peft and torch check most of them after the model has loaded, or never:
top_p 2, beta -1 and learning_rate inf train without a message."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common.errors import InputError

ABOVE_ZERO = "above 0"
AT_LEAST_ZERO = "at least 0"
SHARE = "in 0..1"
BELOW_ONE = "at least 0 and below 1"
COUNT = "at least 1"
RANGES = {
    ABOVE_ZERO: lambda value: value > 0,
    AT_LEAST_ZERO: lambda value: value >= 0,
    SHARE: lambda value: 0 <= value <= 1,
    BELOW_ONE: lambda value: 0 <= value < 1,
    COUNT: lambda value: value >= 1,
    "at least 2": lambda value: value >= 2,
    "above 0 and at most 1": lambda value: 0 < value <= 1,
    "at least 1, or -1 to count epochs": lambda value: value >= 1 or value == -1,
    "in 0..4294967295": lambda value: 0 <= value < 2**32,  # numpy's seeds
}
NUMBERS = {  # key -> its range; a key that is null or that the script does not have is skipped
    **dict.fromkeys(("per_device_train_batch_size", "gradient_accumulation_steps", "max_completion_length"), COUNT),
    **dict.fromkeys(("max_prompt_length", "max_target_length", "max_length", "lora_r", "lora_alpha", "check"), COUNT),
    **dict.fromkeys(("prompts_per_step", "examples_per_step", "num_iterations", "steps_per_generation"), COUNT),
    **dict.fromkeys(("vllm_max_model_length", "vllm_tensor_parallel_size", "ddp_timeout"), COUNT),
    **dict.fromkeys(("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps", "adam_epsilon"), AT_LEAST_ZERO),
    **dict.fromkeys(("beta", "epsilon", "epsilon_high", "top_k", "print_samples", "save_total_limit"), AT_LEAST_ZERO),
    **dict.fromkeys(("temperature", "repetition_penalty", "delta", "num_train_epochs", "save_steps"), ABOVE_ZERO),
    **dict.fromkeys(("logging_steps",), ABOVE_ZERO),
    **dict.fromkeys(("lora_dropout", "adam_beta1", "adam_beta2"), BELOW_ONE),
    **dict.fromkeys(("min_p", "top_entropy_quantile"), SHARE),
    **dict.fromkeys(("top_p", "vllm_gpu_memory_utilization"), "above 0 and at most 1"),
    **dict.fromkeys(("seed", "data_seed"), "in 0..4294967295"),
    "num_generations": "at least 2",
    "max_steps": "at least 1, or -1 to count epochs",
}
LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo")  # trl 1.16, GRPOTrainer._compute_loss
CHOICES = {  # key -> its values; trl checks them when the trainer computes the first loss
    "scale_rewards": ("group", "batch", "none"),
    "eval_strategy": ("no",),  # the trainers here get no evaluation data
    "vllm_mode": ("server", "colocate"),
}


def check_values(values: Mapping[str, Any]) -> None:
    """Raise InputError, which names the first key whose value is out of its range."""
    for key, value in values.items():
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise InputError(f"{key} {value}: must be finite")
        if isinstance(value, str) and key.endswith("_kwargs"):
            raise InputError(f"{key} {value!r}: expected a JSON object")
    for key, expected in NUMBERS.items():
        value = values.get(key)
        if value is not None and not RANGES[expected](value):
            raise InputError(f"{key} {value}: must be {expected}")
    choices = {**CHOICES, "report_to": trackers()} | ({"loss_type": LOSSES} if "num_generations" in values else {})
    for key, known in choices.items():
        given = values.get(key)
        for value in given if isinstance(given, list) else [given]:
            if value is not None and str(getattr(value, "value", value)) not in known:
                raise InputError(f"{key} {value}: choose from {', '.join(known)}")
    check_attention(values["attn_implementation"])
    optimizer = str(getattr(values["optim"], "value", values["optim"]))
    if "8bit" in optimizer and "torch" not in optimizer and find_spec("bitsandbytes") is None:
        raise InputError(f"optim {optimizer}: bitsandbytes is not installed")
    folder = values["output_dir"]
    if folder is not None and (not folder or Path(folder).is_file()):
        raise InputError(f"output_dir {folder!r}: must name a folder")


def trackers() -> tuple[str, ...]:
    """What report_to may name."""
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    return ("none", "all", *sorted(INTEGRATION_TO_CALLBACK))


def check_attention(name: str | None) -> None:
    """Raise InputError for a name that is neither transformers' own nor a kernel on the hub (OWNER/NAME)."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    known = ("eager", "sdpa", *sorted(set(ALL_ATTENTION_FUNCTIONS.keys()) - {"eager", "sdpa"}))
    if name is not None and "/" not in name and name.removeprefix("paged|") not in known:
        raise InputError(f"attn_implementation {name}: choose from {', '.join(known)}")
