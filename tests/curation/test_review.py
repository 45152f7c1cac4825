"""src/review.py from a pipe: accept, edit, reject with words for the model; accepted records can be proven."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, run_script
from tidemark import behave, command, rows

from curation.collecting.proposals import as_row, part
from curation.evidence import Evidence, add, alike, read_evidence, split_of
from records import Record
from review import as_text, printable


def evidence(**fields: object) -> Evidence:
    envs = {"old_env": ["tidemark==1.0"], "new_env": ["tidemark==2.0"]}
    return Evidence.model_validate({"id": "x", "split": "train", "update": "u", "kind": "rename", **envs, **fields})


@pytest.fixture
def run(whole, tmp_path) -> Path:
    """A copy of the collection: level_at and rounded are proposed, in this order."""
    return Path(shutil.copytree(whole[1], tmp_path / "run"))


def review(run: Path, data: Path, envs: Path, answers: str, editor: str = "false", *flags: object):
    command = [sys.executable, str(ROOT / "src" / "review.py"), str(run), "--data", str(data), "--envs", str(envs)]
    return subprocess.run(
        [*command, *map(str, flags)],
        input=answers,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "EDITOR": editor},
    )


def test_what_is_shown(run, tmp_path, envs):
    done = review(run, tmp_path / "data", envs, "s\n")
    assert done.returncode == 0
    shown = done.stdout.splitlines()
    assert "update   tidemark-2.0-level-at (rename), to heldout; 0 records of it there" in shown
    assert "runs on  tidemark==1.0 -> tidemark==2.0" in shown
    assert "source   tidemark 2.0 release notes" in shown
    at = shown.index("--- old_code")
    assert shown[at + 3 : at + 6] == [
        " import tidemark",
        "-high = tidemark.level_at('quay', 2)",
        "+high = tidemark.level('quay', 2)",
    ]
    assert "assert high == 5" in shown
    assert "old on new  error    AttributeError: module 'tidemark' has no attribute 'level_at'" in shown
    assert "\x1b" not in done.stdout  # a pipe is not a terminal
    assert "0 accepted, 0 rejected, 1 skipped; 2 of 2 left to decide" in done.stdout
    assert not (tmp_path / "data").exists()


def test_reject_accept_and_what_the_model_is_told(run, notes, serve, tmp_path, offline, envs):
    data = tmp_path / "data"
    done = review(run, data, envs, "x\nr\nAnother place, please.\na\n", "false", "--heldout-share", 0)
    assert "'x': expected a, e, r, s or q" in done.stdout
    assert "1 accepted, 1 rejected, 0 skipped; 0 of 2 left to decide" in done.stdout
    [row] = rows(data / "train.jsonl")
    assert row["new_code"] == "import tidemark\nshown = tidemark.rounded(3.14159, digits=0)"
    assert [(one["split"], one["update"], one["kind"]) for one in rows(data / "evidence.jsonl")] == [
        ("train", "tidemark-2.0-rounded", "default")
    ]
    decisions = [(one["proposal"][8:], one["decision"], one.get("feedback")) for one in rows(run / "feedback.jsonl")]
    assert decisions == [("/1#3", "reject", "Another place, please."), ("/1#2", "accept", None)]

    server = serve(behave)
    run_script("collect.py", *command(notes, server.url, run, envs), env=offline)
    [asked] = server.bodies
    assert "- A reviewer says: Another place, please." in asked["messages"][3]["content"]
    again = rows(run / "rounds.jsonl")[-1]
    assert (again["cause"], again["verdict"], again["round"][8:]) == ("review", "accepted", "/1#4")

    done = review(run, data, envs, "a\n")
    assert "1 accepted, 0 rejected, 0 skipped; 0 of 1 left to decide" in done.stdout
    assert "'pier'" in rows(data / "heldout.jsonl")[0]["old_code"]  # its name's hash: 0.177, below the share of 0.25
    verified = run_script("check_data.py", "proofs", data, "--envs", envs)
    assert "2 of 2 records reproduce" in verified.stdout
    assert review(run, data, envs, "").stdout.startswith("0 accepted, 0 rejected, 0 skipped; 0 of 0 left")


def test_a_rejection_without_words_drops_the_pair(run, notes, serve, tmp_path, offline, envs):
    review(run, tmp_path / "data", envs, "r\n\nr\n\n")
    server = serve(behave)
    run_script("collect.py", *command(notes, server.url, run, envs), env=offline)
    assert server.bodies == []


@pytest.fixture
def editor(tmp_path):
    """An $EDITOR that replaces one text by another in the file it is given."""

    def write(old: str, new: str) -> str:
        path = tmp_path / f"edit{len(list(tmp_path.glob('edit*')))}.py"
        replace = f"text = p.read_text()\np.write_text(text.replace({old!r}, {new!r}))"
        path.write_text(f"import pathlib, sys\np = pathlib.Path(sys.argv[1])\n{replace}")
        return f"{sys.executable} {path}"

    return write


def test_an_edit_is_proven_again_before_it_is_accepted(run, tmp_path, envs, editor):
    done = review(run, tmp_path / "data", envs, "e\na\nq\n", editor("high", "height"))
    assert "accepted into" in done.stdout
    [row] = rows(tmp_path / "data" / "heldout.jsonl")
    assert row["new_code"] == "import tidemark\nheight = tidemark.level('quay', 2)"
    [proof] = rows(tmp_path / "data" / "evidence.jsonl")
    assert proof["check"] == "assert height == 5"
    assert proof["seen"]["new_on_new"] == {"outcome": "ok", "text": ""}
    assert rows(run / "feedback.jsonl")[0]["edited"] is True


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "== 5",
            "== 6",
            "fails at prove; edit again, or decide on the proposal as shown:\n  the new code is not clean",
        ),
        (
            "== 5",
            "!= 6",
            "fails at gates; edit again, or decide on the proposal as shown:\n  <check>: a wrong migration passes",
        ),
        ("</check>", "", "fails at format; edit again, or decide on the proposal as shown:\n  <check> is missing"),
        (
            "\nrename\n",
            "\nnaming\n",
            "fails at validate; edit again, or decide on the proposal as shown:\n  <kind> is not one of",
        ),
    ],
)
def test_an_edit_that_does_not_hold_is_not_taken_over(run, tmp_path, envs, editor, old, new, problem):
    done = review(run, tmp_path / "data", envs, "e\nq\n", editor(old, new))
    assert problem in done.stdout
    assert not (tmp_path / "data").exists()
    assert "2 of 2 left to decide" in done.stdout


def test_a_fence_inside_the_code_survives_the_editor():
    code = 'def f():\n    """Doc.\n\n    ```\n    f()\n    ```\n    """\n    return np.prod(1)'
    record = Record("NumPy", "2.0.0", "Sums.", "np.product is removed.", code.replace("prod", "product"), code)
    text = as_text(as_row("p1", "np.product", record, evidence(id="p1", kind="removal", check="assert f() == 1")))
    assert (part(text, "old_code"), part(text, "new_code")) == (record.old_code, code)
    assert part(text, "check") == "assert f() == 1"


def test_an_editor_that_fails(run, tmp_path, envs):
    assert "the editor failed: " in review(run, tmp_path / "data", envs, "e\nq\n", "false").stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere", "--data", "d"], "nowhere: no rounds.jsonl: not a folder of src/collect.py"),
        (["RUN"], "the following arguments are required: --data"),
        (["RUN", "--data", "d", "--heldout-share", "2"], "argument --heldout-share: 2 is not between 0 and 1"),
        (["RUN", "--data", "BROKEN"], "evidence.jsonl:1: update: field required"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, flags, message):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "evidence.jsonl").write_text('{"id": "a"}\n')
    names = {"RUN": run, "BROKEN": tmp_path / "broken"}
    done = run_script("review.py", *(names.get(flag, flag) for flag in flags), check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr


def test_a_model_cannot_hide_code_from_the_reviewer():
    assert printable("x = 1\r# \x1b[8mhidden\x1b[0m\u202eé\n\ty") == "x = 1\\r# \\x1b[8mhidden\\x1b[0m\\u202eé\n\ty"


RECORD = Record("tidemark", "2.0", "d", "u", "a = 1", "a = 2")


def test_an_addition_that_was_cut_is_completed(tmp_path):
    proof = evidence(id=RECORD.id, update="tidemark-2.0-a")
    (tmp_path / "train.jsonl").write_text(json.dumps({"other": "row"}))  # without a newline at its end
    add(tmp_path, RECORD, proof)
    both = {name: (tmp_path / name).read_text() for name in ("train.jsonl", "evidence.jsonl")}
    assert both["train.jsonl"].splitlines()[0] == '{"other": "row"}'
    assert rows(tmp_path / "train.jsonl")[1] == RECORD.to_row()
    (tmp_path / "evidence.jsonl").unlink()
    add(tmp_path, RECORD, proof)
    assert {name: (tmp_path / name).read_text() for name in both} == both
    assert not list(tmp_path.glob("*.part"))


def test_the_same_snippets_for_another_version_are_not_taken_twice(run, tmp_path, envs):
    """A set has each pair of snippets once, in either of its two files."""
    [row] = [row for row in rows(run / "proposed.jsonl") if row["record"]["old_code"].count("level_at")]
    earlier = Record(**{**row["record"], "new_version": "1.9"})
    data = tmp_path / "data"
    add(data, earlier, evidence(id=earlier.id, update="tidemark-1.9-level-at"))
    before = {path: path.read_text() for path in data.iterdir()}
    done = review(run, data, envs, "a\nq\n")
    assert f"{data / 'train.jsonl'}:1 has the same snippets, for another version: reject" in done.stdout
    assert "0 accepted, 0 rejected" in done.stdout
    assert {path: path.read_text() for path in data.iterdir()} == before


def test_an_update_stays_in_its_split():
    table = [evidence(split="heldout", update="numpy-2.0-trapz")]
    assert split_of("numpy-2.0-trapz", table, 0.0) == "heldout"
    assert split_of("numpy-2.0-in1d", table, 0.0) == "train"
    assert split_of("numpy-2.0-in1d", table, 1.0) == "heldout"
    assert alike("numpy-2.1-trapz", table) == ["numpy-2.0-trapz (heldout)"]
    assert alike("scipy-2.1-trapz", table) == []
    assert alike("numpy-2.0-trapz", table) == []


def test_no_evidence_yet(tmp_path):
    assert read_evidence(tmp_path / "nowhere", missing_ok=True) == {}
