"""The parquet files that verl trains on, and the manifest that records what they were made from.

A row is what verl's RLHFDataset and reward manager read:
    prompt        the three messages of src/prompts.py, the last one open
    reward_model  {"style": "rule", "ground_truth": the new code}
    data_source   "recode"; groups validation metrics
    extra_info    {"index", "record_id", "split", "old_code"}; passed to the reward
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from common.errors import InputError
from common.files import replacing, write_json
from common.provenance import sha256
from common.rows import resolve
from prompts import fit_records, load_tokenizer, migration_messages
from records import Record, load_records

VAL_LIMIT = 0.5  # a validation share above this is a mistake
FILTER_VERSION = 1  # increase it if fit_records keeps other records for the same settings


def row(record: Record, index: int, split: str) -> dict[str, Any]:
    """One parquet row (module docstring)."""
    return {
        "data_source": "recode",
        "prompt": migration_messages(record),
        "reward_model": {"style": "rule", "ground_truth": record.new_code},
        "extra_info": {"index": index, "record_id": record.id, "split": split, "old_code": record.old_code},
    }


def rows_hash(records: Sequence[Record], split: str) -> str:
    """The sha256 of the records' parquet rows."""
    rows = [row(record, i, split) for i, record in enumerate(records)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def update_of(record: Record) -> str:
    """A hash of the update that a record shows. Records of one update must be on one side of a split."""
    key = "\n".join((record.dependency, record.new_version, " ".join(record.update_info.split())))
    return hashlib.sha256(key.encode()).hexdigest()


def split_by_update(records: Sequence[Record], val_size: int) -> tuple[list[Record], list[Record]]:
    """(train, val): whole updates go to val, in the order of their hashes, until it holds `val_size` records.

    Deterministic, and adding records of other updates moves few. Raises InputError if val would be over half.
    """
    val_updates: set[str] = set()
    taken = 0
    counts = Counter(map(update_of, records))
    for update in sorted(counts):
        if taken >= val_size:
            break
        val_updates.add(update)
        taken += counts[update]
    if taken > VAL_LIMIT * len(records):
        raise InputError(f"recode.val_size={val_size}: that takes {taken} of {len(records)} records")
    train = [record for record in records if update_of(record) not in val_updates]
    return train, [record for record in records if update_of(record) in val_updates]


@dataclass(frozen=True)
class DataFiles:
    """The parquet files of a run, and everything that decides what they hold."""

    train: Path
    val: Path
    data: str
    val_data: str | None  # if None, `val_size` records of `data`
    val_size: int
    bad_rows: str
    model: str  # its tokenizer counts the tokens
    max_prompt_length: int
    max_target_length: int | None

    @classmethod
    def of(cls, config: DictConfig) -> DataFiles:
        """Raises InputError if the configuration lists several files for a split."""
        recode, data, model = config.recode, config.data, config.actor_rollout_ref.model.path
        for split in ("train", "val"):
            if not isinstance(data[f"{split}_files"], str):
                raise InputError(f"data.{split}_files: must be one file, written by src/data_process.py")
        return cls(
            train=Path(data.train_files),
            val=Path(data.val_files),
            data=recode.data,
            val_data=recode.val_data,
            val_size=recode.val_size,
            bad_rows=recode.bad_rows,
            model=str(Path(model).resolve()) if Path(model).is_dir() else model,
            max_prompt_length=data.max_prompt_length,
            max_target_length=recode.max_target_length,
        )

    @property
    def files(self) -> dict[str, Path]:
        return {"train": self.train, "val": self.val}

    @property
    def manifest(self) -> Path:
        return self.train.with_suffix(".json")

    @cached_property
    def sources(self) -> dict[str, Path]:
        """The record files by the names in the configuration. Raises InputError if one cannot be read."""
        return {name: resolve(name) for name in (self.data, self.val_data) if name is not None}

    @cached_property
    def splits(self) -> dict[str, list[Record]]:
        """The records of each split, before long ones are dropped. Raises InputError."""
        records = load_records(self.data, self.bad_rows)
        if self.val_data is None:
            return dict(zip(("train", "val"), split_by_update(records, self.val_size), strict=True))
        val = load_records(self.val_data, self.bad_rows)
        if shared := {*map(update_of, records)} & {*map(update_of, val)}:
            raise InputError(f"{self.val_data}: {len(shared)} of its updates are in {self.data} too")
        return {"train": records, "val": val}

    def identity(self) -> dict[str, Any]:
        """What decides the files' content. It hashes rows, not code: a change that leaves the rows alone is none."""
        return {
            **{f"{split}_rows": rows_hash(records, split) for split, records in self.splits.items()},
            "model": self.model,
            "max_prompt_length": self.max_prompt_length,
            "max_target_length": self.max_target_length,
            "filter_version": FILTER_VERSION,
        }

    def stale(self) -> str | None:
        """Why the files must be written again, or None if they are up to date."""
        for path in (*self.files.values(), self.manifest):
            if not path.is_file():
                return f"{path} is missing"
        try:
            made = json.loads(self.manifest.read_text("utf-8"))
            identity, hashes = made["identity"], {split: made[split]["sha256"] for split in self.files}
        except (ValueError, KeyError, TypeError):
            return f"{self.manifest} is damaged"
        for key, value in self.identity().items():
            if identity.get(key) != value:
                return f"{key} has changed"
        for split, path in self.files.items():
            if hashes[split] != sha256(path):
                return f"{path} is not the file that was written"
        return None

    def write(self, kept: Mapping[str, Sequence[Record]]) -> None:
        """Write both files, each whole or not at all, then the manifest."""
        from datasets import Dataset

        self.manifest.unlink(missing_ok=True)  # a kill between the two files must not leave the manifest of an old pair
        made: dict[str, Any] = {"identity": self.identity(), "bad_rows": self.bad_rows}
        for split, path in self.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = Dataset.from_list([row(record, i, split) for i, record in enumerate(kept[split])])
            with replacing(path) as part:
                rows.to_parquet(str(part))
            made[split] = {"file": str(path), "rows": len(kept[split]), "sha256": sha256(path)}
            print(f"wrote {path}  {len(kept[split])} rows  sha256 {made[split]['sha256'][:16]}")
        write_json(self.manifest, made)


def make(data: DataFiles, *, batch_size: int, max_response_length: int) -> None:
    """Write the records that fit. Raises InputError before anything is written."""
    splits, tokenizer = data.splits, load_tokenizer(data.model)
    kept: dict[str, Sequence[Record]] = {}
    for split, records in splits.items():
        fitted = fit_records(records, tokenizer, split, data.max_prompt_length, data.max_target_length)
        print(fitted.report)
        if fitted.longest_target * 1.5 > max_response_length:
            print(f"  warning: the longest target leaves little room to think in {max_response_length} tokens")
        kept[split] = fitted.records
    if len(kept["train"]) < batch_size:
        raise InputError(f"{data.data}: {len(kept['train'])} records for data.train_batch_size={batch_size}")
    data.write(kept)
