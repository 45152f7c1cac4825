"""A model's answers: how their parts are read, and the objections before anything is run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from curation.collecting import proposals
from curation.collecting.proposals import (
    CheckResult,
    ProposedUpdate,
    Upgrade,
    build,
    check_objections,
    lacking,
    last_name,
    part,
    read_update,
    reads_version,
    record_objections,
    slug,
)
from curation.evidence import Evidence
from curation.proof import ProofSettings
from records import Record

UPGRADE = Upgrade("NumPy", ("numpy==1.26.4",), ("numpy==2.0.0", "scipy==1.13.1"), "notes", "")
INFO = "`np.trapz` has been renamed to `np.trapezoid`; the arguments are the same."
UPDATE = ProposedUpdate("numpy.trapz", "rename", INFO)


@pytest.mark.parametrize(
    ("answer", "name", "expected"),
    [
        ("<check>assert x</check>", "check", "assert x"),
        ("<check>\n```python\nassert x\n```\n</check>", "check", "assert x"),
        ("<check>\n  ```\n  if x:\n      pass\n  ```\n</check>", "check", "if x:\n    pass"),
        ("<check>a</check> no: <check>b</check>", "check", "b"),
        ("I write <check> and <check>b</check>", "check", "b"),
        ("<check>never</check></think><check>b</check>", "check", "b"),
        ("<name>\n numpy.trapz\n</name>", "name", "numpy.trapz"),
        ("<description>two\nlines</description>", "description", "two lines"),
        ("<check>open", "check", None),
        ("</check>closed", "check", None),
        ("", "check", None),
    ],
)
def test_a_part_of_an_answer(answer, name, expected):
    assert part(answer, name) == expected


def test_empty_parts_are_missing():
    assert lacking("<a></a><b>x</b>", ("a", "b", "c")) == [
        "<a> is missing or not closed",
        "<c> is missing or not closed",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("numpy.trapz", "trapz"), ("`np.trapz()`", "trapz"), ("trapz", "trapz"), ("np.array(copy=False)", "array")],
)
def test_the_name_that_a_snippet_uses(name, expected):
    assert last_name(name) == expected


def test_the_slug_reads_like_those_of_our_data():
    assert slug(UPGRADE, UPDATE) == "numpy-2.0-trapz"
    sklearn = Upgrade("scikit-learn", ("scikit-learn==1.1.3",), ("scikit-learn==1.2.2",), "", "")
    assert slug(sklearn, ProposedUpdate("sklearn.load_boston", "removal", "")) == "scikit-learn-1.2-load-boston"


def stated(name: str, kind: str, info: str) -> str:
    return f"<name>{name}</name><kind>{kind}</kind><update_info>{info}</update_info>"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (stated("numpy.trapz", "Rename", INFO), (UPDATE, CheckResult("accepted"))),
        ("<none>a fix</none>", (None, CheckResult("none", ("a fix",)))),
        (
            stated("numpy.cumtrapz", "rename", INFO),
            (None, CheckResult("validate", ("<name>: the paragraph does not mention cumtrapz",))),
        ),
        (stated("a b!", "rename", INFO), (None, CheckResult("validate", ("<name> is not a dotted name: a b!",)))),
        (
            stated("np.trapz", "rename", "short"),
            (None, CheckResult("validate", ("<update_info> is not a paragraph: it has 5 characters",))),
        ),
    ],
)
def test_the_first_role(answer, expected):
    assert read_update(answer, "`np.trapz` is deprecated.") == expected


def answer(old: str, new: str, check: str = "assert area == 1", more: str = "") -> str:
    return (
        f"{more}<description>d</description><old_code>{old}</old_code><new_code>{new}</new_code><check>{check}</check>"
    )


def found(old: str, new: str, check: str = "assert area == 1") -> list[str]:
    record, evidence = build(answer(old, new, check), UPDATE, UPGRADE)
    return [*record_objections(record, UPDATE.name), *check_objections(record, evidence.check or "")]


OLD, NEW = "import numpy as np\narea = np.trapz([1, 1])", "import numpy as np\narea = np.trapezoid([1, 1])"


@pytest.mark.parametrize(
    ("old", "new", "check", "expected"),
    [
        (OLD, NEW, "assert area == 1", []),
        (OLD, f"{OLD}  # done", "assert area == 1", ["<new_code>: the same program as old_code"]),
        (OLD, "area = (", "assert area", ["<new_code>: does not parse as Python: line 1: '(' was never closed"]),
        ("x = 1", "x = 2", "assert x", ["neither snippet uses trapz"]),
        (
            "import trapz",
            NEW,
            "assert area",
            ["<old_code>: nothing to migrate: "],
        ),
        (OLD, "import trapz", "assert area", ["<new_code>: only imports, pass or empty definitions"]),
        (OLD, NEW, "print(area)", ["<check> has no assert statement"]),
        (OLD, NEW, "assert (", ["<check> does not parse as Python: line 1: '(' was never closed"]),
        (OLD, NEW, "assert np.__version__", ["<check> reads no variable that <old_code> sets"]),  # no result
        (OLD, NEW, "assert area == (1 if np.__version__ > '2' else 0)", ["<check> reads a version"]),
        (f"{OLD}\nfrom importlib.metadata import version", NEW, "assert area", ["<old_code> reads a"]),
        (OLD, f"import sys\n{NEW} * sys.version_info[0] / 3", "assert area == 1", ["<new_code> reads a version"]),
    ],
)
def test_what_is_wrong_before_anything_is_run(old, new, check, expected):
    said = found(old, new, check)
    assert [text[: len(start)] for text, start in zip(said, expected, strict=False)] == expected
    assert bool(said) == bool(expected)


@pytest.mark.parametrize(
    ("code", "looks"),
    [
        ("import numpy as np\nnew = np.__version__ > '2'", True),
        ("import numpy as np\nnew = getattr(np, '__version__')", True),
        ("from numpy import __version__ as v", True),
        ("import numpy as np\nnew = np.version.full_version", True),
        ("from numpy.version import version", True),
        ("import sys\nold = sys.version_info < (3, 12)", True),
        ("import sys\nold = sys.version", True),
        ("import importlib.metadata\nv = importlib.metadata.version('numpy')", True),
        ("from importlib.metadata import distribution", True),
        ("from importlib import metadata", True),
        ("from packaging.version import Version", True),
        ("from packaging import version", True),
        ("import pkg_resources", True),
        ("import importlib_metadata", True),
        ("import django\nnew = django.VERSION > (4,)", True),
        ("import django\nnew = django.get_version() > '4'", True),
        ("import sys\nold = getattr(sys, 'version_info') < (3, 12)", True),
        ("import platform\nold = platform.python_version_tuple() < ('3', '12')", True),
        ("import uuid\nkind = uuid.uuid4().version", False),
        ("form = {'version': 2, 'VERSION': 3}\nversion = form['version']", False),
        ("VERSION = 3\ndef get_version():\n    return VERSION\nshown = get_version()", False),  # its own
        ("from django import get_version", True),
        ("from dataclasses import dataclass\n@dataclass\nclass App:\n    version: int\nassert App(1).version", False),
    ],
)
def test_what_reads_version(code, looks):
    assert reads_version(code) is looks


def test_a_corrected_note_counts_and_the_version_is_the_first_pins():
    record, evidence = build(answer(OLD, NEW, more="<update_info>Better.</update_info>"), UPDATE, UPGRADE)
    assert (record.update_info, record.new_version, record.dependency) == ("Better.", "2.0.0", "NumPy")
    assert evidence.id == record.id
    assert build(answer(OLD, NEW), UPDATE, UPGRADE)[0].update_info == INFO


def test_a_proven_pair_whose_check_accepts_a_wrong_migration_fails_at_the_gates(monkeypatch):
    record = Record("toylib", "2.0", "", "`old` is now `abs`.", "x = old(-2)", "x = abs(-2)")
    envs = {"old_env": ["toylib==1.0"], "new_env": ["toylib==2.0"]}
    evidence = Evidence.model_validate({"id": "x", "update": "u", "kind": "rename", **envs, "check": "assert x"})
    monkeypatch.setattr(proposals, "environment", lambda *_: Path(sys.executable))
    found = list(proposals.gate_objections(record, evidence, ProofSettings(Path("unused"))))
    assert "<check>: a wrong migration passes (result None): -x = abs(-2) | +x = None" not in found
    assert "<check>: a wrong migration passes (predicate always true or false): -x = abs(-2) | +x = True" in found
