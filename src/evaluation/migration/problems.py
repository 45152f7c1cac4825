"""The migration benchmark's problems: held-out records, and the proof of each that `src/check_data.py proofs` ran.

A problem is a record (src/records.py): its old code and the update are asked with the training prompt, its new code is
the reference. data/evidence.jsonl defines how an answer is judged: the environment of the new version, and the check.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.chat import Message
from common.errors import InputError
from common.settings import not_a_file
from curation.evidence import Evidence, read_evidence
from prompts import DEFAULT_WORDING, migration_messages
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

    def messages(self, prompt: str = DEFAULT_WORDING, *, docs: bool = True) -> list[Message]:
        """The training prompt in one of its wordings; `docs=False` withholds the update."""
        return migration_messages(self.record, prompt, docs=docs)


def load_migrations(path: Path, *, skip_bad: bool = False) -> list[Migration]:
    """Every record of the file, in its order. Raises InputError as `load_records` does."""
    return [Migration(record) for record in load_records(path, "drop" if skip_bad else "stop")]


def load_evidence(path: Path, ids: list[str]) -> dict[str, Evidence]:
    """The evidence of these records. Raises InputError if it cannot be used, or a record has none or no check."""
    if not path.is_file():
        raise InputError(f"{not_a_file(path)}; --evidence names the evidence of the records")
    found = read_evidence(path)
    if missing := [identity for identity in ids if identity not in found]:
        raise InputError(f"{path}: no evidence for {len(missing)} records, first {missing[0]}")
    if unchecked := [identity for identity in ids if not found[identity].check]:
        raise InputError(f"{path}: check: missing for {len(unchecked)} records, first {unchecked[0]}")
    return {identity: found[identity] for identity in ids}
