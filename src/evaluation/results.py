"""A folder of scores, as src/score.py writes it.

It belongs to one way of drawing samples: drawn further, they may be scored again into it; others may not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from common.cli import printable
from common.errors import InputError
from common.files import read_json, write_json, write_jsonl, write_text
from common.provenance import sha256
from common.rows import typed
from evaluation.samples import FileFormat, Identity, changed_fields

FILES = ("results.json", "table.md", "verdicts.jsonl")
Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Scored:
    """What a benchmark makes of samples."""

    verdicts: Sequence[Numbers]  # one a sample
    numbers: Numbers  # the benchmark's part of results.json
    markdown: Callable[[Numbers], str]  # the table of results.json
    files: Mapping[str, Path] = field(default_factory=dict)  # further data files that the numbers depend on


class Origin(FileFormat):
    """A file of a result: of its data, or of its samples, with their Identity (empty if there was no note)."""

    sha256: str
    made: dict[str, Any] = Field(default_factory=dict)


class Result(FileFormat):
    """results.json, as far as it is read again; src/score.py writes `scores` or, with --no-run, `rewards`."""

    benchmark: str
    label: str | None = None
    problems: int
    samples_per_problem: int
    scores: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    measures: dict[str, Any] = Field(default_factory=dict)
    rewards: dict[str, dict[str, float]] = Field(default_factory=dict)
    copy_baseline: dict[str, dict[str, float]] = Field(default_factory=dict)
    tasks: dict[str, dict[str, Any]]
    samples: Origin
    data: dict[str, Origin]
    config: dict[str, Any] = Field(default_factory=dict)
    evalplus: dict[str, Any] = Field(default_factory=dict)  # how evalplus judged
    executed_with: dict[str, Any] | None = None
    references_that_fail: dict[str, Any] = Field(default_factory=dict)


def read_result(folder: Path) -> Result:
    """A folder's results.json, or that file itself. Raises InputError."""
    path = folder if folder.suffix == ".json" else folder / "results.json"
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return read_json(path, Result)


def choose_ks(text: str | None, n: int, samples: Path) -> list[int]:
    """The k of --k, ascending; by default 1, and 5 if there are as many samples a problem. Raises InputError."""
    if text is None:
        return [k for k in (1, 5) if k <= n]
    if not re.fullmatch(r" *[1-9][0-9]{0,5} *(, *[1-9][0-9]{0,5} *)*", text):
        raise InputError(f"--k {text}: expected numbers from 1, such as 1,5")
    ks = sorted(set(map(int, text.split(","))))
    if ks[-1] > n:
        raise InputError(f"Pass@{ks[-1]} needs {ks[-1]} samples a problem, {samples} has {n}: choose --k")
    return ks


def check_owner(out: Path, samples: Path, identity: Identity | None) -> None:
    """Raise InputError if the folder holds results of other samples: of other bytes, unless made in the same way.

    Without an identity nothing shows that more of the same samples were drawn.
    """
    if not (out / "results.json").exists():
        return
    old = read_result(out).samples
    before = typed(Identity, old.made, str(out / "results.json")) if old.made else None
    is_same_run = before is not None and identity is not None and not changed_fields(before, identity)
    if not is_same_run and old.sha256 != sha256(samples):
        raise InputError(f"{out} holds the results of other samples: choose another --out")


def write_results(out: Path, result: Numbers, verdicts: Sequence[Numbers], markdown: Callable[[Numbers], str]) -> None:
    """Write the three files, then print the table and where they are."""
    write_jsonl(out / "verdicts.jsonl", verdicts)
    write_json(out / "results.json", result)
    text = markdown(result)
    write_text(out / "table.md", text + "\n")
    print(printable(text))
    print("\n" + "\n".join(f"{out / name}" for name in FILES))
