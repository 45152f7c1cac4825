"""The checkpoints of a training run, whichever trainer wrote them: which are complete, and which can be resumed."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, PositiveInt

from common.errors import InputError
from common.files import read_json
from common.provenance import read_starts


class FsdpConfig(BaseModel):
    """actor/fsdp_config.json of a verl checkpoint."""

    world_size: PositiveInt


class TrainerState(BaseModel):
    """trainer_state.json of a trl checkpoint, the last file that the trainer writes."""

    global_step: int


@dataclass(frozen=True)
class Checkpoint:
    """The weights after `step` optimizer steps.

    `kind`: base (step 0), adapter or model (src/grpo.py and src/sft.py: a peft adapter, or all weights), sharded
    (those by FSDP, which only a resume can load), verl (src/dapo.py: shards, which src/merge_adapter.py turns into a
    model). `resumable`: optimizer and data order are complete as well.
    """

    step: int
    kind: str
    folder: Path | None = None
    resumable: bool = False


def is_adapter(folder: str | Path) -> bool:
    """Whether `folder` holds a peft adapter."""
    return (Path(folder) / "adapter_config.json").is_file()


def actor_folder(checkpoint: Path) -> Path:
    """The folder with the shards: `checkpoint` itself or its actor/."""
    for folder in (checkpoint, checkpoint / "actor"):
        if (folder / "fsdp_config.json").is_file():
            return folder
    raise InputError(f"{checkpoint}: no verl checkpoint there (actor/fsdp_config.json is missing)")


def world_size(checkpoint: Path) -> int:
    """How many processes wrote a verl checkpoint."""
    return read_json(actor_folder(checkpoint) / "fsdp_config.json", FsdpConfig).world_size


def shard_files(checkpoint: Path, kind: str = "model") -> list[Path]:
    """The files of one kind (model, optim, extra_state), one per rank. Raises InputError if one is incomplete."""
    folder, world = actor_folder(checkpoint), world_size(checkpoint)
    paths = [folder / f"{kind}_world_size_{world}_rank_{rank}.pt" for rank in range(world)]
    for path in paths:
        if not zipfile.is_zipfile(path):  # torch.save writes a zip archive, whose table of contents comes last
            raise InputError(f"{path} is {'cut short' if path.is_file() else 'missing'}")
    return paths


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in a folder of trl or verl. Raises InputError if its weights are incomplete."""
    step = folder.name.removeprefix("global_step_")
    if step != folder.name and step.isdigit():
        shard_files(folder)
        try:
            resumable = bool(shard_files(folder, "optim") and shard_files(folder, "extra_state"))
        except InputError:
            resumable = False
        return Checkpoint(int(step), "verl", folder, resumable and zipfile.is_zipfile(folder / "data.pt"))
    if not (folder / "trainer_state.json").is_file():
        raise InputError(f"{folder}: not a complete checkpoint (trainer_state.json is missing)")
    state = read_json(folder / "trainer_state.json", TrainerState)
    kind = "adapter" if is_adapter(folder) else "model" if (folder / "config.json").is_file() else "sharded"
    # The optimizer: optimizer.pt (DDP), optimizer.bin or optimizer_0/ (FSDP); DeepSpeed names its folder in `latest`.
    resumable = any(folder.glob("optimizer*")) or (folder / "latest").is_file()
    return Checkpoint(state.global_step, kind, folder, resumable)


def find_checkpoints(run: Path, *, sharded: bool = False) -> list[Checkpoint]:
    """The complete checkpoints of a run, by step; `sharded` includes those that only a resume can load."""
    found = []
    for prefix in ("checkpoint-", "global_step_"):
        for folder in run.glob(prefix + "*"):
            if folder.name.removeprefix(prefix).isdigit():
                with suppress(InputError, OSError):
                    found.append(read_checkpoint(folder))
    chosen = [checkpoint for checkpoint in found if sharded or checkpoint.kind != "sharded"]
    return sorted(chosen, key=lambda checkpoint: checkpoint.step)


def run_start(run: Path) -> dict[str, Any]:
    """The entry of run.json that began the run: the last start from scratch, or from another run's checkpoint."""
    starts = read_starts(run)
    fresh = [start for start in starts if start.resumed_from is None]
    return (fresh or starts)[-1].model_dump(exclude_unset=True)


def base_of(start: Mapping[str, Any]) -> tuple[str, str]:
    """(model, revision) that a run started from."""
    config = start.get("config", {})

    def text(*keys: str) -> str:
        value: Any = config
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if not isinstance(value, str):
            path = ".".join(("config", *keys))
            raise InputError(f"run.json: {path} is missing or not text: name the base model with --base")
        return value

    if "actor_rollout_ref" in config:
        return text("actor_rollout_ref", "model", "path"), "main"
    return text("model_name_or_path"), text("model_revision") if config.get("model_revision") else "main"
