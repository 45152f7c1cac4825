"""The training record of ReCode: six fields (paper §3.2), loaded, normalised and checked.

    dependency   the library, one spelling each ("numpy", "Numpy" -> "NumPy")
    new_version  the version migrated to, without operators ("==2.2.0" -> "2.2.0")
    description  what the snippet does (not part of the prompt)
    update_info  the update, as a release note states it
    old_code     the snippet before the update
    new_code     the snippet after it: the target

`load_records` refuses a file with errors; with `drop_bad=True` it drops the bad rows and says how many and why.
Every problem reads `file:line: field: what is wrong`. src/validate.py is the command line.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
import warnings
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from durable_files import write_jsonl
from record_files import RecordError, read_rows, resolve

FIELDS = ("dependency", "new_version", "description", "update_info", "old_code", "new_code")

# Spellings seen in the published rows, import names and package names -> the name a library gives itself.
LIBRARIES = {
    "jax": "JAX",
    "matplotlib": "Matplotlib",
    "networkx": "NetworkX",
    "numpy": "NumPy",
    "pandas": "pandas",
    "pillow": "Pillow",
    "polars": "Polars",
    "pydantic": "Pydantic",
    "pytorch": "PyTorch",
    "torch": "PyTorch",
    "scikitlearn": "scikit-learn",
    "sklearn": "scikit-learn",
    "scipy": "SciPy",
    "scrapy": "Scrapy",
    "seaborn": "seaborn",
    "sqlalchemy": "SQLAlchemy",
}

# check -> what it means. An error makes a row unusable for training; a warning is worth a look.
ERRORS = {
    "json": "the line is no JSON object",
    "missing": "a field is absent",
    "null": "a field is null",
    "type": "a field is no string",
    "blank": "a field is empty",
    "parse": "code does not parse",
    "empty_target": "new_code holds no statement",
    "no_old_code": "old_code holds nothing to migrate: only comments, pass, imports or empty definitions",
    "no_op": "old_code and new_code are the same program",
    "duplicate": "the same old_code and new_code stand on an earlier line",
}
WARNINGS = {
    "version": "new_version is no release number",
    "no_description": "description is empty",
    "extra_field": "a field that is not one of the six",
}


@dataclass(frozen=True)
class Record:
    """One verified-to-load training record; `new_version` carries no operator."""

    dependency: str
    new_version: str
    description: str
    update_info: str
    old_code: str
    new_code: str

    @cached_property
    def id(self) -> str:
        """Twelve hex digits that name the migration: stable under edits of description and update_info."""
        text = "\0".join((self.dependency, self.new_version, self.old_code, self.new_code))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_row(self) -> dict[str, str]:
        """The record in the published schema, where versions read `==2.2.0`."""
        return {**asdict(self), "new_version": f"=={self.new_version}"}


@dataclass(frozen=True)
class Problem:
    """One finding in one row."""

    file: str
    line: int
    field: str
    check: str
    message: str

    @property
    def is_error(self) -> bool:
        return self.check in ERRORS

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field}: {self.message}"


@dataclass(frozen=True)
class Checked:
    """A file's good records with the line of each, and everything that was found."""

    records: list[Record]
    lines: list[int]
    problems: list[Problem]
    rows: int

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.is_error]

    def summary(self) -> str:
        """Rows by check, one line each; a row can fail several checks."""
        bad = len({problem.line for problem in self.errors})
        out = [f"{self.rows} rows, {len(self.records)} good, {bad} with errors"]
        for checks in (ERRORS, WARNINGS):
            for check, meaning in checks.items():
                count = len({problem.line for problem in self.problems if problem.check == check})
                if count:
                    level = "error" if check in ERRORS else "warning"
                    out.append(f"  {level:<7} {check:<14} {count:>5} rows  {meaning}")
        return "\n".join(out)


def normalise_version(version: str) -> str:
    """`==2.2.0`, `2.2.0`, ` >= 2.2.0`, `v2.2.0` -> `2.2.0`; `==1.3.x` -> `1.3.x`."""
    return re.sub(r"^[\s=<>~!^]*v?", "", version).strip()


def normalise_dependency(name: str) -> str:
    """One spelling per library; a name that is not in LIBRARIES stays as it is."""
    return LIBRARIES.get(re.sub(r"[\s_.-]", "", name).lower(), name.strip())


def parse_code(code: str) -> ast.Module | None:
    """The syntax tree, or None where Python does not accept the code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def does_nothing(body: list[ast.stmt]) -> bool:
    """Whether statements are only imports, pass, `...`, bare strings, and definitions that hold no more than these."""
    return all(
        isinstance(node, (ast.Import, ast.ImportFrom, ast.Pass))
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, (ast.FunctionDef, ast.ClassDef)) and does_nothing(node.body))
        for node in body
    )


def check_fields(row: object) -> Iterator[tuple[str, str, str]]:
    """(field, check, message) for what stops a row from being read at all."""
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
        elif not row[field].strip() and field not in ("description", "old_code", "new_code"):
            yield field, "blank", "the value is empty"
    for field in row:
        if field not in FIELDS:
            yield str(field), "extra_field", "not one of the six fields; ignored"


def check_record(record: Record) -> Iterator[tuple[str, str, str]]:
    """(field, check, message) for what is wrong with a record's content."""
    if not re.fullmatch(r"\d+(\.(\d+|x))*((a|b|rc|\.?dev|\.?post)\d*)?", record.new_version):
        yield "new_version", "version", f"{record.new_version!r} does not look like a version"
    if not record.description.strip():
        yield "description", "no_description", "the value is empty"
    old, new = parse_code(record.old_code), parse_code(record.new_code)
    if old is None:
        yield "old_code", "parse", "does not parse as Python"
    elif does_nothing(old.body):
        yield "old_code", "no_old_code", "nothing to migrate: only comments, pass, imports or empty definitions"
    if new is None:
        yield "new_code", "parse", "does not parse as Python"
    elif not new.body:
        yield "new_code", "empty_target", "holds no statement"
    if old and new and old.body and ast.dump(old) == ast.dump(new):
        yield "new_code", "no_op", "the same program as old_code"


def check_rows(rows: list[tuple[int, object]], file: str, allowed: Collection[str] = ()) -> Checked:
    """Check every (line, row) of a file; records that have no error, but those `allowed`, are kept, normalised."""
    records, lines, problems = [], [], []
    seen: dict[tuple[str, str], int] = {}
    for line, row in rows:
        found = [("row", "json", str(row))] if isinstance(row, json.JSONDecodeError) else list(check_fields(row))
        if not any(check in ERRORS for _, check, _ in found):
            values = {field: row[field] for field in FIELDS}
            values["dependency"] = normalise_dependency(values["dependency"])
            values["new_version"] = normalise_version(values["new_version"])
            record = Record(**values)
            found += check_record(record)
            first = seen.setdefault((record.old_code, record.new_code), line)
            if first != line:
                found.append(("row", "duplicate", f"repeats the old_code and new_code of line {first}"))
            if not any(check in ERRORS and check not in allowed for _, check, _ in found):
                records.append(record)
                lines.append(line)
        problems += [Problem(file, line, *finding) for finding in found]
    return Checked(records, lines, problems, len(rows))


def check_file(source: str | Path, allowed: Collection[str] = ()) -> Checked:
    """Read and check a file of records, as `check_rows`. Raises RecordError where the file itself cannot be read."""
    return check_rows(read_rows(resolve(source)), str(source), allowed)


def load_records(source: str | Path, *, drop_bad: bool = False) -> list[Record]:
    """The records of a JSONL or JSON file, local or `hf://datasets/zjunlp/ReCode-Train-Data`.

    Raises RecordError listing every error, one a line. With `drop_bad` rows with errors are left out instead, and the
    counts by check go to stderr.
    """
    checked = check_file(source)
    if checked.errors and not drop_bad:
        raise RecordError("\n".join(map(str, checked.errors)))
    if not checked.records:
        raise RecordError(f"{source}: holds no usable record")
    if checked.errors:
        print(f"{source}: dropping rows with errors\n{checked.summary()}", file=sys.stderr)
    return checked.records


def write_rows(records: list[Record], path: Path) -> None:
    """Write records as JSONL in the published schema: to a temporary file, then renamed."""
    write_jsonl(path, [record.to_row() for record in records])
