"""A miniature benchmark of our own in CodeUpdateArena's format: five updates of the standard library, one per kind of
patch, a problem for each, and answers of every kind with known outcomes."""

from __future__ import annotations

import json
from pathlib import Path


def _row(path: str, kind: str, imports: str, implementation: str, task: dict[str, str]) -> dict:
    name = path.rpartition(".")[2]
    holder = path.rpartition(".")[0]
    identity = f"[{path}]:[{kind}]:[update-0]"
    imports = f"{imports}\nold_{name} = {path}\nsetattr({holder}, 'old_{name}', old_{name})"
    update = {
        "description": f"An update of {path}.",
        "docstring": task.pop("docstring"),
        "signature": task.pop("new_signature"),
        "imports": imports,
        "implementation": implementation,
        "update_type": kind,
        "function_path": path,
        "package": path.partition(".")[0],
        "update_id": identity,
    }
    return {"update": update, "update_id": identity, "imports": imports, "prog_syn_id": f"{identity}:[0]", **task}


TRIM = _row(
    "statistics.mean",  # replace a function of a module
    "add-argument",
    "import statistics",
    "def mean(data, trim=0):\n    data = sorted(data)\n    return old_mean(data[trim:len(data) - trim])\n",
    {
        "docstring": "trim: how many values to drop at each end.",
        "new_signature": "statistics.mean(data, trim=0)",
        "scenario": "A judge's panel.",
        "problem": "The mean of the marks without the lowest and the highest.",
        "solution_signature": "def panel(marks: list) -> float",
        "unit_tests": "def test_four():\n    assert panel([1, 5, 7, 90]) == 6\n\n"
        "def test_three():\n    assert panel([9, 0, 3]) == 3\n",
        "ref_solution": "import statistics\n\ndef panel(marks):\n    return statistics.mean(marks, trim=1)\n",
    },
)
RENAME = _row(
    "math.dist",  # rename: the old name goes
    "modify-function-name",
    "import math",
    "def distance(p, q):\n    return old_dist(p, q)\n",
    {
        "docstring": "dist is called distance now.",
        "new_signature": "math.distance(p, q)",
        "scenario": "A map.",
        "problem": "How far a point is from the origin.",
        "solution_signature": "def far(p: tuple) -> float",
        "unit_tests": "def test_far():\n    assert far((3, 4)) == 5\n",
        "ref_solution": "import math\n\ndef far(p):\n    return math.distance((0, 0), p)\n",
    },
)
ADD = _row(
    "string.capwords",  # a new function beside the old one
    "add-function",
    "import string",
    "def kebab(s):\n    return '-'.join(s.lower().split())\n",
    {
        "docstring": "kebab joins the lower-case words with hyphens.",
        "new_signature": "string.kebab(s)",
        "scenario": "A blog.",
        "problem": "The address of a title.",
        "solution_signature": "slug(title)",
        # The second test fails unless it starts from a freshly patched library.
        "unit_tests": "def test_mark():\n    string.marked = True\n"
        "    assert slug('An Old\\n\\n  Tale') == 'an-old-tale'\n\n"
        "def test_fresh():\n    assert not hasattr(string, 'marked') and slug('A') == 'a'\n",
        "ref_solution": "import string\n\ndef slug(title):\n    return string.kebab(title)\n",
    },
)
METHOD = _row(
    "collections.Counter.total",  # a method of a class
    "add-argument-semantics",
    "import collections",
    "def total(self, minimum=0):\n    return sum(n for n in self.values() if n >= minimum)\n",
    {
        "docstring": "minimum: smaller counts are left out.",
        "new_signature": "collections.Counter.total(self, minimum=0)",
        "scenario": "A shop.",
        "problem": "How many items were sold of those that sold twice or more.",
        "solution_signature": "def popular(sold: list) -> int",
        "unit_tests": "def test_popular():\n    assert popular(['a', 'b', 'a', 'a']) == 3\n",
        "ref_solution": "from collections import Counter\n\n"
        "def popular(sold):\n    return Counter(sold).total(minimum=2)\n",
    },
)
SUBMODULE = _row(
    "urllib.parse.urljoin",  # a function of a submodule
    "modify-argument-semantics",
    "import urllib.parse",
    "def urljoin(base, *urls):\n    for url in urls:\n        base = old_urljoin(base, url)\n    return base\n",
    {
        "docstring": "urljoin takes any number of parts.",
        "new_signature": "urllib.parse.urljoin(base, *urls)",
        "scenario": "A crawler.",
        "problem": "Follow the links one after the other.",
        "solution_signature": "def follow(base: str, links: list) -> str",
        "unit_tests": "def test_follow():\n    assert follow('http://a/', ['b/', 'c']) == 'http://a/b/c'\n",
        "ref_solution": "from urllib.parse import urljoin\n\n"
        "def follow(base, links):\n    return urljoin(base, *links)\n",
    },
)
ROWS = [TRIM, RENAME, ADD, METHOD, SUBMODULE]

# Four samples a problem: (what it is, code).
# Passing with the update: 2, 1, 4, 0, 4 of them; passing with it and failing without it: 2, 1, 4, 0, 3.
RIGHT = {row["prog_syn_id"]: row["ref_solution"] for row in ROWS}
ANSWERS: dict[str, list[tuple[str, str | None]]] = {
    TRIM["prog_syn_id"]: [
        ("right", RIGHT[TRIM["prog_syn_id"]]),
        ("right", "from statistics import mean as m\ndef panel(marks):\n    return m(marks, 1)"),
        ("stale", "import statistics\ndef panel(marks):\n    return statistics.mean(marks)"),
        ("wrong", "import statistics\ndef panel(marks):\n    return statistics.mean(marks, trim=2)"),
    ],
    RENAME["prog_syn_id"]: [
        ("stale", "import math\ndef far(p):\n    return math.dist((0, 0), p)"),
        ("right", RIGHT[RENAME["prog_syn_id"]]),
        ("stale", "from math import dist\ndef far(p):\n    return dist((0, 0), p)"),
        ("wrong", "import math\ndef far(p):\n    return math.distance((1, 1), p)"),
    ],
    ADD["prog_syn_id"]: [
        ("right", RIGHT[ADD["prog_syn_id"]]),
        ("right", "def slug(title):\n    return string.kebab(title)"),
        ("right", "from string import kebab\nslug = kebab"),
        ("right", "from __future__ import annotations\nimport string as s\ndef slug(t: No):\n    return s.kebab(t)"),
    ],
    METHOD["prog_syn_id"]: [
        ("stale", "from collections import Counter\ndef popular(sold):\n    return Counter(sold).total()"),
        ("wrong", "def popular(sold):\n    return len(sold)"),
        ("none", None),
        ("syntax", "def popular(sold:\n    return 3"),
    ],
    SUBMODULE["prog_syn_id"]: [
        ("right", RIGHT[SUBMODULE["prog_syn_id"]]),
        ("right", "import urllib.parse\ndef follow(base, links):\n    return urllib.parse.urljoin(base, *links)"),
        ("right", "from urllib import parse\ndef follow(base, links):\n    return parse.urljoin(base, *links)"),
        # Solves it without the new behaviour: passes, and passes without the update too.
        ("own way", "from urllib.parse import urljoin\ndef follow(base, links):\n"
         "    for link in links:\n        base = urljoin(base, link)\n    return base"),
    ],
}  # fmt: skip


def write_data(path: Path, rows: list[dict] | None = None) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in (ROWS if rows is None else rows)))
    return path


def sample_rows(cut: str = "") -> list[dict]:
    """The answers as samples; those of kind `cut` are marked as cut at the length limit."""
    return [
        {
            "task_id": task,
            "sample_id": i,
            "completion": "" if code is None else f" x </think>\n<answer>\n```python\n{code}\n```\n</answer>",
            "code": code,
            "finish_reason": "length" if kind == cut else "stop",
        }
        for task, answers in ANSWERS.items()
        for i, (kind, code) in enumerate(answers)
    ]


def write_samples(path: Path, rows: list[dict] | None = None) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in (sample_rows() if rows is None else rows)))
    return path
