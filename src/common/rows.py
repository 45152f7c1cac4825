"""What comes in: files as text, JSON values, rows with their line numbers (JSONL, JSON arrays, data sets of the hub).

Input that cannot be used raises InputError: one line that names the file.
"""

from __future__ import annotations

import atexit
import gzip
import json
import os
import re
import tempfile
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from string import whitespace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from common.cli import one_line
from common.errors import InputError
from common.http_client import prepare_hub
from common.settings import not_a_file

M = TypeVar("M", bound=BaseModel)
HUB = "hf://datasets/"
MAX_NESTING = 100  # levels of lists and dicts in a JSON value; published files have up to 4
DEEP = f"nested too deeply: at most {MAX_NESTING} levels"
OTHER_KINDS = {  # first bytes -> what the file is
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "a Parquet file",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\xff\xfe\0\0": "UTF-32 text",  # before UTF-16, which begins in the same way
    b"\0\0\xfe\xff": "UTF-32 text",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
OTHER_TEXT = {  # the start of a text that is not JSON -> what it is
    r"version https://git-lfs": "a pointer of Git LFS, not the data itself (git lfs pull)",
    r"<[!?a-zA-Z]": "an HTML or XML page",
    r"\[?\s*\{\s*'": "Python dictionaries (json.dumps writes them as JSON)",
    r".*\0": "UTF-16 or UTF-32 text",
    r'"?\w+"?([,;\t]"?[\w ]+"?)+\r?(\n|$)': "CSV text",
    r"(- )?\w+:( |\r?\n)": "YAML text",
}
WRAPPERS = ("data", "rows", "records", "train", "test", "examples", "items")  # keys of an object around the rows
RECORDS, ARENA, MULTI = "migration records", "CodeUpdateArena problems", "multi-update questions"
EVALPLUS, SAMPLES = "HumanEval+ or MBPP+ problems", "samples of src/generate.py"
ROW_KINDS = (  # fields of a row -> what it is
    ({"old_code", "new_code"}, RECORDS),
    ({"multi_id"}, MULTI),
    ({"prog_syn_id"}, ARENA),
    ({"prog_syn_examples"}, ARENA),
    ({"entry_point", "canonical_solution"}, EVALPLUS),
    ({"sample_id", "completion"}, SAMPLES),
    ({"code", "test_list"}, "MBPP problems"),
    ({"messages"}, "chat messages"),
    ({"conversations"}, "chat messages"),
    ({"instruction", "output"}, "instructions"),
)


class Row(dict):
    """A JSON object that remembers which keys, also of objects in it, are given twice; the last value counts."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(key for key, _ in pairs)
        self.repeated = [key for key in self if counts[key] > 1]
        for key, value in self.items():
            for inner in value if isinstance(value, list) else [value]:
                self.repeated += [f"{key}.{name}" for name in getattr(inner, "repeated", ())]


_decoder = json.JSONDecoder(object_pairs_hook=Row)


def read_bytes(path: Path) -> bytes:
    """The content of a text file, decompressed if it is gzip's. Raises InputError with what else the file is."""
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except (FileNotFoundError, IsADirectoryError):
        raise not_a_file(path) from None
    except (OSError, EOFError, zlib.error) as error:  # the last two: truncated
        why = getattr(error, "strerror", None) or f"not a complete gzip file: {error}"
        raise InputError(f"{one_line(path)}: {why}") from None
    for start, kind in OTHER_KINDS.items():
        if content.startswith(start):
            raise InputError(f"{one_line(path)}: {kind}; expected UTF-8 text")
    return content


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, without its byte order mark. Raises InputError."""
    content = read_bytes(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{one_line(path)}: not UTF-8: {error.reason} at byte {error.start}") from None


def nesting(value: object) -> int:
    """Levels of lists and dicts in a value, counted without recursion."""
    levels, values = 0, [value]
    while values := [one for one in values if isinstance(one, (dict, list))]:
        values = [inner for one in values for inner in (one.values() if isinstance(one, dict) else one)]
        levels += 1
    return levels


def loads(text: str, decode: Callable[[str], Any] = json.loads) -> Any:
    """The value of a JSON text. Raises ValueError, also for numbers of too many digits and for too deep nesting.

    Python reads about 1,000 levels, but fails to copy, print or write them from deeper inside a program.
    """
    try:
        value = decode(text)
    except RecursionError:
        raise ValueError(DEEP) from None
    if text.count("[") + text.count("{") > MAX_NESTING and nesting(value) > MAX_NESTING:
        raise ValueError(DEEP)
    return value


def _row(text: str) -> object:
    """The JSON value of a line; its ValueError if it cannot be read."""
    try:
        return loads(text, _decoder.decode)
    except ValueError as error:
        return ValueError(error)


def read_rows(path: Path) -> list[tuple[int, object]]:
    """(line number, row) of a JSONL file or of a JSON array; a line that cannot be read is given as its ValueError.

    Raises InputError for a file of which no line is JSON and that is known to be something else, for a truncated array,
    for text after an array, and for one object that fills several lines or holds the rows.
    """
    text = read_text(path)
    kind = next((kind for start, kind in OTHER_TEXT.items() if re.match(start, text.lstrip())), None)
    if text.lstrip().startswith("[") and not kind:
        return list(read_array(text, path))
    lines = enumerate(text.split("\n"), start=1)
    rows = [(number, _row(line)) for number, line in lines if line.strip()]
    expected = "expected a JSON array, or one JSON object a line"
    is_other = all(isinstance(row, ValueError) for _, row in rows)
    if kind and is_other:
        raise InputError(f"{path}: {kind}; {expected}")
    whole = _row(text) if rows and (len(rows) == 1 or isinstance(rows[0][1], ValueError)) else None
    if isinstance(whole, dict):
        if key := next((key for key in WRAPPERS if isinstance(whole.get(key), list)), None):
            raise InputError(f"{path}: one JSON object, with the rows under {key!r}; {expected} (jq -c '.{key}[]')")
        if len(rows) > 1:
            raise InputError(f"{path}: one JSON object: {expected}")
    if is_other and len(rows) > 1:
        raise InputError(f"{path}: none of its {len(rows):,} lines is JSON; {expected}")
    return rows


def expect_kind(path: Path | str, rows: Iterable[tuple[int, object]], wanted: str) -> None:
    """Raise InputError, which names the kind of the first row, if it is of another kind and no row is of `wanted`."""
    kinds = [
        {kind for fields, kind in ROW_KINDS if fields <= row.keys()} for _, row in rows if isinstance(row, Mapping)
    ]
    if kinds and kinds[0] and not any(wanted in found for found in kinds):
        raise InputError(f"{path}: holds {min(kinds[0])}; expected {wanted}")


def read_array(text: str, path: Path) -> Iterator[tuple[int, object]]:
    """The elements of a JSON array, each with the line where it starts (json.loads would lose the lines)."""

    def skip(characters: str, at: int) -> int:
        return next((i for i in range(at, len(text)) if text[i] not in characters), len(text))

    ends = [found.start() for found in re.finditer("\n", text)]

    def line(at: int) -> int:
        return bisect_left(ends, at) + 1

    at = text.index("[") + 1
    while not text.startswith("]", at := skip(f"{whitespace},", at)):
        if at == len(text):
            raise InputError(f"{path}:{line(at)}: row: the array is not closed: the file is truncated")
        try:
            row, end = _decoder.raw_decode(text, at)
            if nesting(row) > MAX_NESTING:
                raise ValueError(DEEP)
        except (RecursionError, ValueError) as error:
            why = DEEP if isinstance(error, RecursionError) else error
            raise InputError(f"{path}:{line(at)}: row: {why}") from None
        yield line(at), row
        at = end
    at = skip(whitespace, at + 1)
    if at < len(text):  # the rows of a second array would be lost
        raise InputError(f"{path}:{line(at)}: row: the array has ended: expected one array, or one JSON object a line")


def typed(model: type[M], value: object, where: str, whole: str = "row: ") -> M:
    """A value as `model`. Raises InputError that names `where`, the first field that cannot be used, and why.

    `whole` is what the message has in place of a field if the value itself is of another type.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = one_line(".".join(map(str, first["loc"])))
        message = first["msg"].removeprefix("Value error, ").partition(" or instance of ")[0]  # of a class here
        where = f"{where}: {f'{field}: ' if field else whole}"
        raise InputError(f"{where}{message[0].lower()}{message[1:]}") from None


@lru_cache
def _copy_of(pipe: Path) -> Path:
    """A copy of what a pipe delivers, kept until this process ends: a pipe can be read only once."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    copy = Path(folder.name) / os.path.abspath(pipe).lstrip("/")  # so that messages name the pipe
    copy.parent.mkdir(parents=True)
    copy.write_bytes(read_bytes(pipe))
    return copy


def resolve(source: str | Path) -> Path:
    """The local file of a source: a path, or `hf://datasets/OWNER/NAME[@REVISION][/FILE]`, which is downloaded.

    A pipe (/dev/stdin, <(…)) is replaced by a file with its content.
    """
    if not str(source).startswith(HUB):
        path = Path(source)
        if re.match(r"\w\w+:/", str(source)):
            raise InputError(f"{source}: expected a file, or {HUB}OWNER/NAME[@REVISION][/FILE]")
        if not path.exists() or path.is_dir():
            raise not_a_file(path)
        return path if path.is_file() else _copy_of(path)
    import httpx
    from huggingface_hub import HfApi, hf_hub_download

    found = re.fullmatch(rf"{HUB}([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.*))?", str(source))
    if not found:
        raise InputError(f"{source}: expected {HUB}OWNER/NAME[@REVISION][/FILE]")
    repository, revision, file = found.groups()
    prepare_hub()
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
    # offline, not found, an invalid name or proxy; a proxy that needs another package; no connection
    except (OSError, ValueError, ImportError, httpx.HTTPError) as error:
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"{source}: cannot be downloaded: {why}") from None
