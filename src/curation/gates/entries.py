"""What the gates read (a record with its evidence and its place) and what they return (findings)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.cli import one_line
from common.rows import resolve
from curation.evidence import Evidence
from records import Record, check_file

Objection = tuple[str, str]  # the field that has to change, and why


@dataclass(frozen=True)
class Entry:
    """A record, its evidence, and where the record is."""

    file: str
    line: int
    record: Record
    evidence: Evidence

    @property
    def split(self) -> str:
        return self.evidence.split or Path(self.file).stem


@dataclass(frozen=True)
class Finding:
    """What a gate objects to."""

    entry: Entry
    gate: str
    field: str
    what: str

    def __str__(self) -> str:
        return one_line(f"{self.entry.file}:{self.entry.line}: {self.field}: {self.gate}: {self.what}")


def placed(files: list[Path], pairs: list[tuple[Record, Evidence]]) -> list[Entry]:
    """The pairs with the file and the line of each record."""
    places: dict[str, tuple[str, int]] = {}
    for path in files:
        for _, line, record in check_file(resolve(path)).kept:
            places.setdefault(record.id, (str(path), line))
    return [Entry(file, line, record, evidence) for record, evidence in pairs for file, line in [places[record.id]]]
