"""The problems of CodeUpdateArena and of the multi-update set, read into one type.

A CodeUpdateArena problem has an update of a library function (fictitious, with an implementation), a scenario, a
problem, the signature of its solution, unit tests and a reference solution. Rows may be flat (one problem each) or
grouped (one update each, with `prog_syn_examples`), with both spellings of two fields: `imports` or `prog_syn_imports`,
`function_path` or `api_path`. multi.py builds the multi-update set from them.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from common.chat import Message
from common.errors import InputError
from common.rows import ARENA, MULTI, Row, expect_kind, read_rows
from evaluation.arena.unit_tests import UnitTest, split_tests
from evaluation.prompts import one_shot_messages, problem_messages
from records import first_of

T = TypeVar("T")
NOT_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)  # from ast.parse; the last two if nested too deeply


@dataclass(frozen=True)
class ApiUpdate:
    """One update: its text in the prompt, and the code that puts it in force."""

    id: str
    path: str  # of the function before the update, as `numpy.sum` or `pandas.DataFrame.head`
    type: str  # such as `add-argument` or `modify-function-name`
    name: str  # of the function after the update: the one that `implementation` defines
    imports: str  # they also save the old function: `old_sum = numpy.sum`
    implementation: str
    description: str
    signature: str
    docstring: str

    @property
    def package(self) -> str:
        return self.path.partition(".")[0]

    @property
    def renames(self) -> bool:
        """Whether the old name disappears."""
        return self.type == "modify-function-name" and self.name != self.path.rpartition(".")[2]

    @property
    def new_path(self) -> str:
        return f"{self.path.rpartition('.')[0]}.{self.name}"


@dataclass(frozen=True)
class Task:
    """One problem. `kind` is arena, joint (two problems in one) or natural (one problem, two updates)."""

    id: str
    kind: str
    updates: tuple[ApiUpdate, ...]
    scenario: str
    problem: str
    signature: str
    imports: str
    tests: tuple[UnitTest, ...]
    reference: str
    row: Mapping[str, Any] = field(compare=False, repr=False)  # what it was read from

    def messages(self, prompt: str = "zero-shot", *, docs: bool = True) -> list[Message]:
        """The chat messages that ask for the solution; `docs=False` withholds the update."""
        question = (self.updates, self.scenario, self.problem, self.signature)
        if prompt == "one-shot":
            return one_shot_messages(*question, self.tests[0].source, docs=docs)
        return problem_messages(*question, docs=docs)


def defined_function(implementation: str, path: str) -> str:
    """The name of the function that is implemented: the old name, or the last one defined."""
    body = ast.parse(implementation).body
    names = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    old = path.rpartition(".")[2]
    if old not in names and (other := [node for node in body if getattr(node, "name", None) == old]):
        raise ValueError(f"{old} is not a plain function: line {other[0].lineno}")
    if not names:
        raise ValueError("defines no function")
    return old if old in names else names[-1]


def _field(row: Mapping[str, Any], *names: str) -> str:
    """The text under the first of the names that the row has; a list of texts (imports, tests) is joined."""
    for name in names:
        value = row.get(name)
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            value = "\n\n".join(value)
        if isinstance(value, str) and value.strip():
            if re.search("[\ud800-\udfff]", value):  # cannot be tokenised or hashed
                raise ValueError(f"{name}: not Unicode text: it contains a lone surrogate")
            return value
    raise ValueError(f"{' or '.join(names)}: missing, empty or not a text")


def _object(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The JSON object under this name."""
    if not isinstance(row.get(name), dict):
        raise ValueError(f"{name}: missing or not a JSON object")
    return row[name]


def _objects(row: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The list of JSON objects under this name."""
    if not isinstance(row.get(name), list) or not all(isinstance(part, dict) for part in row[name]):
        raise ValueError(f"{name}: missing or not a list of JSON objects")
    return row[name]


def _parsed(name: str, parse: Callable[..., T], *texts: str) -> T:
    """What `parse` makes of a field. Raises ValueError that names the field."""
    try:
        return parse(*texts)
    except NOT_PYTHON as error:
        raise ValueError(f"{name}: {error}") from None


def _imports(row: Mapping[str, Any], *names: str) -> str:
    """As `_field`, for code that must parse."""
    text = _field(row, *names)
    _parsed(" or ".join(names), ast.parse, text)
    return text


def parse_update(row: Mapping[str, Any]) -> ApiUpdate:
    """An update from its JSON object. Raises ValueError that names the field."""
    path = _field(row, "function_path", "api_path")
    if "." not in path or not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(f"function_path: {path!r} is not a dotted path of a module and a function")
    implementation = _field(row, "implementation")
    name = _parsed("implementation", defined_function, implementation, path)
    return ApiUpdate(
        id=_field(row, "update_id"),
        path=path,
        type=_field(row, "update_type"),
        name=name,
        imports=_imports(row, "imports"),
        implementation=implementation,
        description=_field(row, "description"),
        signature=_field(row, "signature"),
        docstring=_field(row, "docstring"),
    )


def parse_task(row: Mapping[str, Any], update: ApiUpdate) -> Task:
    """A CodeUpdateArena problem from its JSON object. Raises ValueError that names the field."""
    return Task(
        id=_field(row, "prog_syn_id"),
        kind="arena",
        updates=(update,),
        scenario=_field(row, "scenario"),
        problem=_field(row, "problem"),
        signature=_field(row, "solution_signature"),
        imports=_imports(row, "prog_syn_imports", "imports"),  # if a row has both, the second is the update's
        tests=_parsed("unit_tests", split_tests, _field(row, "unit_tests")),
        reference=_field(row, "ref_solution"),
        row=row,
    )


def join_tasks(identity: str, first: Task, second: Task) -> Task:
    """One question from two: both updates in the prompt, both functions requested, the tests of both."""
    parts = (first, second)

    def numbered(field: str) -> str:
        return "\n".join(f"({i}) {getattr(part, field).strip()}" for i, part in enumerate(parts, start=1))

    return Task(
        id=identity,
        kind="joint",
        updates=tuple(update for part in parts for update in part.updates),
        scenario=numbered("scenario"),
        problem=f"Write two functions, both in one code block.\n{numbered('problem')}",
        signature=numbered("signature"),
        imports="\n".join(part.imports for part in parts),
        tests=tuple(
            UnitTest(f"{i}.{test.name}", test.source) for i, part in enumerate(parts, 1) for test in part.tests
        ),
        reference="\n\n".join(part.reference for part in parts),
        row={},
    )


def add_update(identity: str, task: Task, update: ApiUpdate) -> Task:
    """A natural multi-update question: the same problem with a second update, in the prompt and in force."""
    return replace(task, id=identity, kind="natural", updates=(*task.updates, update))


def _multi_task(row: Mapping[str, Any]) -> Task:
    kind, rows = row.get("kind"), _objects(row, "problems")
    parts = [parse_task(part, parse_update(_object(part, "update"))) for part in rows]
    if len(parts) != {"joint": 2, "natural": 1}.get(str(kind)):
        raise ValueError(f"kind: {kind!r} with {len(parts)} problems: expected joint with two, or natural with one")
    if kind == "joint":
        return join_tasks(_field(row, "multi_id"), *parts)
    return add_update(_field(row, "multi_id"), parts[0], parse_update(_object(row, "second_update")))


def _tasks(row: object, benchmark: str) -> list[Task]:
    """The problems of one row. Raises ValueError that names the field."""
    if not isinstance(row, Row):
        raise ValueError(f"row: {row}" if isinstance(row, ValueError) else "row: not a JSON object")
    if row.repeated:
        raise ValueError(f"{row.repeated[0]}: given more than once")
    if benchmark == "multi":
        return [_multi_task(row)]
    update = parse_update(_object(row, "update") if "update" in row else row)
    parts = _objects(row, "prog_syn_examples") if "prog_syn_examples" in row else [row]
    return [parse_task({**part, "update": row.get("update", row)}, update) for part in parts]


def load_tasks(path: Path, benchmark: str = "arena", *, skip_bad: bool = False) -> list[Task]:
    """Every problem of the file, in the file's order.

    Raises InputError that names file, line and field of the first rows that cannot be used, and of duplicate ids;
    `skip_bad` leaves those rows out instead.
    """
    found: dict[str, Task] = {}
    problems = []
    rows = read_rows(path)
    expect_kind(path, rows, MULTI if benchmark == "multi" else ARENA)
    for line, row in rows:
        try:
            tasks = _tasks(row, benchmark)
        except ValueError as error:
            problems.append(f"{path}:{line}: {error}")
            continue
        for task in tasks:
            if found.setdefault(task.id, task) is not task:
                problems.append(f"{path}:{line}: prog_syn_id: {task.id} is on an earlier line, too")
    if problems and not skip_bad:
        raise InputError(*first_of(problems, "problems").split("\n"))
    if not found:
        raise InputError(f"{path}: contains no problem")
    return list(found.values())


def by_hash(identity: str) -> str:
    """A sort key that is pseudo-random and needs no seed."""
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()


def subset(tasks: Sequence[Any], limit: int | None) -> list[Any]:
    """A fixed sample of `limit` problems (None: all), by the hash of the id, so that smaller ones are nested."""
    return list(tasks) if limit is None else sorted(tasks, key=lambda task: by_hash(task.id))[:limit]


def fingerprint(tasks: Sequence[Any]) -> str:
    """A hash of the set of problems, independent of their order."""
    return hashlib.sha256(json.dumps(sorted(task.id for task in tasks)).encode()).hexdigest()
