"""GPU types that preflight can estimate times for. Standard library only.

`bandwidth` is memory bandwidth in byte/s and `flops` is dense bf16 matrix throughput with float32 accumulation, both
from the vendor's data sheets. They are peaks, of which common/step_time.py assumes a share; none was measured here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class GpuType:
    name: str  # as in nvidia-smi's names, where it is a part
    memory: int  # bytes, decimal
    bandwidth: float  # byte/s
    flops: float  # bf16, dense
    source: str


def _type(name: str, gigabytes: int, terabytes: float, teraflops: float, source: str) -> GpuType:
    return GpuType(name, gigabytes * 10**9, terabytes * 1e12, teraflops * 1e12, source)


HOPPER, AMPERE, ADA = "NVIDIA H100/H200 data sheet", "NVIDIA A100 data sheet", "NVIDIA Ada data sheets and whitepaper"
# Searched in this order: the longer name first.
GPU_TYPES = (
    _type("B200", 180, 8.0, 2250, "NVIDIA DGX B200 data sheet, one of 8"),
    _type("H200", 141, 4.8, 989, HOPPER),
    _type("H100 PCIe", 80, 2.0, 756, HOPPER),
    _type("H100 NVL", 94, 3.9, 835, HOPPER),
    _type("H100", 80, 3.35, 989, HOPPER + " (SXM)"),
    _type("A100-SXM4-40GB", 40, 1.555, 312, AMPERE),
    _type("A100-PCIE-40GB", 40, 1.555, 312, AMPERE),
    _type("A100", 80, 2.0, 312, AMPERE),
    _type("L40S", 48, 0.864, 362, ADA),
    _type("L4", 24, 0.3, 121, ADA),
    _type("A10G", 24, 0.6, 70, "NVIDIA A10G data sheet"),
    _type("A10", 24, 0.6, 125, "NVIDIA A10 data sheet"),
    _type("RTX 4090", 24, 1.008, 165, ADA),
    _type("RTX 3090", 24, 0.936, 71, "NVIDIA GA102 whitepaper"),
)


def gpu_type(name: str) -> GpuType | None:
    """The type whose name is a part of `name`, as nvidia-smi or a user writes it."""
    words = name.lower().replace("nvidia", "").split()
    for kind in GPU_TYPES:
        if contains(words, kind.name.lower().split()):
            return kind
    return None


def contains(words: Sequence[str], part: Sequence[str]) -> bool:
    """Whether all words of `part` occur; `H100` occurs in `H100-SXM5-80GB`, `A10` not in `A100`."""
    return all(any(word == wanted or word.startswith(f"{wanted}-") for word in words) for wanted in part)
