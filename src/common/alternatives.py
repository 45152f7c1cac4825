"""Other right targets of records: `alternatives` in the evidence.jsonl beside their file."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from common.errors import InputError
from common.files import numbered_jsonl
from common.rows import HUB, typed
from common.settings import not_a_file


class Line(BaseModel):
    """What is read of a line of evidence.jsonl."""

    id: str
    alternatives: list[str] = []


def read_alternatives(data: str) -> dict[str, list[str]]:
    """The alternatives of every record of `data`, by record id. Raises InputError."""
    if data.startswith(HUB):
        raise InputError(f"alternatives: {data} has no evidence.jsonl beside it")
    path = Path(data).with_name("evidence.jsonl")
    if not path.is_file():
        raise InputError(f"alternatives: {not_a_file(path)}")
    lines = [typed(Line, row, f"{path}:{line}") for line, row in numbered_jsonl(path)]
    return {line.id: line.alternatives for line in lines}
