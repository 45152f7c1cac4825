"""verl on a machine without a GPU: a platform plugin, for tests and for learning the code.

With `trainer.device: cpu` verl loads it in every process (VERL_USE_EXTERNAL_MODULES). It registers
    the platform "cpu"   verl's trainer, FSDP2 engine, TransferQueue and checkpoints run unchanged, over gloo
    the rollout "hf"     sampling with transformers instead of vLLM (src/verl_training/cpu_rollout.py)
Ray sees only logical GPUs (`ray_kwargs.ray_init.num_gpus`). FSDP 1 does not run on a CPU: use `actor.strategy: fsdp2`.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch
import verl.utils.distributed
from verl.plugin.platform import PlatformBase, PlatformRegistry
from verl.workers.rollout.base import _ROLLOUT_REGISTRY
from verl.workers.rollout.replica import RolloutReplicaRegistry


def nothing(*args: Any, **kwargs: Any) -> None:
    """What a device's functions do on a CPU."""


class CpuDevice(types.ModuleType):
    """torch.cpu, plus the functions of torch.cuda that verl calls on its device module."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(torch.cpu, name)

    def is_available(self) -> bool:
        return False

    def _zero(self, *args: Any, **kwargs: Any) -> int:
        return 0

    empty_cache = ipc_collect = synchronize = set_device = reset_peak_memory_stats = nothing
    memory_allocated = memory_reserved = max_memory_allocated = max_memory_reserved = _zero

    def mem_get_info(self, *args: Any) -> tuple[int, int]:
        """(free, total) bytes of the machine."""
        import psutil

        memory = psutil.virtual_memory()
        return memory.available, memory.total

    def get_device_name(self, *args: Any) -> str:
        return "cpu"

    get_rng_state, set_rng_state = staticmethod(torch.get_rng_state), staticmethod(torch.set_rng_state)


@PlatformRegistry.register(platform="cpu")
class CpuPlatform(PlatformBase):
    """verl's interface to an accelerator, for a CPU."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = CpuDevice("verl_cpu_device")

    def is_available(self) -> bool:
        return True

    def current_device(self) -> torch.device:  # type: ignore[override]  # to torch, a number would be a GPU
        return torch.device("cpu")

    def device_count(self) -> int:
        return 1

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    set_device = synchronize = set_allocator_settings = empty_cache = profiler_start = profiler_stop = cudart = nothing

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextlib.contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def ray_resource_name(self) -> str:
        return "GPU"  # Ray's logical resource, not a device

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False


_init_process_group = verl.utils.distributed.initialize_global_process_group_ray


def _init_with_gloo(timeout_second: int | None = None, backend: str | None = None) -> None:
    _init_process_group(timeout_second, backend or "gloo")  # torch rejects verl's "cpu:gloo,cpu:gloo"


verl.utils.distributed.initialize_global_process_group_ray = _init_with_gloo


RolloutReplicaRegistry.register("hf", lambda: import_module("verl_training.cpu_rollout").HFReplica)
_ROLLOUT_REGISTRY[("hf", "async")] = "verl_training.cpu_rollout.HFServerAdapter"
