"""Records are proven by running them: what counts as proof, and a few of ours run again in fresh environments."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import run_script

from proof import execute_all, problems

PYTHON = Path(sys.executable)

# (code, check, outcome, text)
RUNS = [
    ("x = 1", "assert x == 1", "ok", ""),
    ("x = 1", None, "ok", ""),
    ("x = 1", "assert x == 2", "check", "AssertionError"),
    ("x = unknown", "assert x", "error", "NameError: name 'unknown' is not defined"),
    ("x = (", None, "error", "SyntaxError: '(' was never closed"),
    ("", "assert x == 1", "check", "NameError: name 'x' is not defined"),
    ("import sys; sys.exit(0)", None, "error", "SystemExit: 0"),
    ("raise SystemExit(('ok', ''))", None, "error", "SystemExit: ('ok', '')"),
    ("import os; os._exit(0)", None, "error", "ended itself with status 0 before its last line"),
    ("import warnings; warnings.warn('old', DeprecationWarning)", None, "warning", "DeprecationWarning: old"),
    ("import warnings; warnings.warn('old', FutureWarning)", "assert False", "check", "AssertionError"),
    ("import warnings; warnings.warn('slow', UserWarning)", None, "ok", ""),
    ("raise ValueError('two\\nlines \u2028 \u00e9')", None, "error", "ValueError: two\nlines \u2028 \u00e9"),
    ("import sys; raise ImportError(sys.prefix + '/lib')", None, "error", "ImportError: ENV/lib"),
    ("raise ValueError('x' * 400)", None, "error", "ValueError: " + "x" * 288),  # 300 characters
    ("while True: pass", None, "error", "still running after 2 s"),
    # as in a script: what is defined here is found by pickle, and output is nobody's outcome
    ("import pickle\nclass A: pass\nb = pickle.dumps(A())\nprint('{}')", "assert b", "ok", ""),
    ("import socket; socket.create_connection(('192.0.2.1', 80), 1)", None, "error", "OSError: [Errno 101]"),
]


def test_each_run_has_its_outcome():
    found = execute_all(PYTHON, [(code, check) for code, check, _, _ in RUNS], seconds=2)
    for (code, _, outcome, text), seen in zip(RUNS, found, strict=True):
        assert (seen["outcome"], seen["text"][: len(text) or None]) == (outcome, text), code


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
