"""Reads verl's FSDP checkpoints: joins the shards of all ranks, without verl and without a process group.

A checkpoint is a folder `global_step_N/actor` with `model_world_size_W_rank_R.pt` for each rank R. DoRA runs save only
the adapter (`save_lora_only`); their untrained adapter is beside the checkpoints, in `adapter_init`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapters import load_adapter
from common.checkpoints import actor_folder, shard_files
from common.errors import InputError
from common.models import is_adapter, load_base


def join(shards: list[Any]) -> Any:
    """One tensor from its per-rank pieces: DTensors are concatenated along their sharded dimension."""
    import torch
    from torch.distributed.tensor import DTensor, Shard

    first = shards[0]
    if not isinstance(first, DTensor):
        return first
    placement = first.placements[0]
    if len(first.placements) != 1 or not isinstance(placement, Shard):
        raise InputError(f"placements {first.placements}: only shards along one dimension are supported (no HSDP)")
    # fully_shard splits like torch.chunk: the last ranks may hold less, or nothing.
    whole = torch.cat([shard._local_tensor for shard in shards], dim=placement.dim)
    if whole.shape != first.shape:
        raise InputError(f"the joined shards have shape {tuple(whole.shape)}, not {tuple(first.shape)}")
    return whole


def read_weights(checkpoint: Path) -> dict[str, Any]:
    """name -> whole tensor, from every rank's file. Memory: at its peak, twice the checkpoint's weights."""
    import torch

    # verl pickles DTensors with their device mesh, which torch's safe loader rejects: only open checkpoints you trust.
    ranks = [torch.load(path, map_location="cpu", weights_only=False) for path in shard_files(checkpoint)]
    return {name: join([rank[name] for rank in ranks]) for name in ranks[0]}


def run_folder(checkpoint: Path) -> Path:
    """The run's folder: the parent of global_step_N."""
    return actor_folder(checkpoint).resolve().parent.parent


def load_trained(checkpoint: Path, base: str, revision: str = "main") -> Any:
    """The trained model in float32, its adapter merged by peft. Raises InputError if weights are missing or unknown."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    weights = read_weights(checkpoint)
    if all("lora_" in name for name in weights):
        return trained_adapter(checkpoint, weights, base, revision).merge_and_unload(safe_merge=True)
    config = AutoConfig.from_pretrained(actor_folder(checkpoint) / "huggingface")
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()  # the embedding, saved or not
    _load(model, set(model.state_dict()) - tied, weights, checkpoint)
    model.tie_weights()
    return model


def trained_adapter(checkpoint: Path, weights: dict[str, Any], base: str, revision: str = "main") -> Any:
    """A peft model of the base and the checkpoint's adapter, unmerged."""
    import torch

    initial = run_folder(checkpoint) / "adapter_init"
    if not is_adapter(initial):
        raise InputError(f"{initial} is missing: it holds the adapter's configuration (DoRA, rank, target modules)")
    model = load_adapter(load_base(base, torch.float32, revision), initial)
    _load(model, {name for name in model.state_dict() if "lora_" in name}, weights, checkpoint)
    return model


def _load(model: Any, expected: set[str], weights: dict[str, Any], where: Path) -> None:
    unknown, missing = model.load_state_dict(weights, strict=False).unexpected_keys, expected - set(weights)
    for names, what in ((missing, "lacks"), (unknown, "has an unknown")):
        if names:
            raise InputError(f"{where}: {what} {sorted(names)[0]} ({len(names)} such weights)")
