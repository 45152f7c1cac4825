"""Levels that select the rows of a file, and the verdicts that the last two need.

`check_data.py published` writes verdicts: a header that names the file (sha256), then a line for each row that was run.
`new` and `old` are how its snippets ended: `ok`, `warning NAME`, `error NAME`, `limit`.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from common.errors import InputError
from common.files import read_jsonl
from common.provenance import sha256
from common.rows import resolve, typed
from records import UNREADABLE, Record, check_file

# Each level contains the ones after it. The training scripts accept the rows from `real-change` on.
LEVELS = {
    "parses": "all six fields are there and both snippets parse",
    "real-change": "and the row has no error: something to migrate, a change, no duplicate",
    "runs": "and its new code runs to its end (--verdicts)",
    "gold": "and emits no deprecation warning, while the old code fails or warns (--verdicts)",
}
UNPARSED = {*UNREADABLE, "parse", "deep"}


class RowVerdict(BaseModel):
    line: int
    id: str
    environment: int  # its place in check_published.ENVIRONMENTS
    exact: bool  # whether the environment has the version that the row names
    new: str
    old: str

    @property
    def level(self) -> str:
        """`gold`, `runs`, or `real-change` if the new code does not run."""
        if self.new.startswith(("error", "limit")):
            return "real-change"
        proven = self.old.startswith(("error", "warning"))  # reaching a limit proves nothing
        return "gold" if self.new == "ok" and proven else "runs"


def read_verdicts(path: Path) -> list[RowVerdict]:
    """The lines after the header. Raises InputError."""
    return [typed(RowVerdict, row, f"{path}:{line}") for line, row in enumerate(read_jsonl(path)[1:], start=2)]


def verdicts_on(data: Path, path: Path) -> dict[int, RowVerdict]:
    """The verdicts on the rows of `data` by line. Raises InputError if `path` is about another file."""
    header = next(iter(read_jsonl(path)), {})
    if header.get("file_sha256") != (here := sha256(data)):
        raise InputError(f"{path}:1: file_sha256: not verdicts on {data}, whose sha256 is {here[:12]}…")
    return {verdict.line: verdict for verdict in read_verdicts(path)}


def select(source: str, level: str, verdicts: Path | None) -> list[Record]:
    """The records of a file on one of LEVELS; the last two need `verdicts`. Raises InputError."""
    if level == "parses":
        return check_file(source, lambda field, check: check not in UNPARSED).records
    checked = check_file(source)
    if level == "real-change":
        return checked.records
    if verdicts is None:
        raise InputError(f"{source}: the level {level} needs --verdicts FILE, written by check_data.py published")
    found = verdicts_on(resolve(source), verdicts)
    kept = ("gold",) if level == "gold" else ("runs", "gold")
    pairs = zip(checked.lines, checked.records, strict=True)
    return [record for line, record in pairs if line in found and found[line].level in kept]
