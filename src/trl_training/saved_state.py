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
from common.rows import typed

TYPES: dict[str, Any] = {  # of the keys of trainer_state.json that transformers computes with
    **dict.fromkeys(("epoch", "total_flos"), float),
    **dict.fromkeys(("max_steps", "num_train_epochs", "num_input_tokens_seen"), int),
    "train_batch_size": int | None,
    "log_history": list[dict[str, Any]],
    "stateful_callbacks": dict[str, dict[str, dict[str, Any]] | list[dict[str, dict[str, Any]]]],
}
KEYS: dict[str, Any] = {field.name: (TYPES.get(field.name, Any), None) for field in fields(transformers.TrainerState)}
State: type[BaseModel] = create_model("State", __config__=ConfigDict(extra="forbid"), **KEYS)


class Group(BaseModel):
    """Parameters of an optimizer, by number."""

    params: list[int]


class Optimizer(BaseModel):
    """optimizer.pt."""

    state: dict[Any, Any]
    param_groups: list[Group]


SAVED: dict[str, type[BaseModel]] = {  # files of torch.save -> what they hold
    "optimizer.pt": Optimizer,
    "scheduler.pt": create_model("Schedule", last_epoch=int),
    "rng_state*.pth": create_model("Generators", python=Any, numpy=Any, cpu=Any),
}


def read_saved(path: Path, schema: type[BaseModel]) -> BaseModel:
    """What one of torch's files holds. Raises InputError."""
    try:
        with safe_globals():
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch reports damaged files with any exception
        raise InputError(f"{path}: cannot be loaded: {reason(error)}") from None
    return typed(schema, found, str(path), whole="")


def check_saved(checkpoint: Checkpoint) -> None:
    """Raise InputError if transformers could not resume from a trl checkpoint."""
    folder = checkpoint.folder
    assert folder
    read_json(folder / "trainer_state.json", State)
    for path, schema in [(path, SAVED[name]) for name in SAVED for path in sorted(folder.glob(name))]:
        saved = read_saved(path, schema)
        if isinstance(saved, Optimizer) and checkpoint.kind == "adapter":
            count = sum(len(group.params) for group in saved.param_groups)
            if count != (weights := len(tensor_names(folder / "adapter_model.safetensors"))):
                raise InputError(f"{path}: of {count} parameters, but the adapter has {weights}")
