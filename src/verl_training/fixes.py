"""Repairs two defects of verl 0.9.1 that affect DAPO with DoRA, and gives its engine the norms of src/dora.py. verl
loads this module in every process (VERL_USE_EXTERNAL_MODULES).

1. verl imports `AutoModelForCausalLMWithValueHead` if trl is installed. trl 1.16 no longer has it, and only a critic
   needs it.
2. With a DoRA adapter under FSDP 2, verl silently syncs the *base* weights to the rollout (seen on two ranks): peft's
   DoRA merge assigns `weight.data`, which has no lasting effect on a DTensor. Training then continues off-policy, on
   samples of the untrained model. Here each merged weight is computed from gathered tensors, one layer at a time, and
   the live weights are not modified (test_dapo_engine.py compares the result with peft's own merge on two ranks).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
import verl.utils.import_utils

verl.utils.import_utils.is_trl_available = lambda: False  # type: ignore[assignment]  # replaced on purpose

from torch.distributed.tensor import DTensor  # noqa: E402
from verl.utils.device import get_device_id  # noqa: E402
from verl.utils.fsdp_utils import offload_fsdp_model_to_cpu  # noqa: E402
from verl.utils.model import convert_weight_keys  # noqa: E402
from verl.workers.engine.fsdp.transformer_impl import FSDPEngine  # noqa: E402

from dora import row_norms, squared_norms, use_factored_norms  # noqa: E402

build_adapted = FSDPEngine._build_lora_module


def build_with_factored_norms(engine: FSDPEngine, module: Any) -> Any:
    """The adapted model. FSDP 2, which DoRA needs here, gathers a layer's adapter and base weight together."""
    adapted = build_adapted(engine, module)
    use_factored_norms(adapted)
    return adapted


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The full tensor on the compute device; if it is sharded, gathered from all ranks (a collective call)."""
    moved = tensor.detach().to(get_device_id())
    return moved.full_tensor() if isinstance(moved, DTensor) else moved


def merged_weight(layer: Any) -> torch.Tensor:
    """magnitude * (W + s B A) / ||W + s B A||, the norm over each row, in float32 (DoRA, arXiv 2402.09353, eq. 5)."""
    adapter = "default"
    magnitude = whole(layer.lora_magnitude_vector[adapter].weight).float()
    b, a = whole(layer.lora_B[adapter].weight).float(), whole(layer.lora_A[adapter].weight).float()
    weight, scaling = whole(layer.get_base_layer().weight).float(), layer.scaling[adapter]
    norms = row_norms(squared_norms(weight), weight, a, b, scaling)
    return (magnitude / norms).unsqueeze(1) * (weight + scaling * (b @ a))


@torch.no_grad()
def merged_weights(engine: FSDPEngine) -> Iterator[tuple[str, torch.Tensor]]:
    """(Hugging Face name, merged weight in the policy's compute dtype) of the whole model."""
    from peft.tuners.lora import LoraLayer

    layers = {f"{name}.base_layer.weight": m for name, m in engine.module.named_modules() if isinstance(m, LoraLayer)}
    try:
        for key, tensor in engine.module.state_dict().items():
            if "lora_" in key:
                continue
            value = merged_weight(layers[key]) if key in layers else whole(tensor)
            name = key.removeprefix("base_model.model.").replace(".base_layer", "")
            (name,) = convert_weight_keys({name: value}, engine.module)
            yield name, value.to(engine._autocast_dtype)
    finally:
        if engine.is_param_offload_enabled:
            offload_fsdp_model_to_cpu(engine.module)


FSDPEngine._build_lora_module = build_with_factored_norms  # type: ignore[method-assign]  # replaced on purpose
FSDPEngine._merged_lora_per_tensor_param = merged_weights  # type: ignore[method-assign]  # replaced on purpose

# It warns at every completion that a model family has no rules for joining turns; all prompts here have one turn.
logging.getLogger("verl.utils.tokenizer.continuous_token_wiring").setLevel(logging.ERROR)
