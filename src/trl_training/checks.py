"""Checks for settings of a trl run that would lose updates or fail late. Each raises InputError."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from adapters import DECAYS_MAGNITUDES, adapter_config, adapter_layers, check_base
from common import toolchain
from common.errors import InputError
from common.launch import world_size
from trl_training.callbacks import say
from trl_training.optimizer import check_optimizer

if TYPE_CHECKING:
    from peft import LoraConfig


PRECISION = "ACCELERATE_MIXED_PRECISION"
BOOLEANS = ("y", "yes", "t", "true", "on", "1", "n", "no", "f", "false", "off", "0")  # as accelerate reads them


def refuse_environment(is_check: bool) -> None:
    """Refuse variables of accelerate that it cannot read, or that ask for what the scripts here do not do."""
    from accelerate.utils import DynamoBackend

    known: dict[str, Sequence[str]] = {
        **{name: BOOLEANS for name in os.environ if re.match("ACCELERATE_(USE_|DEBUG_MODE|ALLOW_)", name)},
        **dict.fromkeys(("ACCELERATE_USE_MEGATRON_LM", "ACCELERATE_USE_PARALLELISM_CONFIG"), BOOLEANS[6:]),
        PRECISION: ("no", "fp16", "bf16"),
        "ACCELERATE_DYNAMO_BACKEND": [each.value.lower() for each in DynamoBackend],
        "ACCELERATE_TORCH_DEVICE": ("cpu", "cuda"),
    }
    for name, values in known.items():
        if (value := os.environ.get(name, values[0])).lower() not in values:
            raise InputError(f"{name}={value}: choose from {', '.join(values)}, or unset it")
    name = "ACCELERATE_USE_DEEPSPEED"
    if not is_check and "RANK" not in os.environ and os.environ.get(name, "").lower() == "true":
        raise InputError(f"{name}: DeepSpeed needs a launcher: unset it, or run ACCELERATE=zero2 bash scripts/grpo.sh")


def check_arguments(args: Any, model: Any) -> None:
    """What follows from the configuration and the environment together."""
    from huggingface_hub import constants, get_token

    if args.mixed_precision != "no" and not (args.fp16 or args.bf16):  # run.json would record full precision
        raise InputError(f"{PRECISION}={args.mixed_precision}: unset it, or add --{args.mixed_precision} true")
    if args.hub_token:
        raise InputError("hub_token: would be saved in training_args.bin, which push_to_hub uploads: set HF_TOKEN")
    if args.push_to_hub and (constants.HF_HUB_OFFLINE or not get_token()):  # trl asks after the model has loaded
        raise InputError("push_to_hub: " + ("HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "set HF_TOKEN"))
    refuse_fsdp(args)
    refuse_lost_updates(args, model)


def refuse_fsdp(args: Any) -> None:
    """Refuse FSDP: merged rollouts, vLLM's weight sync and the checkpoints here need whole weights.

    trl's own key switches it on, or an accelerate configuration, which only sets the environment.
    """
    from accelerate.utils import parse_flag_from_env

    if args.fsdp or parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise InputError(
            "FSDP is not supported: use DDP (the default), or ACCELERATE=zero2 with the launch script; if accelerate's "
            "own default_config.yaml has switched it on, start with the script in scripts/"
        )


def shards_weights(args: Any) -> bool:
    """Whether each process holds only its share of the weights: ZeRO-3."""
    return args.deepspeed_plugin is not None and args.deepspeed_plugin.zero_stage == 3


def refuse_lost_updates(args: Any, model: Any) -> None:
    """Refuse to train all weights in half precision: most updates are below half a unit in the last place.

    In mixed precision DeepSpeed keeps float32 copies of what it trains; DDP and one process do not.
    """
    has_copies = (args.bf16 or args.fp16) and args.deepspeed_plugin is not None
    if not model.use_peft and model.dtype not in (None, "float32") and not has_copies:
        raise InputError(
            f"use_peft false with dtype {model.dtype}: most updates would round to nothing. Add --dtype float32 (with "
            "bf16 true it still computes in bf16), or use DeepSpeed, which keeps float32 copies: ACCELERATE=zero2 with "
            "the launch script; a 7B model then needs 4 or more GPUs of 80 GB"
        )


def refuse_missing_compiler(args: Any) -> None:
    """Refuse a GPU run if Triton, which trl's log-probabilities use there, cannot compile."""
    if args.device.type == "cuda" and (lacks := toolchain.missing()):
        raise InputError(lacks)


def refuse_several_cards(args: Any) -> None:
    """Refuse several GPUs for one process: trl would spread the model over all of them, layer by layer."""
    import torch

    if args.device.type == "cuda" and world_size() == 1 and (count := torch.cuda.device_count()) > 1:
        raise InputError(
            f"one process sees {count} GPUs: set CUDA_VISIBLE_DEVICES=0, or start it with the script in scripts/"
        )


def warn_of_decay(args: Any, model: Any) -> None:
    """Warn that weight decay acts on DoRA's magnitudes too."""
    if model.use_peft and model.use_dora and args.weight_decay > 0:
        say(f"warning: weight_decay {args.weight_decay} {DECAYS_MAGNITUDES}")


def load_settings(args: Any, model: Any) -> dict[str, Any]:
    """What the model is loaded with."""
    keys = {"revision": model.model_revision, "dtype": model.dtype, "attn_implementation": model.attn_implementation}
    return {**(args.model_init_kwargs or {}), **{key: value for key, value in keys.items() if value is not None}}


def check_model(args: Any, model: Any) -> Any:
    """The run's model, adapted, without its weights, which are not read.

    Raises InputError if trl could not load the model, if peft could not adapt it, if its attention does not run on this
    device, or if transformers cannot build the optimizer and its schedule.
    """
    settings = load_settings(args, model)
    settings.pop("dtype", None)
    empty = check_base(model.model_name_or_path, configured_adapter(model), **settings)
    attention, head = str(empty.config._attn_implementation), empty.get_output_embeddings()
    if args.device.type == "cpu" and ("flash" in attention or "flex" in attention):
        raise InputError(f"attn_implementation {attention}: needs a GPU; use sdpa or eager")
    if head is not None and adapter_layers(head):
        raise InputError("lora_target_modules: trl does not train an adapter of the output embeddings (lm_head)")
    check_optimizer(args, empty)
    return empty


def configured_adapter(model: Any) -> LoraConfig | None:
    """The adapter that trl's ModelConfig describes; None for all weights."""
    lora = (model.lora_r, model.lora_alpha, model.lora_dropout, model.lora_target_modules)
    return adapter_config(*lora, use_dora=model.use_dora) if model.use_peft else None
