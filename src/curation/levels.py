"""The verdicts that src/audit.py writes about the rows of a file, and the levels that select rows by them.

The first line tells of which file (sha256) they are, then comes one line for each row that was run: `new` and `old`
say how its snippets ended (`ok`, `warning NAME`, `error NAME`, `limit`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import read_jsonl
from common.provenance import sha256
from common.rows import resolve
from records import UNREADABLE, Record, check_file

# Each level holds the ones after it. The training scripts accept the rows from `real-change` on.
LEVELS = {
    "parses": "all six fields are there and both snippets parse",
    "real-change": "and the row has no error: something to migrate, a change, no duplicate",
    "runs": "and its new code comes to its end (--verdicts)",
    "gold": "and warns of nothing deprecated, while the old code fails or warns (--verdicts)",
}
UNPARSED = {*UNREADABLE, "parse", "deep"}


def level(verdict: dict[str, Any]) -> str:
    """`gold`, `runs`, or `real-change` where the new code does not run."""
    if verdict["new"].startswith(("error", "limit")):
        return "real-change"
    proven = verdict["old"].startswith(("error", "warning"))  # running into a limit proves nothing
    return "gold" if verdict["new"] == "ok" and proven else "runs"


def read_verdicts(path: Path, data: Path) -> dict[int, dict[str, Any]]:
    """The verdicts on the rows of `data` by line; InputError where `path` is none of this file's."""
    try:
        header, *rows = read_jsonl(path)
        of = header["file_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no verdicts of src/audit.py: {error}") from None
    if of != (here := sha256(data)):
        raise InputError(f"{path}: verdicts on a file with sha256 {of[:12]}; {data} has {here[:12]}")
    return {row["line"]: row for row in rows}


def select(source: str, wanted: str, verdicts: Path | None) -> list[Record]:
    """The records of a file on one of LEVELS; the last two need `verdicts`. Raises InputError."""
    if wanted == "parses":
        return check_file(source, lambda field, check: check not in UNPARSED).records
    checked = check_file(source)
    if wanted == "real-change":
        return checked.records
    if verdicts is None:
        raise InputError(f"{source}: the level {wanted} needs --verdicts FILE, which src/audit.py writes")
    found = read_verdicts(verdicts, resolve(source))
    kept = ("gold",) if wanted == "gold" else ("runs", "gold")
    pairs = zip(checked.lines, checked.records, strict=True)
    return [record for line, record in pairs if line in found and level(found[line]) in kept]
