"""Which checkpoint a DAPO run goes on from, and whether it is the same run. One rule: the last complete one, by itself.

verl keeps the last step in a file of its own, written without care for a kill; here the folders themselves are looked
at.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from common.errors import InputError
from verl_training.config import leaves

RUN_KEYS = ("data", "reward", "algorithm", "actor_rollout_ref", "recode")  # what makes a run: a resume must agree
BY_RESULT = ("recode.bad_rows", "recode.drop_bad_rows")  # seen in the hashes of the parquet files


def world_size(checkpoint: Path) -> int:
    """How many processes wrote the checkpoint. Raises OSError, ValueError or KeyError where it does not say."""
    return json.loads((checkpoint / "actor" / "fsdp_config.json").read_text("utf-8"))["world_size"]


def complete(checkpoint: Path) -> bool:
    """Whether every file of a verl checkpoint was written to its end."""
    try:
        world = world_size(checkpoint)
    except (OSError, ValueError, KeyError):
        return False
    kinds = ("model", "optim", "extra_state")
    shards = [
        checkpoint / "actor" / f"{kind}_world_size_{world}_rank_{rank}.pt" for kind in kinds for rank in range(world)
    ]
    # torch.save writes a zip archive, whose table of contents comes last.
    return all(path.is_file() and zipfile.is_zipfile(path) for path in (*shards, checkpoint / "data.pt"))


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run; one that a kill cut short is passed over."""
    found = [path for path in folder.glob("global_step_*") if path.name.removeprefix("global_step_").isdigit()]
    found = sorted(
        (path for path in found if complete(path)), key=lambda path: int(path.name.removeprefix("global_step_"))
    )
    return found[-1] if found else None


def choose_resume(config: DictConfig) -> Path | None:
    """The checkpoint to go on from, written into the configuration. Raises InputError where old results are in the
    way."""
    trainer, folder = config.trainer, Path(config.trainer.default_local_dir)
    if trainer.resume_mode == "resume_path":
        path = Path(str(trainer.resume_from_path)).resolve()
        if not complete(path):
            raise InputError(f"trainer.resume_from_path={path}: no complete checkpoint there")
    elif trainer.resume_mode == "auto":
        path = last_checkpoint(folder)
    else:
        if last_checkpoint(folder):
            raise InputError(
                f"{folder} holds checkpoints: trainer.resume_mode=auto goes on from there, or choose another run="
            )
        path = None
    if path:
        processes = trainer.n_gpus_per_node * trainer.nnodes
        if world_size(path) != processes:
            raise InputError(
                f"{path} was saved by {world_size(path)} processes, now there are {processes}: not resumable"
            )
    trainer.resume_mode = "resume_path" if path else "disable"
    trainer.resume_from_path = str(path) if path else None
    return path


def check_same_run(folder: Path, description: dict[str, Any]) -> None:
    """Refuse to resume with another configuration or other data. Raises InputError that names the first difference."""
    path = folder / "run.json"
    if not path.exists():
        return
    before = json.loads(path.read_text("utf-8"))["starts"][-1]
    pairs = [(before["data"], description["data"], "data file")]
    pairs += [(before["config"].get(key), description["config"].get(key), key) for key in RUN_KEYS]
    for old, new, name in pairs:
        ours = dict(leaves(json.loads(json.dumps(new, default=str)), name))
        for key, value in leaves(old, name):
            if key not in BY_RESULT and ours.get(key) != value:
                raise InputError(
                    f"{folder} was started with {key} = {value}, now it is {ours.get(key)}: not the same run"
                )
