"""Whether a checkpoint's files hold what transformers loads from them. It reads them after the model has loaded."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import transformers
from pydantic import BaseModel, ConfigDict, create_model
from transformers.trainer_pt_utils import safe_globals

from common.checkpoints import Checkpoint
from common.errors import InputError
from common.files import read_json
from common.models import reason, tensor_names

TYPES: dict[str, Any] = {  # of the keys of trainer_state.json that transformers computes with
    **dict.fromkeys(("epoch", "total_flos"), float),
    **dict.fromkeys(("max_steps", "num_train_epochs", "num_input_tokens_seen"), int),
    "train_batch_size": int | None,
    "log_history": list[dict[str, Any]],
    "stateful_callbacks": dict[str, dict[str, dict[str, Any]] | list[dict[str, dict[str, Any]]]],
}
KEYS: dict[str, Any] = {field.name: (TYPES.get(field.name, Any), None) for field in fields(transformers.TrainerState)}
State: type[BaseModel] = create_model("State", __config__=ConfigDict(extra="forbid"), **KEYS)
SAVED = {  # files of torch.save -> keys of each
    "optimizer.pt": ("state", "param_groups"),
    "scheduler.pt": ("last_epoch",),
    "rng_state*.pth": ("python", "numpy", "cpu"),
}


def read_saved(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """The dictionary in one of torch's files. Raises InputError if it is not one with these keys."""
    try:
        with safe_globals():
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch reports damaged files with any exception
        raise InputError(f"{path}: cannot be loaded: {reason(error)}") from None
    if not isinstance(found, dict) or not found.keys() >= set(keys):
        raise InputError(f"{path}: not what the trainer saved: it has no {', '.join(keys)}")
    return found


def check_saved(checkpoint: Checkpoint) -> None:
    """Raise InputError if transformers could not resume from a trl checkpoint."""
    folder = checkpoint.folder
    assert folder
    read_json(folder / "trainer_state.json", State)
    found = {path.name: read_saved(path, SAVED[name]) for name in SAVED for path in sorted(folder.glob(name))}
    if checkpoint.kind == "adapter" and "optimizer.pt" in found:
        groups = found["optimizer.pt"]["param_groups"]
        sized = isinstance(groups, list) and all(isinstance(group, dict) and "params" in group for group in groups)
        count = sum(len(group["params"]) for group in groups) if sized else 0
        if count != (weights := len(tensor_names(folder / "adapter_model.safetensors"))):
            raise InputError(f"{folder / 'optimizer.pt'}: of {count} parameters, but the adapter has {weights}")
