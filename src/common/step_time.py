"""Seconds of the parts of a training step, from a GPU's peak rates. Every number is an estimate; no GPU was measured.

Python launches one kernel after the other, so each part takes at least its launches. Beyond that, sampling with vLLM
reads all weights for each token, and passes over whole sequences are matrix products. Communication is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.footprint import BF16, Adapter, cache_token, dora_norm
from common.model_shape import Shape

# Kernels: operations of a Qwen2 layer that are not views, counted on a CPU; tests/test_footprint.py repeats the counts.
FORWARD = 45  # for one token or many
BACKWARD = 75
DORA_FORWARD = {"merge": 0, "cache": 15, "stock": 22}  # more, for each adapted module (src/adapters.py)
DORA_BACKWARD = 20
LAUNCH = 20e-6  # s a kernel: a tiny model takes 10e-6 an operation on a CPU, nearly all in Python; the rest is assumed
READING = 0.67  # share of the peak bandwidth that vLLM's sampling reaches: assumed
COMPUTING = 0.4  # share of the peak matrix rate: assumed; Llama 3 reports 38 to 43 % on H100 (arXiv 2407.21783)
SYNC = 1.5  # s to send the weights to vLLM: assumed, 4 ms for each of a 7B model's 339 tensors


@dataclass(frozen=True)
class GpuType:
    """Peaks from the vendor's data sheets. A name is a part of the one that nvidia-smi prints."""

    name: str
    bandwidth: float  # byte/s
    flops: float  # dense bf16 matrix products with float32 accumulation


GPU_TYPES = tuple(  # searched in this order: the longer name first
    GpuType(name, terabytes * 1e12, teraflops * 1e12)
    for name, terabytes, teraflops in (
        ("B200", 8.0, 2250),  # NVIDIA DGX B200 data sheet, one of 8
        ("H200", 4.8, 989),  # NVIDIA H100/H200 data sheets, as the next three
        ("H100 PCIe", 2.0, 756),
        ("H100 NVL", 3.9, 835),
        ("H100", 3.35, 989),  # SXM
        ("A100-SXM4-40GB", 1.555, 312),  # NVIDIA A100 data sheet, as the next two
        ("A100-PCIE-40GB", 1.555, 312),
        ("A100", 2.0, 312),
        ("L40S", 0.864, 362),  # NVIDIA data sheets, as the next three
        ("L4", 0.3, 121),
        ("A10G", 0.6, 70),
        ("A10", 0.6, 125),
        ("RTX 4090", 1.008, 165),  # NVIDIA Ada whitepaper
        ("RTX 3090", 0.936, 71),  # NVIDIA GA102 whitepaper
    )
)


def gpu_type(name: str) -> GpuType | None:
    """The type whose words all occur in `name`: `H100` in `H100-SXM5-80GB`, but `A10` not in `A100`."""
    words = name.lower().replace("nvidia", "").split()
    for kind in GPU_TYPES:
        wanted = kind.name.lower().split()
        if all(any(word == one or word.startswith(f"{one}-") for word in words) for one in wanted):
            return kind
    return None


@dataclass(frozen=True)
class Lengths:
    """Tokens of a typical step: of a prompt, and of the longest completion. They decide the time."""

    prompt: int = 650  # the published records with a 7B model's tokenizer: 600 to 700
    completion: int = 600  # assumed

    def within(self, prompt: int, completion: int) -> Lengths:
        """These lengths under a run's limits."""
        return Lengths(min(self.prompt, prompt), min(self.completion, completion))


@dataclass(frozen=True)
class Part:
    """A part of a step."""

    name: str
    formula: str
    seconds: float


def dora_modules(adapter: Adapter | None) -> int:
    return len(adapter.modules) if adapter and adapter.dora else 0


def eager_token(shape: Shape, adapter: Adapter | None, how: str, gpu: GpuType) -> float:
    """One token of a batch with transformers: launches or memory traffic, whichever takes longer."""
    launches = shape.layers * (FORWARD + dora_modules(adapter) * DORA_FORWARD[how])
    traffic = BF16 * shape.computed + (shape.layers * dora_norm(shape, adapter) if how == "stock" else 0)
    return max(launches * LAUNCH, traffic / gpu.bandwidth)


def vllm_token(shape: Shape, sequences: int, lengths: Lengths, tensor_parallel: int, gpu: GpuType) -> float:
    """One token of each of an engine's `sequences`: its GPUs read their shares of the weights, and of the KV cache when
    half of the completion is there. A KV head is not split: more GPUs than heads hold copies."""
    cache = sequences * (lengths.prompt + lengths.completion / 2) * cache_token(shape)
    share = BF16 * shape.computed / tensor_parallel + cache / min(tensor_parallel, shape.kv_heads)
    return share / (READING * gpu.bandwidth)


def forward_seconds(shape: Shape, tokens: float, batches: int, gpu: GpuType) -> float:
    """A pass without gradients in `batches` parts: 2 operations for each parameter and token, or the launches."""
    return max(2 * shape.computed * tokens / (COMPUTING * gpu.flops), batches * shape.layers * FORWARD * LAUNCH)


def update_kernels(adapter: Adapter | None, checkpointing: bool) -> int:
    """Kernels of a layer: forward, again with checkpointing, and backward."""
    modules = dora_modules(adapter)
    forward = FORWARD + modules * DORA_FORWARD["stock"]
    return forward * (1 + checkpointing) + BACKWARD + modules * DORA_BACKWARD


def update_part(
    shape: Shape, adapter: Adapter | None, tokens: float, batches: int, checkpointing: bool, gpu: GpuType
) -> Part:
    """Forward, again with checkpointing, gradients of activations, and of weights if they are trained, or the launches.
    With dropout, DoRA computes the base's product in adapted modules twice."""
    passes, products, letters = 2 + checkpointing + (adapter is None), shape.computed, "P"
    if adapter:
        twice = adapter.dora and adapter.dropout
        products += adapter.parameters(shape) + twice * adapter.target_weights(shape)
        letters = "(P + A + targets)" if twice else "(P + A)"
    launches = batches * shape.layers * update_kernels(adapter, checkpointing)
    seconds = max(2 * passes * products * tokens / (COMPUTING * gpu.flops), launches * LAUNCH)
    return Part("update", f"{2 * passes} {letters} t / rate, or launches", seconds)
