"""The proof of a record by execution: four runs in the sandbox, each the code, then the check of its evidence.

                                                        proof `break`           proof `adopt`
    new_on_new   the new code on the new environment    must be ok              must be ok
    old_on_new   the old code on the new environment    must fail or warn       must be ok
    old_on_old   the old code on the old environment    must be ok, or warn     must be ok, or warn
    new_on_old   the new code on the old environment    any outcome             must fail

`break` proves that the old code has to change. `adopt` proves an addition: the old code may stay, and the new code uses
what the old version does not have. There the check cannot tell a copy of the old code from the new code, so every
pattern of `use` (src/curation/use.py) must hold for the new code and must not hold for the old. If the evidence of a
`break` has patterns, they must hold for the new code. Alternatives (alternative_1_on_new, …) must pass on the new
environment as the new code does. A run that reaches a limit proves nothing; for `break`, only the fourth may.

An invented update is in no release: the evidence has a `wrapper`, code that installs it in the running process by
replacing real functions (`replace`, `rename` and `add` of src/curation/proof_program.py). The new version is then the
environment with the wrapper, the old version the same environment without it, and the new code must fail on the old
version, whatever the proof: an update that the old version has already could be known.

Outcomes: `ok`; `warning`, it completed but emitted a deprecation warning (DeprecationWarning,
PendingDeprecationWarning, FutureWarning); `check`, the check failed; `limit`, it ran out of time, memory or
processes, or crashed; `error`, everything else: another exception, a syntax error, an early exit. Programs are forked
from an interpreter that has imported only the standard library, so each sees the warnings emitted when the library is
imported, and cannot silence them.
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
from curation.use import missing_uses
from curation.virtualenvs import NO_LOCKS, Locks, Pins, environment
from records import Record

LIMITS = {"timeout", "memory", "processes", "crash"}  # of the sandbox's verdicts
REPORTED = ("error", "check", "limit", "warning")  # by PROGRAM
Job = tuple[str, str | None] | tuple[str, str | None, str | None]  # code, check, wrapper
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


def program(code: str, check: str | None, wrapper: str | None = None) -> str:
    """The source of one run."""
    return f"{PROGRAM}\n\nrun({code!r}, {check!r}, {wrapper!r})\n"


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


def execute_all(python: Path, jobs: Sequence[Job], settings: ProofSettings, preload: Sequence[str] = ()) -> list[Run]:
    """The outcomes of programs in one environment, each in a process of its own."""
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


def programs(record: Record, evidence: Evidence) -> dict[str, str]:
    """The code of every run, by the run's name: WHAT_on_new or WHAT_on_old."""
    new, old = record.new_code, record.old_code
    others = {f"alternative_{i}_on_new": code for i, code in enumerate(evidence.alternatives, start=1)}
    return {"new_on_new": new, "old_on_new": old, "old_on_old": old, "new_on_old": new, **others}


def prove_all(
    pairs: Iterable[tuple[Record, Evidence]], settings: ProofSettings, locks: Locks = NO_LOCKS
) -> Iterator[tuple[Record, Evidence, Runs]]:
    """(record, evidence, its runs) of every pair; pairs with the same two environments are run together."""

    def pins(pair: tuple[Record, Evidence]) -> tuple[Pins, Pins]:
        return pair[1].new_env, pair[1].old_env

    for (new, old), group in groupby(sorted(pairs, key=pins), key=pins):
        same = list(group)
        found: dict[tuple[int, str], Run] = {}
        for version, env in (("new", new), ("old", old)):
            jobs: dict[tuple[int, str], Job] = {
                (i, name): (code, evidence.check, evidence.wrapper if version == "new" else None)
                for i, (record, evidence) in enumerate(same)
                for name, code in programs(record, evidence).items()
                if name.endswith(version)
            }
            runs = execute_all(environment(env, settings.envs, locks), list(jobs.values()), settings)
            found |= dict(zip(jobs, runs, strict=True))
        for i, (record, evidence) in enumerate(same):
            yield record, evidence, {name: found[i, name] for name in programs(record, evidence)}


def run_failures(runs: Runs, kind: str, is_invented: bool) -> Iterator[str]:
    """What the runs fail to prove."""
    matters = {name: run for name, run in runs.items() if kind == "adopt" or is_invented or name != "new_on_old"}
    for name, run in matters.items():
        what, _, version = name.partition("_on_")
        code = what.replace("_", " ") if what.startswith("alternative") else f"the {what} code"
        if run["outcome"] == "limit":
            yield f"{code} on the {version} version hit a limit, which proves nothing: {run['text']}"
        elif what not in ("new", "old") and run["outcome"] != "ok":
            yield f"{code} is not clean on the new version: {run['text']}"
    if runs["new_on_new"]["outcome"] not in ("ok", "limit"):
        yield f"the new code is not clean on the new version: {runs['new_on_new']['text']}"
    if kind == "break" and runs["old_on_new"]["outcome"] == "ok":
        yield "the old code still runs clean on the new version, and no check tells the two apart"
    if kind == "adopt" and runs["old_on_new"]["outcome"] not in ("ok", "limit"):
        yield f"the old code is not clean on the new version, so this is no addition: {runs['old_on_new']['text']}"
    if runs["old_on_old"]["outcome"] in ("error", "check"):
        yield f"the old code does not run on the old version: {runs['old_on_old']['text']}"
    if (kind == "adopt" or is_invented) and runs["new_on_old"]["outcome"] in ("ok", "warning"):
        why = "it does not depend on the invented update" if is_invented else "it uses nothing that was added"
        yield f"the new code runs on the old version too: {why}"


def use_failures(record: Record, evidence: Evidence) -> Iterator[str]:
    """The patterns of `use` that the new code misses, or that the old code of an addition already satisfies."""
    targets = {"the new code": record.new_code}
    targets |= {f"alternative {i}": code for i, code in enumerate(evidence.alternatives, start=1)}
    for name, code in targets.items():
        if missing := missing_uses(code, evidence.use, evidence.check):
            yield f"{name} does not use {', '.join(missing)}"
    if evidence.proof == "adopt":
        if not evidence.use:
            yield "no name that the new code must use: a copy of the old code would pass"
        absent = missing_uses(record.old_code, evidence.use)
        if present := [one for one in evidence.use if one not in absent]:
            yield f"the old code already uses {', '.join(present)}"


def failures(record: Record, evidence: Evidence, runs: Runs) -> list[str]:
    """Why the record is not proven; empty if it is."""
    return [*run_failures(runs, evidence.proof, evidence.wrapper is not None), *use_failures(record, evidence)]
