"""A folder of records in the layout of data/: train.jsonl, heldout.jsonl, evidence.jsonl; records are added whole.

An update belongs to one split, so that the held-out test stays unseen: to the one where the folder has it already, else
by a hash of its name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import encoded, read_jsonl
from records import Record, check_file

SPLITS = ("train", "heldout")


def read_evidence(folder: Path, needed: Sequence[str] = ("id", "split", "update")) -> list[dict[str, Any]]:
    """The side table; [] where there is none yet. Raises InputError where a `needed` text is missing."""
    path = folder / "evidence.jsonl"
    if not path.is_file():
        return []
    rows = read_jsonl(path)
    for line, row in enumerate(rows, start=1):
        for name in needed:
            if not isinstance(row.get(name), str):
                raise InputError(f"{path}:{line}: {name}: missing or no text")
    return rows


def split_of(update: str, evidence: list[dict[str, Any]], share: float) -> str:
    """The split of an update; a new one is held out with probability `share`, decided by its name."""
    for row in evidence:
        if row["update"] == update:
            return row["split"]
    drawn = int(hashlib.sha256(update.encode()).hexdigest()[:8], 16) / 2**32
    return "heldout" if drawn < share else "train"


def alike(update: str, evidence: list[dict[str, Any]]) -> list[str]:
    """Other updates of the folder, with their split, that share the library and the API's name: maybe the same one."""
    library, _, rest = update.partition("-")
    name = rest.rpartition("-")[2]
    found = {f"{row['update']} ({row['split']})" for row in evidence if row["update"] != update}
    return sorted(one for one in found if one.startswith(f"{library}-") and name in one)


def twin(folder: Path, record: Record) -> str | None:
    """FILE:LINE of a record with the same snippets for another version (hence another id), if the folder has one.

    A set holds each pair of snippets once (src/records.py calls the second a duplicate). Raises InputError.
    """
    for split in SPLITS:
        path = folder / f"{split}.jsonl"
        if path.is_file():
            checked = check_file(path)
            for line, other in zip(checked.lines, checked.records, strict=True):
                same = (other.old_code, other.new_code) == (record.old_code, record.new_code)
                if same and other.id != record.id:
                    return f"{path}:{line}"
    return None


def add(folder: Path, record: Record, evidence: dict[str, Any]) -> None:
    """Append a record and its evidence. Both files are written beside the old ones, then renamed, the record's first.

    Adding again what is there changes nothing, so an addition that was cut between the two renames is completed. Raises
    InputError for a file that is not UTF-8.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = {f"{evidence['split']}.jsonl": record.to_row(), "evidence.jsonl": evidence}
    parts = []
    for name, row in lines.items():
        path = folder / name
        try:
            text = path.read_text("utf-8") if path.is_file() else ""
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from None
        line = json.dumps(row, ensure_ascii=False)
        if line in text.split("\n"):
            continue
        part = path.with_name(name + ".part")
        part.write_bytes(encoded(f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n"))
        parts.append((part, path))
    for part, path in parts:
        part.replace(path)
