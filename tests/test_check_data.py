"""src/check_data.py as a command line: its verbs, and flags that are refused in one line."""

from __future__ import annotations

import pytest
from conftest import run_script


@pytest.mark.parametrize("verb", ["rows", "proofs", "published", "leakage"])
def test_each_verb_has_help(verb):
    shown = run_script("check_data.py", verb, "--help").stdout
    assert shown.startswith(f"usage: check_data.py {verb} ")
    assert f"python src/check_data.py {verb} " in shown


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "the following arguments are required: VERB"),
        (["validate"], "argument VERB: invalid choice: 'validate'"),
        (["rows"], "the following arguments are required: FILE"),
        (["rows", "a.jsonl", "--write", "b"], "unrecognized arguments: --write"),  # --write-clean, abbreviated
        (["rows", "a.jsonl", "--config", "b"], "unrecognized arguments: --config"),
        (["rows", "a.jsonl", "--clean", "gold"], "--clean selects what --write-clean writes: --write-clean is missing"),
        (["rows", "a.jsonl", "--json", "--against", "b"], "--against prints text: it cannot be used with --json"),
        (["rows", "a.jsonl", "--limit", "0"], "argument --limit: 0 is not above 0"),
        (["rows", "a.jsonl", "--limit", "2.5"], "argument --limit: invalid int value: '2.5'"),
        (["leakage", "a.jsonl", "--test", "b", "--limit", "-1"], "argument --limit: -1 is not above 0"),
        (["published", "a.jsonl", "--out", "b", "--seconds", "nan"], "argument --seconds: nan is not above 0"),
        (["rows", "a.jsonl", "--json", "--ids"], "--ids prints text: it cannot be used with --json"),
        (["proofs", "--jobs", "0"], "argument --jobs: 0 is not above 0"),
        (["proofs", "--sample", "many"], "argument --sample: invalid int value: 'many'"),
        (["published", "a.jsonl"], "the following arguments are required: --out"),
        (["leakage", "a.jsonl", "--tes", "b"], "the following arguments are required: --test"),
    ],
)
def test_flags_that_cannot_be_used_are_one_line(flags, message):
    done = run_script("check_data.py", *flags, check=False)
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, ""), done.stderr
    assert done.stderr.startswith(f"check_data: {message}")
