"""The proof of a record by execution: three runs in the sandbox, each the code, then the check of its evidence.

    new_on_new   the new code on the new environment    must be ok
    old_on_new   the old code on the new environment    must fail or warn, not hit a limit
    old_on_old   the old code on the old environment    must be ok, or warn

Outcomes: `ok`; `warning`, it completed but emitted a deprecation warning (DeprecationWarning,
PendingDeprecationWarning, FutureWarning); `check`, the check failed; `limit`, it ran out of time, memory or
processes, or crashed, which proves nothing about an API in any of the three; `error`, everything else: another
exception, a syntax error, an early exit. Programs are forked from an interpreter that has imported only the standard
library, so each sees the warnings emitted when the library is imported, and cannot silence them.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import sandbox
from common.cli import above_zero
from curation.evidence import Evidence, Run, Runs
from curation.virtualenvs import NO_LOCKS, Locks, Pins, environment
from records import Record

LIMITS = {"timeout", "memory", "processes", "crash"}  # of the sandbox's verdicts
REPORTED = ("error", "check", "limit", "warning")  # by PROGRAM
PROGRAM = Path(__file__).with_name("proof_program.py").read_text("utf-8")


@dataclass(frozen=True)
class ProofSettings:
    """How programs are run."""

    envs: Path  # the folder of environments
    seconds: float = 60  # time limit of one run; the sandbox's defaults limit the rest
    unsafe: bool = False  # without the sandbox
    jobs: int = 1  # programs at a time


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the programs that run proofs: the fields of ProofSettings."""
    add = parser.add_argument
    add("--envs", type=Path, default=Path(".venvs"), help="folder of environments (default: %(default)s)")
    add("--seconds", type=above_zero(float), default=60, help="time limit of one run (default: %(default)s)")
    add("--unsafe", action="store_true", help="no sandbox: programs can read and delete your files")
    add("--jobs", type=above_zero(int), default=os.cpu_count(), help="programs at a time (default: %(default)s)")


def program(code: str, check: str | None) -> str:
    """The source of one run."""
    return f"{PROGRAM}\n\nrun({code!r}, {check!r})\n"


def outcome(verdict: sandbox.Verdict) -> Run:
    """The outcome of a run, from the sandbox's verdict."""
    if verdict.passed:
        return {"outcome": "ok", "text": ""}
    try:
        kind, text = ast.literal_eval(verdict.detail.removeprefix("SystemExit: "))
        if kind not in REPORTED or not isinstance(text, str):
            raise ValueError("not what PROGRAM reports")
    # the program was stopped: a limit, a crash, an early exit, whose text can be anything
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        kind, text = "limit" if verdict.status in LIMITS else "error", verdict.detail
    return {"outcome": kind, "text": re.sub(r"\b0x[0-9a-f]{8,}|\b\d{15}\b", "ADDRESS", text)}  # SQLAlchemy prints both


def execute_all(
    python: Path, jobs: Sequence[tuple[str, str | None]], settings: ProofSettings, preload: Sequence[str] = ()
) -> list[Run]:
    """The outcomes of (code, check) pairs in one environment, each in a process of its own."""
    verdicts = sandbox.run_all(
        [program(*job) for job in jobs],
        python=python,
        preload=preload,
        limits=sandbox.Limits(seconds=settings.seconds),
        unsafe=settings.unsafe,
        workers=settings.jobs,
        progress=False,
    )
    return [outcome(verdict) for verdict in verdicts]


def prove_all(
    pairs: Iterable[tuple[Record, Evidence]], settings: ProofSettings, locks: Locks = NO_LOCKS
) -> Iterator[tuple[Record, Evidence, Runs]]:
    """(record, evidence, its runs) of every pair; pairs with the same two environments are run together."""

    def pins(pair: tuple[Record, Evidence]) -> tuple[Pins, Pins]:
        return pair[1].new_env, pair[1].old_env

    for (new, old), group in groupby(sorted(pairs, key=pins), key=pins):
        same = list(group)
        runs = [(record.new_code, evidence.check) for record, evidence in same]
        olds = [(record.old_code, evidence.check) for record, evidence in same]
        on_new = execute_all(environment(new, settings.envs, locks), runs + olds, settings)
        on_old = execute_all(environment(old, settings.envs, locks), olds, settings)
        for i, (record, evidence) in enumerate(same):
            found = {"new_on_new": on_new[i], "old_on_new": on_new[len(same) + i], "old_on_old": on_old[i]}
            yield record, evidence, found


def failures(runs: Runs) -> list[str]:
    """What the three runs fail to prove; empty if the record is proven."""
    found = [
        f"the {name.replace('_on_', ' code on the ')} version hit a limit, which proves nothing: {run['text']}"
        for name, run in runs.items()
        if run["outcome"] == "limit"
    ]
    if runs["new_on_new"]["outcome"] not in ("ok", "limit"):
        found.append(f"the new code is not clean on the new version: {runs['new_on_new']['text']}")
    if runs["old_on_new"]["outcome"] == "ok":
        found.append("the old code still runs clean on the new version, and no check tells the two apart")
    if runs["old_on_old"]["outcome"] in ("error", "check"):
        found.append(f"the old code does not run on the old version: {runs['old_on_old']['text']}")
    return found
