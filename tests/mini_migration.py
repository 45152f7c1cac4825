"""A miniature migration benchmark of our own: a toy library in two versions (wheels that pip finds beside the data),
four records over three updates, and answers of every kind with known outcomes."""

from __future__ import annotations

import json
from pathlib import Path

from wheels import write_wheel

from records import Record

LIBRARY = {
    "1.0": """
def area(width, height):
    return width * height

def total(values):
    return sum(values)

def scale(value, factor=1):
    return value * factor
""",
    "2.0": """
import warnings

def surface(width, height):
    return width * height

def tally(values):
    return sum(values)

def total(values):
    warnings.warn("use tally", DeprecationWarning, stacklevel=2)
    return tally(values)

def scale(value, factor=2):
    return value * factor
""",
}


WARNS = "import warnings\nwarnings.warn('import gizmo', DeprecationWarning)\n"


def _record(update: str, old: str, new: str) -> Record:
    return Record("gizmo", "2.0", "An example.", update, old, new)


RENAME = "`area` is now called `surface`."
ROOM = _record(RENAME, "import gizmo\nroom = gizmo.area(2, 3)", "import gizmo\nroom = gizmo.surface(2, 3)")
WALL = _record(RENAME, "from gizmo import area\nwall = area(4, 5)", "from gizmo import surface\nwall = surface(4, 5)")
SUM = _record(
    "`total` is deprecated: use `tally`.",
    "import gizmo\nbill = gizmo.total([1, 2])",
    "import gizmo\nbill = gizmo.tally([1, 2])",
)
SCALE = _record(
    "`scale` doubles by default; `factor=1` keeps the value.",
    "import gizmo\nsize = gizmo.scale(3)",
    "import gizmo\nsize = gizmo.scale(3, factor=1)",
)
# record -> (update, kind, check)
PROOFS = {
    ROOM: ("gizmo-2.0-surface", "rename", "assert room == 6"),
    WALL: ("gizmo-2.0-surface", "rename", "assert wall == 20"),
    SUM: ("gizmo-2.0-tally", "rename", "assert bill == 3"),
    SCALE: ("gizmo-2.0-scale", "default", "assert size == 3"),
}
SILENT = "import gizmo, warnings\n{}\n    bill = gizmo.total([1, 2])"
# Four answers to each: (code, status). Passing: 1, 2, 1 and 2 of them.
ANSWERS: dict[Record, list[tuple[str | None, str]]] = {
    ROOM: [
        (ROOM.new_code, "pass"),
        (ROOM.old_code, "error"),  # AttributeError
        ("import gizmo\nroom = gizmo.surface(2, 4)", "check"),
        ("import gizmo\nroom = gizmo.surface(2, 3", "syntax"),
    ],
    WALL: [
        (WALL.new_code, "pass"),
        ("import gizmo as g\n\nwall = g.surface(height=5, width=4)  # renamed", "pass"),
        ("import sys\nsys.exit(0)", "exit"),
        ("import os\nos._exit(0)", "exit"),
    ],
    SUM: [
        (SUM.old_code, "deprecated"),
        (SILENT.format("warnings.filterwarnings('ignore')\nif True:"), "deprecated"),
        (SILENT.format("with warnings.catch_warnings(record=True):"), "deprecated"),
        (SUM.new_code, "pass"),
    ],
    SCALE: [
        (SCALE.old_code, "check"),
        (None, "no code"),
        (SCALE.new_code, "pass"),
        ("import gizmo\nsize = gizmo.scale(3, 1)", "pass"),
    ],
}


def write(folder: Path) -> Path:
    """The records and, beside them, their evidence with wheels for both versions; the records' file."""
    for version, code in LIBRARY.items():
        write_wheel(folder, "gizmo", version, {"gizmo.py": code, "gizmo_old.py": WARNS}, requires=["cog"])
        write_wheel(folder, "cog", version, {"cog.py": ""})
    lock = {"pins": ["gizmo==2.0"], "installed": ["cog==1.0", "gizmo==2.0"]}  # not the newest cog
    (folder / "environments.jsonl").write_text(json.dumps(lock) + "\n")
    evidence = [
        {"id": record.id, "split": "heldout", "update": update, "kind": kind, "check": check}
        | {"source": "made up", "address": "none", "old_env": ["gizmo==1.0"], "new_env": ["gizmo==2.0"]}
        for record, (update, kind, check) in PROOFS.items()
    ]
    (folder / "evidence.jsonl").write_text("".join(json.dumps(row) + "\n" for row in evidence))
    (folder / "heldout.jsonl").write_text("".join(json.dumps(record.to_row()) + "\n" for record in PROOFS))
    return folder / "heldout.jsonl"


def sample_rows() -> list[dict]:
    """The answers as samples; that which does not parse is marked as cut at the length limit."""
    return [
        {
            "task_id": record.id,
            "sample_id": i,
            "completion": "" if code is None else f" x </think>\n<answer>\n```python\n{code}\n```\n</answer>",
            "code": code,
            "finish_reason": "length" if status == "syntax" else "stop",
        }
        for record, answers in ANSWERS.items()
        for i, (code, status) in enumerate(answers)
    ]
