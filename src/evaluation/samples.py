"""The samples file, the interface between drawing samples and scoring them: one `Sample` a line.

Beside samples.jsonl, samples.json holds its `Note`: what identifies the samples (data, model, prompt, sampling), the
problems they answer, and every start of the run. Scoring needs the first file alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from common.errors import InputError
from common.files import numbered_jsonl, read_json, write_json, write_jsonl
from common.rows import SAMPLES, expect_kind, typed
from evaluation.prompts import EVALPLUS_STOPS
from rewards import dedent, extract, last_python_fence, syntax_tree

IN_WORDS = {  # fields of an Identity that are not named as their flag
    "data_sha256": "content of --data",
    "tasks_sha256": "set of problems",
    "docs": "--no-docs",
    "model_sha256": "weights of --model",
    "model_commit": "revision of --model",
    "adapter_sha256": "weights of --adapter",
}
NOT_COMPARED = ("data",)  # a file may move: its hash is compared


class FileFormat(BaseModel):
    """A JSON object of a file that this project writes; fields of other versions are kept."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")


class Sample(FileFormat):
    """One answer of a model."""

    task_id: str
    sample_id: int  # 0 to n - 1 for each problem, in any order
    completion: str  # what the model wrote after the prompt
    code: str | None  # what is scored; None if the completion contains no statement
    prompt_sha256: str | None = None  # of the prompt's text (of the messages, for a chat server)
    prompt_tokens: int | None = None  # None if they are not known
    completion_tokens: int | None = None
    finish_reason: str = Field(pattern="^(stop|length)$")  # length: it was cut (src/common/completion.py)


def mean_tokens(rows: Sequence[Sample]) -> float | None:
    """The mean length of the samples whose length is known; None without any."""
    lengths = [row.completion_tokens for row in rows if row.completion_tokens is not None]
    return sum(lengths) / len(lengths) if lengths else None


class Identity(FileFormat):
    """What samples depend on: none of it may differ within a file. src/generate.py adds more: adapter, hashes, …"""

    benchmark: str
    data: str | None = None  # the problems, as the user named them
    data_sha256: str
    limit: PositiveInt | None = None
    max_target_tokens: PositiveInt | None = None
    skip_bad_tasks: bool = False
    tasks_sha256: str | None = None
    backend: str | None = None
    model: str | None = None
    prompt: str | None = None
    docs: bool = True
    sampling: dict[str, Any] = {}


class Note(FileFormat):
    """The file beside the samples."""

    identity: Identity
    problems: list[str] | None = Field(None, min_length=1)  # their ids
    starts: list[dict[str, Any]] = []


def code_of(completion: str, prompt: str) -> str | None:
    """The code that is scored, or None.

    Zero-shot: as the reward reads it. One-shot: the first [PYTHON] part (an open one runs to the end), of which a
    fenced block counts alone; without such a part the last python fence. evalplus: all up to where evalplus stops,
    tabs as four spaces, as it does.
    """
    if prompt == "evalplus":
        end = min([at for stop in EVALPLUS_STOPS if (at := completion.find(stop)) >= 0], default=len(completion))
        code = completion[:end].replace("\t", "    ")
        return None if is_empty(code) else code
    if prompt == "one-shot":
        found = re.search(r"\[PYTHON\](.*?)(?:\[/PYTHON\]|\Z)", completion, re.DOTALL)
        inside = found[1] if found else completion
        fenced = last_python_fence(inside.replace("\r\n", "\n"))
        inner = fenced if fenced is not None or not found else inside
    else:
        inner = extract(completion)
    return None if inner is None or is_empty(inner) else dedent(inner)


def is_empty(code: str) -> bool:
    """Whether code parses but contains no statement: only blank lines and comments."""
    tree = syntax_tree(dedent(code))
    return not code.strip() or (tree is not None and not tree.body)


def read_note(samples: Path) -> Note | None:
    """The note beside a samples file, None if there is none. Raises InputError."""
    path = samples.with_suffix(".json")
    return read_json(path, Note) if path.is_file() else None


def changed_fields(old: Identity, new: Identity) -> list[str]:
    """The fields in which two runs differ."""
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    return [key for key in after if key not in NOT_COMPARED and before.get(key) != after[key]]


def in_words(fields: Sequence[str]) -> str:
    """Fields of an Identity, as the user gave them."""
    return ", ".join(IN_WORDS.get(name, f"--{name.replace('_', '-')}") for name in fields)


def write_note(samples: Path, identity: Identity, problems: Sequence[str], start: Mapping[str, Any]) -> None:
    """Record beside the samples file which run it belongs to. Raises InputError if it belongs to another one."""
    note = read_note(samples)
    if note:
        if other := changed_fields(note.identity, identity):
            old, new = note.identity.sampling, identity.sampling
            flags = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            other = [name for name in (*other, *flags) if name != "sampling"]
            raise InputError(f"{samples} holds samples with another {in_words(other)}: choose another --out")
    elif samples.is_file():
        raise InputError(f"{samples} exists without the note of its run, samples.json: choose another --out")
    starts = [*(note.starts if note else []), start]
    write_json(
        samples.with_suffix(".json"), {"identity": identity.model_dump(), "problems": list(problems), "starts": starts}
    )


def complete_ids(path: Path, task_ids: Sequence[str]) -> set[int]:
    """The sample numbers that the file has for every one of these problems."""
    rows = [row for _, row in read_rows(path)] if path.is_file() else []
    there = {(row.task_id, row.sample_id) for row in rows}
    return {number for _, number in there if all((task, number) in there for task in task_ids)}


def keep_whole(
    path: Path, prompts: Mapping[str, str], batches: Sequence[Sequence[tuple[str, int]]]
) -> set[tuple[str, int]]:
    """The samples (problem, number) that are in the file. `prompts`: the hash of each problem's prompt.

    A line that an interruption cut and the rest of an incomplete batch are removed from the file. Raises InputError if
    a sample is of another prompt.
    """
    if not path.is_file():
        return set()
    rows = [row for _, row in read_rows(path)]
    for row in rows:
        if row.prompt_sha256 != prompts.get(row.task_id):
            raise InputError(f"{path} holds a sample of another prompt for {row.task_id}: choose another --out")
    there = {(row.task_id, row.sample_id) for row in rows}
    for batch in batches:
        if not there.issuperset(batch):
            there.difference_update(batch)
    write_jsonl(path, [row.model_dump() for row in rows if (row.task_id, row.sample_id) in there])
    return there


def read_rows(path: Path) -> list[tuple[int, Sample]]:
    """Every sample of the file with its line, in the file's order. Raises InputError."""
    rows = numbered_jsonl(path)
    expect_kind(path, rows, SAMPLES)
    return [(line, typed(Sample, row, f"{path}:{line}")) for line, row in rows]


def read_samples(path: Path, task_ids: Sequence[str], *, is_subset: bool = False) -> list[Sample]:
    """The samples of these problems, problem by problem, by number.

    Raises InputError if the file is not complete: every problem must have samples 0 to n - 1, each once, with the same
    n for all. Samples of other problems are an error too, unless `is_subset`.
    """
    wanted: dict[str, dict[int, Sample]] = {identity: {} for identity in task_ids}
    for line, row in read_rows(path):
        mine = wanted.get(row.task_id)
        if mine is None:
            if is_subset:
                continue
            raise InputError(f"{path}:{line}: task_id: {row.task_id} is not in the data")
        if mine.setdefault(row.sample_id, row) is not row:
            raise InputError(f"{path}:{line}: sample_id: {row.task_id} has sample {row.sample_id} twice")
    n = max([1, *(len(mine) for mine in wanted.values())])
    lacking = [identity for identity, mine in wanted.items() if set(mine) != set(range(n))]
    if lacking:
        raise InputError(
            f"{path}: incomplete: {len(lacking)} of {len(wanted)} tasks lack some of their {n} samples, first "
            f"{lacking[0]}; run src/generate.py again to resume, or score a subset with --limit"
        )
    return [mine[i] for mine in wanted.values() for i in range(n)]
