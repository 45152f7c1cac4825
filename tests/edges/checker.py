"""What every program promises for any input: status 0, a documented finding, or one line; and no half-written file."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from hypothesis import settings

# A list of row problems: `file:line: field: what`; then how many more there are.
PROBLEM = re.compile(r"[^\n]*:\d+: [^\n]*: [^\n]+|… and [\d,]+ more errors; check_data\.py rows lists them")
RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
IS_LONG = settings.get_current_profile_name() == "long"
counts: dict[str, int] = {}  # what a run has tried; tests/edges/conftest.py prints it


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    status: int
    stdout: str
    stderr: str


def count(what: str, number: int = 1) -> None:
    counts[what] = counts.get(what, 0) + number


def effort(quick: int, long: int) -> settings:
    """The number of examples of a test: few in every run, many with --hypothesis-profile long."""
    return settings(max_examples=long if IS_LONG else quick)


@contextmanager
def scratch(files: Mapping[str, bytes] | None = None) -> Iterator[Path]:
    """A folder with these files, which is the working folder."""
    with tempfile.TemporaryDirectory(prefix="edges") as name, chdir(name):
        for path, content in (files or {}).items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(content)
        yield Path(name)


def run_main(main: Callable[[], object], program: str, *argv: object, stdin: str = "") -> Ended:
    """`python src/PROGRAM.py ARGV` in this process. An exception that would be a traceback is raised."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    argv_of_program = [f"src/{program}.py", *map(str, argv)]
    with (
        mock.patch.object(sys, "argv", argv_of_program),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            status = main()
        except SystemExit as end:
            status = end.code
    assert status is None or isinstance(status, int), f"exit with {status!r}"
    return Ended(int(status or 0), *(stream.buffer.getvalue().decode("utf-8") for stream in (out, err)))


def check_ended(ended: Ended, program: str, statuses: Collection[int] = (0, 2), before: str = "(?!)") -> None:
    """The status is a documented one; status 2 has one line on stderr, or the list of a file's bad rows.

    `before`: a pattern of the lines that the program prints on stderr while it works.
    """
    assert ended.status in statuses, ended
    assert "Traceback" not in ended.stderr, ended
    for text in (ended.stdout, ended.stderr):
        assert not RAW.search(text), f"raw control characters: {RAW.search(text)} in {text[:2000]!r}"
    if ended.status == 2:
        lines = [line for line in ended.stderr.removesuffix("\n").split("\n") if not re.fullmatch(before, line)]
        assert lines, "status 2 without a line"
        assert lines[0].startswith(f"{program}: "), lines
        if len(lines) > 1:
            assert all(PROBLEM.fullmatch(line) for line in lines), f"not one line: {lines}"


def check_message(error: Exception) -> None:
    """The message of an InputError is one line, or the list of a file's bad rows."""
    lines = str(error).split("\n")
    assert lines[0].strip(), "an empty message"
    if len(lines) > 1:
        assert all(PROBLEM.fullmatch(line) for line in lines), f"not one line: {lines}"


def check_files(folder: Path) -> None:
    """What a program has written is whole: no .part, JSON that strict readers accept, lines that end."""
    for path in folder.rglob("*"):
        assert not path.name.endswith(".part"), f"left behind: {path}"
        if path.is_file() and path.suffix in (".json", ".jsonl"):
            text = path.read_text("utf-8")
            values = [text] if path.suffix == ".json" else text.split("\n")
            assert values.pop() == "" if path.suffix == ".jsonl" else text.endswith("\n"), f"{path}: half written"
            for value in values:
                json.loads(value)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, to see that a program leaves its input as it is."""
    return {os.path.relpath(path, folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
