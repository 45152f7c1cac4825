"""What a sample was asked: the record or the problem of its id, from the data that the run or the evaluation names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.provenance import sha256
from common.rows import resolve
from evaluation.benchmarks import BENCHMARKS
from records import Record, check_file
from rewards import clean

ROOT = Path(__file__).parents[2]  # where the launchers run, so that the paths in run.json begin there


@dataclass(frozen=True)
class Task:
    """What a sample was asked; texts that are not known are empty."""

    id: str
    title: str = ""
    note: str = ""  # the update, or the whole question
    old: str = ""
    target: str = ""

    @cached_property
    def _old(self) -> tuple[str, list[str]]:
        normal = clean(self.old)[0]
        return normal, [line.strip() for line in normal.split("\n")]

    def is_copy(self, code: str | None) -> bool:
        """Whether code is the old code, comments and layout aside."""
        if code is None or not self.old:
            return False
        if code == self.old:  # this and the lines decide nearly always, at a fraction of the cost
            return True
        normal, lines = self._old
        return all(line in code for line in lines) and clean(code)[0] == normal


def of_record(record: Record) -> Task:
    title = f"{record.dependency} {record.new_version}"
    return Task(record.id, title, record.update_info, record.old_code, record.new_code)


def of_problem(problem: Any) -> Task:
    """The task of a benchmark's problem."""
    if isinstance(record := getattr(problem, "record", None), Record):
        return of_record(record)
    question = "\n\n".join(message["content"] for message in problem.messages() if message["role"] == "user")
    return Task(problem.id, "", question, "", problem.reference)


def local(source: str) -> Path:
    """The file of a source, also if the path begins at the repository's root. Raises InputError; downloads nothing."""
    path = ROOT / source
    return path if not source.startswith("hf:") and not Path(source).exists() and path.is_file() else resolve(source)


def load(sources: Mapping[str, str], wanted: Iterable[str], benchmark: str = "") -> tuple[dict[str, Task], list[str]]:
    """(id -> task, remarks for the page) from files, given with the hashes that they had when they were used.

    A file that is missing or was changed is only remarked on: an id is a hash of the record's code, so that a record
    that is found is the one that was asked.
    """
    tasks: dict[str, Task] = {}
    remarks: list[str] = []
    for source, digest in sources.items():
        if source.endswith(".parquet"):  # made from the other files
            continue
        try:
            path = local(source)
            if digest and sha256(path) != digest:
                remarks.append(f"{source} has changed since; old code and notes are those of today's records")
                if benchmark not in ("", "migration"):  # ids that do not depend on the content
                    continue
            tasks |= {task.id: task for task in read(path, benchmark)}
        except (InputError, OSError) as error:
            remarks.append(f"{source} cannot be read here, so that notes, old code and copies are not known: {error}")
    known = [identity for identity in set(wanted) if identity in tasks]
    lacking = len(set(wanted)) - len(known)
    if lacking and not remarks:
        remarks.append(f"{lacking} records are not in {', '.join(sources) or 'any data file'}")
    return {identity: tasks[identity] for identity in known}, remarks


def read(path: Path, benchmark: str) -> Sequence[Task]:
    if benchmark not in ("", *BENCHMARKS):
        raise InputError(f"benchmark {benchmark}: expected one of {', '.join(BENCHMARKS)}")
    if benchmark not in ("", "migration"):
        return [of_problem(problem) for problem in BENCHMARKS[benchmark].load(path, True)]
    return [of_record(record) for record in check_file(path, ()).records]
