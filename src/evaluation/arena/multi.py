"""Multi-update questions out of CodeUpdateArena: two updates in the prompt and in force.

OUR CONSTRUCTION: the paper's twenty questions (Table 3) are unpublished, so its numbers are of other questions.

joint     Two problems in one, of updates of different functions of one package; both notes in the prompt, both
          functions asked for. Kept only if the two reference solutions together pass all tests of both with both
          updates in force, and fail when either update is missing, and when both are.
natural   One problem whose reference already calls a second function that has an update of its own. Kept if the
          reference passes with both updates in force and fails without its own. Whether it also fails without the
          second one is counted: if it does not, the model must find out which note it needs. All such questions.

Deterministic: the same data and environment give the same file. Pairs come in the order of a hash; an update is used
again only when no unused pair is left. Each row holds the problems whole, so the file needs nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import sandbox
from common.cli import above_zero
from common.errors import InputError
from common.files import read_json, write_json, write_jsonl
from common.provenance import describe, sha256
from common.rows import read_rows, resolve
from evaluation.arena.problems import ApiUpdate, Task, add_update, by_hash, join_tasks, load_tasks
from evaluation.arena.programs import called_functions, judge
from evaluation.arena.score import ERRATA, check_environment, read_errata
from evaluation.samples import FileFormat, in_words
from rewards import parses

ARENA = "hf://datasets/leo-liuzy/CodeUpdateArena@main"  # the published file of 670 problems: not run yet
QUESTIONS = 20  # as many as the paper's
FLAGS: dict[str, dict[str, Any]] = {
    "--questions": {
        "type": above_zero(int),
        "metavar": "N",
        "help": f"how many joint questions (default: {QUESTIONS})",
    },
    "--kind": {"choices": ("joint", "natural"), "help": "what the questions are made of (default: joint)"},
    "--python": {"help": "interpreter that runs the references (default: this one)"},
}


class Settings(FileFormat):
    """What questions depend on, besides the environment that the references ran in: recorded beside them."""

    data_sha256: str
    kind: str
    questions: int | None  # None: all there are
    skip_bad_tasks: bool


def solved_function(task: Task) -> str:
    """The name of the function that a problem asks for, from its signature (`def name(…)` or `name(…)`)."""
    return task.signature.strip().removeprefix("def ").partition("(")[0].strip()


def joint_pairs(tasks: Iterable[Task]) -> list[tuple[Task, Task]]:
    """One pair of problems for every two updates of different functions of one package, in the order of a hash."""
    by_update: dict[str, list[Task]] = {}
    for task in tasks:
        by_update.setdefault(task.updates[0].id, []).append(task)
    pairs = []
    for one, other in combinations(sorted(by_update), 2):
        a, b = by_update[one][0].updates[0], by_update[other][0].updates[0]
        if a.package != b.package or a.path == b.path:
            continue
        key = by_hash(f"{one} {other}")
        first, second = (min(by_update[i], key=lambda task: by_hash(key + task.id)) for i in (one, other))
        if solved_function(first) != solved_function(second):
            pairs.append((key, first, second))
    return [(first, second) for _, first, second in sorted(pairs, key=lambda pair: pair[0])]


def natural_pairs(tasks: Sequence[Task]) -> list[tuple[Task, ApiUpdate]]:
    """Every problem with every update of another function that its reference solution calls, by old or new name."""
    updates = {task.updates[0].id: task.updates[0] for task in tasks}
    pairs = []
    for task in sorted(tasks, key=lambda task: task.id):
        if parses(task.reference):
            called = called_functions(task.reference, task.imports)
            pairs += [
                (task, updates[i])
                for i in sorted(updates)
                if updates[i].path != task.updates[0].path and {updates[i].path, updates[i].new_path} & called
            ]
    return pairs


def holds(questions: Sequence[Task], options: Mapping[str, Any]) -> list[dict[str, bool]]:
    """Whether each question's reference passes with both updates, with the first alone, the second alone, with none."""
    cases = {"both": (0, 1), "first": (0,), "second": (1,), "none": ()}
    found: list[dict[str, bool]] = [{} for _ in questions]
    left = list(range(len(questions)))
    for name, in_force in cases.items():
        outcomes = judge([(questions[i], questions[i].reference) for i in left], in_force, **options)
        for i, outcome in zip(left, outcomes, strict=True):
            found[i][name] = outcome.passed
        if name == "both":
            left = [i for i in left if found[i]["both"]]
    return found


def is_kept(held: Mapping[str, bool], kind: str) -> bool:
    """It passes with both updates, and fails without: either or both of them (joint), its own or both (natural)."""
    needed = ("first", "second", "none") if kind == "joint" else ("second", "none")
    return held["both"] and not any(held[name] for name in needed)


def joint_rows(
    tasks: Sequence[Task], count: int, options: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], Mapping[str, int]]:
    """(rows of the first `count` questions that hold, a tally of what became of the pairs that were tried).

    An update is used again only when every pair that is left holds one that has been used.
    """
    left = joint_pairs(tasks)
    tally, used = Counter(pairs=len(left), tried=0), Counter[str]()
    found: list[dict[str, Any]] = []

    def uses(pair: tuple[Task, Task]) -> int:
        return max(used[task.updates[0].id] for task in pair)

    while left and len(found) < count:
        batch: list[tuple[Task, Task]] = []
        while left and len(found) + len(batch) < count:
            pair = min(left, key=uses)  # the first of the least used: min keeps the order
            left.remove(pair)
            batch.append(pair)
            used.update(task.updates[0].id for task in pair)
        held = holds([join_tasks("question", *pair) for pair in batch], options)
        for pair, result in zip(batch, held, strict=True):
            tally["tried"] += 1
            if is_kept(result, "joint"):
                problems = [task.row for task in pair]
                found.append({"multi_id": f"joint-{len(found)}", "kind": "joint", "problems": problems})
                tally["kept"] += 1
            else:
                used.subtract(task.updates[0].id for task in pair)
                tally["fails with both" if not result["both"] else "passes without one"] += 1
    return found, tally


def natural_rows(tasks: Sequence[Task], options: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Mapping[str, int]]:
    """(rows of natural questions, a tally)."""
    pairs = natural_pairs(tasks)
    held = holds([add_update("question", *pair) for pair in pairs], options)
    updates = {task.updates[0].id: task.row["update"] for task in tasks}
    kept = [(*pair, result) for pair, result in zip(pairs, held, strict=True) if is_kept(result, "natural")]
    found = [
        {
            "multi_id": f"natural-{i}",
            "kind": "natural",
            "problems": [task.row],
            "second_update": updates[other.id],
        }
        for i, (task, other, _) in enumerate(kept)
    ]
    needed = sum(not result["first"] for *_, result in kept)
    return found, {"pairs": len(pairs), "kept": len(kept), "need the second update too": needed}


def build(args: argparse.Namespace) -> str:
    """The file of the questions that the flags of src/generate.py ask for: --data itself if it holds questions."""
    data = args.data or ARENA
    first = next((row for _, row in read_rows(resolve(data))), None)
    if isinstance(first, dict) and "multi_id" in first:
        if args.questions or args.kind:
            raise InputError(f"--questions, --kind: {data} holds questions already")
        return data
    kind = args.kind or "joint"
    settings = Settings(
        data_sha256=sha256(resolve(data)),
        kind=kind,
        questions=args.questions or QUESTIONS if kind == "joint" else None,
        skip_bad_tasks=args.skip_bad_tasks,
    )
    out = args.out.with_name(f"{args.out.stem}-questions.jsonl")
    note = out.with_suffix(".json")
    if out.is_file() and note.is_file():
        old, new = read_json(note, Settings).model_dump(), settings.model_dump()
        if other := [key for key in new if old[key] != new[key]]:
            raise InputError(f"{out} holds questions with another {in_words(other)}: choose another --out")
    else:
        write_questions(out, data, settings, {**sandbox.settings(args), "python": args.python or sys.executable})
    return str(out)


def write_questions(out: Path, data: str, settings: Settings, options: Mapping[str, Any]) -> None:
    """Build the questions; `options` go to sandbox.run_all. Raises InputError if none holds."""
    path = resolve(data)
    tasks = load_tasks(path, skip_bad=settings.skip_bad_tasks)
    check_environment(tasks, read_errata(ERRATA), options)  # else no question of a missing library would hold
    if settings.questions is None:
        found, tally = natural_rows(tasks, options)
    else:
        found, tally = joint_rows(tasks, settings.questions, options)
    if not found:
        raise InputError(f"{data}: no question of this kind holds")
    write_jsonl(out, found)
    start = describe({}, {data: path}, None)
    write_json(out.with_suffix(".json"), {**settings.model_dump(), "tally": tally, **start})
    print(", ".join(f"{name}: {number}" for name, number in tally.items()))
    if settings.questions and len(found) < settings.questions:
        print(f"warning: {len(found)} questions, not {settings.questions}")
    print(out)
