"""evidence.jsonl: how each record of a folder was proven, and which update it is about.

All records of an update belong to one split (train.jsonl or heldout.jsonl), so that held-out updates stay unseen.
Records of another file, NAME.jsonl, can have their own evidence beside it, in NAME_evidence.jsonl.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from typing_extensions import TypedDict

from common.errors import InputError
from common.files import append_jsonl, numbered_jsonl, read_log
from common.rows import typed
from curation.use import pattern
from curation.virtualenvs import Pins
from records import Record, check_file

SPLITS = ("train", "heldout")


def not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("the value is empty")
    return text


NonEmpty = Annotated[str, AfterValidator(not_blank)]
Pattern = Annotated[str, AfterValidator(pattern)]


class Run(TypedDict):
    """How one run of a program ended (src/curation/proof.py)."""

    outcome: str  # ok, warning, check, limit or error
    text: str  # why


# new_on_new, old_on_new, old_on_old, new_on_old (not in older evidence), and alternative_1_on_new, …
Runs = dict[str, Run]


class Fact(BaseModel):
    """The lines of a release note that state the update, in an sdist (numpy-2.0.0.tar.gz) or a repository
    (github:OWNER/NAME@COMMIT)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    archive: NonEmpty
    file: NonEmpty  # its path in the archive
    lines: tuple[int, int]  # first and last, from 1
    sha256: NonEmpty  # of these lines, joined by newlines, without white space at their ends


class Equivalent(BaseModel):
    """A mutant of the new code that is as right as the new code itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mutant: NonEmpty  # its whole code
    reason: NonEmpty


class Evidence(BaseModel):
    """A line of evidence.jsonl. Fields that are not listed here are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: NonEmpty  # of the record
    split: Literal["train", "heldout"] | None = None  # None until a reviewer has accepted the record
    update: NonEmpty  # records of the same update are similar
    kind: NonEmpty  # rename, move, signature, default, removal, behaviour, addition or partial
    source: str = ""  # where the update is documented: release and section
    address: str = ""
    old_env: Pins
    new_env: Pins
    wrapper: NonEmpty | None = None  # code that installs an invented update: the new version is new_env with it
    proof: Literal["break", "adopt"] = "break"  # what the runs must show (src/curation/proof.py)
    check: NonEmpty | None = None  # assertions on the results
    use: tuple[Pattern, ...] = ()  # what the answer must use: numpy.unique_counts, DataFrame.sum(min_count=)
    alternatives: Annotated[tuple[NonEmpty, ...], Field(max_length=3)] = ()  # other right targets
    equivalents: tuple[Equivalent, ...] = ()
    facts: tuple[Fact, ...] = ()  # one for each update
    seen: Runs | None = None  # the runs that proved the record

    @field_validator("wrapper")
    @classmethod
    def has_one_environment(cls, wrapper: str | None, info: ValidationInfo) -> str | None:
        if wrapper and info.data.get("old_env") != info.data.get("new_env"):
            raise ValueError("an invented update needs the same pins in old_env and new_env")
        return wrapper

    def to_row(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_unset=True)


def evidence_path(records: Path) -> Path:
    """Where the evidence of a file of records is: NAME_evidence.jsonl beside NAME.jsonl, else evidence.jsonl."""
    own = records.with_name(f"{records.stem}_evidence.jsonl")
    return own if own.is_file() else records.with_name("evidence.jsonl")


def read_evidence(path: Path, *, missing_ok: bool = False) -> dict[str, Evidence]:
    """The evidence by record id."""
    found: dict[str, Evidence] = {}
    rows = [] if missing_ok and not path.is_file() else numbered_jsonl(path)
    for line, row in rows:
        evidence = typed(Evidence, row, f"{path}:{line}")
        if evidence.id in found:
            raise InputError(f"{path}:{line}: id: an earlier line has evidence for {evidence.id}")
        found[evidence.id] = evidence
    return found


def split_of(update: str, evidence: Iterable[Evidence], share: float) -> str:
    """The split that an update has in `evidence`; a new one is held out with probability `share`, by a hash."""
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
    """FILE:LINE of a record with the same snippets but another version, so another id: a set has each pair once."""
    snippets = (record.old_code, record.new_code)
    for path in (folder / f"{split}.jsonl" for split in SPLITS):
        for _, line, other in check_file(path).kept if path.is_file() else ():
            if (other.old_code, other.new_code) == snippets and other.id != record.id:
                return f"{path}:{line}"
    return None


def add(folder: Path, record: Record, evidence: Evidence) -> None:
    """Append a record, then its evidence; adding the same record again completes an interrupted addition."""
    for name, row in ((evidence.split, record.to_row()), ("evidence", evidence.to_row())):
        path = folder / f"{name}.jsonl"
        if row not in read_log(path):  # which also repairs a last line without its end
            append_jsonl(path, row)
