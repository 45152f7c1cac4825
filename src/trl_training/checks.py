"""Checks for settings of a trl run that would lose updates or fail late. Each raises InputError."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapters import DECAYS_MAGNITUDES, adapter_config, check_base
from common import toolchain
from common.errors import InputError
from common.launch import world_size
from trl_training.callbacks import say

if TYPE_CHECKING:
    from peft import LoraConfig


def uses_fsdp(args: Any) -> bool:
    """Whether FSDP is on: by trl's own key, or by an accelerate configuration, which only sets the environment."""
    from accelerate.utils import parse_flag_from_env

    return bool(args.fsdp) or bool(parse_flag_from_env("ACCELERATE_USE_FSDP"))


def refuse_fsdp(args: Any) -> None:
    """Refuse FSDP: merged rollouts, vLLM's weight sync and the checkpoints here need whole weights."""
    if uses_fsdp(args):
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


def check_model(args: Any, model: Any) -> None:
    """Raise InputError if trl could not load the model, or peft not adapt it; no weights are read."""
    own = {key: value for key, value in (args.model_init_kwargs or {}).items() if key not in ("dtype", "device_map")}
    settings = {"revision": model.model_revision, "attn_implementation": model.attn_implementation, **own}
    check_base(model.model_name_or_path, adapter_of(model), **settings)


def adapter_of(model: Any) -> LoraConfig | None:
    """The adapter that trl's ModelConfig describes; None for all weights."""
    lora = (model.lora_r, model.lora_alpha, model.lora_dropout, model.lora_target_modules)
    return adapter_config(*lora, use_dora=model.use_dora) if model.use_peft else None
