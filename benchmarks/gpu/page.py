"""The page of results/gpu.md, made from the JSON lines: nobody types a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.cli import one_line
from gpu.expected import EXPECTED
from gpu.verdicts import applies, failures, measured, other_versions

ROOT = Path(__file__).parent.parent.parent
COMMAND = """```bash
PYTHONPATH=src python benchmarks/bench_gpu.py --out runs/gpu       # one GPU of 80 GB; --parts rollout: one part
PYTHONPATH=src python benchmarks/bench_gpu.py --out runs/gpu --write results/gpu.md
```
"""
INTRODUCTION = f"""# One GPU: rollouts, updates and the trainer

{COMMAND}
The model has the shape of Qwen2.5-Coder-7B and random weights; the trainer samples 8 completions of 256 tokens a step.
"Expected" is an estimate for one H100, made before anything ran; `benchmarks/gpu/expected.py` has its arithmetic.
"outside": not as expected, but no alarm. Not covered: vLLM, verl, several GPUs.
"""
NOT_RUN = "**Not run.** No GPU has run it yet. The second command replaces this page with what the first measured.\n"
Rows = Sequence[Mapping[str, Any]]


def pins() -> dict[str, str]:
    """Library -> version, of requirements/constraints.txt."""
    lines = (ROOT / "requirements" / "constraints.txt").read_text("utf-8").splitlines()
    return {name: version for name, equals, version in (line.partition("==") for line in lines) if equals}


def groups(rows: Rows) -> list[tuple[Mapping[str, Any], Rows]]:
    """(environment, its measurements). Runs in the same environment, such as of single parts, are one group."""
    found: dict[str, tuple[Mapping[str, Any], list[Mapping[str, Any]]]] = {}
    current: list[Mapping[str, Any]] = []
    for row in rows:
        if row["part"] == "environment":
            key = repr({name: value for name, value in row.items() if name != "time"})
            current = found.setdefault(key, (row, []))[1]
        else:
            current.append(row)
    return list(found.values())


def page(rows: Rows) -> str:
    """The whole page; measurements of a CPU are left out."""
    sections = [section(environment, its) for environment, its in groups(rows) if environment["card"]]
    return "\n".join([INTRODUCTION, *(sections or [NOT_RUN])])


def section(environment: Mapping[str, Any], rows: Rows) -> str:
    """One machine: what it is, its table, and what failed."""
    name = one_line(environment["card"] or environment["cpu"])
    lines = [f"## {name}, {environment['time'][:10]}", "", *about(environment), "", *table(environment, rows)]
    if failed := failures(rows):
        lines += ["", "Failed:", "", *(f"- `{one_line(text).replace('`', chr(39))}`" for text in failed)]
    return "\n".join(lines) + "\n"


def about(environment: Mapping[str, Any]) -> Iterator[str]:
    """What identifies the numbers."""
    versions, commit = environment["versions"], environment["commit"] or "not known"
    memory = f" ({environment['card_gb']:g} GB)" if environment["card_gb"] else ""
    yield f"- {one_line(environment['card'] or 'no GPU')}{memory}, driver {environment['driver'] or 'not known'}"
    yield f"- commit `{commit[:12]}`{' with changes' if environment['dirty'] else ''}, seed {environment['seed']}"
    yield "- " + ", ".join(f"{name} {version}" for name, version in versions.items())
    if others := other_versions(versions, pins()):
        differing = ", ".join(f"{name} {here} (pinned: {pinned})" for name, (here, pinned) in others.items())
        yield f"- † measured with other versions than those of `requirements/constraints.txt`: {differing}"


def number(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(environment: Mapping[str, Any], rows: Rows) -> Iterator[str]:
    """Measured beside expected. Expectations are for the 7B shape on an H100 or H200 only."""
    is_expected = applies(environment)
    dagger = " †" if other_versions(environment["versions"], pins()) else ""
    yield "| | unit | measured | expected | alarm | |"
    yield "|---|---|---|---|---|---|"
    for expected in EXPECTED:
        value = measured(rows, expected)
        shown = "not measured" if value is None else f"{number(value)}{dagger}"
        name = f"{expected.part}: {expected.what} | {expected.unit}"
        if is_expected:
            verdict = "" if value is None else expected.verdict(value)
            yield f"| {name} | {shown} | {expected.range()} | {expected.alarm()} | {verdict} |"
        elif value is not None:
            yield f"| {name} | {shown} | — | — | |"
