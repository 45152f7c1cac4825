"""preflight's report on a GRPO or SFT run: its configuration, read as src/grpo.py and src/sft.py read it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from adapters import RELEASED_TARGETS
from common import fit
from common.errors import InputError
from common.footprint import BF16, FLOAT32, Adapter, adapter_of
from common.model_shape import NotModelled, Shape, load_shape
from common.settings import read_yaml
from trl_training import memory
from trl_training.arguments import OF_GRPO, check_groups, plan_batch, read_values
from trl_training.memory import Run, Vllm
from trl_training.own_keys import GrpoArguments, SftArguments

SIZES = {"float32": FLOAT32, "bfloat16": BF16, "float16": BF16}
OPTIMIZERS = ("adamw_torch", "adamw_torch_fused")


def read_keys(config: str, flags: Sequence[str], trainer: str | None = None) -> tuple[str, dict[str, Any]]:
    """(grpo or sft, the value of every key) of a YAML file and flags; a YAML with keys that only GRPO has is GRPO's."""
    import trl

    trainer = trainer or ("grpo" if {setting.key for setting in read_yaml(config)} & {*OF_GRPO} else "sft")
    own = (GrpoArguments, trl.GRPOConfig) if trainer == "grpo" else (SftArguments, trl.SFTConfig)
    _, values = read_values((*own, trl.ModelConfig), ["--config", config, *flags])
    for key in ("optim", "save_strategy"):  # a member of an enumeration if it is the default
        values[key] = str(getattr(values[key], "value", values[key]))
    if values["dtype"] == "auto":
        values["dtype"] = "bfloat16"  # what the checkpoints of the families modelled here are stored in
    if not values["model_name_or_path"]:
        raise InputError("no model: set model_name_or_path")
    return trainer, values


def refuse(keys: Mapping[str, Any], zero: int) -> None:
    """Raise NotModelled for settings that would make the estimate wrong."""
    if keys["use_cpu"]:
        raise NotModelled("use_cpu true: a run on the CPU is not modelled")
    if keys["deepspeed"] or keys["fsdp"] or zero not in (0, 2):
        raise NotModelled("only DDP and ACCELERATE=zero2 are modelled, not other DeepSpeed settings or FSDP")
    if keys.get("rollouts") in ("shared", "compiled") and not keys["use_vllm"]:
        raise NotModelled(f"rollouts {keys['rollouts']} is not modelled, only auto and transformers")
    if keys["optim"] not in OPTIMIZERS:
        raise NotModelled(f"optim {keys['optim']} is not modelled, only {', '.join(OPTIMIZERS)}")
    if keys.get("steps_per_generation") is not None or keys.get("num_iterations", 1) != 1:
        raise NotModelled("steps_per_generation and num_iterations are not modelled, only updates_per_generation")
    if keys["dtype"] not in SIZES:
        raise NotModelled(f"dtype {keys['dtype']} is not modelled, only {', '.join(SIZES)}")


def steps_of(keys: Mapping[str, Any], sequences: int) -> int | None:
    """Optimizer steps of the run; None if they depend on data that is on the hub."""
    if keys["max_steps"] > 0:
        return int(keys["max_steps"])
    if not Path(keys["data"]).is_file():
        return None
    from records import load_records

    with redirect_stderr(StringIO()):  # the run itself prints what it drops
        records = load_records(keys["data"], keys["bad_rows"])
    return math.ceil(keys["num_train_epochs"] * len(records) / sequences)


def checkpoints_of(keys: Mapping[str, Any], steps: int | None) -> int:
    """Checkpoints that are on disk at once: transformers deletes the oldest after it has written a new one."""
    every, limit = keys["save_steps"], keys["save_total_limit"]
    if keys["save_strategy"] == "no":
        return 0
    if keys["save_strategy"] == "epoch":
        written = math.ceil(keys["num_train_epochs"])
    else:  # the last step is saved too; below 1, `every` is a share of the run
        written = math.ceil((steps or 1) / every) if every >= 1 else math.ceil(1 / every)
    return min(written, limit + 1) if limit else written


def trained_adapter(keys: Mapping[str, Any], shape: Shape, zero: int) -> Adapter | None:
    """The adapter; None if all weights are trained."""
    if keys["use_peft"]:
        targets = keys["lora_target_modules"] or list(RELEASED_TARGETS)
        return adapter_of(shape, keys["lora_r"], targets, dora=keys["use_dora"], dropout=keys["lora_dropout"])
    if keys["dtype"] != "float32" and zero != 2:
        raise InputError(
            f"use_peft false with dtype {keys['dtype']}: most updates would round to nothing; set --dtype float32, or "
            "ACCELERATE=zero2 with the launch script"
        )
    return None


def run_of(trainer: str, keys: Mapping[str, Any], shape: Shape, processes: int, zero: int = 0) -> Run:
    """The run on this many processes. Raises InputError if its batch cannot be divided, NotModelled."""
    is_grpo = trainer == "grpo"
    group = keys["num_generations"] if is_grpo else 1
    asked = keys["prompts_per_step" if is_grpo else "examples_per_step"]
    per_device = keys["per_device_train_batch_size"]
    sequences = asked * group if asked is not None else processes * per_device * keys["gradient_accumulation_steps"]
    try:
        batch = plan_batch(processes, per_device, sequences, group)
    except ValueError as error:
        raise InputError(str(error)) from None
    steps = steps_of(keys, batch.sequences)
    common: dict[str, Any] = {
        "batch": batch,
        "adapter": trained_adapter(keys, shape, zero),
        "weights": BF16 if zero == 2 else SIZES[keys["dtype"]],
        "checkpointing": keys["gradient_checkpointing"],
        "zero2": zero == 2,
        "steps": steps,
        "checkpoints": checkpoints_of(keys, steps),
    }
    if not is_grpo:
        return Run(prompt=0, completion=keys["max_length"] or shape.context, **common)
    check_groups(keys, processes)
    vllm, updates = None, keys["updates_per_generation"]
    rollouts = keys["vllm_mode"] if keys["use_vllm"] else keys["dora_generation"]
    if rollouts == "colocate":
        share, context = keys["vllm_gpu_memory_utilization"], keys["vllm_max_model_length"] or shape.context
        vllm = Vllm(share, keys["vllm_enable_sleep_mode"], keys["vllm_tensor_parallel_size"], context)
    return Run(
        prompt=keys["max_prompt_length"],
        completion=keys["max_completion_length"],
        rollouts=rollouts,
        vllm=vllm,
        updates=updates,
        reference=keys["beta"] > 0,
        old_policy=(keys["use_vllm"] and keys["vllm_importance_sampling_correction"]) or updates > 1,
        **common,
    )


def report(config: str, flags: Sequence[str], place: fit.Place, trainer: str | None = None) -> fit.Report:
    """The estimates for a YAML file and flags. Raises NotModelled, InputError."""
    trainer, keys = read_keys(config, flags, trainer)
    refuse(keys, place.zero)
    shape = load_shape(keys["model_name_or_path"], keys["model_revision"])
    run = run_of(trainer, keys, shape, place.gpus * place.nodes, place.zero)

    def changes(one: Run) -> Iterator[tuple[str, Run]]:
        yield from memory.alternatives(shape, one, place.card)
        for gpus in (2, 4, 8) if one is run else ():
            if gpus > place.gpus:
                try:
                    yield f"GPUS={gpus}", run_of(trainer, keys, shape, gpus * place.nodes, place.zero)
                except InputError:  # the batch does not divide
                    continue
        yield from memory.shorter(one)

    return fit.report(
        run,
        partial(memory.estimate, shape, card=place.card, nodes=place.nodes),
        changes,
        partial(memory.seconds, shape),
        place,
        model=keys["model_name_or_path"],
        parameters=shape.parameters,
        summary=f"{trainer.upper()}, {run.adapter or 'all weights'}; {run.batch}",
        steps=run.steps,
        cpus=(place.gpus * place.nodes, "one for each process"),
        output=Path(keys["output_dir"] or "."),
    )
