"""HumanEval+ and MBPP+: evalplus's data file as problems for src/generate.py.

A problem is a function to write: HumanEval+ shows its imports, signature and docstring, MBPP+ a text and an assertion.
The rest of a row (inputs, contracts) is evalplus's business: score.py hands the file to it unread.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from common.chat import Message
from common.errors import InputError
from common.rows import EVALPLUS, expect_kind, loads, read_text, typed
from curation.evidence import NonEmpty
from evaluation.prompts import evalplus_messages, function_messages

FUNCTION_PROMPTS = ("zero-shot", "evalplus")


class FunctionTask(BaseModel):
    """One problem. `text` is what the data file calls its prompt."""

    model_config = ConfigDict(frozen=True)

    id: NonEmpty = Field(alias="task_id")
    text: NonEmpty = Field(alias="prompt")
    entry_point: NonEmpty
    canonical_solution: NonEmpty

    @property
    def reference(self) -> str:
        """A whole program: evalplus's own reference is the prompt and the body together."""
        return self.text + self.canonical_solution

    def messages(self, prompt: str = "zero-shot", *, docs: bool = True) -> list[Message]:
        """The chat messages that ask for the function: our form, or evalplus's. There are no docs to withhold."""
        return evalplus_messages(self.text) if prompt == "evalplus" else function_messages(self.text, self.entry_point)


def read_lines(path: Path) -> list[tuple[int, str, Any]]:
    """The lines of a JSONL file that hold something: (number, text, value). Raises InputError."""
    found = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                found.append((number, line.rstrip("\r"), loads(line)))
            except ValueError as error:
                raise InputError(f"{path}:{number}: row: {error}") from None
    return found


def load_functions(path: Path) -> list[FunctionTask]:
    """Every problem of the file, in its order. Raises InputError that names file, line and field."""
    found: dict[str, FunctionTask] = {}
    rows = [(number, row) for number, _, row in read_lines(path)]
    expect_kind(path, rows, EVALPLUS)
    for number, row in rows:
        task = typed(FunctionTask, row, f"{path}:{number}")
        if found.setdefault(task.id, task) is not task:
            raise InputError(f"{path}:{number}: task_id: {task.id} is already on an earlier line")
    if not found:
        raise InputError(f"{path}: contains no problem")
    return list(found.values())
