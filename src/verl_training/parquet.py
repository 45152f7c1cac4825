"""The parquet files that verl trains on, and the manifest that records what they were made from.

A row is what verl's RLHFDataset and reward manager read:
    prompt        the three messages of src/prompts.py in the wording of `recode.prompt`, the last one open
    reward_model  {"style": "rule", "ground_truth": the new code}
    data_source   "recode"; groups validation metrics
    extra_info    {"index", "record_id", "split", "old_code"}, and "alternatives" (recode.alternatives: true); passed to
                  the reward
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
from pydantic import BaseModel

from common.alternatives import read_alternatives
from common.errors import InputError
from common.files import read_json, replacing, write_json
from common.provenance import sha256
from common.rows import resolve
from prompts import DEFAULT_WORDING, fit_records, load_chat, migration_messages
from records import Record, load_records


class Written(BaseModel):
    """What the manifest records of a parquet file, as far as it is read back."""

    sha256: str


class Manifest(BaseModel):
    """train.json beside train.parquet."""

    identity: dict[str, Any]
    train: Written
    val: Written


Others = Mapping[str, Sequence[str]]  # record id -> other right targets


def row(
    record: Record, index: int, split: str, prompt: str = DEFAULT_WORDING, others: Others | None = None
) -> dict[str, Any]:
    """One parquet row (module docstring)."""
    more = {} if others is None else {"alternatives": list(others.get(record.id, ()))}
    return {
        "data_source": "recode",
        "prompt": migration_messages(record, prompt),
        "reward_model": {"style": "rule", "ground_truth": record.new_code},
        "extra_info": {"index": index, "record_id": record.id, "split": split, "old_code": record.old_code} | more,
    }


def rows_of(records: Sequence[Record], split: str, prompt: str, others: Others | None) -> list[dict[str, Any]]:
    """The rows of a file."""
    return [row(record, i, split, prompt, others) for i, record in enumerate(records)]


def digest(text: str) -> str:
    """The sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def update_of(record: Record) -> str:
    """A hash of the update that a record shows. Records of one update must be on one side of a split."""
    return digest("\n".join((record.dependency, record.new_version, " ".join(record.update_info.split()))))


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
    if taken > len(records) / 2:
        raise InputError(f"recode.val_size={val_size}: that takes {taken} of {len(records)} records")
    train = [record for record in records if update_of(record) not in val_updates]
    return train, [record for record in records if update_of(record) in val_updates]


@dataclass(frozen=True)
class DataFiles:
    """The parquet files of a run's configuration. Raises InputError if it, or the data, cannot be used."""

    config: DictConfig

    @cached_property
    def files(self) -> dict[str, Path]:
        found = {split: self.config.data[f"{split}_files"] for split in ("train", "val")}
        for split, path in found.items():
            if not isinstance(path, str) or not path.endswith(".parquet"):  # the manifest is beside it, in .json
                raise InputError(f"data.{split}_files={path}: must be a .parquet file that src/data_process.py writes")
        train, val = map(Path, found.values())
        if train.resolve() == val.resolve() or (train.exists() and val.exists() and train.samefile(val)):
            raise InputError(f"data.val_files={val}: must not be the file of data.train_files")
        return {"train": train, "val": val}

    @property
    def manifest(self) -> Path:
        return self.files["train"].with_suffix(".json")

    @cached_property
    def sources(self) -> dict[str, Path]:
        """The record files by the names in the configuration."""
        recode = self.config.recode
        return {name: resolve(name) for name in (recode.data, recode.val_data) if name is not None}

    @cached_property
    def splits(self) -> dict[str, list[Record]]:
        """The records of each split, before long ones are dropped."""
        recode = self.config.recode
        records = load_records(recode.data, recode.bad_rows)
        if recode.val_data is None:
            return dict(zip(("train", "val"), split_by_update(records, recode.val_size), strict=True))
        val = load_records(recode.val_data, recode.bad_rows)
        if shared := {*map(update_of, records)} & {*map(update_of, val)}:
            raise InputError(f"{recode.val_data}: {len(shared)} of its updates are in {recode.data} too")
        return {"train": records, "val": val}

    @cached_property
    def others(self) -> Others | None:
        """The alternatives of every record; None without recode.alternatives."""
        recode = self.config.recode
        if not recode.alternatives:
            return None
        return {i: codes for name in self.sources for i, codes in read_alternatives(name).items()}

    def identity(self) -> dict[str, Any]:
        """What decides the files' content. It hashes rows, not code: code that does not change them does not count."""
        model = self.config.actor_rollout_ref.model.path  # its tokenizer counts the tokens
        prompt = self.config.recode.prompt
        rows = {split: rows_of(found, split, prompt, self.others) for split, found in self.splits.items()}
        return {
            "prompt": prompt,
            **{f"{split}_rows": digest(json.dumps(found)) for split, found in rows.items()},
            "model": str(Path(model).resolve()) if Path(model).is_dir() else model,
            "max_prompt_length": self.config.data.max_prompt_length,
            "max_target_length": self.config.recode.max_target_length,
        }

    def stale(self) -> str | None:
        """Why the files must be written again, or None if they are up to date."""
        for path in (*self.files.values(), self.manifest):
            if not path.is_file():
                return f"{path} is missing"
        try:
            made = read_json(self.manifest, Manifest)
        except InputError as error:
            return str(error)
        for key, value in self.identity().items():
            if made.identity.get(key) != value:
                return f"{key} has changed"
        for written, path in zip((made.train, made.val), self.files.values(), strict=True):
            if written.sha256 != sha256(path):
                return f"{path} is not the file that was written"
        return None

    def make(self) -> None:
        """Write the records that fit: both files, each whole or not at all, then the manifest."""
        from datasets import Dataset

        data, recode = self.config.data, self.config.recode
        splits, chat = self.splits, load_chat(self.config.actor_rollout_ref.model.path)
        kept: dict[str, Sequence[Record]] = {}
        for split, records in splits.items():
            lengths = (data.max_prompt_length, recode.max_target_length)
            fitted = fit_records(records, chat, split, *lengths, recode.prompt)
            print(fitted.report)
            if fitted.longest_target * 1.5 > data.max_response_length:
                print(f"  warning: the longest target leaves little room to think in {data.max_response_length} tokens")
            kept[split] = fitted.records
        if (rows := len(kept["train"])) < (batch := data.train_batch_size):
            raise InputError(f"{recode.data}: {rows} records for data.train_batch_size={batch}")
        self.manifest.unlink(missing_ok=True)  # a kill between the two files must not leave the manifest of an old pair
        made: dict[str, Any] = {"identity": self.identity(), "bad_rows": recode.bad_rows}
        for split, path in self.files.items():
            with replacing(path) as part:
                Dataset.from_list(rows_of(kept[split], split, recode.prompt, self.others)).to_parquet(str(part))
            made[split] = {"file": str(path), "rows": len(kept[split]), "sha256": sha256(path)}
            print(f"wrote {path}  {len(kept[split])} rows  sha256 {made[split]['sha256'][:16]}")
        write_json(self.manifest, made)
