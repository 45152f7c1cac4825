"""The row norms that DoRA needs in a forward pass, for one layer: factored (src/dora.py) and as peft computes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dora import row_norms, squared_norms
from gpu.harness import Bench
from gpu.shapes import Shape

RANK = 64  # configs/grpo.yaml


def sizes(shape: Shape) -> dict[str, tuple[int, int]]:
    """Layer -> (rows, columns) of its weight."""
    model = shape.model
    hidden = model["hidden_size"]
    values = hidden // model["num_attention_heads"] * model["num_key_value_heads"]
    return {
        "q_proj": (hidden, hidden),
        "v_proj": (values, hidden),
        "down_proj": (hidden, model["intermediate_size"]),
    }


def dora_layer(bench: Bench, rows: int, columns: int) -> Any:
    """A linear layer in bf16 with peft's DoRA in float32, so far from zero that an omitted update would show."""
    from peft import LoraConfig, inject_adapter_in_model

    linear = nn.Linear(columns, rows, bias=False, device=bench.device, dtype=torch.bfloat16)
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["0"], use_dora=True)
    layer: Any = inject_adapter_in_model(config, nn.Sequential(linear))[0]  # type: ignore[index]
    for part in (layer.lora_A, layer.lora_B):
        part.float()
    nn.init.normal_(layer.lora_B["default"].weight, std=0.02)
    return layer


def dense(layer: Any) -> Callable[[], Tensor]:
    """peft's norms, as its DoraLinearLayer.forward computes them for float32 inputs."""
    dora, A, B = (getattr(layer, name)["default"] for name in ("lora_magnitude_vector", "lora_A", "lora_B"))

    def norms() -> Tensor:
        update = dora.get_lora_weight(lora_A=A, lora_B=B).float()
        weight = layer.get_base_layer().weight.float()
        found: Tensor = dora.get_weight_norm(weight, update.detach(), layer.scaling["default"]).detach()
        return found

    return norms


def factored(layer: Any) -> Callable[[], Tensor]:
    """The norms of src/dora.py; those of the base are kept, as in a run."""
    weight, A, B = layer.get_base_layer().weight, layer.lora_A["default"].weight, layer.lora_B["default"].weight
    squared = squared_norms(weight.detach())
    return lambda: row_norms(squared, weight, A, B, layer.scaling["default"])


def norm(bench: Bench) -> None:
    """Log the milliseconds and the memory of both, within autocast as in an update."""
    for name, (rows, columns) in sizes(bench.shape).items():
        bench.free()
        layer = dora_layer(bench, rows, columns)
        found = {}
        for how, norms in (("peft", dense(layer)), ("factored", factored(layer))):
            with torch.autocast(bench.device.type, torch.bfloat16):
                found[how] = norms()
                seconds = bench.timed(norms, 20, 3)
                before = bench.free()
                norms()
            peak = bench.peak_gb()
            extra = None if peak is None else 1e3 * (peak - before)
            bench.log.note("norm", f"{name}, {how}", ms=1e3 * seconds, extra_mb=extra)
        difference = (found["factored"] / found["peft"] - 1).abs().max().item()
        bench.log.note("norm", f"{name}, factored against peft", difference=difference)
