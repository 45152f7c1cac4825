"""Seconds of the parts of a training step, from a GPU's peak rates. Every number is an estimate; none was measured.

Sampling with transformers waits for Python, which launches one kernel after the other, whatever the batch. Sampling
with vLLM reads all weights for each token. Passes over whole sequences are matrix products. Communication is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.footprint import BF16, Adapter, cache_token, dora_norm
from common.gpu_types import GpuType
from common.model_shape import Shape

LAUNCH = 24e-6  # s for a kernel launched by PyTorch from Python
LAUNCHES = 38  # kernels of a layer for one token
DORA_LAUNCHES = {"merge": 0, "cache": 14, "stock": 24}  # more, for each adapted module (src/adapters.py)
READING = 0.67  # share of the peak bandwidth that vLLM's sampling reaches
COMPUTING = 0.4  # share of the peak matrix rate that a pass reaches
DORA_PASSES = 1.15  # a pass with DoRA against one with LoRA
SYNC = 1.5  # s to send the weights to vLLM


@dataclass(frozen=True)
class Lengths:
    """Tokens of a typical step: of a prompt, and of the longest completion. They decide the time."""

    prompt: int = 650  # the published records with a 7B model's tokenizer: 600 to 700
    completion: int = 600  # assumed


@dataclass(frozen=True)
class Part:
    """A part of a step."""

    name: str
    formula: str
    seconds: float


def eager_token(shape: Shape, adapter: Adapter | None, how: str, gpu: GpuType) -> float:
    """One token of a batch with transformers: launches or memory traffic, whichever takes longer."""
    modules = len(adapter.modules) if adapter and adapter.dora else 0
    launches = shape.layers * (LAUNCHES + modules * DORA_LAUNCHES[how])
    traffic = BF16 * shape.computed + (shape.layers * dora_norm(shape, adapter) if how == "stock" else 0)
    return max(launches * LAUNCH, traffic / gpu.bandwidth)


def vllm_token(shape: Shape, sequences: int, lengths: Lengths, tensor_parallel: int, gpu: GpuType) -> float:
    """One token of each of `sequences` with vLLM: all weights and half of the final KV cache are read."""
    cache = sequences * (lengths.prompt + lengths.completion / 2) * cache_token(shape)
    return (BF16 * shape.computed + cache) / tensor_parallel / (READING * gpu.bandwidth)


def forward_seconds(shape: Shape, tokens: float, gpu: GpuType) -> float:
    """A pass without gradients: 2 operations for each parameter and token."""
    return 2 * shape.computed * tokens / (COMPUTING * gpu.flops)


def update_seconds(shape: Shape, adapter: Adapter | None, tokens: float, checkpointing: bool, gpu: GpuType) -> float:
    """Forward, again with checkpointing, gradients of activations, and of weights if they are trained."""
    passes = 2 + checkpointing + (adapter is None)
    slower = DORA_PASSES if adapter and adapter.dora else 1
    return passes * slower * forward_seconds(shape, tokens, gpu)
