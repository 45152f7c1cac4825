"""HumanEval+ and MBPP+: evalplus's data file as problems for src/generate.py.

A problem is a function to write: HumanEval+ shows its imports, signature and docstring, MBPP+ a text and an assertion.
The rest of a row (inputs, contracts) is evalplus's business: score.py hands the file to it unread.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from common.errors import InputError
from evaluation.prompts import evalplus_messages, function_messages
from prompts import Message

OVERRIDES = {"humaneval": "HUMANEVAL_OVERRIDE_PATH", "mbpp": "MBPP_OVERRIDE_PATH"}  # evalplus reads the same ones
FUNCTION_PROMPTS = ("zero-shot", "evalplus")
FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution")


@dataclass(frozen=True)
class FunctionTask:
    """One problem. `text` is what the data file calls its prompt."""

    id: str
    text: str
    entry_point: str
    reference: str  # a whole program: evalplus's own reference is the prompt and the body together

    def messages(self, prompt: str = "zero-shot", *, docs: bool = True) -> list[Message]:
        """The chat messages that ask for the function: our form, or evalplus's. There are no docs to withhold."""
        if not docs:
            raise InputError("no update belongs to this problem, so none can be withheld")
        return evalplus_messages(self.text) if prompt == "evalplus" else function_messages(self.text, self.entry_point)


def data_path(data: str | None, benchmark: str) -> Path | None:
    """The data file that was named, else the one that evalplus's own variable names, else None. Raises InputError."""
    named = data or os.environ.get(OVERRIDES[benchmark])
    if not named:
        return None
    if not Path(named).is_file():
        raise InputError(f"{named}: no such file" + ("" if data else f" (from {OVERRIDES[benchmark]})"))
    if not named.endswith((".jsonl", ".jsonl.gz")):
        raise InputError(f"{named}: expected .jsonl or .jsonl.gz, as evalplus releases it")
    return Path(named)


def read_lines(path: Path) -> list[str]:
    """The lines of a .jsonl or .jsonl.gz file that hold something. Raises InputError."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as file:
            return [line for line in file if line.strip()]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def load_functions(path: Path) -> list[FunctionTask]:
    """Every problem of the file, in its order. Raises InputError that names file, line and field."""
    found: dict[str, FunctionTask] = {}
    for number, line in enumerate(read_lines(path), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{number}: row: {error.msg}") from None
        for field in FIELDS:
            if not isinstance(row, dict) or not isinstance(row.get(field), str) or not row[field].strip():
                raise InputError(f"{path}:{number}: {field}: missing, empty or not text")
        if row["task_id"] in found:
            raise InputError(f"{path}:{number}: task_id: {row['task_id']} is already on an earlier line")
        whole = row["prompt"] + row["canonical_solution"]
        found[row["task_id"]] = FunctionTask(row["task_id"], row["prompt"], row["entry_point"], whole)
    if not found:
        raise InputError(f"{path}: contains no problem")
    return list(found.values())
