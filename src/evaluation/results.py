"""A folder of scores, as src/score.py and src/humaneval.py write it.

    results.json     the numbers, beside the command, commit, versions and the identity of the samples
    table.md         the same to read
    verdicts.jsonl   one line a sample

A folder belongs to one way of drawing samples: drawn further, they may be scored again into it; others may not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.cli import fail, printable
from common.files import write_json, write_jsonl, write_text
from common.provenance import sha256
from evaluation.samples import NOT_COMPARED, read_note


def made_how(samples: Path) -> dict[str, Any]:
    """The identity that src/generate.py noted beside a samples file; {} where there is none."""
    note = samples.with_suffix(".json")
    return read_note(note)["identity"] if note.is_file() else {}


def parse_ks(text: str | None) -> list[int]:
    """The k of --k, ascending; [] where the flag is not given. Stops in one line where they are no numbers above 0."""
    try:
        ks = sorted({int(k) for k in text.split(",")}) if text else []
    except ValueError:
        fail(f"--k {text!r}: expected numbers such as 1,5")
    if ks and ks[0] < 1:
        fail(f"--k {text}: starts at 1")
    return ks


def fit_ks(ks: Sequence[int], n: int, samples: Path) -> list[int]:
    """`ks`, or 1 and 5 where there are none, for n samples a problem. Stops in one line where there are too few."""
    ks = list(ks) or [k for k in (1, 5) if k <= n]
    if ks[-1] > n:
        fail(f"Pass@{ks[-1]} needs {ks[-1]} samples a problem, {samples} has {n}: choose --k")
    return ks


def check_owner(out: Path, samples: Path, made: Mapping[str, Any]) -> None:
    """Stop in one line where the folder holds results of other samples: of other bytes, unless made the same way.

    `made`: the identity of `samples`; where it is empty, nothing says that more of the same were drawn.
    """
    results = out / "results.json"
    if not results.exists():
        return
    try:
        old = json.loads(results.read_text("utf-8"))["samples"]
        before, digest = dict(old["made"]), old["sha256"]
    except (ValueError, KeyError, TypeError):
        fail(f"{results}: no scores of this program: choose another --out")
    keys = (before.keys() | made.keys()) - set(NOT_COMPARED)
    others = not made or any(before.get(key) != made.get(key) for key in keys)
    if others and digest != sha256(samples):
        fail(f"{out} holds the results of other samples: choose another --out")


def write_results(
    out: Path,
    result: Mapping[str, Any],
    verdicts: Sequence[Mapping[str, Any]],
    markdown: Callable[[Mapping[str, Any]], str],
) -> None:
    """Write the three files, then print the table and where they are. `markdown` may read the other two."""
    out.mkdir(parents=True, exist_ok=True)
    write_jsonl(out / "verdicts.jsonl", verdicts)
    write_json(out / "results.json", result)
    table = markdown(result)
    write_text(out / "table.md", table + "\n")
    print(printable(table))
    print("\n" + "\n".join(f"{out / name}" for name in ("results.json", "table.md", "verdicts.jsonl")))
