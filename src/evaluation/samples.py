"""The samples file, the interface between drawing samples and scoring them. One JSON object a line:

    task_id, sample_id                  samples 0 to n - 1 of each task, in any order
    completion                          what the model wrote after the prompt
    code                                what is scored; null if the completion holds none (comments alone are none)
    prompt_sha256                       of the prompt's text (of the messages, for a chat server)
    prompt_tokens, completion_tokens    null where they are not known
    finish_reason                       stop, or length for a completion that was cut (src/common/completion.py)

Beside samples.jsonl, samples.json holds what identifies them (`identity`: data, model, prompt, sampling) and every
start of the run. Scoring needs the first file alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.cli import fail
from common.completion import finished
from common.errors import InputError
from common.files import read_jsonl, write_json, write_jsonl
from evaluation.prompts import EVALPLUS_STOPS
from rewards import dedent, extract, last_python_fence, syntax_tree

REQUIRED = ("task_id", "sample_id", "completion", "code", "finish_reason")
NOT_COMPARED = ("data",)  # a file may move: its hash is compared


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
        code = fenced if fenced is not None or not found else inside
    else:
        code = extract(completion)
    return None if code is None or is_empty(code) else dedent(code)


def is_empty(code: str) -> bool:
    """Whether code parses and holds no statement: Python accepts blank lines and comments, but nothing is answered."""
    tree = syntax_tree(dedent(code))
    return not code.strip() or (tree is not None and not tree.body)


def read_note(note: Path) -> dict[str, Any]:
    """What stands beside a samples file. Stops in one line where that is no note of src/generate.py."""
    try:
        found = json.loads(note.read_text("utf-8"))
        if {"benchmark", "data_sha256"} <= found["identity"].keys():
            return found
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    fail(f"{note}: no note of src/generate.py")


def claim(path: Path, identity: Mapping[str, Any], description: Mapping[str, Any]) -> None:
    """Note beside the samples file what it is of; stop in one line where it is of something else."""
    note, starts = path.with_suffix(".json"), []
    identity = json.loads(json.dumps(identity))
    if note.is_file():
        old = read_note(note)
        other = [k for k in identity if k not in NOT_COMPARED and old["identity"].get(k) != identity[k]]
        if other:
            fail(f"{path} holds samples of another {', '.join(other)}: choose another --out")
        starts = old.get("starts", [])
    elif path.is_file():
        fail(f"{path} is there, and nothing beside it says of what: choose another --out")
    write_json(note, {"identity": identity, "starts": [*starts, description]})


def keep_whole(
    path: Path, prompts: Mapping[str, str], batches: Sequence[Sequence[tuple[str, int]]]
) -> set[tuple[str, int]]:
    """The samples (task, number) that are there already. `prompts`: the hash of each task's prompt.

    A line that an interruption cut, the rest of a batch that did not come whole, and a row that is not a model's answer
    (earlier versions wrote a provider's failures) are taken out of the file. Stops in one line where a sample is of
    another prompt.
    """
    if not path.is_file():
        return set()
    try:
        rows = read_jsonl(path)
    except InputError as error:
        fail(error)
    for row in rows:
        if row["prompt_sha256"] != prompts.get(row["task_id"]):
            fail(f"{path} holds a sample of another prompt for {row['task_id']}: choose another --out")
    there = {(row["task_id"], row["sample_id"]) for row in rows if finished(row.get("finish_reason"))}
    for batch in batches:
        if not there.issuperset(batch):
            there.difference_update(batch)
    write_jsonl(path, [row for row in rows if (row["task_id"], row["sample_id"]) in there])
    return there


def read_samples(path: Path, task_ids: Sequence[str], *, is_subset: bool = False) -> list[dict[str, Any]]:
    """The samples of these tasks, task by task, by number.

    Raises InputError where the file is not complete: every task must have samples 0 to n - 1, each once, with the same
    n for all. Samples of other tasks are an error too, unless `is_subset`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    wanted: dict[str, dict[int, dict[str, Any]]] = {identity: {} for identity in task_ids}
    for line, row in enumerate(read_jsonl(path), start=1):
        missing = [key for key in REQUIRED if key not in row]
        if missing:
            raise InputError(f"{path}:{line}: {missing[0]}: missing")
        if not finished(row["finish_reason"]):
            what = f"{row['finish_reason']!r}: the server's failure, not an answer"
            raise InputError(f"{path}:{line}: finish_reason: {what}; run src/generate.py again to draw it")
        mine = wanted.get(row["task_id"])
        if mine is None:
            if is_subset:
                continue
            raise InputError(f"{path}:{line}: task_id: {row['task_id']} is not in the data")
        if mine.setdefault(row["sample_id"], row) is not row:
            raise InputError(f"{path}:{line}: sample_id: {row['task_id']} has sample {row['sample_id']} twice")
    n = max(1, *(len(mine) for mine in wanted.values()))
    lacking = [identity for identity, mine in wanted.items() if set(mine) != set(range(n))]
    if lacking:
        raise InputError(
            f"{path}: incomplete: {len(lacking)} of {len(wanted)} tasks lack some of their {n} samples, first "
            f"{lacking[0]}; run src/generate.py again to go on, or score a subset with --limit"
        )
    return [mine[i] for mine in wanted.values() for i in range(n)]
