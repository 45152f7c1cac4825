"""Files of rows with their line numbers: JSONL, JSON arrays, and data sets of the Hugging Face hub; typed rows."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import whitespace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from common.errors import InputError

M = TypeVar("M", bound=BaseModel)
HUB = "hf://datasets/"


class Row(dict):
    """A JSON object that remembers which of its keys were given more than once; the last value counts."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        keys = [key for key, _ in pairs]
        self.repeated = [key for key in self if keys.count(key) > 1] if len(self) < len(keys) else []


def read_rows(path: Path) -> list[tuple[int, object]]:
    """(line number, row) of a JSONL file or of a JSON array; a line that cannot be read is given as its ValueError.

    Raises InputError for a file that is not UTF-8, for a truncated array, and for text after an array.
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
                rows.append((number, json.loads(line, object_pairs_hook=Row)))
            except (ValueError, RecursionError) as error:  # also a number of too many digits; nested too deeply
                rows.append((number, ValueError(error)))
    return rows


def read_array(text: str, path: Path) -> Iterator[tuple[int, object]]:
    """The elements of a JSON array, each with the line where it starts (json.loads would lose the lines)."""
    decoder = json.JSONDecoder(object_pairs_hook=Row)

    def skip(characters: str, at: int) -> int:
        return next((i for i in range(at, len(text)) if text[i] not in characters), len(text))

    def line(at: int) -> int:
        return text.count("\n", 0, at) + 1

    at = text.index("[") + 1
    while not text.startswith("]", at := skip(f"{whitespace},", at)):
        try:
            row, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{line(at)}: row: {error}") from None
        yield line(at), row
        at = end
    at = skip(whitespace, at + 1)
    if at < len(text):  # the rows of a second array would be lost
        raise InputError(f"{path}:{line(at)}: row: the array has ended: expected one array, or one JSON object a line")


def typed(model: type[M], row: object, where: str) -> M:
    """A row as `model`. Raises InputError that names `where`, the first field that cannot be used, and why."""
    try:
        return model.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "row"
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{where}: {field}: {message[0].lower()}{message[1:]}") from None


def resolve(source: str | Path) -> Path:
    """A local path as it is; `hf://datasets/OWNER/NAME[@REVISION][/FILE]` downloaded through huggingface_hub."""
    if not str(source).startswith(HUB):
        path = Path(source)
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        return path
    import httpx
    from huggingface_hub import HfApi, hf_hub_download

    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)  # two lines about each of five retries
    found = re.fullmatch(rf"{HUB}([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.*))?", str(source))
    if not found:
        raise InputError(f"{source}: expected {HUB}OWNER/NAME[@REVISION][/FILE]")
    repository, revision, file = found.groups()
    try:
        if not file:
            files = HfApi().list_repo_files(repository, repo_type="dataset", revision=revision)
            data = [name for name in files if name.endswith((".jsonl", ".json"))]
            if len(data) != 1:
                raise InputError(f"{source}: name one of its data files: {', '.join(data) or 'it has none'}")
            [file] = data
        return Path(hf_hub_download(repository, file, repo_type="dataset", revision=revision))
    except InputError:
        raise
    except (OSError, ValueError, httpx.HTTPError) as error:  # offline, not found, an invalid name, no connection
        raise InputError(f"{source}: cannot be downloaded: {str(error).splitlines()[0]}") from None
