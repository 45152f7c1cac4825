"""What the machine or the Ray cluster must have for a run. Checked when a run starts, not when its data is written.

Ray counts CPUs and GPUs. If there are too few, verl's and TransferQueue's processes wait forever, without a message.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import torch
from omegaconf import DictConfig

from common import toolchain
from common.errors import InputError
from common.node_checks import count_gpus
from verl_training.checks import need

# verl's ResourcePoolManager.max_colocate_count: the CPUs that it reserves with each GPU.
CPUS_PER_GPU = 3


def cpus_needed(config: DictConfig) -> int:
    """CPUs that Ray must count: one for the runner, one for TransferQueue's controller, one for each of its storage
    units, CPUS_PER_GPU for each GPU. All other processes (agent loops, rewards, rollout servers) request none."""
    gpus = config.trainer.n_gpus_per_node * config.trainer.nnodes
    return 2 + config.transfer_queue.backend.SimpleStorage.num_data_storage_units + CPUS_PER_GPU * gpus


def cpus_seen(config: DictConfig) -> int:
    """CPUs that Ray will count on this machine: the configuration's, or what Ray's own function finds (the machine's
    CPUs and a container's quota, but not the CPU affinity)."""
    from ray._private.utils import get_num_cpus

    return config.ray_kwargs.ray_init.num_cpus or int(get_num_cpus(override_docker_cpu_warning=True))


def check(config: DictConfig) -> None:
    """Check this machine before Ray starts. Raises InputError."""
    nodes, key = config.trainer.nnodes, "ray_kwargs.ray_init.num_cpus"
    if os.environ.get("RAY_ADDRESS"):  # check_cluster counts its CPUs
        given = config.ray_kwargs.ray_init.num_cpus
        need(given is None, f"{key}={given}: the cluster at RAY_ADDRESS has CPUs of its own")
    else:
        need(nodes == 1, f"trainer.nnodes={nodes}: several nodes need a Ray cluster; set RAY_ADDRESS")
        needed, seen, gpus = cpus_needed(config), cpus_seen(config), config.trainer.n_gpus_per_node
        # A container may lack nvidia-smi.
        if config.trainer.device == "cuda" and (shown := max(count_gpus(), torch.cuda.device_count())) < gpus:
            found = f"this machine shows {shown} (nvidia-smi, CUDA_VISIBLE_DEVICES)"
            raise InputError(f"needs {gpus} GPU(s), {found}: set trainer.n_gpus_per_node, or trainer.device=cpu")
        need(
            seen >= needed,
            f"needs {needed} CPUs for {gpus} GPU(s), Ray sees {seen} and would wait forever: use more, or set "
            f"{key}={needed} (Ray only counts them; the processes share the real ones)",
        )
    if config.trainer.device != "cpu":
        lacks = toolchain.missing()
        need(lacks is None, str(lacks))
        check_allocator(config)


def check_allocator(config: DictConfig) -> None:
    """Reject expandable segments that vLLM's sleep mode does not support. Raises InputError."""
    rollout, problem = config.actor_rollout_ref.rollout, toolchain.hidden_segments()
    need(not (rollout.name == "vllm" and rollout.free_cache_engine and problem), str(problem))


def check_cluster(config: DictConfig, nodes: Sequence[Mapping[str, float]]) -> None:
    """Check a running Ray cluster, given the resources of each of its nodes. Raises InputError."""
    trainer = config.trainer
    gpus, bundle = trainer.n_gpus_per_node, CPUS_PER_GPU * trainer.n_gpus_per_node
    fit = [node for node in nodes if node.get("GPU", 0) >= gpus and node.get("CPU", 0) >= bundle]
    need(
        len(fit) >= trainer.nnodes,
        f"needs {trainer.nnodes} node(s) with {gpus} GPU(s) and {bundle} CPUs, Ray has {len(fit)} of {len(nodes)}: set "
        "trainer.nnodes and trainer.n_gpus_per_node",
    )
    needed, seen = cpus_needed(config), sum(node.get("CPU", 0) for node in nodes)
    need(seen >= needed, f"needs {needed} CPUs, the Ray cluster has {seen:.0f} and would wait forever")
