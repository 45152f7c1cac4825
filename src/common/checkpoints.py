"""The checkpoints of a training run, whichever trainer wrote them, and what the run says of itself in run.json."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import InputError


def is_adapter(folder: str | Path) -> bool:
    """Whether `folder` holds a peft adapter."""
    return (Path(folder) / "adapter_config.json").is_file()


def actor_folder(checkpoint: Path) -> Path:
    """The folder with the shards: `checkpoint` itself or its actor/. Raises ValueError where there are none."""
    for folder in (checkpoint, checkpoint / "actor"):
        if (folder / "fsdp_config.json").is_file():
            return folder
    raise ValueError(f"{checkpoint}: no verl checkpoint there (actor/fsdp_config.json is missing)")


def shard_files(checkpoint: Path) -> list[Path]:
    """The files that hold the weights, one a rank. Raises ValueError where one is missing."""
    folder = actor_folder(checkpoint)
    world = json.loads((folder / "fsdp_config.json").read_text("utf-8"))["world_size"]
    paths = [folder / f"model_world_size_{world}_rank_{rank}.pt" for rank in range(world)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return paths


@dataclass(frozen=True)
class Checkpoint:
    """The weights after `step` optimizer steps.

    `kind`: base (step 0), adapter or model (src/grpo.py and src/sft.py: a peft adapter, or all weights), verl
    (src/dapo.py: shards, which src/merge_adapter.py turns into a model).
    """

    step: int
    kind: str
    folder: Path | None = None


def _kind(folder: Path) -> str | None:
    """What is in a checkpoint folder; None where its weights were not written to their end."""
    if folder.name.startswith("global_step_"):
        try:
            # torch.save writes a zip archive, whose table of contents comes last.
            return "verl" if all(zipfile.is_zipfile(shard) for shard in shard_files(folder)) else None
        except (ValueError, OSError, KeyError):
            return None
    try:
        json.loads((folder / "trainer_state.json").read_text("utf-8"))  # the last file that trl's trainer writes
    except (ValueError, OSError):
        return None
    if is_adapter(folder):
        return "adapter"
    return "model" if (folder / "config.json").is_file() else None


def find_checkpoints(run: Path) -> list[Checkpoint]:
    """The complete checkpoints in a run's folder, by step; one that a kill cut short is passed over."""
    found = []
    for prefix in ("checkpoint-", "global_step_"):
        for folder in run.glob(prefix + "*"):
            number = folder.name.removeprefix(prefix)
            if number.isdigit() and (kind := _kind(folder)):
                found.append(Checkpoint(int(number), kind, folder))
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def run_start(run: Path) -> dict[str, Any]:
    """The entry of run.json that began the run: the last start from nothing. Raises InputError where there is none."""
    path = run / "run.json"
    try:
        starts = json.loads(path.read_text("utf-8"))["starts"]
    except FileNotFoundError:
        raise InputError(f"{path}: not there: is {run} a run of src/grpo.py or src/dapo.py?") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: not what a run writes") from None
    fresh = [start for start in starts if start.get("resumed_from") is None]
    if not fresh:
        raise InputError(f"{path}: no start of the run in it")
    return fresh[-1]


def base_of(start: dict[str, Any]) -> tuple[str, str]:
    """(model, revision) that a run started from. Raises InputError where its configuration does not say."""
    config = start.get("config", {})
    try:
        if "actor_rollout_ref" in config:
            return config["actor_rollout_ref"]["model"]["path"], "main"
        return config["model_name_or_path"], config.get("model_revision") or "main"
    except KeyError as error:
        raise InputError(f"run.json: the configuration has no {error}: name the base model with --base") from None
