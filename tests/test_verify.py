"""Records are proven by running them: what counts as proof, and a few of ours run again in fresh environments."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import run_script

from verify import execute, problems

PYTHON = Path(sys.executable)


@pytest.mark.parametrize(
    ("code", "check", "outcome", "text"),
    [
        ("x = 1", "assert x == 1", "ok", ""),
        ("x = 1", None, "ok", ""),
        ("x = 1", "assert x == 2", "check", "AssertionError"),
        ("x = unknown", "assert x", "error", "NameError: name 'unknown' is not defined"),
        ("import sys; sys.exit(0)", None, "error", "SystemExit: 0"),
        ("import warnings; warnings.warn('old', DeprecationWarning)", None, "warning", "DeprecationWarning: old"),
        ("import warnings; warnings.warn('slow', UserWarning)", None, "ok", ""),
        ("print('{}')", None, "ok", ""),
        ("import os; os._exit(0)", None, "error", "exit 0: "),
    ],
)
def test_one_run(code, check, outcome, text):
    assert execute(PYTHON, code, check, 30) == {"outcome": outcome, "text": text}


def test_a_run_that_does_not_end_and_an_empty_program():
    assert execute(PYTHON, "while True: pass", None, 1)["text"] == "still running after 1 s"
    assert execute(PYTHON, "", "assert x == 1", 30)["outcome"] == "check"


def runs(new_on_new: str, old_on_new: str, old_on_old: str) -> dict[str, dict[str, str]]:
    outcomes = {"new_on_new": new_on_new, "old_on_new": old_on_new, "old_on_old": old_on_old}
    return {name: {"outcome": outcome, "text": "why"} for name, outcome in outcomes.items()}


@pytest.mark.parametrize(
    ("outcomes", "found"),
    [
        (("ok", "error", "ok"), []),
        (("ok", "warning", "warning"), []),
        (("ok", "check", "ok"), []),
        (("warning", "error", "ok"), ["the new code is not clean on the new version: why"]),
        (("check", "error", "ok"), ["the new code is not clean on the new version: why"]),
        (("ok", "ok", "ok"), ["the old code still runs clean on the new version, and no check tells the two apart"]),
        (("ok", "error", "error"), ["the old code does not run on the old version: why"]),
        (("ok", "error", "check"), ["the old code does not run on the old version: why"]),
    ],
)
def test_what_counts_as_proof(outcomes, found):
    assert problems(runs(*outcomes)) == found


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the pins of data/evidence.jsonl are for Python 3.11")
def test_four_of_our_records_reproduce_in_fresh_environments(tmp_path):
    """Needs a package index: pip makes the environments."""
    done = run_script("verify.py", "--library", "NumPy", "--sample", 4, "--envs", tmp_path / "envs")
    assert "4 of 4 records reproduce" in done.stdout
    unknown = run_script("verify.py", "--record", "0" * 12, check=False)
    assert unknown.returncode == 2
    assert "no record of that name" in unknown.stderr
