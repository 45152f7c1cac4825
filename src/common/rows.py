"""Files of rows, each row with the line where it stands: JSONL, JSON arrays, and data sets of the Hugging Face hub."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import InputError

HUB_PREFIX = "hf://datasets/"


class Row(dict):
    """A JSON object that remembers which of its keys were given more than once; the last value counts."""

    repeated: tuple[str, ...] = ()

    @classmethod
    def of(cls, pairs: list[tuple[str, Any]]) -> Row:
        row = cls(pairs)
        if len(row) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            row.repeated = tuple(key for key, count in counts.items() if count > 1)
        return row


def read_rows(path: Path) -> list[tuple[int, object]]:
    """(line number, row) of a JSONL file or of a JSON array; a line that is no JSON comes as its JSONDecodeError.

    Raises InputError for a file that is not UTF-8, for an array that breaks off, and for text after an array.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from None
    if text.lstrip().startswith("["):
        return list(read_array(text, path))
    rows: list[tuple[int, object]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append((number, json.loads(line, object_pairs_hook=Row.of)))
            except json.JSONDecodeError as error:
                rows.append((number, error))
            except (ValueError, RecursionError) as error:  # a number of too many digits; nested too deeply
                rows.append((number, json.JSONDecodeError(str(error), line, 0)))
    return rows


def read_array(text: str, path: Path) -> Iterator[tuple[int, object]]:
    """The elements of a JSON array, each with the line where it starts (json.loads would lose the lines)."""
    skip = re.compile(r"[\s,]*")
    decoder = json.JSONDecoder(object_pairs_hook=Row.of)
    at = text.index("[") + 1
    while not text.startswith("]", at := skip.match(text, at).end()):
        try:
            row, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{error.lineno}: row: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{text.count(chr(10), 0, at) + 1}: row: {error}") from None
        yield text.count("\n", 0, at) + 1, row
        at = end
    at = re.compile(r"\s*").match(text, at + 1).end()
    if at < len(text):  # the rows of a second array would be lost
        line = text.count("\n", 0, at) + 1
        raise InputError(f"{path}:{line}: row: the array has ended: expected one array, or one JSON object a line")


def resolve(source: str | Path) -> Path:
    """A local path as it is; `hf://datasets/OWNER/NAME[@REVISION][/FILE]` downloaded through huggingface_hub."""
    if not str(source).startswith(HUB_PREFIX):
        path = Path(source)
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        return path
    import httpx
    from huggingface_hub import HfApi, hf_hub_download

    owner, _, rest = str(source).removeprefix(HUB_PREFIX).partition("/")
    name, _, file = rest.partition("/")
    name, _, revision = name.partition("@")
    if not (owner and name):
        raise InputError(f"{source}: expected {HUB_PREFIX}OWNER/NAME[@REVISION][/FILE]")
    where = {"repo_id": f"{owner}/{name}", "repo_type": "dataset", "revision": revision or None}
    try:
        if not file:
            data = [f for f in HfApi().list_repo_files(**where) if f.endswith((".jsonl", ".json"))]
            if len(data) != 1:
                raise InputError(f"{source}: name one of its data files: {', '.join(data) or 'it has none'}")
            file = data[0]
        return Path(hf_hub_download(filename=file, **where))
    except InputError:
        raise
    except (OSError, ValueError, httpx.HTTPError) as error:  # offline, not found; a name that is none; no connection
        raise InputError(f"{source}: cannot be downloaded: {str(error).splitlines()[0]}") from None
