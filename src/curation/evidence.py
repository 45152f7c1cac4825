"""evidence.jsonl: how each record of a folder was proven, and which update it is about.

Records are added to a folder (train.jsonl, heldout.jsonl, evidence.jsonl) together with their evidence. All records of
an update belong to one split, so that the held-out updates stay unseen: to the split that the folder already gives the
update, otherwise to one that a hash of the update's name decides.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict
from typing_extensions import TypedDict

from common.errors import InputError
from common.files import encoded, read_jsonl, replacing
from common.rows import typed
from curation.virtualenvs import Pins
from records import Record, check_file

SPLITS = ("train", "heldout")


def not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("the value is empty")
    return text


NonEmpty = Annotated[str, AfterValidator(not_blank)]


class Run(TypedDict):
    """How one run of a program ended (src/curation/proof.py)."""

    outcome: str  # ok, warning, check, limit or error
    text: str  # why


Runs = dict[str, Run]  # new_on_new, old_on_new, old_on_old


class Evidence(BaseModel):
    """A line of evidence.jsonl. Fields that are not listed here are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: NonEmpty  # of the record
    split: Literal["train", "heldout"] | None = None  # None until a reviewer has accepted the record
    update: NonEmpty  # records of the same update are similar
    kind: NonEmpty  # rename, move, signature, default, removal or behaviour
    source: str = ""  # where the update is documented: release and section
    address: str = ""
    old_env: Pins
    new_env: Pins
    check: NonEmpty | None = None  # assertions on the results
    seen: Runs | None = None  # the runs that proved the record

    def to_row(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_unset=True)


def read_evidence(path: Path, *, missing_ok: bool = False) -> dict[str, Evidence]:
    """The evidence by record id. Raises InputError that names file, line and field."""
    found: dict[str, Evidence] = {}
    if missing_ok and not path.is_file():
        return found
    for line, row in enumerate(read_jsonl(path), start=1):
        evidence = typed(Evidence, row, f"{path}:{line}")
        if evidence.id in found:
            raise InputError(f"{path}:{line}: id: an earlier line has evidence for {evidence.id}")
        found[evidence.id] = evidence
    return found


def split_of(update: str, evidence: Iterable[Evidence], share: float) -> str:
    """The split of an update; a new one is held out with probability `share`, decided by its name."""
    for other in evidence:
        if other.update == update and other.split:
            return other.split
    drawn = int(hashlib.sha256(update.encode()).hexdigest()[:8], 16) / 2**32
    return "heldout" if drawn < share else "train"


def alike(update: str, evidence: Iterable[Evidence]) -> list[str]:
    """Other updates of the folder, with their split, of the same library and API name: possibly the same update."""
    library, _, rest = update.partition("-")
    name = rest.rpartition("-")[2]
    found = {f"{other.update} ({other.split})" for other in evidence if other.update != update}
    return sorted(one for one in found if one.startswith(f"{library}-") and name in one)


def twin(folder: Path, record: Record) -> str | None:
    """FILE:LINE of a record with the same snippets but another version (so another id), if the folder has one.

    A set has each pair of snippets once (src/records.py reports the second as a duplicate). Raises InputError.
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


def with_line(path: Path, row: dict[str, Any]) -> bytes:
    """The text of a JSONL file, and the row if the file does not have it. Raises InputError if it is not UTF-8."""
    try:
        text = path.read_text("utf-8") if path.is_file() else ""
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from None
    lines = text.removesuffix("\n").split("\n") if text else []
    line = json.dumps(row, ensure_ascii=False)
    return encoded("".join(f"{one}\n" for one in (lines if line in lines else [*lines, line])))


def add(folder: Path, record: Record, evidence: Evidence) -> None:
    """Append a record and its evidence. Both files are written beside the old ones, then renamed, the record's first.

    Adding the same record again completes an addition that was interrupted between the two renames.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records, table = folder / f"{evidence.split}.jsonl", folder / "evidence.jsonl"
    with replacing(table) as table_part, replacing(records) as records_part:
        table_part.write_bytes(with_line(table, evidence.to_row()))
        records_part.write_bytes(with_line(records, record.to_row()))
