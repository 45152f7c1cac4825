"""What runs in the sandbox for one migration, and how its verdict becomes a status.

The program is src/proof.py's: the code, then the record's check, on the environment of the new version; a deprecation
warning is a failure, also one that the code tries to silence.
"""

from __future__ import annotations

import ast
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import proof
import sandbox
import sandbox_mounts
from migration import Evidence
from rewards import parses

# Runs in an environment, outside of the sandbox: it imports what the references import.
LOOK = """\
import importlib, importlib.metadata, json, os, sys, warnings
kinds = DeprecationWarning, PendingDeprecationWarning, FutureWarning
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    try:
        for name in sys.argv[1:]:
            importlib.import_module(name)
        once = len(os.listdir("/proc/self/task")) == 1 and not any(issubclass(w.category, kinds) for w in seen)
    except ImportError:
        once = False
installed = {found.name: found.version for found in importlib.metadata.distributions()}
print("\\n" + json.dumps({"once": once, "installed": installed}))
"""
NAMED = {"SystemExit": "exit", "AssertionError": "assertion", "MemoryError": "memory"}


def status(verdict: sandbox.Verdict) -> tuple[str, str]:
    """(status, what was said) of one run."""
    said = proof.outcome(verdict)
    kind, text = said["outcome"], said["text"]
    if kind in ("error", "limit"):  # seen by the program itself, or by the sandbox
        kind = verdict.status if text == verdict.detail else NAMED.get(text.partition(":")[0], "error")
    return {"ok": "pass", "warning": "deprecated"}.get(kind, kind), text


def modules(code: str) -> set[str]:
    """The modules that code imports from."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found - {"__future__"}


@dataclass(frozen=True)
class Environment:
    """One environment of the new version. `preload`: what its programs find imported."""

    python: Path
    preload: tuple[str, ...]
    installed: dict[str, str]  # name -> version


def prepare(pins: Sequence[str], envs: Path, wanted: set[str]) -> Environment:
    """Make the environment, and see whether the modules `wanted` can be imported once for all of its programs.

    They can where that leaves no thread behind (a fork would lose it) and gives no deprecation warning (programs would
    not see it). Raises proof.EnvironmentFailed.
    """
    python = proof.environment(pins, envs)
    command = [python, "-I", "-c", LOOK, *sorted(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, env=sandbox_mounts.ENVIRONMENT, check=False)
    if done.returncode:
        raise proof.EnvironmentFailed(f"{python}: {(done.stderr.strip().splitlines() or ['it crashed'])[-1]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Environment(python, tuple(sorted(wanted)) if found["once"] else (), dict(sorted(found["installed"].items())))


def judge(
    samples: Sequence[tuple[str, str | None]],
    evidence: Mapping[str, Evidence],
    environments: Mapping[tuple[str, ...], Environment],
    **options: Any,
) -> list[tuple[str, str]]:
    """(status, what was said) of each (record id, code), in order; equal samples run once.

    sandbox.InfrastructureError stops everything.
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
            place = environments[pins]
            verdicts = sandbox.run_all(programs, python=place.python, preload=place.preload, progress=False, **options)
            found |= {job: status(verdict) for job, verdict in zip(jobs, verdicts, strict=True)}
            bar.update(len(jobs))
    return [found[sample] for sample in samples]
