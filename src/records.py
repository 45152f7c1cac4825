"""The training record of ReCode: six fields (paper §3.2), loaded, normalised and checked.

    dependency   the library, one spelling each ("numpy", "Numpy" -> "NumPy")
    new_version  the version migrated to, without operators ("==2.2.0" -> "2.2.0")
    description  what the snippet does (not part of the prompt)
    update_info  the update, as a release note states it
    old_code     the snippet before the update
    new_code     the snippet after it: the target

`load_records` treats rows that have errors as `bad_rows` requires, and reports how many there are and why:

    stop    reject the file
    drop    leave them out
    keep    train on them, as the paper did; only rows without a prompt or a target (UNREADABLE) are left out

Every problem reads `file:line: field: what is wrong`. `python src/check_data.py rows` is the command line.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path

from common.cli import one_line, printable
from common.errors import InputError
from common.libraries import normalise_dependency, normalise_version
from common.rows import RECORDS, expect_kind, read_rows, resolve
from common.syntax_trees import MAX_DEPTH, too_large
from prompts import reference_completion
from rewards import MATCH, score, syntax_tree

SHOWN = 10  # errors listed when a file is rejected

# check -> what it means. An error makes a row unusable for training; a warning is worth a look.
ERRORS = {
    "json": "the line is not a JSON object",
    "missing": "a field is absent",
    "null": "a field is null",
    "type": "a field is not a string",
    "unicode": "a field is not Unicode text: it contains half of a surrogate pair",
    "blank": "a field is empty",
    "parse": "code does not parse",
    "deep": f"code is nested deeper than {MAX_DEPTH} levels, or has an integer of thousands of digits",
    "empty_target": "new_code has no statement",
    "no_old_code": "old_code has nothing to migrate: only comments, pass, imports or empty definitions",
    "no_op": "old_code and new_code are the same program",
    "duplicate": "an earlier line has the same old_code and new_code",
    "reference": "the reference answer does not score the maximum: a tag such as </answer> in new_code",
}
WARNINGS = {
    "version": "new_version is not a release number",
    "no_description": "description is empty",
    "extra_field": "a field that is not one of the six",
    "repeated_field": "a field is given more than once in a row",
}
UNREADABLE = {"json", "missing", "null", "type", "unicode", "blank"}  # errors that leave no text for a prompt
BAD_ROWS = ("stop", "drop", "keep")
NOTHING = (ast.Import, ast.ImportFrom, ast.Pass)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
BLOCKS = (ast.If, ast.Try, ast.TryStar, ast.ExceptHandler, ast.With, ast.AsyncWith)
RELEASE = r"\s*=*\s*v?\d+(\.\d+)*((a|b|rc|\.?dev|\.?post)\d*)?\s*"  # one: 2.x and >=2.1 are many
SURROGATE = re.compile(r"[\ud800-\udfff]")  # JSON can escape one half of a pair, which UTF-8 cannot encode


@dataclass(frozen=True)
class Record:
    """One training record; `new_version` has no operator."""

    dependency: str
    new_version: str
    description: str
    update_info: str
    old_code: str
    new_code: str

    @cached_property
    def id(self) -> str:
        """Twelve hex digits that identify the migration; edits of description and update_info do not change them."""
        text = "\0".join((self.dependency, self.new_version, self.old_code, self.new_code))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def normalised(self) -> Record:
        version = normalise_version(self.new_version)
        return replace(self, dependency=normalise_dependency(self.dependency), new_version=version)

    def to_row(self) -> dict[str, str]:
        """The record in the published schema, where versions read `==2.2.0`."""
        return {**asdict(self), "new_version": f"=={self.new_version}"}


FIELDS = tuple(field.name for field in fields(Record))


@dataclass(frozen=True)
class Finding:
    """An error or a warning about row number `row` of a file (rows of a JSON array can start on the same line)."""

    file: str
    line: int
    row: int
    field: str
    check: str
    message: str

    @property
    def is_error(self) -> bool:
        return self.check in ERRORS

    def __str__(self) -> str:
        return one_line(f"{self.file}:{self.line}: {self.field}: {self.message}")


@dataclass(frozen=True)
class Checked:
    """The accepted records, and everything that was found in the file."""

    kept: list[tuple[int, int, Record]]  # row number, line, record
    problems: list[Finding]
    rows: int

    @property
    def records(self) -> list[Record]:
        return [record for _, _, record in self.kept]

    @property
    def errors(self) -> list[Finding]:
        return [problem for problem in self.problems if problem.is_error]

    def summary(self) -> str:
        """Rows by check, one line each; a row can fail several checks. Rows that were kept are counted separately."""
        used, bad = {row for row, _, _ in self.kept}, {problem.row for problem in self.errors}
        kept = f", {len(bad & used)} of them kept" if bad & used else ""
        out = [f"{self.rows} rows, {self.rows - len(bad)} good, {len(bad)} with errors{kept}"]
        for check, meaning in (ERRORS | WARNINGS).items():
            found = {problem.row for problem in self.problems if problem.check == check}
            levels = {"error": found - used, "kept": found & used} if check in ERRORS else {"warning": found}
            out += [f"  {level:<7} {check:<14} {len(n):>5} rows  {meaning}" for level, n in levels.items() if n]
        return "\n".join(out)


def does_nothing(body: list[ast.stmt]) -> bool:
    """Whether statements are only imports, pass, `...`, bare strings, and blocks and definitions of nothing else.

    A block whose header calls something, such as `with open(path): pass`, does something.
    """
    left: list[ast.AST] = [*body]
    while left:  # no recursion: a chain of elif is deeper than Python's stack
        node = left.pop()
        if isinstance(node, DEFINITIONS):
            left += node.body
        elif isinstance(node, BLOCKS):
            left += ast.iter_child_nodes(node)
        elif isinstance(node, (ast.expr, ast.withitem)):
            if any(isinstance(part, ast.Call) for part in ast.walk(node)):
                return False
        elif not (isinstance(node, NOTHING) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))):
            return False
    return True


def check_fields(row: object) -> Iterator[tuple[str, str, str]]:
    """(field, check, message) for everything that prevents a row from being read."""
    if not isinstance(row, dict):
        yield "row", "json", f"expected a JSON object, got {type(row).__name__}"
        return
    for field in FIELDS:
        if field not in row:
            yield field, "missing", "the field is missing"
        elif row[field] is None:
            yield field, "null", "the value is null"
        elif not isinstance(row[field], str):
            yield field, "type", f"expected a string, got {type(row[field]).__name__}"
        elif half := SURROGATE.search(row[field]):
            yield field, "unicode", f"not Unicode text: half of a surrogate pair after {half.start()} characters"
        elif not row[field].strip() and field not in ("description", "old_code", "new_code"):
            yield field, "blank", "the value is empty"
        elif field == "new_version" and not re.fullmatch(RELEASE, row[field]):
            yield field, "version", f"{row[field]!r} is not a release number, such as 2.1.0 or ==2.1.0"
    for field in row:
        if field not in FIELDS:
            yield field, "extra_field", "not one of the six fields; ignored"
    for field in getattr(row, "repeated", ()):
        yield field, "repeated_field", "given more than once; the last value counts"


def read_code(code: str) -> ast.Module | tuple[str, str]:
    """The syntax tree; (check, message) for code whose tree cannot be walked."""
    tree = syntax_tree(code, longest=None)
    if tree is None:
        return "parse", "does not parse as Python"
    problem = too_large(tree)
    return ("deep", problem) if problem else tree


def check_record(record: Record) -> Iterator[tuple[str, str, str]]:
    """(field, check, message) for every fault in a record's content."""
    if not record.description.strip():
        yield "description", "no_description", "the value is empty"
    old, new = read_code(record.old_code), read_code(record.new_code)
    if not isinstance(old, ast.Module):
        yield "old_code", *old
    elif does_nothing(old.body):
        yield "old_code", "no_old_code", "nothing to migrate: only comments, pass, imports or empty definitions"
    if not isinstance(new, ast.Module):
        yield "new_code", *new
        return
    if not new.body:
        yield "new_code", "empty_target", "has no statement"
    if isinstance(old, ast.Module) and old.body and ast.dump(old) == ast.dump(new):
        yield "new_code", "no_op", "the same program as old_code"
    best = score(reference_completion(record.new_code), record.new_code)
    if (best.format, best.em_star) != (1.0, MATCH):
        why = f"format {best.format:+g}, EM* {best.em_star:+g}, {best.reason}"
        yield "new_code", "reference", f"the reference answer does not score the maximum: {why}"


def check_rows(rows: list[tuple[int, object]], file: str, rejected: Collection[str] = frozenset(ERRORS)) -> Checked:
    """Check every (line, row) of a file.

    A row with the texts of a prompt and a target (the description is in neither) is kept, unless a check of `rejected`
    found something in it.
    """
    kept, problems = [], []
    seen: dict[tuple[str, str], tuple[int, int]] = {}
    for place, (line, row) in enumerate(rows, start=1):
        found = [("row", "json", str(row))] if isinstance(row, ValueError) else list(check_fields(row))
        unread = {field for field, check, _ in found if check in UNREADABLE}
        if isinstance(row, dict) and unread <= {"description"}:
            record = Record(**{field: "" if field in unread else row[field] for field in FIELDS}).normalised()
            found += [finding for finding in check_record(record) if finding[0] not in unread]
            first = (place, line) if unread else seen.setdefault((record.old_code, record.new_code), (place, line))
            if first[0] != place:
                found.append(("row", "duplicate", f"repeats the old_code and new_code of line {first[1]}"))
            if not any(check in rejected for _, check, _ in found):
                kept.append((place, line, record))
        problems += [Finding(file, line, place, *finding) for finding in found]
    return Checked(kept, problems, len(rows))


def first_of(lines: list[str], what: str, shown: int = SHOWN) -> str:
    """The first lines, and how many more there are."""
    more = [f"… and {len(lines) - shown:,} more {what}"] if len(lines) > shown else []
    return "\n".join([*lines[:shown], *more])


def check_file(source: str | Path, rejected: Collection[str] = frozenset(ERRORS)) -> Checked:
    """Read and check a file of records, as `check_rows`."""
    rows = read_rows(resolve(source))
    expect_kind(source, rows, RECORDS)
    return check_rows(rows, str(source), rejected)


def load_records(source: str | Path, bad_rows: str = "stop") -> list[Record]:
    """The records of a JSONL or JSON file, local or `hf://datasets/zjunlp/ReCode-Train-Data`.

    `bad_rows` is one of BAD_ROWS (see the module docstring). "stop" raises InputError listing the first errors, one a
    line; the others print the counts by check to stderr.
    """
    checked = check_file(source, () if bad_rows == "keep" else ERRORS)
    if checked.errors and bad_rows == "stop":
        shown = first_of([str(error) for error in checked.errors], "errors; check_data.py rows lists them")
        raise InputError(*shown.split("\n"))
    if not checked.records:
        first = f"; the first error: {checked.errors[0]}" if checked.errors else ""
        raise InputError(f"{source}: no usable record{first}")
    if checked.errors and os.environ.get("RANK", "0") == "0":  # once per launch, not once per process
        used = f"{len(checked.records)} of {checked.rows} rows are used"
        print(printable(f"{source}: bad_rows: {bad_rows}: {used}\n{checked.summary()}"), file=sys.stderr)
    return checked.records
