"""A folder of records in the layout of data/: train.jsonl, heldout.jsonl, evidence.jsonl; records are added whole.

An update belongs to one split, so that the held-out test stays unseen: to the one where the folder has it already, else
by a hash of its name.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from durable_files import read_jsonl
from records import Record

SPLITS = ("train", "heldout")


def read_evidence(folder: Path) -> list[dict[str, Any]]:
    """The side table; [] for a folder that is not there yet. Raises ValueError naming file and line."""
    path = folder / "evidence.jsonl"
    if not path.is_file():
        return []
    rows = read_jsonl(path)
    for line, row in enumerate(rows, start=1):
        for name in ("id", "split", "update"):
            if not isinstance(row.get(name) if isinstance(row, dict) else None, str):
                raise ValueError(f"{path}:{line}: {name}: missing or no text")
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


def add(folder: Path, record: Record, evidence: dict[str, Any]) -> None:
    """Append a record and its evidence. Both files are written beside the old ones, then renamed, the record's first.

    Adding again what is there changes nothing, so an addition that was cut between the two renames is completed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = {f"{evidence['split']}.jsonl": record.to_row(), "evidence.jsonl": evidence}
    parts = []
    for name, row in lines.items():
        path = folder / name
        text = path.read_text("utf-8") if path.is_file() else ""
        line = json.dumps(row, ensure_ascii=False)
        if line in text.split("\n"):
            continue
        part = path.with_name(name + ".part")
        part.write_text(f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n", encoding="utf-8")
        parts.append((part, path))
    for part, path in parts:
        part.replace(path)
