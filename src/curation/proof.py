"""What proves a record by execution: its environments, its three runs in the sandbox, and what they must show.

Evidence names two environments (lists of exact pins) and a `check`: assertions appended to the code. Three runs:

    new_on_new   the new code, then the check, on the new environment    must be ok
    old_on_new   the old code, then the check, on the new environment    must fail or warn, not hit a limit
    old_on_old   the old code, then the check, on the old environment    must be ok, or warn

Outcomes: `ok`; `warning`, it ran to its end but emitted a deprecation warning (DeprecationWarning,
PendingDeprecationWarning, FutureWarning); `check`, the check failed; `limit`, it ran out of time, memory or
processes, or crashed, which proves nothing about an API in any of the three; `error`, everything else: another
exception, a syntax error, an early exit. Programs run in the sandbox (src/sandbox/), forked from an interpreter that
has imported nothing but the standard library, so each sees the warnings that importing the library gives. Whatever a
program does to silence warnings is undone: a filter, catch_warnings, a function of the module replaced.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import sandbox
from curation.virtualenvs import Locks, environment
from records import Record

# Comes first: what the code does to silence warnings is undone. `mine`: the caller's caller is the code under test (its
# module is __main__).
GUARD = """\
import functools, sys, types, warnings

def guard():
    kinds = DeprecationWarning, PendingDeprecationWarning, FutureWarning
    add, frame = warnings.simplefilter, sys._getframe

    def mine():
        return frame(2).f_globals is vars(sys.modules["__main__"])

    def always():
        for kind in kinds:
            add("always", kind)

    def kept(function):
        @functools.wraps(function)
        def wrapped(*args, **settings):
            function(*args, **settings)
            if mine():
                always()
        return wrapped

    class catch_warnings(warnings.catch_warnings):
        def __init__(self, *args, **settings):
            super().__init__(*args, **settings)
            self._is_sample = mine()

        def __enter__(self):
            self._seen = super().__enter__()
            if self._is_sample:
                always()
            return self._seen

        def __exit__(self, *error):
            super().__exit__(*error)
            for seen in (self._is_sample and self._seen) or ():
                warnings.warn_explicit(seen.message, seen.category, seen.filename, seen.lineno)

    class Module(types.ModuleType):
        def __setattr__(self, name, value):
            if not mine():
                super().__setattr__(name, value)

    for name in ("simplefilter", "filterwarnings", "resetwarnings"):
        setattr(warnings, name, kept(getattr(warnings, name)))
    warnings.catch_warnings, warnings.__class__ = catch_warnings, Module

guard()
del functools, guard
"""
# Follows a line `job = {"code": …, "check": …}`. An outcome other than ok leaves by SystemExit, whose argument the
# sandbox hands back; so `ok` is what the sandbox itself calls a pass. Torch's lack of memory is a RuntimeError.
RUNNER = """\
import sys, traceback, types, warnings

main = sys.modules["__main__"] = types.ModuleType("__main__")
outcome, text = "error", ""
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    try:
        exec(compile(job["code"], "<record>", "exec", dont_inherit=True), vars(main))
        outcome = "check"
        if job["check"]:
            exec(compile(job["check"], "<check>", "exec", dont_inherit=True), vars(main))
        outcome = "ok"
    except BaseException as error:
        text = traceback.format_exception_only(type(error), error)[-1].strip()
        if isinstance(error, MemoryError) or "can't allocate memory" in text or "can't start new thread" in text:
            outcome = "limit"
kinds = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
old = [w for w in seen if issubclass(w.category, kinds)]
if old and outcome == "ok":
    outcome, text = "warning", f"{old[0].category.__name__}: {old[0].message}"
if outcome != "ok":  # an ImportError names the file it looked in: evidence reads the same on every machine
    raise SystemExit((outcome, text.replace(sys.prefix, "ENV")[:300]))
"""


LIMITS = {"timeout", "memory", "processes", "crash"}  # of the sandbox's verdicts


def program(code: str, check: str | None) -> str:
    """The source of one run: the guard of warnings, the code, then its check."""
    return f"{GUARD}job = { ({'code': code, 'check': check})!r}\n{RUNNER}"


def outcome(verdict: sandbox.Verdict) -> dict[str, str]:
    """{"outcome": ok|warning|check|limit|error, "text": why} of a run's verdict."""
    if verdict.passed:
        return {"outcome": "ok", "text": ""}
    try:
        kind, text = ast.literal_eval(verdict.detail.removeprefix("SystemExit: "))
    except (ValueError, SyntaxError, TypeError):  # it did not get to the end of RUNNER: a limit, a crash, an early exit
        kind, text = "limit" if verdict.status in LIMITS else "error", verdict.detail
    return {"outcome": kind, "text": re.sub(r"\b0x[0-9a-f]{8,}|\b\d{15}\b", "ADDRESS", text)}  # SQLAlchemy prints both


def execute_all(
    python: Path, jobs: Sequence[tuple[str, str | None]], seconds: float, workers: int = 1, **options: Any
) -> list[dict[str, str]]:
    """The outcomes of (code, check) pairs in one environment, each in a process of its own; the rest as in `prove`."""
    limits = sandbox.Limits(seconds=seconds)
    programs = [program(*job) for job in jobs]
    verdicts = sandbox.run_all(programs, python=python, limits=limits, workers=workers, progress=False, **options)
    return [outcome(verdict) for verdict in verdicts]


def prove_all(
    pairs: Iterable[tuple[Record, dict]],
    envs: Path,
    seconds: float,
    workers: int = 1,
    locks: Locks | None = None,
    **options: Any,
) -> Iterator[tuple[Record, dict, dict[str, dict[str, str]]]]:
    """(record, evidence, its runs) of every pair, those with the same two environments together: see `prove`."""

    def pins(pair: tuple[Record, dict]) -> tuple[list[str], list[str]]:
        return pair[1]["new_env"], pair[1]["old_env"]

    for (new, old), group in groupby(sorted(pairs, key=pins), key=pins):
        same = list(group)
        runs = [(record.new_code, evidence.get("check")) for record, evidence in same]
        olds = [(record.old_code, evidence.get("check")) for record, evidence in same]
        on_new = execute_all(environment(new, envs, locks), runs + olds, seconds, workers, **options)
        on_old = execute_all(environment(old, envs, locks), olds, seconds, workers, **options)
        for i, (record, evidence) in enumerate(same):
            found = {"new_on_new": on_new[i], "old_on_new": on_new[len(same) + i], "old_on_old": on_old[i]}
            yield record, evidence, found


def prove(record: Record, evidence: dict, envs: Path, seconds: float, **options: Any) -> dict[str, dict[str, str]]:
    """The three runs of one record by name, each {"outcome": ok|warning|check|limit|error, "text": why}.

    `evidence` has `old_env`, `new_env` (lists of pins) and maybe `check`; `envs` is the folder of environments;
    `seconds` limits each run, the sandbox's defaults limit the rest; `options` go to sandbox.run_all (`unsafe=True`).
    Raises EnvironmentFailed, sandbox.InfrastructureError.
    """
    [(_, _, runs)] = prove_all([(record, evidence)], envs, seconds, **options)
    return runs


def problems(runs: dict[str, dict[str, str]]) -> list[str]:
    """What the three runs fail to prove; empty when the record holds."""
    stopped = {name: run["text"] for name, run in runs.items() if run["outcome"] == "limit"}
    limits = [(name.replace("_on_", " code on the "), text) for name, text in stopped.items()]
    found = [f"the {name} version hit a limit, which proves nothing: {text}" for name, text in limits]
    if runs["new_on_new"]["outcome"] not in ("ok", "limit"):
        found.append(f"the new code is not clean on the new version: {runs['new_on_new']['text']}")
    if runs["old_on_new"]["outcome"] == "ok":
        found.append("the old code still runs clean on the new version, and no check tells the two apart")
    if runs["old_on_old"]["outcome"] in ("error", "check"):
        found.append(f"the old code does not run on the old version: {runs['old_on_old']['text']}")
    return found
