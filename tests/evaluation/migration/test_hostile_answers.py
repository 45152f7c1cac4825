"""Answers that would pass their check without being right: the sandbox's runner gives them no pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from mini_migration import ROOM, write
from wheels import only

import sandbox
from curation.evidence import Evidence
from curation.virtualenvs import environment, read_locks
from evaluation.migration.score import run_answers

# abs and gizmo.surface are what an answer could replace.
CHECK = "import math\nassert abs(room - 6) < 1e-9 and math.isclose(room, 6) and room == 6 and gizmo.surface(1, 1) == 1"
RIGHT = ROOM.new_code
FRAMES = """
import sys
frame = sys._getframe()
while frame:
    for value in frame.f_locals.values():
        if isinstance(value, dict) and "check" in value:
            print(value["check"])
    frame = frame.f_back
"""
TRACEBACK = "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    error.__traceback__.tb_frame.f_back"
ANSWERS = {
    RIGHT: "pass",
    "import gizmo as g\nabs = 6\nroom = g.surface(2, 3)\ngizmo = g": "pass",  # its own names are its own business
    "import gizmo\nabs = lambda value: 0\nroom = 7": "check",
    "class gizmo:\n    surface = staticmethod(lambda *sides: 1)\nroom = 7": "check",
    "import builtins, gizmo\nbuiltins.abs = lambda value: 0\nroom = 7": "tampered",
    "import gizmo, math\nmath.isclose = lambda *values: True\nroom = 7": "tampered",
    "import gizmo\ngizmo.surface = lambda *sides: 1\nroom = 6": "tampered",
    "import gizmo\nfrom unittest.mock import ANY\nroom = ANY": "tampered",
    "import gizmo\nclass Six(float):\n    def __eq__(self, other): return True\nroom = Six(7)": "tampered",
    "import gizmo\nclass Six(float):\n    def __sub__(self, other): return 0.0\nroom = Six(6)": "tampered",
    f"import gizmo{FRAMES}room = 6": "error",  # RuntimeError: refused
    "import gc, gizmo\nroom = len(gc.get_objects()) * 0 + 6": "error",
    f"import gizmo\n{TRACEBACK}\nroom = 6": "error",
    "import sys, gizmo\nprint(open(sys.argv[0]).read())\nroom = 6": "error",  # the program's file is gone
    "import sys, gizmo\nsys.exit(0)": "exit",
    "import os, gizmo\nos._exit(0)": "exit",
    "raise SystemExit(('ok', ''))": "exit",
    "import atexit, gizmo, os\natexit.register(os._exit, 0)\nroom = 7": "check",
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory) -> dict[str, tuple[str, str]]:
    try:
        sandbox.check_ready()
    except sandbox.InfrastructureError as error:
        pytest.skip(f"no sandbox here: {error}")
    data = write(tmp_path_factory.mktemp("mini"))
    fields = {"id": ROOM.id, "update": "gizmo-2.0-surface", "kind": "rename", "check": CHECK}
    evidence = Evidence.model_validate({**fields, "old_env": ["gizmo==1.0"], "new_env": ["gizmo==2.0"]})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in only(data.parent).items():
            patch.setenv(name, value)
        python = environment(("gizmo==2.0",), Path(tmp_path_factory.mktemp("envs")), read_locks(data.parent))
    given = {ROOM.id: ROOM}, {ROOM.id: evidence}, {("gizmo==2.0",): python}
    found = run_answers([(ROOM.id, code) for code in ANSWERS], *given, limits=sandbox.Limits(seconds=30))
    return dict(zip(ANSWERS, found, strict=True))


@pytest.mark.parametrize("code", ANSWERS)
def test_only_right_answers_pass(verdicts, code):
    assert verdicts[code][0] == ANSWERS[code], verdicts[code]
