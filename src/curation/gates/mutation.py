"""Mutation: a record's check, with its `use`, must reject every mutant of the target that is not listed as equivalent.

Mutants run on the new environment, forked from an interpreter that has imported the target's modules. Those that pass
run once more as in the proof, from one that has imported only the standard library: a preloaded module can hide an
import that is missing, or a warning at import.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

from common.api_uses import modules
from curation.evidence import Evidence
from curation.gates.mutants import Mutant, mutants
from curation.gates.trees import difference, normalised, parse
from curation.proof import ProofSettings, execute_all
from curation.use import missing_uses
from records import Record


class Survivor(BaseModel):
    """A mutant that passes."""

    operator: str
    code: str


class Tried(BaseModel):
    """What the runs of one record showed."""

    mutants: dict[str, int]  # by operator
    survivors: list[Survivor]
    alternatives: list[str]  # why an alternative is not right
    reference: str = ""  # why the target itself fails

    def not_equivalent(self, evidence: Evidence) -> list[Survivor]:
        """The survivors that the evidence does not list."""
        known = {normalised(one.mutant) for one in evidence.equivalents}
        return [one for one in self.survivors if one.code not in known]


def importable(python: Path, records: Sequence[Record], settings: ProofSettings) -> list[str]:
    """The modules of the targets that import alone: some of Django's need settings first."""
    wanted = sorted({name for record in records for name in modules(parse(record.new_code))} - {"__future__"})
    runs = execute_all(python, [(f"import {name}", None) for name in wanted], settings)
    return [name for name, run in zip(wanted, runs, strict=True) if run["outcome"] == "ok"]


def passing(
    python: Path, jobs: Sequence[tuple[str, Evidence]], settings: ProofSettings, preload: Sequence[str] = ()
) -> list[str]:
    """For each code: why it does not pass; empty if it does."""
    runs = execute_all(python, [(code, evidence.check, evidence.wrapper) for code, evidence in jobs], settings, preload)
    found = []
    for (code, evidence), run in zip(jobs, runs, strict=True):
        missing = missing_uses(code, evidence.use, evidence.check)
        unused = f"does not use {', '.join(missing)}" if missing else ""
        found.append(unused if run["outcome"] == "ok" else f"{run['outcome']}: {run['text']}")
    return found


def try_all(pairs: Sequence[tuple[Record, Evidence]], python: Path, settings: ProofSettings) -> Iterator[Tried]:
    """The runs of records that have the same new environment, in their order."""
    preload = importable(python, [record for record, _ in pairs], settings)
    made: list[list[Mutant]] = [mutants(record) for record, _ in pairs]
    jobs = [(place, mutant) for place, found in enumerate(made) for mutant in found]
    targets = [(record.new_code, evidence) for record, evidence in pairs]
    ends = passing(python, targets + [(one.code, pairs[place][1]) for place, one in jobs], settings, preload)
    references, ends = ends[: len(pairs)], ends[len(pairs) :]
    # A target that fails only where modules are preloaded says nothing about its mutants there: they run again.
    again = [job for job, end in zip(jobs, ends, strict=True) if not end or references[job[0]]]
    others = [(place, code) for place, (_, evidence) in enumerate(pairs) for code in evidence.alternatives]
    failed = [place for place, end in enumerate(references) if end]
    cold = passing(
        python,
        [(one.code, pairs[place][1]) for place, one in again]
        + [(code, pairs[place][1]) for place, code in others]
        + [targets[place] for place in failed],
        settings,
    )
    survived = [job for job, end in zip(again, cold, strict=False) if not end]
    wrong = [(place, end) for (place, _), end in zip(others, cold[len(again) :], strict=False) if end]
    refuted = dict(zip(failed, cold[len(again) + len(others) :], strict=True))
    for place, found in enumerate(made):
        yield Tried(
            mutants=Counter(one.operator for one in found),
            survivors=[Survivor(operator=one.operator, code=one.code) for other, one in survived if other == place],
            alternatives=[end for other, end in wrong if other == place],
            reference=refuted.get(place, ""),
        )


def objections(record: Record, evidence: Evidence, tried: Tried) -> Iterator[tuple[str, str]]:
    target = ast.unparse(parse(record.new_code))
    if tried.reference:
        yield "new_code", f"the target does not pass: {tried.reference}"
    for one in tried.not_equivalent(evidence):
        yield "check", f"a wrong migration passes ({one.operator}): {difference(target, one.code)}"
    for why in tried.alternatives:
        yield "alternatives", f"one does not pass: {why}"
