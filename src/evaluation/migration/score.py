"""Migration by execution: samples of held-out records -> verdicts -> numbers, for src/score.py.

A sample passes when its code, then the record's check, runs on the record's new environment, in the sandbox, without an
exception and without a deprecation warning (src/evaluation/migration/programs.py): what src/curation/proof.py asks of a
record's new code, so every reference passes, and the old code, which fails it by the record's own proof, never does.
Checks are assertions on the snippet's variables: an answer that renames them fails.

Statuses: pass, deprecated (it ran and its check held, but it warned), check (the check failed), no code, syntax,
error, assertion, exit, and the sandbox's limits (timeout, memory, processes, crash).
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sandbox
from common.api_uses import modules
from curation.evidence import Evidence
from curation.virtualenvs import environment, installed, read_locks
from diff_match import diff_match
from evaluation.migration.old_api import uses_old_api
from evaluation.migration.problems import Migration, load_evidence
from evaluation.migration.programs import judge
from evaluation.migration.report import summarise
from records import Record
from rewards import clean, is_well_formed, similarity

SECONDS = 120.0  # a program: a reference takes 11 to 13 s on a busy machine, and once took more than 30


def measures(code: str | None, old: str, target: str, is_deprecated: bool) -> dict[str, Any]:
    """What is measured of one answer without running it.

    `em`: equals the target, comments and layout aside. `es`: edit similarity to it in [0, 1], 0 without code.
    `dm_star`: src/diff_match.py. `is_copy`: equals the old code as `em` does the target. `old_api`: uses a name that
    the migration removes (src/evaluation/migration/old_api.py), or warned; None where the code does not parse or no
    name is removed.
    """
    mine, is_python = clean(code or "")
    theirs, before = clean(target)[0], clean(old)[0]
    named = uses_old_api(code, old, target)
    return {
        "em": code is not None and is_python and mine == theirs,
        "es": 0.0 if code is None else similarity(mine, theirs),
        "dm_star": diff_match(code, old, target),
        "is_copy": code is not None and mine == before,
        "old_api": None if named is None else named or is_deprecated,
    }


def needs(records: Mapping[str, Record], evidence: Mapping[str, Evidence]) -> dict[tuple[str, ...], list[str]]:
    """By environment, the modules that the references of its records import: without them no answer could pass."""
    found: dict[tuple[str, ...], set[str]] = {}
    for identity, record in records.items():
        found.setdefault(evidence[identity].new_env, set()).update(modules(ast.parse(record.new_code)))
    return {pins: sorted(names) for pins, names in found.items()}


def score(
    tasks: Sequence[Migration], rows: list[dict[str, Any]], ks: Sequence[int], args: argparse.Namespace, made: Mapping
) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Path]]:
    """(verdict rows, the numbers of the run, further data files that they rest on)."""
    from tqdm import tqdm

    records = {task.id: task.record for task in tasks}
    evidence = load_evidence(args.evidence, list(records))
    locks = read_locks(args.evidence.parent)
    with tqdm(sorted({one.new_env for one in evidence.values()}), desc="environments") as bar:
        places = {pins: environment(pins, args.envs, locks) for pins in bar}
    samples = [(row["task_id"], row["code"]) for row in rows]
    seen = judge(samples, evidence, places, needs(records, evidence), **sandbox.settings(args))
    verdicts = []
    for row, (name, said) in zip(rows, seen, strict=True):
        record = records[row["task_id"]]
        verdicts.append(
            {
                "task_id": record.id,
                "sample_id": row["sample_id"],
                "passed": name == "pass",
                "status": name,
                "detail": said,
                **measures(row["code"], record.old_code, record.new_code, name == "deprecated"),
                "format": is_well_formed(row["completion"]),
                "truncated": row["finish_reason"] == "length",
            }
        )
    used = {" ".join(pins): dict(pin.split("==") for pin in installed(python)) for pins, python in places.items()}
    executed_with = {"python": sys.version.split()[0], "environments": used}
    numbers = summarise(records, evidence, verdicts, ks)
    return verdicts, {**numbers, "executed_with": executed_with}, {str(args.evidence): args.evidence}
