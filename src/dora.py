"""DoRA's forward pass and merge without dense products, as a variant of peft's linear layer.

DoRA scales the rows of V = W + sBA by magnitude / ||row|| (arXiv 2402.09353, eq. 5). peft 0.21 forms V in every forward
pass, and BA with it, from an identity matrix. The squared norm of a row needs neither:

    ||w||² + 2s (W Aᵀ)·b + s² b (A Aᵀ) bᵀ       w, b: the row's parts of W and B

No term is larger than [out, r], and ||w||² is kept, since W is frozen. The norms are float32 whatever the weights are,
and receive no gradient, as in peft.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear, LoraLayer
from peft.tuners.lora.variants import DoraLinearVariant
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

CHUNK = 2**22  # elements of W that are float32 at a time


def in_chunks(weight: Tensor) -> tuple[Tensor, ...]:
    """Consecutive rows of a weight, CHUNK elements at a time."""
    return weight.split(max(1, CHUNK // weight.shape[1]))


def squared_norms(weight: Tensor) -> Tensor:
    """||w||² of each row, float32."""
    return torch.cat([rows.float().square().sum(dim=1) for rows in in_chunks(weight)])


@torch.no_grad()
def row_norms(squared: Tensor, weight: Tensor, A: Tensor, B: Tensor, scaling: float) -> Tensor:
    """||w + s b A|| of each row, float32. `squared`: squared_norms(weight)."""
    with torch.autocast(weight.device.type, enabled=False):
        a, b = A.float(), scaling * B.float()
        products = torch.cat([rows.float() @ a.T for rows in in_chunks(weight)])
        return (squared + ((2 * products + b @ (a @ a.T)) * b).sum(dim=1)).clamp(min=0).sqrt()


class FactoredDora(DoraLinearVariant):
    """The variant of one layer. peft calls its methods; the layer's parameters stay where peft keeps them."""

    def __init__(self) -> None:
        self.of: tuple[StorageWeakRef, int] | None = None  # the memory whose squared norms are kept, and its version
        self.squared = torch.empty(0)
        self.fixed: Tensor | None = None  # the norms, while the adapter does not change

    def __reduce__(self) -> Any:
        return FactoredDora, ()  # a copy of a model is of other memory, and this reference to memory must not be copied

    def norms(self, layer: Any, adapter: str) -> Tensor:
        """The row norms of W + sBA."""
        if self.fixed is not None:
            return self.fixed
        weight = layer.get_base_layer().weight
        # An address would not do: freed, it may be that of the next weight. Only writes through `weight.data` are not
        # seen; src/adapters.py restores with them what was there.
        if (key := (StorageWeakRef(weight.untyped_storage()), weight._version)) != self.of:
            self.of, self.squared = key, squared_norms(weight.detach())
        A, B = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
        return row_norms(self.squared, weight, A, B, layer.scaling[adapter])

    def forward(self, layer: Any, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any) -> Tensor:  # type: ignore[override]  # peft's has no state
        base, dropout = layer.get_base_layer(), layer.lora_dropout[active_adapter]
        drops = layer.training and not isinstance(dropout, nn.Identity)
        x = dropout(x)
        update = layer.lora_B[active_adapter](layer.lora_A[active_adapter](x)) * layer.scaling[active_adapter]
        scale = layer.lora_magnitude_vector[active_adapter].weight / self.norms(layer, active_adapter)
        if drops:  # the base's product scales as W does in V: without the dropped inputs
            kept = nn.functional.linear(x.to(base.weight.dtype), base.weight)  # peft gave x the adapter's dtype
            return result + kept * (scale - 1) + update * scale
        if base.bias is None:
            return (result + update) * scale
        return result + (result - base.bias) * (scale - 1) + update * scale  # rounds nothing while the scale is 1

    def merge_safe(self, layer: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:  # type: ignore[override]
        moved = orig_weight.float() + layer.get_delta_weight(active_adapter).float()
        norms = moved.norm(dim=1)  # V is here, and its own norms cost less than factored ones
        layer._cache_store(f"{active_adapter}-weight_norm", norms)  # peft's unmerge reads it
        scale = layer.lora_magnitude_vector[active_adapter].weight / norms
        return (scale[:, None] * moved).to(orig_weight.dtype)

    def merge_unsafe(self, layer: Any, active_adapter: str, orig_weight: Any) -> None:  # type: ignore[override]
        orig_weight.data = self.merge_safe(layer, active_adapter, orig_weight.data)


def variants(model: nn.Module) -> Iterator[tuple[Any, str, Any]]:
    """(layer, adapter name, variant) of the adapted layers of a model."""
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            for name, variant in layer.lora_variant.items():
                yield layer, name, variant


def use_factored_norms(model: nn.Module) -> None:
    """Replace peft's DoRA in all linear layers whose weight is a plain matrix; others (quantized, Conv1D) keep it."""
    for layer, name, variant in list(variants(model)):
        is_plain = type(layer) is Linear and type(layer.get_base_layer()) is nn.Linear
        if is_plain and isinstance(variant, DoraLinearVariant):
            layer.lora_variant[name] = FactoredDora()


@contextmanager
def fixed_norms(model: nn.Module) -> Iterator[None]:
    """Within the context the adapter does not change: the norms of FactoredDora are computed once."""
    mine = [(layer, name, variant) for layer, name, variant in variants(model) if isinstance(variant, FactoredDora)]
    try:
        for layer, name, variant in mine:
            variant.fixed = variant.norms(layer, name)
        yield
    finally:
        for _, _, variant in mine:
            variant.fixed = None
