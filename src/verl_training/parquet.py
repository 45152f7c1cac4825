"""The parquet files that verl trains on: their rows, and the manifest that says what they were made from.

A row is what verl's RLHFDataset and reward manager read:
    prompt        the three messages of src/prompts.py, the last one open
    reward_model  {"style": "rule", "ground_truth": the new code}
    data_source   "recode"; groups validation metrics
    extra_info    {"index", "record_id", "split"}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from common.errors import InputError
from common.provenance import sha256
from common.rows import resolve
from prompts import migration_messages
from records import Record

SRC = Path(__file__).parents[1]
CODE = (
    *("prompts.py", "records.py", "common/libraries.py", "common/rows.py", "rewards.py"),
    *("verl_training/parquet.py", "data_process.py"),
)
VAL_LIMIT = 0.5  # a validation share above this is a mistake


def row(record: Record, index: int, split: str) -> dict[str, Any]:
    """One parquet row (module docstring)."""
    return {
        "data_source": "recode",
        "prompt": migration_messages(record),
        "reward_model": {"style": "rule", "ground_truth": record.new_code},
        "extra_info": {"index": index, "record_id": record.id, "split": split},
    }


def update_of(record: Record) -> str:
    """What must not stand on both sides of a split: the update that a record shows."""
    key = "\n".join((record.dependency, record.new_version, " ".join(record.update_info.split())))
    return hashlib.sha256(key.encode()).hexdigest()


def split_by_update(records: Sequence[Record], val_size: int) -> tuple[list[Record], list[Record]]:
    """(train, val): whole updates go to val, in the order of their hashes, until it holds `val_size` records.

    Deterministic, and adding records of other updates moves few. Raises InputError where val would be over half.
    """
    val_updates: set[str] = set()
    taken = 0
    counts: dict[str, int] = {}
    for record in records:
        counts[update_of(record)] = counts.get(update_of(record), 0) + 1
    for update in sorted(counts):
        if taken >= val_size:
            break
        val_updates.add(update)
        taken += counts[update]
    if taken > VAL_LIMIT * len(records):
        raise InputError(f"recode.val_size={val_size}: that takes {taken} of {len(records)} records")
    train = [record for record in records if update_of(record) not in val_updates]
    return train, [record for record in records if update_of(record) in val_updates]


def sources(config: DictConfig) -> dict[str, Path]:
    """The record files that the configuration names. Raises InputError where one cannot be had."""
    names = [config.recode.data, config.recode.val_data]
    return {str(name): resolve(name) for name in names if name is not None}


def identity(config: DictConfig) -> dict[str, Any]:
    """Everything that decides what the parquet files hold."""
    recode, model = config.recode, config.actor_rollout_ref.model.path
    return {
        "sources": [sha256(path) for path in sources(config).values()],
        "code": {name: sha256(SRC / name) for name in CODE},
        "model": str(Path(model).resolve()) if Path(model).is_dir() else model,
        "max_prompt_length": config.data.max_prompt_length,
        "max_target_length": recode.max_target_length,
        "bad_rows": recode.bad_rows,
        "val_size": recode.val_size if recode.val_data is None else None,
    }


def manifest_path(config: DictConfig) -> Path:
    """Where data_process.py says what it made."""
    return Path(config.data.train_files).with_suffix(".json")


def files(config: DictConfig) -> dict[str, Path]:
    """The two parquet files. Raises InputError where the configuration lists several."""
    found = {}
    for split, value in (("train", config.data.train_files), ("val", config.data.val_files)):
        if not isinstance(value, str):
            raise InputError(f"data.{split}_files: one file, written by src/data_process.py")
        found[split] = Path(value)
    return found


def stale(config: DictConfig) -> str | None:
    """Why the parquet files must be made anew, or None where they are what the configuration asks for."""
    paths = [*files(config).values(), manifest_path(config)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        return f"{missing[0]} is missing"
    try:
        made = json.loads(manifest_path(config).read_text("utf-8"))
    except ValueError:
        return f"{manifest_path(config)} is damaged"
    for key, value in identity(config).items():
        if made["identity"].get(key) != value:
            return f"{key} has changed"
    for split, path in files(config).items():
        if made[split]["sha256"] != sha256(path):
            return f"{path} is not the file that was written"
    return None
