"""CodeUpdateArena and the multi-update set: samples -> verdicts -> numbers, for src/score.py.

What is executed, and in which order: src/evaluation/arena/programs.py. UPass needs a second run of what passes, without
the update. An errata file names tasks whose reference solution cannot pass, each with its reason; scores come with and
without them. Intervals are over problems; those of one update are alike, so they are somewhat narrow.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sandbox
from common.errors import InputError
from common.files import numbered_jsonl, write_jsonl
from common.markdown import table
from common.provenance import sha256
from common.rows import typed
from evaluation.arena.problems import Task
from evaluation.arena.programs import LIBRARIES, broken_updates, calls, judge, preload
from evaluation.results import Scored
from evaluation.samples import FileFormat, Identity, Sample
from evaluation.tables import (
    RATES,
    by_part,
    counted,
    headline,
    in_paper,
    paper_row,
    per_task,
    percent,
    rates,
    scores,
    title,
)
from rewards import is_well_formed

FLAGS: dict[str, dict[str, Any]] = {
    "--python": {"help": "interpreter that runs the samples (default: this one)"},
    "--errata": {"type": Path, "help": "tasks to leave out of a second score (arena: data/arena_errata.jsonl)"},
    "--write-errata": {"type": Path, "metavar": "FILE", "help": "from reference samples: those that fail"},
}
WAYS = ("passed", "upassed")
ERRATA = Path(__file__).parents[3] / "data" / "arena_errata.jsonl"


class Erratum(FileFormat):
    """A line of an errata file."""

    task_id: str
    reason: str


def judging(args: argparse.Namespace) -> dict[str, Any]:
    """The keywords of `score` that the flags ask for. Only CodeUpdateArena has known errata."""
    default = ERRATA if args.benchmark == "arena" and ERRATA.is_file() else None
    options = {**sandbox.settings(args), "python": args.python or sys.executable}
    return {"options": options, "errata_file": args.errata or default, "write_errata": args.write_errata}


def read_errata(path: Path | None) -> set[str]:
    """The tasks whose reference solution cannot pass; none without a file. Raises InputError."""
    rows = numbered_jsonl(path) if path else ()
    return {typed(Erratum, row, f"{path}:{line}").task_id for line, row in rows}


def execute(tasks: Mapping[str, Task], rows: Sequence[Sample], options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The verdict rows of the samples: with the update, then, of those that pass, without."""
    pairs = [(tasks[row.task_id], row.code) for row in rows]
    print(f"{len(rows)} samples of {len(tasks)} problems, with the update in force", file=sys.stderr)
    patched = judge(pairs, **options)
    passing = [pair for pair, outcome in zip(pairs, patched, strict=True) if outcome.passed]
    print(f"{len(passing)} passed; these without the update", file=sys.stderr)
    judged_again = iter(judge(passing, in_force=(), **options))
    verdicts = []
    for (task, code), row, outcome in zip(pairs, rows, patched, strict=True):
        plain = next(judged_again) if outcome.passed else None
        verdicts.append(
            {
                "task_id": task.id,
                "sample_id": row.sample_id,
                "passed": outcome.passed,
                "upassed": plain is not None and not plain.passed,
                "status": outcome.status,
                "test": outcome.test,
                "detail": outcome.detail,
                "without_update": plain and plain.status,
                "format": is_well_formed(row.completion),
                "truncated": row.finish_reason == "length",
                "calls_update": all(calls(code, update, task.imports) for update in task.updates),
            }
        )
    return verdicts


def library_versions(python: str) -> dict[str, str | None]:
    """What the samples were run with: the versions of the benchmark's libraries in the environment of `python`."""
    names = sorted({name.partition(".")[0] for name in LIBRARIES})
    code = (
        "import importlib.metadata as m, json, sys\nfound = {}\nfor name in sys.argv[1:]:\n"
        "    try: found[name] = m.version(name)\n    except m.PackageNotFoundError: found[name] = None\n"
        "print(json.dumps({'python': sys.version.split()[0], **found}))"
    )
    done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
    return json.loads(sandbox.last_line(done.stdout))


def check_environment(tasks: Sequence[Task], known: Collection[str], options: Mapping[str, Any]) -> None:
    """Raise InputError if an update cannot even be put in force: every sample of its tasks would fail."""
    if options["python"] == sys.executable:
        lacking = [name for name in preload(tasks) if find_spec(name.partition(".")[0]) is None]
        if lacking:
            raise InputError(f"{lacking[0].partition('.')[0]} is not installed: pip install -r requirements/eval.txt")
    broken = {task: seen for task, seen in broken_updates(tasks, **options).items() if task not in known}
    if broken:
        task, seen = next(iter(broken.items()))
        raise InputError(
            f"the updates of {len(broken)} tasks cannot be put in force, first {task}: {sandbox.last_line(seen)}"
        )


def summarise(
    tasks: Mapping[str, Task], verdicts: Sequence[Mapping[str, Any]], ks: Sequence[int], errata: Collection[str]
) -> dict[str, Any]:
    """Every number of one run: scores with and without the errata, breakdowns, rates over samples, counts per task."""
    counts = per_task(verdicts, WAYS)

    def by(group: Callable[[Task], str]) -> dict[str, Any]:
        return by_part({i: group(task) for i, task in tasks.items()}, counts, ks[:1], WAYS)

    sound = [count for identity, count in counts.items() if identity not in errata]
    return {
        "problems": len(tasks),
        "samples_per_problem": len(verdicts) // len(tasks),
        "scores": scores(counts.values(), ks, WAYS),
        "problems_without_errata": len(sound),
        "scores_without_errata": scores(sound, ks, WAYS) if sound else {},
        "by_package": by(lambda task: task.updates[0].package),
        "by_update_type": by(lambda task: task.updates[0].type),
        "by_kind": by(lambda task: task.kind),
        "rates": rates(verdicts, RATES),
        "verdicts": dict(Counter(row["status"] for row in verdicts).most_common()),
        "tasks": counts,
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The table of one run; percentages, 95 % intervals in brackets."""
    paper = paper_row(result["label"], result["benchmark"])
    sound = result["scores_without_errata"]
    rows = [
        (title(name), percent(value), percent(sound[name]) if sound else "-", in_paper(paper.get(name)))
        for name, value in result["scores"].items()
    ]
    header = ["metric", "all problems", f"without errata ({result['problems_without_errata']})", "paper"]
    parts = ("by_package", "by_update_type", "by_kind")
    return "\n\n".join([headline(result), table(header, rows), *counted(result, parts, {"problems": "problems"})])


def score(
    tasks: Sequence[Task],
    rows: Sequence[Sample],
    ks: Sequence[int],
    made: Identity | None,
    *,
    options: Mapping[str, Any],
    errata_file: Path | None,
    write_errata: Path | None,
) -> Scored:
    """Execute the samples and count. `options` go to sandbox.run_all."""
    if write_errata and (made is None or made.backend != "reference"):
        raise InputError("--write-errata needs the samples of src/generate.py --reference")
    errata = read_errata(errata_file)
    check_environment(tasks, errata, options)
    used = library_versions(options["python"])
    by_id = {task.id: task for task in tasks}
    verdicts = execute(by_id, rows, options)
    if write_errata:
        failed = [row for row in verdicts if not row["passed"]]
        reasons = [f"{row['test']}: {row['status']}: {sandbox.last_line(row['detail'])}" for row in failed]
        found = [{"task_id": row["task_id"], "reason": reason} for row, reason in zip(failed, reasons, strict=True)]
        write_jsonl(write_errata, found)
        print(f"wrote {write_errata}")
    listed = {"sha256": sha256(errata_file), "tasks": sorted(errata & by_id.keys())} if errata_file else None
    numbers = summarise(by_id, verdicts, ks, errata)
    if made and made.prompt == "one-shot":  # which asks for no think and answer parts
        numbers["rates"]["format"] = None
    return Scored(verdicts, {**numbers, "errata": listed, "executed_with": used}, markdown)
