"""Files that survive a kill: written completely or not at all, and logs whose truncated last line is repaired.

Text from models, servers and data may hold unpaired surrogates, which UTF-8 cannot encode. They are written as escapes,
which JSON reads back unchanged, so that no such text ends a run.

A log is a JSONL file that one program appends to. A kill can truncate its last line. A program that continues the log
repairs it first (`read_log`); a program that only reads skips the truncated line (`read_jsonl`).
"""

from __future__ import annotations

import codecs
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from common.cli import one_line
from common.errors import InputError
from common.rows import loads, read_bytes, read_text, typed

Schema = TypeVar("Schema", bound=BaseModel)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed over it if the block ends without an exception, else removed.

    Its folder is made. The file keeps its mode; if `path` is a link, the file that it names is replaced. A device or a
    pipe, such as /dev/stdout, is written directly.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    try:
        yield part
        if path.exists():
            shutil.copymode(path, part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def require_writable(*paths: Path) -> None:
    """Raise InputError if one of these output files could not be written; nothing is left behind."""
    for path in paths:
        try:
            if path.is_dir():
                raise InputError(f"{one_line(path)}: is a folder; expected a file to write")
            if path.exists() and not os.access(path, os.W_OK):
                raise InputError(f"{one_line(path)}: cannot be written: Permission denied")
            if path.is_file() or not path.exists():
                target = Path(os.path.realpath(path))
                folder = next(folder for folder in target.parents if folder.exists())
                tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise InputError(f"{one_line(path)}: cannot be written: {error.strerror}") from None


def encoded(text: str) -> bytes:
    """The text in UTF-8, with an unpaired surrogate as its escape (`\\ud83d`)."""
    return text.encode("utf-8", "backslashreplace")


def write_text(path: Path, text: str) -> None:
    """Replace a file with this text."""
    with replacing(path) as part:
        part.write_bytes(encoded(text))


def write_json(path: Path, value: Any) -> None:
    """Replace a file with one JSON value, indented; a value that JSON does not know is written as text."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n")


def read_json(path: Path, schema: type[Schema]) -> Schema:
    """The content of a JSON file. Raises InputError, which names the file and the field, if it does not fit."""
    text = read_text(path)
    try:
        value = loads(text)
    except ValueError as error:
        raise InputError(f"{path}: {f'not JSON: {error}' if text.strip() else 'the file is empty'}") from None
    return typed(schema, value, str(path), whole="")


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file with these rows."""
    write_text(path, _lines(rows))


def append_jsonl(path: Path, *rows: Mapping[str, Any]) -> None:
    """Append rows to a JSONL file in one write; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        file.write(encoded(_lines(rows)))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file, without a last line that a kill truncated, possibly inside a character."""
    return [row for _, row in numbered_jsonl(path)]


def numbered_jsonl(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The rows of a JSONL file, as `read_jsonl`, with the numbers of their lines."""
    rows = []
    lines = read_bytes(path).removeprefix(codecs.BOM_UTF8).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                row = loads(line.decode("utf-8"))
            except ValueError:  # also text that is not UTF-8
                if number < len(lines):  # only the last line, which has no newline, may be truncated
                    raise InputError(f"{path}:{number}: not JSON: expected one JSON object a line") from None
                continue
            if not isinstance(row, dict):
                raise InputError(f"{path}:{number}: not a JSON object")
            rows.append((number, row))
    return rows


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log that this program appends to; [] if there is no log yet.

    A truncated last line is removed from the file, because the next row would be appended to it. Raises InputError if
    that line is not the beginning of a row: then the file is not a log.
    """
    if not path.is_file():
        return []
    rows = read_jsonl(path)
    last = path.read_bytes().rpartition(b"\n")[2]
    if last and not last.startswith(b"{"):
        raise InputError(f"{path}: not a log: its last line is not JSON")
    if last:
        write_jsonl(path, rows)
    return rows


def drop_after(path: Path, step: int) -> None:
    """Remove the rows of a log beyond `step`: a resumed run writes them again."""
    if not path.exists():
        return
    rows = numbered_jsonl(path)
    for number, row in rows:
        if type(row.get("step", 0)) not in (int, float):
            raise InputError(f"{path}:{number}: step: not a number")
    write_jsonl(path, [row for _, row in rows if row.get("step", 0) <= step])
