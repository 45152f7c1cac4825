"""Files that a kill cannot spoil: written whole or not at all, and logs whose torn last line is mended.

Text of models, servers and data may hold halves of surrogate pairs, which UTF-8 has no bytes for. They are written as
escapes, which JSON reads back as they were: such a text never ends a run.

A log is a JSONL file that one program appends to. A kill can cut its last line; who goes on from the log mends it first
(`read_log`), who only looks reads past the tear (`read_jsonl`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed over it where the block ends without an exception."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    yield part
    part.replace(path)


def encoded(text: str) -> bytes:
    """The text in UTF-8, a half of a surrogate pair as its escape (`\\ud83d`)."""
    return text.encode("utf-8", "backslashreplace")


def write_text(path: Path, text: str) -> None:
    """Replace a file with this text, as it stands."""
    with replacing(path) as part:
        part.write_bytes(encoded(text))


def write_json(path: Path, value: Any) -> None:
    """Replace a file with one JSON value, indented; what JSON cannot hold is written as text."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n")


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file with these rows."""
    write_text(path, _lines(rows))


def append_jsonl(path: Path, *rows: Mapping[str, Any]) -> None:
    """Append rows to a JSONL file in one write."""
    with open(path, "ab") as file:
        file.write(encoded(_lines(rows)))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file; a last line that a kill cut short, maybe inside a character, is left out.

    Raises InputError, which names the file and the line, where another line is no JSON object.
    """
    rows = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                row = json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError):  # of UnicodeDecodeError, JSONDecodeError, and numbers too long
                if number < len(lines):  # the last line ends without a newline: only that one may be cut
                    raise InputError(f"{path}:{number}: not JSON") from None
                continue
            if not isinstance(row, dict):
                raise InputError(f"{path}:{number}: not a JSON object")
            rows.append(row)
    return rows


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log that this program goes on writing, [] where there is none yet.

    A last line that a kill cut short is taken out of the file: the next row would be glued to it. Raises InputError
    as `read_jsonl` does, and where the last line is no row that was cut: then the file is none of ours.
    """
    if not path.is_file():
        return []
    rows = read_jsonl(path)
    torn = path.read_bytes().rpartition(b"\n")[2]
    if torn and not torn.startswith(b"{"):
        raise InputError(f"{path}: no log: its last line is not JSON")
    if torn:
        write_jsonl(path, rows)
    return rows


def drop_after(path: Path, step: int) -> None:
    """Remove the rows of a log beyond `step`: a resumed run writes them again."""
    if path.exists():
        write_jsonl(path, [row for row in read_jsonl(path) if row.get("step", 0) <= step])
