"""The keys of a GRPO or SFT configuration that decide memory and time, read without trl's trainers.

src/grpo.py and src/sft.py check every key, but only on the machine that trains; preflight describes other machines too.
The names of all keys are trl's, so a misspelt one is rejected here as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import fields
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from adapters import GENERATION_MODES, RELEASED_TARGETS
from common.cli import unknown_key
from common.errors import InputError
from common.footprint import BF16, FLOAT32, adapter_of
from common.model_shape import NotModelled, Shape
from common.rows import typed
from common.settings import read_yaml
from trl_training.arguments import DataArguments, plan_batch
from trl_training.memory import Run, Vllm

# The keys that src/grpo.py and src/sft.py add to trl's; a test compares them.
GRPO_KEYS = ("reward", "prompts_per_step", "updates_per_generation", "overlong_buffer", "dora_generation")
OWN_KEYS = {"grpo": (*GRPO_KEYS, "print_samples"), "sft": ("examples_per_step",)}
SIZES = {"float32": FLOAT32, "bfloat16": BF16, "float16": BF16}


class Keys(BaseModel):
    """The keys that are read here; the defaults are trl's, which a test compares, and those of src/grpo.py."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())
    model_name_or_path: str
    model_revision: str = "main"
    dtype: str | None = "float32"
    data: str = ""
    bad_rows: str = "stop"
    output_dir: str | None = None
    use_cpu: bool = False
    # adapter
    use_peft: bool = False
    use_dora: bool = False
    lora_r: int = Field(16, gt=0)
    lora_dropout: float = 0.05
    lora_target_modules: list[str] | str | None = None
    # batch and lengths
    per_device_train_batch_size: int = Field(8, gt=0)
    gradient_accumulation_steps: int = Field(1, gt=0)
    prompts_per_step: int | None = None
    examples_per_step: int | None = None
    num_generations: int = Field(8, gt=0)
    updates_per_generation: int = Field(1, gt=0)
    steps_per_generation: int | None = None
    num_iterations: int = 1
    max_prompt_length: int = 2048
    max_completion_length: int = 512
    max_length: int | None = 1024
    # method
    gradient_checkpointing: bool = True
    beta: float = 0.0
    dora_generation: str = "merge"
    use_vllm: bool = False
    vllm_mode: str = "colocate"
    vllm_gpu_memory_utilization: float = 0.3
    vllm_enable_sleep_mode: bool = False
    vllm_tensor_parallel_size: int = 1
    vllm_max_model_length: int | None = None
    vllm_importance_sampling_correction: bool = True
    optim: str = "adamw_torch_fused"
    deepspeed: str | None = None
    fsdp: str | None = None
    # duration
    max_steps: int = -1
    num_train_epochs: float = 3.0
    save_strategy: str = "steps"
    save_steps: float = 500
    save_total_limit: int | None = None


def flag_values(flags: Sequence[str]) -> dict[str, Any]:
    """`--key value`, `--key=value`, `--key a b` (a list), `--key` (true) and `--no_key` (false), in trl's spellings.

    Raises InputError for anything else.
    """
    values: dict[str, Any] = {}
    key = ""
    for word in flags:
        if word.startswith("--"):
            key, equals, value = word.removeprefix("--").partition("=")
            key = key.replace("-", "_")
            values[key] = value if equals else True
        elif not key:
            raise InputError(f"unexpected argument {word!r}")
        elif values[key] is True:
            values[key] = word
        else:
            values[key] = [*(values[key] if isinstance(values[key], list) else [values[key]]), word]
    switched_off = [key for key, value in values.items() if key.startswith("no_") and value is True]
    for key in switched_off:
        del values[key]
        values[key.removeprefix("no_")] = False
    return values


def trainer_of(config: Mapping[str, Any]) -> str:
    """grpo or sft: which trainer a configuration is for, by keys that only GRPO has."""
    return "grpo" if {"num_generations", "reward", "prompts_per_step", "max_completion_length"} & set(config) else "sft"


def known_keys(trainer: str) -> set[str]:
    """Every key of the trainer's configuration."""
    import trl

    classes = [getattr(trl, {"grpo": "GRPOConfig", "sft": "SFTConfig"}[trainer]), trl.ModelConfig, DataArguments]
    return {key.name for one in classes for key in fields(one)} | set(OWN_KEYS[trainer])


def read_keys(config: str | None, flags: Sequence[str], trainer: str | None = None) -> tuple[str, Keys]:
    """(trainer, keys) of a YAML file and flags, which win. Raises InputError."""
    from_file = {setting.key: setting.value for setting in read_yaml(config)} if config else {}
    given = flag_values(flags)
    trainer = trainer or trainer_of(from_file | given)
    known = known_keys(trainer)
    for where, keys in ((f"{config}: ", from_file), ("", given)):
        if unknown := [key for key in keys if key not in known]:
            raise InputError(f"{where}{unknown_key(unknown[0], known)}")
    values = from_file | given
    if isinstance(values.get("dtype"), str) and values["dtype"] == "auto":
        values["dtype"] = "bfloat16"  # what the checkpoints of the families modelled here are stored in
    return trainer, typed(Keys, values, config or "flags", whole="")


def refuse(keys: Keys, zero: int) -> None:
    """Raise NotModelled for settings that would make the estimate wrong."""
    if keys.use_cpu:
        raise NotModelled("use_cpu true: a run on the CPU is not modelled")
    if keys.deepspeed or keys.fsdp or zero not in (0, 2):
        raise NotModelled("only DDP and ACCELERATE=zero2 are modelled, not other DeepSpeed settings or FSDP")
    if not keys.optim.startswith("adamw_torch"):
        raise NotModelled(f"optim {keys.optim} is not modelled, only adamw_torch and adamw_torch_fused")
    if keys.steps_per_generation is not None or keys.num_iterations != 1:
        raise NotModelled("steps_per_generation and num_iterations are not modelled, only updates_per_generation")
    if keys.dtype not in SIZES:
        raise NotModelled(f"dtype {keys.dtype} is not modelled, only {', '.join(SIZES)}")
    if keys.dora_generation not in GENERATION_MODES:
        raise InputError(f"dora_generation {keys.dora_generation!r}: choose from {', '.join(GENERATION_MODES)}")


def steps_of(keys: Keys, sequences: int) -> int | None:
    """Optimizer steps of the run; None if they depend on data that is on the hub."""
    if keys.max_steps > 0:
        return keys.max_steps
    if keys.data.startswith("hf://") or not Path(keys.data).is_file():
        return None
    from records import load_records

    with redirect_stderr(StringIO()):  # the run itself prints what it drops
        records = load_records(keys.data, keys.bad_rows)
    return math.ceil(keys.num_train_epochs * len(records) / sequences)


def checkpoints_of(keys: Keys, steps: int | None) -> int:
    """Checkpoints that are on disk at once: transformers deletes the oldest after it has written a new one."""
    if keys.save_strategy == "no":
        return 0
    if keys.save_strategy == "epoch":
        written = math.ceil(keys.num_train_epochs)
    else:
        written = (
            max(1, int((steps or 0) / keys.save_steps)) if keys.save_steps >= 1 else math.ceil(1 / keys.save_steps)
        )
    return min(written, keys.save_total_limit + 1) if keys.save_total_limit else written


def run_of(trainer: str, keys: Keys, shape: Shape, processes: int, zero: int = 0) -> Run:
    """The run on this many processes. Raises InputError if its batch cannot be divided, NotModelled."""
    grpo = trainer == "grpo"
    group = keys.num_generations if grpo else 1
    asked = keys.prompts_per_step if grpo else keys.examples_per_step
    per_device = keys.per_device_train_batch_size
    sequences = asked * group if asked is not None else processes * per_device * keys.gradient_accumulation_steps
    try:
        batch = plan_batch(processes, per_device, sequences)
    except ValueError as error:
        raise InputError(str(error)) from None
    adapter = None
    if keys.use_peft:
        targets = keys.lora_target_modules or list(RELEASED_TARGETS)
        adapter = adapter_of(shape, keys.lora_r, targets, dora=keys.use_dora, dropout=keys.lora_dropout)
    weights = SIZES[str(keys.dtype)]
    if adapter is None and weights == BF16 and zero != 2:
        raise InputError(
            f"use_peft false with dtype {keys.dtype}: most updates would round to nothing; set --dtype float32, or "
            "ACCELERATE=zero2 with the launch script"
        )
    vllm = None
    if grpo and keys.use_vllm and keys.vllm_mode == "colocate":
        context = keys.vllm_max_model_length or shape.context
        vllm = Vllm(
            keys.vllm_gpu_memory_utilization, keys.vllm_enable_sleep_mode, keys.vllm_tensor_parallel_size, context
        )
    sampler = {"colocate": "vllm", "server": "server"}.get(keys.vllm_mode) if keys.use_vllm else keys.dora_generation
    steps = steps_of(keys, batch.sequences)
    return Run(
        batch=batch if group == 1 else type(batch)(batch.processes, batch.per_device, batch.accumulation, group),
        prompt=keys.max_prompt_length if grpo else 0,
        completion=keys.max_completion_length if grpo else keys.max_length or shape.context,
        adapter=adapter,
        weights=BF16 if zero == 2 else weights,
        checkpointing=keys.gradient_checkpointing,
        zero2=zero == 2,
        rollouts=sampler if grpo else None,
        vllm=vllm,
        updates=keys.updates_per_generation if grpo else 1,
        reference=grpo and keys.beta > 0,
        old_policy=grpo
        and ((keys.use_vllm and keys.vllm_importance_sampling_correction) or keys.updates_per_generation > 1),
        steps=steps,
        checkpoints=checkpoints_of(keys, steps),
    )
