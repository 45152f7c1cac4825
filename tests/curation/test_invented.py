"""Invented updates: what a wrapper installs, what proves it, and the records of data/invented.jsonl."""

from __future__ import annotations

import ast
import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT, run_script
from wheels import only, write_wheel

from common.files import read_jsonl
from curation.check_proofs import load
from curation.evidence import Evidence, evidence_path
from curation.proof import ProofSettings, execute_all, failures
from records import Record, check_file

PYTHON = Path(sys.executable)
INVENTED = ROOT / "data" / "invented.jsonl"
# A function, a method, a rename and an addition, in modules of the standard library.
UPPER = """
import textwrap

def shouting(original):
    def shorten(text, width, *, upper=True, **kwargs):
        found = original(text, width, **kwargs)
        return found.upper() if upper else found
    return shorten

replace(textwrap, "shorten", shouting)
"""
METHOD = """
from fractions import Fraction

def rounded(original):
    def limit_denominator(self, max_denominator=10):
        return original(self, max_denominator)
    return limit_denominator

replace(Fraction, "limit_denominator", rounded)
"""
DECODE = "import json\nrename(json, 'loads', 'parse')"
FIRST = "import json\nadd(json, 'first', lambda text: json.loads(text)[0])"
SHORTEN = "from textwrap import shorten\nx = shorten('a b', 9{})"

# (wrapper, code, check, outcome, text)
RUNS = [
    (None, SHORTEN.format(""), "assert x == 'a b'", "ok", ""),
    (UPPER, SHORTEN.format(""), "assert x == 'a b'", "check", "AssertionError"),
    (UPPER, SHORTEN.format(", upper=False"), "assert x == 'a b'", "ok", ""),
    (UPPER, SHORTEN.format(", placeholder='…', upper=False"), "assert x == 'a b'", "ok", ""),  # as before
    (None, SHORTEN.format(", upper=False"), None, "error", "TypeError: "),
    (METHOD, "from fractions import Fraction\nx = Fraction('0.333').limit_denominator()", "assert x.denominator == 3",
     "ok", ""),
    (DECODE, "import json\nx = json.parse('[1]')", "assert x == [1]", "ok", ""),
    (DECODE, "from json import loads", None, "error", "ImportError: cannot import name 'loads' from 'json'"),
    (FIRST, "import json\nx = json.first('[4, 5]')", "assert x == 4", "ok", ""),
    # the original has no name that an answer can use, and the error message is that of a real function
    (UPPER, "import textwrap as t\nx = [n for n in vars(t) if 'original' in n or 'old' in n]", "assert x == []", "ok",
     ""),
    (UPPER, "import textwrap as t\nx = hasattr(t.shorten, '__wrapped__')", "assert not x", "ok", ""),
    (UPPER, "import textwrap as t\nx = t.shorten.__module__, t.shorten.__qualname__", "assert x == ('textwrap', "
     "'shorten')", "ok", ""),
    (UPPER, "x = [n for n in ('shouting', 'replace', 'install') if n in globals()]", "assert x == []", "ok", ""),
    # a wrapper that fails or warns proves nothing
    ("import nothing_of_this_name", "x = 1", "assert x == 1", "error", "ModuleNotFoundError: "),
    ("import warnings\nwarnings.warn('old', DeprecationWarning)", "x = 1", "assert x == 1", "warning", "Deprecation"),
]  # fmt: skip


def test_what_a_wrapper_installs_is_in_force_before_the_code():
    jobs = [(code, check, wrapper) for wrapper, code, check, _, _ in RUNS]
    found = execute_all(PYTHON, jobs, ProofSettings(Path("unused"), seconds=8))
    for (_, code, _, outcome, text), seen in zip(RUNS, found, strict=True):
        assert (seen["outcome"], seen["text"][: len(text)]) == (outcome, text), code


PINS = ["toylib==1.0"]
KEPT = "import toylib\na = toylib.size(2)"
SIZE = Record("toylib", "3.0", "A toy.", "`size` doubles; `unit=1` does not.", KEPT, KEPT.replace("2", "2, unit=1"))
DOUBLE = """
import toylib

def doubled(original):
    def size(x, *, unit=2):
        return original(x) * unit
    return size

replace(toylib, "size", doubled)
"""
PROOF = {"id": SIZE.id, "update": "toylib-3.0-unit", "kind": "default", "old_env": PINS, "new_env": PINS}


@pytest.mark.parametrize(
    ("ends", "found"),
    [
        (("ok", "check", "ok", "error"), []),
        (("ok", "check", "ok", "check"), []),
        (
            ("ok", "check", "ok", "ok"),
            ["the new code runs on the old version too: it does not depend on the invented update"],
        ),
        (
            ("ok", "check", "ok", "limit"),
            ["the new code on the old version hit a limit, which proves nothing: why"],
        ),
    ],
)
def test_the_new_code_must_fail_without_the_wrapper(ends, found):
    names = ("new_on_new", "old_on_new", "old_on_old", "new_on_old")
    runs = {name: {"outcome": end, "text": "why"} for name, end in zip(names, ends, strict=True)}
    assert failures(SIZE, Evidence.model_validate({**PROOF, "wrapper": DOUBLE}), runs) == found


def test_evidence_is_beside_the_records(tmp_path):
    assert evidence_path(tmp_path / "invented.jsonl") == tmp_path / "evidence.jsonl"
    (tmp_path / "invented_evidence.jsonl").touch()
    assert evidence_path(tmp_path / "invented.jsonl") == tmp_path / "invented_evidence.jsonl"
    assert evidence_path(tmp_path / "heldout.jsonl") == tmp_path / "evidence.jsonl"


def test_a_file_of_invented_updates_is_proven_and_passes_the_gates(tmp_path):
    write_wheel(tmp_path / "wheels", "toylib", "1.0", {"toylib.py": "def size(x): return x\n"})
    records, evidence = tmp_path / "toys.jsonl", tmp_path / "toys_evidence.jsonl"
    records.write_text(json.dumps(SIZE.to_row()) + "\n")
    row = {**PROOF, "wrapper": DOUBLE, "check": "assert a == 2", "use": ["toylib.size(unit=)"]}
    evidence.write_text(json.dumps(row) + "\n")
    flags = [records, "--envs", tmp_path / "envs", "--jobs", 1, "--log"]
    done = run_script("check_data.py", "proofs", *flags, tmp_path / "a", "--write", env=only(tmp_path / "wheels"))
    assert "1 of 1 records reproduce, in 1 environments" in done.stdout
    [stored] = read_jsonl(evidence)
    assert {name: run["outcome"] for name, run in stored["seen"].items()} == {
        **{"new_on_new": "ok", "old_on_new": "check", "old_on_old": "ok", "new_on_old": "error"},
    }
    assert not (tmp_path / "evidence.jsonl").exists()
    done = run_script("check_data.py", "gates", *flags, tmp_path / "b")  # its exit status: no findings
    assert "| mutation | 0 | 0 |" in done.stdout

    # another wrapper: the record runs again
    evidence.write_text(json.dumps({**row, "wrapper": DOUBLE.replace("unit=2", "unit=1"), "use": []}) + "\n")
    done = run_script("check_data.py", "proofs", *flags, tmp_path / "a", check=False)
    assert (done.returncode, "no check tells the two apart" in done.stderr) == (1, True)
    done = run_script("check_data.py", "gates", *flags, tmp_path / "b", check=False)
    assert (done.returncode, "check: mutation: a wrong migration passes (" in done.stdout) == (1, True)


def test_the_records_are_proven_and_need_few_environments():
    """data/README.md has the counts; the runs themselves are repeated by check_data.py proofs data/invented.jsonl."""
    assert not check_file(INVENTED).problems
    pairs = load(INVENTED)
    assert [failures(record, evidence, evidence.seen) for record, evidence in pairs] == [[]] * len(pairs)
    assert all(evidence.wrapper and evidence.use for _, evidence in pairs)
    assert max(Counter(evidence.update for _, evidence in pairs).values()) <= 2
    assert len({evidence.new_env for _, evidence in pairs}) <= 10
    others = {row["id"] for row in read_jsonl(ROOT / "data" / "evidence.jsonl")}
    assert not others & {record.id for record, _ in pairs}
    pins = {tuple(sorted(row["pins"])) for row in read_jsonl(ROOT / "data" / "environments.jsonl")}
    assert {tuple(sorted(evidence.new_env)) for _, evidence in pairs} <= pins


def test_wrappers_of_one_update_are_the_same_and_keep_their_originals_to_themselves():
    wrappers: dict[str, set[str]] = {}
    for _, evidence in load(INVENTED):
        wrappers.setdefault(evidence.update, set()).add(evidence.wrapper or "")
    assert all(len(texts) == 1 for texts in wrappers.values())
    kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Expr)
    for update, texts in wrappers.items():
        body = ast.parse(texts.pop()).body
        assert all(isinstance(node, kept) for node in body), update  # no assignment: nothing saved in a module
        calls = [node.value for node in body if isinstance(node, ast.Expr)]
        assert all(isinstance(call, ast.Call) for call in calls), update
