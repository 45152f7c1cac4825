"""The migration benchmark's problems: held-out records, and the proof of each.

A problem is a record (src/records.py): its old code and the update are asked with the training prompt, its new code is
the reference. data/evidence.jsonl says how an answer is judged: the environment of the new version, and the check.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.errors import InputError
from common.files import read_jsonl
from curation.virtualenvs import is_pins
from prompts import Message, migration_messages
from records import Record, load_records


@dataclass(frozen=True)
class Migration:
    """One problem."""

    record: Record

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def reference(self) -> str:
        return self.record.new_code

    def messages(self, prompt: str = "zero-shot", *, docs: bool = True) -> list[Message]:
        """The training prompt, the only form there is; `docs=False` withholds the update."""
        if prompt != "zero-shot":
            raise ValueError(f"a migration has no {prompt} prompt")
        return migration_messages(self.record, docs=docs)


@dataclass(frozen=True)
class Evidence:
    """How the answers to one problem are judged."""

    update: str  # records of one update are alike
    kind: str  # rename, behaviour, signature, removal, default or move
    new_env: tuple[str, ...]  # what pip installs for the new version
    check: str  # assertions on the results


def load_migrations(path: Path, *, skip_bad: bool = False) -> list[Migration]:
    """Every record of the file, in its order. Raises InputError as `load_records` does."""
    return [Migration(record) for record in load_records(path, "drop" if skip_bad else "stop")]


def load_evidence(path: Path, ids: list[str]) -> dict[str, Evidence]:
    """The evidence of these records; InputError names line and field of what cannot be used, and a record without."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; --evidence names the side table of the records")
    wanted, found = set(ids), {}
    for line, row in enumerate(read_jsonl(path), start=1):
        if row.get("id") not in wanted:
            continue
        if row["id"] in found:
            raise InputError(f"{path}:{line}: id: {row['id']} is already on an earlier line")
        for field in ("update", "kind", "check"):
            if not (isinstance(row.get(field), str) and row[field].strip()):
                raise InputError(f"{path}:{line}: {field}: missing, empty or not text")
        if not is_pins(row.get("new_env")):
            raise InputError(f"{path}:{line}: new_env: expected a list of exact pins, as numpy==2.0.0")
        found[row["id"]] = Evidence(row["update"], row["kind"], tuple(row["new_env"]), row["check"])
    if missing := [identity for identity in ids if identity not in found]:
        raise InputError(f"{path}: no evidence for {len(missing)} records, first {missing[0]}")
    return found
