"""What runs in the sandbox for one migration, and how its verdict becomes a status.

The program is src/curation/proof.py's: the code, then the record's check, on the environment of the new version; a
deprecation warning is a failure, also one that the code tries to silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sandbox
from curation import proof
from curation.evidence import Evidence
from rewards import parses

NAMED = {"SystemExit": "exit", "AssertionError": "assertion", "MemoryError": "memory"}


def status(verdict: sandbox.Verdict) -> tuple[str, str]:
    """(status, message) of one run."""
    said = proof.outcome(verdict)
    kind, text = said["outcome"], said["text"]
    if kind in ("error", "limit"):  # seen by the program itself, or by the sandbox
        kind = verdict.status if text == verdict.detail else NAMED.get(text.partition(":")[0], "error")
    return {"ok": "pass", "warning": "deprecated"}.get(kind, kind), text


def run_answers(
    samples: Sequence[tuple[str, str | None]],
    evidence: Mapping[str, Evidence],
    interpreters: Mapping[tuple[str, ...], Path],
    needs: Mapping[tuple[str, ...], Sequence[str]] | None = None,
    **options: Any,
) -> list[tuple[str, str]]:
    """(status, message) of each (record id, code), in order; equal samples run once.

    `needs`: what the programs of an environment must be able to import, which is tried before they run.
    """
    from tqdm import tqdm

    found: dict[tuple[str, str | None], tuple[str, str]] = {}
    by_env: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for identity, code in dict.fromkeys(samples):
        if not code:
            found[identity, code] = ("no code", "")
        elif not parses(code):
            found[identity, code] = ("syntax", "")
        else:
            by_env.setdefault(evidence[identity].new_env, []).append((identity, code))
    with tqdm(total=sum(map(len, by_env.values())), desc="programs") as bar:
        for pins, jobs in by_env.items():
            programs = [proof.program(code, evidence[identity].check) for identity, code in jobs]
            settings = {
                "python": interpreters[pins],
                "needs": (needs or {}).get(pins, ()),
                "progress": False,
                **options,
            }
            verdicts = sandbox.run_all(programs, **settings)
            found |= {job: status(verdict) for job, verdict in zip(jobs, verdicts, strict=True)}
            bar.update(len(jobs))
    return [found[sample] for sample in samples]
