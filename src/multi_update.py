"""Build multi-update questions out of CodeUpdateArena: two updates in the prompt and in force.

    python src/multi_update.py --data FILE --out runs/multi.jsonl                          # 20 questions
    python src/multi_update.py --data FILE --out runs/multi-200.jsonl --count 200
    python src/multi_update.py --data FILE --out runs/natural.jsonl --kind natural         # all there are
    python src/generate.py --benchmark multi --data runs/multi.jsonl --model MODEL --out runs/multi/samples.jsonl

OUR CONSTRUCTION: the paper's twenty questions (Table 3) are unpublished, so its numbers are of other questions.

joint     Two problems in one, of updates of different functions of one package; both notes in the prompt, both
          functions asked for. Kept only if the two reference solutions together pass all tests of both with both
          updates in force, and fail when either update is missing, and when both are.
natural   One problem whose reference already calls a second function that has an update of its own. Kept if the
          reference passes with both updates in force and fails without its own. Whether it also fails without the
          second one is counted: where it does not, the second note asks the model to tell what it needs.

Deterministic: the same data and environment give the same file. Pairs come in the order of a hash; an update is used
again only when no unused pair is left. Each row holds the problems whole, so the file needs nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import sandbox
from common.cli import fail, parse_flags, program
from common.errors import InputError
from common.files import write_json, write_jsonl
from common.provenance import describe
from common.rows import resolve
from evaluation.arena.problems import ApiUpdate, Task, add_update, by_hash, join_tasks, load_problems
from evaluation.arena.programs import called_functions, judge
from rewards import parses
from sandbox.mounts import InfrastructureError

Problems = Sequence[tuple[Task, dict[str, Any]]]


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


def choose_joint(
    pairs: Sequence[tuple[Task, Task]], count: int, options: Mapping[str, Any]
) -> tuple[list[tuple[Task, Task]], Counter[str]]:
    """The first `count` pairs that hold, and a tally of what became of those that were tried.

    An update is used again only when every pair that is left holds one that has been used.
    """
    kept: list[tuple[Task, Task]] = []
    tally: Counter[str] = Counter()
    used: Counter[str] = Counter()
    left = list(pairs)

    def uses(pair: tuple[Task, Task]) -> int:
        return max(used[task.updates[0].id] for task in pair)

    while left and len(kept) < count:
        batch: list[tuple[Task, Task]] = []
        while left and len(kept) + len(batch) < count:
            pair = min(left, key=uses)  # the first of the least used: min keeps the order
            left.remove(pair)
            batch.append(pair)
            used.update(task.updates[0].id for task in pair)
        held = holds([join_tasks("question", *pair) for pair in batch], options)
        for pair, result in zip(batch, held, strict=True):
            if is_kept(result, "joint"):
                kept.append(pair)
                tally["kept"] += 1
            else:
                used.subtract(task.updates[0].id for task in pair)
                tally["fails with both" if not result["both"] else "passes without one"] += 1
    return kept, tally


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="CodeUpdateArena: a file, or hf://datasets/OWNER/NAME[@REVISION][/FILE]")
    parser.add_argument("--samples", type=Path, help="instead of --data: the data of these samples")
    parser.add_argument("--out", type=Path, help="JSONL file to write")
    parser.add_argument("--count", type=int, default=20, help="joint questions (default: %(default)s, as the paper's)")
    parser.add_argument("--kind", choices=["joint", "natural"], default="joint", help="default: %(default)s")
    parser.add_argument("--skip-bad-tasks", action="store_true", help="leave out rows of the data that cannot be used")
    parser.add_argument("--python", default=sys.executable, help="interpreter that runs the references")
    sandbox.add_flags(parser)
    args = parse_flags(parser, argv)
    if args.samples and not args.data:
        args.data = json.loads(args.samples.with_suffix(".json").read_text("utf-8"))["identity"]["data"]
    if not (args.data and args.out):
        fail("--data and --out are needed")
    if args.count < 1:
        fail("--count starts at 1")
    return args


def joint_rows(
    tasks: Sequence[Task], rows: Mapping[str, dict[str, Any]], count: int, options: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(rows of joint questions, what was tried)."""
    pairs = joint_pairs(tasks)
    kept, tally = choose_joint(pairs, count, options)
    out = [
        {"multi_id": f"joint-{i}", "kind": "joint", "problems": [rows[task.id] for task in pair]}
        for i, pair in enumerate(kept)
    ]
    return out, {"pairs": len(pairs), "tried": sum(tally.values()), **tally}


def natural_rows(
    tasks: Sequence[Task], rows: Mapping[str, dict[str, Any]], options: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(rows of natural questions, what was tried)."""
    pairs = natural_pairs(tasks)
    held = holds([add_update("question", *pair) for pair in pairs], options)
    updates = {task.updates[0].id: rows[task.id]["update"] for task in tasks}
    kept = [(pair, result) for pair, result in zip(pairs, held, strict=True) if is_kept(result, "natural")]
    out = [
        {
            "multi_id": f"natural-{i}",
            "kind": "natural",
            "problems": [rows[task.id]],
            "second_update": updates[update.id],
        }
        for i, ((task, update), _) in enumerate(kept)
    ]
    needed = sum(not result["first"] for _, result in kept)
    return out, {"pairs": len(pairs), "kept": len(kept), "need the second update too": needed}


@program(InfrastructureError)
def main() -> int:
    args = parse_arguments()
    options = {**sandbox.settings(args), "python": args.python}
    try:
        path = resolve(args.data)
        problems = load_problems(path, skip_bad=args.skip_bad_tasks)
        tasks, rows = [task for task, _ in problems], {task.id: row for task, row in problems}
        if args.kind == "joint":
            out, told = joint_rows(tasks, rows, args.count, options)
        else:
            out, told = natural_rows(tasks, rows, options)
    except InputError as error:
        fail(error)
    except sandbox.InfrastructureError as error:
        fail(f"the sandbox, not the references: {error}")
    if not out:
        fail(f"{args.data}: no question of this kind holds")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(args.out, out)
    settings = {key: str(value) for key, value in vars(args).items() if value is not None}
    write_json(args.out.with_suffix(".json"), {"tally": told, **describe(settings, {args.data: path}, None)})
    print(", ".join(f"{name}: {count}" for name, count in told.items()))
    if args.kind == "joint" and len(out) < args.count:
        print(f"warning: {len(out)} questions, not {args.count}")
    print(f"{args.out}\n{args.out.with_suffix('.json')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
