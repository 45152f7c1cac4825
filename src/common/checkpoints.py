"""The checkpoints of a training run, whichever trainer wrote them: which are complete, and which can be resumed."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, PositiveInt

from common.errors import InputError
from common.files import read_json
from common.models import WeightIndex, is_adapter, tensor_names
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
    model). `lacks`: why it cannot be resumed although its weights are complete; empty if it can.
    """

    step: int
    kind: str
    folder: Path | None = None
    lacks: str = ""


def actor_folder(checkpoint: Path) -> Path:
    """The folder with the shards: `checkpoint` itself or its actor/."""
    for folder in (checkpoint, checkpoint / "actor"):
        if (folder / "fsdp_config.json").is_file():
            return folder
    raise InputError(f"{checkpoint}: no verl checkpoint there (actor/fsdp_config.json is missing)")


def world_size(checkpoint: Path) -> int:
    """How many processes wrote a verl checkpoint."""
    return read_json(actor_folder(checkpoint) / "fsdp_config.json", FsdpConfig).world_size


def shard_paths(checkpoint: Path, kind: str) -> list[Path]:
    """Where the files of one kind (model, optim, extra_state) are, one per rank."""
    folder, world = actor_folder(checkpoint), world_size(checkpoint)
    return [folder / f"{kind}_world_size_{world}_rank_{rank}.pt" for rank in range(world)]


def shard_files(checkpoint: Path) -> list[Path]:
    """The files with the weights, one per rank. Raises InputError if one is missing or cut short."""
    paths = shard_paths(checkpoint, "model")
    if lacks := saved_by_torch(*paths):
        raise InputError(f"{actor_folder(checkpoint)}: {lacks}")
    return paths


def saved_by_torch(*paths: Path) -> str:
    """Which of torch's files is missing or cut short, in a few words; empty if none is."""
    for path in paths:
        if not zipfile.is_zipfile(path):  # torch.save writes a zip archive, whose table of contents comes last
            return f"{path.name} is {'cut short' if path.is_file() else 'missing'}"
    return ""


def trl_weights(folder: Path) -> str:
    """The kind of a trl checkpoint. Raises InputError if its weights are missing or cut short."""
    index = folder / "model.safetensors.index.json"
    if is_adapter(folder):
        kind, names = "adapter", ["adapter_model.safetensors"]
    elif index.is_file():
        kind, names = "model", sorted({*read_json(index, WeightIndex).weight_map.values()})
    elif (folder / "config.json").is_file():
        kind, names = "model", ["model.safetensors"]
    elif any(folder.glob("pytorch_model_fsdp*")):
        return "sharded"
    else:
        raise InputError(f"{folder}: not a complete checkpoint (it holds no weights)")
    for name in names:
        tensor_names(folder / name)
    return kind


def trl_lacks(folder: Path) -> str:
    """Why transformers could not resume from a checkpoint of its own: without a message it would start a new optimizer.

    The optimizer: optimizer.pt (DDP), optimizer.bin or optimizer_0/ (FSDP); DeepSpeed names its folder in `latest`.
    """
    if (latest := folder / "latest").is_file():
        states = folder / latest.read_text(errors="replace").strip()
        if not any(states.glob("*optim_states.pt")):
            return f"the optimizer's states in {states.name} are missing"
    elif not any(folder.glob("optimizer*")):
        return "saved without the optimizer's state (save_only_model)"
    files = [*folder.glob("optimizer.*"), *(sorted(folder.glob("rng_state*.pth")) or [folder / "rng_state.pth"])]
    return saved_by_torch(*files, folder / "scheduler.pt")


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in a folder of trl or verl. Raises InputError if its weights are incomplete."""
    if found := re.fullmatch(r"global_step_([0-9]+)", folder.name):
        shard_files(folder)
        others = [path for kind in ("optim", "extra_state") for path in shard_paths(folder, kind)]
        return Checkpoint(int(found[1]), "verl", folder, saved_by_torch(*others, folder / "data.pt"))
    if not (folder / "trainer_state.json").is_file():  # the last file that the trainer writes
        raise InputError(f"{folder}: not a complete checkpoint (trainer_state.json is missing)")
    step = read_json(folder / "trainer_state.json", TrainerState).global_step
    if (named := re.fullmatch(r"checkpoint-([0-9]+)", folder.name)) and int(named[1]) != step:
        raise InputError(f"{folder}: its trainer_state.json is of step {step}")
    return Checkpoint(step, trl_weights(folder), folder, trl_lacks(folder))


def examine(run: Path) -> tuple[list[Checkpoint], list[str]]:
    """(the complete checkpoints of a run, by step; what is wrong with each of the others, in one line)."""
    found, wrong = [], []
    for folder in sorted([*run.glob("checkpoint-*"), *run.glob("global_step_*")]):
        if not re.fullmatch(r"(checkpoint-|global_step_)[0-9]+", folder.name):  # a copy, or something else
            continue
        try:
            found.append(read_checkpoint(folder))
        except (InputError, OSError) as error:
            wrong.append(str(error))
    return sorted(found, key=lambda checkpoint: checkpoint.step), wrong


def find_checkpoints(run: Path, *, sharded: bool = False) -> list[Checkpoint]:
    """The complete checkpoints of a run, by step; `sharded` includes those that only a resume can load."""
    return [checkpoint for checkpoint in examine(run)[0] if sharded or checkpoint.kind != "sharded"]


def choose(run: Path, verl: bool) -> tuple[Checkpoint | None, list[str]]:
    """(the last checkpoint from which its trainer can resume, why each later or incomplete one is passed over)."""
    found, wrong = examine(run)
    own = [checkpoint for checkpoint in found if (checkpoint.kind == "verl") == verl]
    usable = [checkpoint for checkpoint in own if not checkpoint.lacks]
    last = usable[-1] if usable else None
    later = [checkpoint for checkpoint in own if last is None or checkpoint.step > last.step]
    return last, [*(f"{checkpoint.folder}: {checkpoint.lacks}" for checkpoint in later), *wrong]


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
