"""check_data.py proofs: what counts as a proof, and a sample of data/ proven again in fresh environments."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, run_script
from wheels import only, write_wheel

from common.files import read_jsonl
from common.provenance import git_state
from curation.check_proofs import draw, load
from curation.evidence import Evidence
from curation.proof import ProofSettings, execute_all, failures
from records import Record

PYTHON = Path(sys.executable)


def proofs(*args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return run_script("check_data.py", "proofs", *args, **options)


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
    ("raise ValueError(object(), 139894367466064)", None, "error", "ValueError: (<object object at ADDRESS>, ADDRESS)"),
    ("raise ValueError('x' * 400)", None, "error", "ValueError: " + "x" * 288),  # 300 characters
    ("while True: pass", None, "limit", "still running after 8 s"),
    ("x = bytearray(1 << 60)", None, "limit", "MemoryError"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", None, "limit", "killed by SIGSEGV"),
    # as in a script: what is defined here is found by pickle, and output is nobody's outcome
    ("import pickle\nclass A: pass\nb = pickle.dumps(A())\nprint('{}')", "assert b", "ok", ""),
    ("import socket; socket.create_connection(('192.0.2.1', 80), 1)", None, "error", "OSError: [Errno 101]"),
]


def test_each_run_has_its_outcome():
    settings = ProofSettings(Path("unused"), seconds=8)
    found = execute_all(PYTHON, [(code, check) for code, check, _, _ in RUNS], settings)
    for (code, _, outcome, text), seen in zip(RUNS, found, strict=True):
        assert (seen["outcome"], seen["text"][: len(text) or None]) == (outcome, text), code


PINS = {"old_env": ["toylib==1.0"], "new_env": ["toylib==2.0"]}
TWO = Record(
    "toylib", "2.0", "A toy.", "Facts.", "import toylib\na = toylib.size(2)", "import toylib\na = toylib.new(2)"
)


def failures_of(outcomes: tuple[str, ...], record: Record = TWO, **fields: Any) -> list[str]:
    """The failures of runs that end so, in the order new on new, old on new, old on old, new on old, alternatives."""
    names = ["new_on_new", "old_on_new", "old_on_old", "new_on_old", "alternative_1_on_new"]
    evidence = Evidence.model_validate({"id": "a", "update": "u", "kind": "rename", **PINS, **fields})
    runs = {name: {"outcome": end, "text": "why"} for name, end in zip(names, outcomes, strict=False)}
    return failures(record, evidence, runs)


NOT_CLEAN = "the new code is not clean on the new version: why"
NOT_BEFORE = "the old code does not run on the old version: why"
LIMIT = "code on the {} version hit a limit, which proves nothing: why"


@pytest.mark.parametrize(
    ("outcomes", "found"),
    [
        (("ok", "error", "ok", "error"), []),
        (("ok", "error", "ok"), []),  # evidence that has no fourth run
        (("ok", "warning", "warning", "ok"), []),
        (("ok", "check", "ok", "limit"), []),  # the fourth run may end in any way
        (("warning", "error", "ok", "ok"), [NOT_CLEAN]),
        (("check", "error", "ok", "ok"), [NOT_CLEAN]),
        (
            ("ok", "ok", "ok", "error"),
            ["the old code still runs clean on the new version, and no check tells the two apart"],
        ),
        (("ok", "error", "error", "ok"), [NOT_BEFORE]),
        (("limit", "error", "ok", "ok"), [f"the new {LIMIT.format('new')}"]),
        (("ok", "limit", "ok", "ok"), [f"the old {LIMIT.format('new')}"]),
        (("ok", "error", "limit", "ok"), [f"the old {LIMIT.format('old')}"]),
        (("ok", "error", "check", "ok"), [NOT_BEFORE]),
        (("ok", "error", "ok", "ok", "warning"), ["alternative 1 is not clean on the new version: why"]),
    ],
)
def test_what_proves_that_old_code_breaks(outcomes, found):
    assert failures_of(outcomes) == found


@pytest.mark.parametrize(
    ("outcomes", "found"),
    [
        (("ok", "ok", "ok", "error"), []),
        (("ok", "ok", "warning", "check"), []),
        (("error", "ok", "ok", "error"), [NOT_CLEAN]),
        (
            ("ok", "warning", "ok", "error"),
            ["the old code is not clean on the new version, so this is no addition: why"],
        ),
        (("ok", "ok", "error", "error"), [NOT_BEFORE]),
        (("ok", "ok", "ok", "ok"), ["the new code runs on the old version too: it uses nothing that was added"]),
        (("ok", "ok", "ok", "warning"), ["the new code runs on the old version too: it uses nothing that was added"]),
        (("ok", "ok", "ok", "limit"), [f"the new {LIMIT.format('old')}"]),
    ],
)
def test_what_proves_an_addition(outcomes, found):
    assert failures_of(outcomes, proof="adopt", use=["toylib.new"]) == found


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"use": ["toylib.new"]}, []),
        ({"use": ["new", "size(unit=)"]}, ["the new code does not use size(unit=)"]),
        ({"proof": "adopt"}, ["no name that the new code must use: a copy of the old code would pass"]),
        (
            {"proof": "adopt", "use": ["toylib.new", "toylib.size"]},
            ["the new code does not use toylib.size", "the old code already uses toylib.size"],
        ),
        (
            {"use": ["toylib.new"], "alternatives": ["import toylib as t\na = t.new(2)", "a = 4"]},
            ["alternative 2 does not use toylib.new"],
        ),
    ],
)
def test_which_names_must_be_used(fields, found):
    ends = ("ok", "ok" if "proof" in fields else "error", "ok", "error", "ok")
    assert failures_of(ends, **fields) == found


# A library made here: `old` warns in 2.0, `gone` is removed, `size` has another default.
TOY = {
    "1.0": "def old(x): return 2 * x\ndef gone(x): return 3 * x\ndef size(x, unit=1): return x * unit\n",
    "2.0": "import warnings\ndef new(x): return 2 * x\ndef size(x, unit=10): return x * unit\n"
    "def old(x):\n    warnings.warn('use new', DeprecationWarning)\n    return 2 * x\n",
}


@pytest.fixture(scope="module")
def toylib(tmp_path_factory) -> dict[str, str]:
    """Lets pip find toylib's two wheels, and nothing else."""
    folder = tmp_path_factory.mktemp("wheels")
    for version, source in TOY.items():
        write_wheel(folder, "toylib", version, {"toylib.py": source})
    return only(folder)


@pytest.fixture(scope="module")
def envs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("envs")


def toy_record(old: str, new: str) -> Record:
    return Record("toylib", "2.0", "A toy.", "Facts.", f"import toylib\n{old}", f"import toylib\n{new}")


def write_data(folder: Path, *rows: tuple[str, str, str | None], **change: object) -> Path:
    """A data folder of (old, new, check); `change` is laid over every row of evidence."""
    folder.mkdir(exist_ok=True)
    records = [toy_record(old, new) for old, new, _ in rows]
    (folder / "train.jsonl").write_text("".join(json.dumps(record.to_row()) + "\n" for record in records))
    table = [
        {"id": record.id, "split": "train", "update": "toylib-2.0", "kind": "rename", **PINS, "check": check, **change}
        for record, (_, _, check) in zip(records, rows, strict=True)
    ]
    (folder / "evidence.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    return folder


PROVEN = [
    ("a = toylib.old(2)", "a = toylib.new(2)", "assert a == 4"),  # warns
    ("a = toylib.gone(2)", "a = toylib.new(2) + 2", "assert a == 6"),  # raises
    ("a = toylib.size(2)", "a = toylib.size(2, unit=1)", "assert a == 2"),  # its check alone fails: 20
]


def test_records_of_another_folder_are_proven_stored_and_not_run_twice(tmp_path, toylib, envs):
    data, log = write_data(tmp_path / "data", *PROVEN), tmp_path / "log.jsonl"
    done = proofs(data, "--envs", envs, "--jobs", 1, "--write", "--log", log, env=toylib)
    assert "3 of 3 records reproduce, in 2 environments" in done.stdout
    assert "old on new  1 warning, 1 error, 1 check" in done.stdout
    assert "new on old  2 error, 1 ok" in done.stdout  # size(2, unit=1) is 2 on both
    seen = [row["seen"]["old_on_new"] for row in read_jsonl(data / "evidence.jsonl")]
    assert seen == [
        {"outcome": "warning", "text": "DeprecationWarning: use new"},
        {"outcome": "error", "text": "AttributeError: module 'toylib' has no attribute 'gone'"},
        {"outcome": "check", "text": "AssertionError"},
    ]
    (data / "environments.jsonl").unlink()  # as when the log was written
    # a file instead of the folder; the log has all three, so no environment is created
    again = proofs(data / "train.jsonl", "--envs", tmp_path / "none", "--log", log)
    assert "3 of 3 records reproduce" in again.stdout
    assert not (tmp_path / "none").exists()
    one = proofs(data, "--envs", envs, "--record", toy_record(*PROVEN[0][:2]).id)
    assert '"text": "DeprecationWarning: use new"' in one.stdout


ADDED = ("a = toylib.size(2, 2)", "a = toylib.new(2)", "assert a == 4")
OTHER = "import toylib\na = sum([toylib.new(2)])"


def test_an_addition_is_proven_with_its_alternatives(tmp_path, toylib, envs):
    adopt = {"kind": "addition", "proof": "adopt", "use": ["toylib.new"]}
    data = write_data(tmp_path / "data", ADDED, **adopt, alternatives=[OTHER])
    done = proofs(data, "--envs", envs, "--jobs", 1, "--write", env=toylib)
    assert "1 of 1 records reproduce" in done.stdout
    assert "alternatives on new 1 ok" in done.stdout
    [row] = read_jsonl(data / "evidence.jsonl")
    assert row["seen"] == {
        "new_on_new": {"outcome": "ok", "text": ""},
        "old_on_new": {"outcome": "ok", "text": ""},
        "old_on_old": {"outcome": "ok", "text": ""},
        "new_on_old": {"outcome": "error", "text": "AttributeError: module 'toylib' has no attribute 'new'"},
        "alternative_1_on_new": {"outcome": "ok", "text": ""},
    }
    wrong = write_data(tmp_path / "wrong", ADDED, **adopt, alternatives=["a = 4", "import toylib\na = toylib.new(3)"])
    done = proofs(wrong, "--envs", envs, "--jobs", 1, env=toylib, check=False)
    assert (done.returncode, "0 of 1 records reproduce" in done.stdout) == (1, True)
    assert "alternative 1 does not use toylib.new" in done.stderr
    assert "alternative 2 is not clean on the new version: AssertionError" in done.stderr


def test_what_was_installed_is_stored_and_held_to(tmp_path):
    """toylib needs buoy, whose 2.0 is released after the record was proven with 1.0."""
    for version, source in TOY.items():
        write_wheel(tmp_path / "index", "toylib", version, {"toylib.py": source}, requires=["buoy"])
    write_wheel(tmp_path / "index", "buoy", "1.0", {"buoy.py": ""})
    flags = [write_data(tmp_path / "data", PROVEN[0]), "--jobs", 1, "--log", tmp_path / "log.jsonl"]
    proofs(*flags, "--envs", tmp_path / "a", env=only(tmp_path / "index"))
    run_script(
        "check_data.py", "proofs", *flags, "--envs", tmp_path / "none", "--write"
    )  # everything from the log, the locks too
    stored = read_jsonl(tmp_path / "data" / "environments.jsonl")
    assert [row["pins"] for row in stored] == [["toylib==1.0"], ["toylib==2.0"]]
    assert all("buoy==1.0" in row["installed"] for row in stored)

    write_wheel(tmp_path / "index", "buoy", "2.0", {"buoy.py": ""})
    # the log is of environments without a lock, so the record is run again
    done = proofs(*flags, "--envs", tmp_path / "b", env=only(tmp_path / "index"))
    assert "1 of 1 records reproduce" in done.stdout
    made = [path.read_text().split() for path in (tmp_path / "b").glob("*/installed.txt")]
    assert len(made) == 2 and all("buoy==1.0" in pins for pins in made)
    again = proofs(*flags, "--envs", tmp_path / "none")
    assert "1 of 1 records reproduce" in again.stdout and not (tmp_path / "none").exists()

    (tmp_path / "log.jsonl").write_text('{"step": 1}\n')
    other = proofs(*flags, check=False)
    assert (other.returncode, other.stderr.count("\n")) == (2, 1)
    assert f"{tmp_path / 'log.jsonl'}:1: id: field required" in other.stderr


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        # the old code passes the check on the new version too
        (("a = toylib.size(2)", "a = toylib.size(2, unit=1)", "assert a in (2, 20)"), "no check tells the two apart"),
        (("a = toylib.size(2)", "a = toylib.size(2, unit=1)", None), "no check tells the two apart"),
        # the "new" code is the old one, or still warns, or its result is another
        (("a = toylib.gone(2)", "a = toylib.gone(3)", None), "the new code is not clean on the new version: Attr"),
        (("a = toylib.gone(2)", "a = toylib.old(3)", None), "the new code is not clean on the new version: Depr"),
        (("a = toylib.gone(2)", "a = toylib.new(2)", "assert a == 6"), "the new code is not clean on the new version"),
        # the old code, unchanged but for silencing what it warns of
        (
            (
                "a = toylib.old(2)",
                "import warnings\nwarnings.filterwarnings('ignore')\na = toylib.old(2)",
                "assert a == 4",
            ),
            "the new code is not clean on the new version: DeprecationWarning: use new",
        ),
        # an old code that never was: no such function in 1.0 either; or its result was another
        (("a = toylib.never(2)", "a = toylib.new(2)", None), "the old code does not run on the old version: Attr"),
        (("a = toylib.gone(2)", "a = toylib.new(2)", "assert a == 4"), "the old code does not run on the old version"),
    ],
)
def test_a_record_that_proves_nothing_is_an_error(tmp_path, toylib, envs, row, problem):
    done = run_script(
        "check_data.py", "proofs", write_data(tmp_path, row), "--envs", envs, "--jobs", 1, env=toylib, check=False
    )
    assert (done.returncode, "0 of 1 records reproduce" in done.stdout) == (1, True), done.stderr
    assert problem in done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": "0" * 12}, "record and evidence do not match: "),
        ({"split": "heldout"}, "split: not the one of the record's file: "),
        ({"old_env": []}, ":1: old_env: expected a list of exact pins, such as numpy==2.0.0"),
        ({"new_env": "toylib==2.0"}, ":1: new_env: expected a list of exact pins"),
        ({"new_env": ["--index-url=http://192.0.2.1"]}, ":1: new_env: expected a list of exact pins"),
        ({"check": 1}, ":1: check: input should be a valid string"),
        ({"new_env": ["/nowhere/toylib-3.0-py3-none-any.whl"]}, ":1: new_env: expected a list of exact pins"),
        ({"new_env": ["toylib @ git+https://192.0.2.1/toylib"]}, ":1: new_env: expected a list of exact pins"),
        ({"new_env": ["toylib==3.0"]}, "pip could not install toylib==3.0: ERROR: "),
    ],
)
def test_evidence_that_cannot_be_used_is_named_in_one_line(tmp_path, toylib, envs, change, said):
    data = write_data(tmp_path, PROVEN[0], **change)
    done = proofs(data, "--envs", envs, env=toylib, check=False)
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith("check_data: ") and said in line


def test_missing_and_doubled_evidence(tmp_path):
    data = write_data(tmp_path / "data", *PROVEN)
    rows = (data / "evidence.jsonl").read_text().splitlines(keepends=True)
    for kept, said in ((rows[:2], "do not match: "), ([*rows, rows[0]], ":4: id: "), (["{\n"], "evidence.jsonl:1: ")):
        (data / "evidence.jsonl").write_text("".join(kept))
        done = proofs(data, check=False)
        assert (done.returncode, said in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.stderr
    (data / "evidence.jsonl").unlink()
    assert "evidence.jsonl" in proofs(data, check=False).stderr
    unknown = proofs("--record", "0" * 12, check=False)
    assert (unknown.returncode, unknown.stderr) == (2, f"check_data: {ROOT / 'data'}: no such record\n")
    few = proofs("--sample", 400, "--environments", 2, check=False)
    assert (few.returncode, few.stderr) == (2, "check_data: 400 records do not fit into 2 environments\n")
    none = proofs("--without", "Scrappy", check=False)
    assert (none.returncode, none.stderr) == (2, "check_data: --without Scrappy: no record is of this library\n")
    left = proofs("--without", "torch", "jax", "--sample", 1000, "--environments", 1, check=False)
    assert left.stderr == "check_data: 995 records do not fit into 1 environments\n"  # 1149 - 54 - 100


def test_the_draw_of_a_sample():
    """Any seed gives 20 records in 5 environments, the same seed the same ones; every library is drawn by some seed."""
    pairs = load(ROOT / "data")
    libraries: Counter[str] = Counter()
    for seed in range(900):
        chosen = draw(pairs, 20, 5, str(seed))
        assert len({record.id for record, _ in chosen}) == 20
        assert len({pins for _, evidence in chosen for pins in (evidence.old_env, evidence.new_env)}) <= 5
        libraries.update({record.dependency for record, _ in chosen})
    assert draw(pairs, 20, 5, "a") == draw(pairs, 20, 5, "a") != draw(pairs, 20, 5, "b")
    assert len(libraries) == 31


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the pins of data/evidence.jsonl are for Python 3.11")
def test_twenty_of_our_records_reproduce_in_fresh_environments(tmp_path):
    """The commit's hash chooses twenty records in at most five environments (`check_proofs.draw`): the sample changes
    with every commit, and a failure can be repeated. Needs a package index: pip creates the environments."""
    commit = git_state()["commit"] or "no commit"
    done = run_script(
        *(
            "check_data.py",
            "proofs",
            "--sample",
            20,
            "--environments",
            5,
            "--without",
            "PyTorch",
            "--seed",
            commit,
            "--envs",
            tmp_path / "envs",
        ),
        check=False,
    )
    assert "20 of 20 records reproduce" in done.stdout, f"--seed {commit}\n{done.stdout}\n{done.stderr[-3000:]}"
