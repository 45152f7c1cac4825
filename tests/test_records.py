"""Records: what loads, what is rejected, and how each problem is named.

The environment variable RECODE_PUBLISHED names a folder with recode-train-data.jsonl, which is not in this repository;
the tests that need it are skipped without it.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from conftest import ROOT
from published_data import published

from common.api_uses import imports
from common.errors import InputError
from common.files import read_jsonl
from common.libraries import normalise_dependency, normalise_version
from common.provenance import sha256
from curation.similarity import bound
from curation.use import loaded
from records import FIELDS, Record, check_file, load_records

PUBLISHED = published("recode-train-data.jsonl")
GOOD = {
    "dependency": "numpy",
    "new_version": "==2.0.0",
    "description": "Integrate samples.",
    "update_info": "np.trapz was renamed to np.trapezoid.",
    "old_code": "import numpy as np\narea = np.trapz(y)",
    "new_code": "import numpy as np\narea = np.trapezoid(y)",
}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def checks(path: Path) -> list[tuple[int, str, str]]:
    return [(p.line, p.field, p.check) for p in check_file(path).problems]


def test_a_good_row_is_normalised(tmp_path):
    [record] = load_records(write(tmp_path / "r.jsonl", GOOD))
    assert (record.dependency, record.new_version) == ("NumPy", "2.0.0")
    assert record.to_row() == {**GOOD, "dependency": "NumPy"}
    assert tuple(record.to_row()) == FIELDS


@pytest.mark.parametrize(
    ("written", "version"),
    [
        ("==2.2.0", "2.2.0"),
        ("2.2.0", "2.2.0"),
        ("==1.3.x", "1.3.x"),
        (">= 0.17", "0.17"),
        ("v3.1", "3.1"),
        ("22", "22"),
    ],
)
def test_versions(written, version):
    assert normalise_version(written) == version


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Numpy", "NumPy"),
        ("Seaborn", "seaborn"),
        ("scikit_learn", "scikit-learn"),
        ("sklearn", "scikit-learn"),
        ("torch", "PyTorch"),
        ("Pandas", "pandas"),
        ("left pad", "left pad"),
    ],
)
def test_dependencies(written, name):
    assert normalise_dependency(written) == name


@pytest.mark.parametrize(
    ("change", "field", "check"),
    [
        ({"new_code": None}, "new_code", "null"),
        ({"new_code": 3}, "new_code", "type"),
        ({"update_info": "  "}, "update_info", "blank"),
        ({"old_code": "print 'x'"}, "old_code", "parse"),
        ({"new_code": "x = ("}, "new_code", "parse"),
        ({"new_code": "# gone\n"}, "new_code", "empty_target"),
        ({"new_code": ""}, "new_code", "empty_target"),
        ({"old_code": ""}, "old_code", "no_old_code"),
        ({"old_code": "# use trapz"}, "old_code", "no_old_code"),
        ({"old_code": "import numpy\npass"}, "old_code", "no_old_code"),
        ({"old_code": "def trapz(y):\n    # by hand\n    pass"}, "old_code", "no_old_code"),
        ({"new_code": "y = np.trapz(x)  # new name"}, "new_code", "no_op"),
        *(
            ({"new_version": written}, "new_version", "version")
            for written in ("latest", "2.x", "==1.3.x", ">=1.14", "1.*", "<2", "~=1.4", "2.0, 2.1")
        ),
        ({"description": ""}, "description", "no_description"),
        ({"note": "x"}, "note", "extra_field"),
        ({"update_info": "half an emoji \ud83d here"}, "update_info", "unicode"),
        ({"description": "\udc00"}, "description", "unicode"),
        ({"new_code": "x = '\ud83d'"}, "new_code", "unicode"),
        ({"description": None}, "description", "null"),
        (
            {"new_code": f"x = {' + '.join(['1'] * 149)}"},
            "new_code",
            "deep",
        ),  # module, assignment, 148 sums, number: 151
        ({"old_code": f"x = {' + '.join(['1'] * 1500)}"}, "old_code", "deep"),
        ({"old_code": "if a:\n    pass\n" + "elif b:\n    pass\n" * 300}, "old_code", "deep"),
        ({"new_code": "y" + ".a" * 200}, "new_code", "deep"),
        ({"new_code": "lambda: " * 180 + "1"}, "new_code", "deep"),
        ({"new_code": f"x = 0x{'f' * 5000}"}, "new_code", "deep"),  # Python does not print so many digits
        ({"old_code": "if True:\n    pass\nelse:\n    import numpy"}, "old_code", "no_old_code"),
        ({"old_code": "try:\n    import numpy\nexcept ImportError:\n    pass"}, "old_code", "no_old_code"),
        ({"old_code": "with lock:\n    'later'"}, "old_code", "no_old_code"),
        ({"new_code": "x = '</answer>'"}, "new_code", "reference"),
        ({"new_code": "x = 1  # <answer>"}, "new_code", "reference"),
        ({"new_code": "x = 1  # </think>"}, "new_code", "reference"),
        ({"new_code": "x = 1  # <think>"}, "new_code", "reference"),
        ({"new_code": f"x = '{'a' * 200_000}'"}, "new_code", "reference"),  # longer than the reward reads
    ],
)
def test_each_check_names_file_line_and_field(tmp_path, change, field, check):
    path = write(tmp_path / "r.jsonl", GOOD, {**GOOD, "old_code": "y = np.trapz(x)", **change})
    assert checks(path) == [(2, field, check)]
    [problem] = check_file(path).problems
    assert str(problem).startswith(f"{path}:2: {field}: ")


@pytest.mark.parametrize(
    "change",
    [
        {"new_code": 'def f():\n    """Doc.\n\n    ```\n    f()\n    ```\n    """'},  # fits into a longer fence
        {"new_code": f"x = {' + '.join(['1'] * 148)}"},  # 150 levels
        {"update_info": "a whole emoji \U0001f600"},  # json.dumps writes it as a pair of surrogates
    ],
)
def test_what_is_not_an_error(tmp_path, change):
    assert checks(write(tmp_path / "r.jsonl", {**GOOD, **change})) == []


def test_findings_print_as_one_line_that_any_terminal_takes(tmp_path):
    path = write(tmp_path / "r.jsonl", {**GOOD, "a\ud83d\n\x1b[2J": 1, "dependency": "\ud83d"})
    assert [str(problem) for problem in check_file(path).problems] == [
        f"{path}:1: dependency: not Unicode text: half of a surrogate pair after 0 characters",
        f"{path}:1: a\\ud83d\\n\\x1b[2J: not one of the six fields; ignored",
    ]
    done = check_rows(path, "--table")
    assert (done.returncode, done.stderr) == (1, "")
    assert "| rows | 1 | 1 |" in done.stdout
    [found] = json.loads(check_rows(path, "--json").stdout)["files"]
    assert found["problems"][1]["field"] == "a\ud83d\n\x1b[2J"


def test_a_row_that_is_not_unicode_text_is_left_out_of_what_is_written(tmp_path):
    path = write(tmp_path / "r.jsonl", {**GOOD, "update_info": "half an emoji \ud83d here"}, GOOD)
    done = check_rows(path, "--write-clean", tmp_path / "clean.jsonl")
    assert f"wrote 1 rows to {tmp_path / 'clean.jsonl'}" in done.stderr
    assert len(load_records(tmp_path / "clean.jsonl")) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["clean.jsonl", "r.jsonl"]


def test_missing_field_and_broken_line(tmp_path):
    row = {key: value for key, value in GOOD.items() if key != "old_code"}
    assert checks(write(tmp_path / "r.jsonl", row, "{broken", "", "[1]")) == [
        (1, "old_code", "missing"),
        (2, "row", "json"),
        (4, "row", "json"),
    ]


def test_a_field_that_is_given_twice(tmp_path):
    twice = json.dumps(GOOD)[:-1] + ', "new_version": "==3.0.0"}'
    path = write(tmp_path / "r.jsonl", GOOD, twice)
    assert (2, "new_version", "repeated_field") in checks(path)
    (tmp_path / "r.json").write_text(f"[{twice}]")
    assert checks(tmp_path / "r.json") == [(1, "new_version", "repeated_field")]
    assert load_records(tmp_path / "r.json")[0].new_version == "3.0.0"


def test_duplicates_name_the_first_line(tmp_path):
    path = write(tmp_path / "r.jsonl", GOOD, {**GOOD, "update_info": "another text"})
    assert [str(p) for p in check_file(path).errors] == [f"{path}:2: row: repeats the old_code and new_code of line 1"]


def test_json_arrays_keep_their_lines(tmp_path):
    path = tmp_path / "r.json"
    path.write_text("[\n" + json.dumps(GOOD) + ",\n\n" + json.dumps({**GOOD, "new_code": None}) + "\n]")
    assert checks(path) == [(4, "new_code", "null")]
    path.write_text(json.dumps([GOOD, {**GOOD, "update_info": "again"}, {**GOOD, "new_code": None}]))
    checked = check_file(path)  # all on one line
    assert [str(p) for p in checked.errors] == [
        f"{path}:1: row: repeats the old_code and new_code of line 1",
        f"{path}:1: new_code: the value is null",
    ]
    assert checked.summary().startswith("3 rows, 1 good, 2 with errors\n")
    path.write_text('[{"a": 1},\n{"b"')
    with pytest.raises(InputError, match=r"r\.json:2: row"):
        check_file(path)


@pytest.mark.parametrize("rest", ["[]", json.dumps([GOOD]), json.dumps(GOOD), "x", "]"])
def test_nothing_may_follow_an_array(tmp_path, rest):
    """`cat a.json b.json`: the rows of the second file were lost."""
    path = tmp_path / "r.json"
    path.write_text(f"[{json.dumps(GOOD)}]\n\n {rest}\n")
    with pytest.raises(InputError, match=r"r\.json:3: row: the array has ended"):
        check_file(path)
    path.write_text(f"[{json.dumps(GOOD)}]\n\n ")
    assert len(load_records(path)) == 1


# What `keep` trains on: changes to a good row.
KEPT = {
    "unparseable target": {"new_code": "x = ("},
    "unparseable old code": {"old_code": "print 'x'"},
    "empty target": {"new_code": ""},
    "empty old code": {"old_code": ""},
    "no-op": {"new_code": GOOD["old_code"]},
    "comment": {"new_code": "# gone"},
    "duplicate": {},
    "deep": {"new_code": f"x = {' + '.join(['1'] * 1500)}"},
    "tags": {"new_code": "x = '</answer>'"},
    "empty description": {"description": ""},
    "no description": {"description": None},
    "broken description": {"description": "\ud83d"},
}
DROPPED = [
    {"update_info": None},
    {"old_code": 3},
    {"new_code": "\ud83d"},
    {"dependency": " "},
    "{broken",
    "[1]",
    {key: value for key, value in GOOD.items() if key != "new_version"},
]


def test_keep_leaves_out_only_what_has_no_prompt_or_no_target(tmp_path, capsys):
    dropped = [{**GOOD, **row} if isinstance(row, dict) and len(row) < 2 else row for row in DROPPED]
    path = write(tmp_path / "r.jsonl", GOOD, *({**GOOD, **change} for change in KEPT.values()), *dropped)
    records = load_records(path, "keep")
    assert len(records) == 1 + len(KEPT)
    assert [record.description for record in records[-3:]] == ["", "", ""]
    said = capsys.readouterr().err
    assert said.startswith(
        f"{path}: bad_rows: keep: 13 of 20 rows are used\n20 rows, 1 good, 19 with errors, 12 of them"
    )
    counts = re.findall(r"^  (\w+) +(\w+) +(\d+) rows", said, re.MULTILINE)
    assert counts == [
        ("error", "json", "2"),
        ("error", "missing", "1"),
        ("error", "null", "1"),  # update_info
        ("kept", "null", "1"),  # description
        ("error", "type", "1"),
        ("error", "unicode", "1"),  # new_code
        ("kept", "unicode", "1"),  # description
        ("error", "blank", "1"),
        ("kept", "parse", "2"),
        ("kept", "deep", "1"),
        ("kept", "empty_target", "2"),
        ("kept", "no_old_code", "1"),
        ("kept", "no_op", "1"),
        ("kept", "duplicate", "2"),  # and the row with an empty description
        ("kept", "reference", "1"),
        ("warning", "no_description", "1"),
    ]
    assert len(load_records(path, "drop")) == 1
    none = write(tmp_path / "none.jsonl", *dropped)
    with pytest.raises(InputError, match=r"no usable record; the first error: .*none.jsonl:1: update_info: "):
        load_records(none, "keep")


@pytest.mark.parametrize("name", KEPT)
def test_rewards_of_kept_rows_are_numbers(tmp_path, name):
    """Whatever the target: every reward is finite, and DM* is None if old and new do not differ or do not parse."""
    import math

    from diff_match import dm_star
    from prompts import reference_completion
    from rewards import REWARDS, compute_score

    [record] = load_records(write(tmp_path / "r.jsonl", {**GOOD, **KEPT[name]}), "keep")
    answers = [reference_completion(record.new_code), reference_completion(record.old_code), "", "no tags", "x = 1"]
    columns = {"target": [record.new_code] * 5, "old_code": [record.old_code] * 5}
    for reward in REWARDS.values():
        assert all(math.isfinite(value) for value in reward(answers, **columns))
    for answer in answers:
        assert all(math.isfinite(value) for value in compute_score("recode", answer, record.new_code).values())
    found = dm_star(answers, **columns)
    undefined = name in ("unparseable target", "unparseable old code", "no-op", "deep")
    assert [value is None for value in found] == [undefined] * 5
    assert undefined or all(math.isfinite(value) for value in found)


@pytest.mark.parametrize(
    "code",
    [
        "with np.errstate():\n    pass",
        "if np.trapz(y):\n    pass",
        "try:\n    np.bool\nexcept AttributeError:\n    pass",
    ],
)
def test_a_block_whose_header_or_body_uses_something_can_be_migrated(tmp_path, code):
    assert checks(write(tmp_path / "r.jsonl", {**GOOD, "old_code": code})) == []


def test_data_of_another_kind_is_rejected_in_a_few_lines(tmp_path):
    path = write(tmp_path / "problems.jsonl", *({"task_id": str(n), "prompt": "\x1b[2J"} for n in range(400)))
    with pytest.raises(InputError) as raised:
        load_records(path)
    lines = str(raised.value).split("\n")
    assert (len(lines), lines[0]) == (11, f"{path}:1: dependency: the field is missing")
    assert lines[-1] == "… and 2,390 more errors; check_data.py rows lists them"
    done = check_rows(path)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.split("\n")[10] == "… and 3,190 more problems (--limit shows more)"
    assert len(done.stdout.split("\n")) < 20
    assert len(check_rows(path, "--limit", "5000").stdout.split("\n")) > 3200


@pytest.mark.parametrize("content", ["", "\n\n  \n", "[]"])
def test_a_file_without_rows_is_not_good_data(tmp_path, content):
    path = write(tmp_path / "rows.jsonl", content)
    done = check_rows(path)
    line = f"check_data: {path}: no rows: the file, or the array in it, is empty\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)
    with pytest.raises(InputError, match="no usable record"):
        load_records(path, "drop")


def test_rows_from_a_pipe_are_read_once_for_every_use(tmp_path):
    script, out = ROOT / "src" / "check_data.py", tmp_path / "out.jsonl"
    command = [sys.executable, str(script), "rows", "/dev/stdin", "--table", "--write-clean", str(out)]
    done = subprocess.run(command, input="\ufeff" + json.dumps(GOOD), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, f"wrote 1 rows to {out}\n")
    assert "/dev/stdin: 1 rows, 1 good, 0 with errors\n" in done.stdout
    assert "| good | 1 | 1 |\n" in done.stdout
    assert len(load_records(out)) == 1


def test_an_output_that_cannot_be_written_is_found_before_the_rows_are_read(tmp_path):
    done = check_rows(tmp_path / "absent.jsonl", "--write-clean", tmp_path)
    assert done.stderr == f"check_data: {tmp_path}: is a folder; expected a file to write\n"


def test_the_first_row_after_a_byte_order_mark_is_not_lost(tmp_path):
    path = write(tmp_path / "r.jsonl", "\ufeff" + json.dumps(GOOD), {**GOOD, "old_code": "np.trapz(x)"})
    assert len(load_records(path, "drop")) == 2


def test_errors_stop_and_dropping_is_loud(tmp_path, capsys):
    path = write(tmp_path / "r.jsonl", GOOD, {**GOOD, "new_code": None}, {**GOOD, "old_code": ""})
    with pytest.raises(InputError, match=r":2: new_code: the value is null\n.*:3: old_code: nothing to migrate"):
        load_records(path)
    assert len(load_records(path, bad_rows="drop")) == 1
    assert "3 rows, 1 good, 2 with errors" in capsys.readouterr().err


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_records(tmp_path / "absent.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match="not UTF-8"):
        load_records(tmp_path / "latin.jsonl")
    with pytest.raises(InputError, match="no usable record"):
        load_records(write(tmp_path / "empty.jsonl"))
    with pytest.raises(InputError, match="OWNER/NAME"):
        load_records("hf://datasets/zjunlp")


def test_ids_follow_the_code_and_rows_round_trip(tmp_path):
    [record] = load_records(write(tmp_path / "r.jsonl", GOOD))
    [edited] = load_records(
        write(tmp_path / "e.jsonl", {**GOOD, "description": "Other words.", "new_version": "2.0.0"})
    )
    assert record.id == edited.id
    assert load_records(write(tmp_path / "out.jsonl", record.to_row())) == [record]


def check_rows(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "src" / "check_data.py"), "rows", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_line(tmp_path):
    good = write(tmp_path / "good.jsonl", GOOD)
    bad = write(tmp_path / "bad.jsonl", GOOD, {**GOOD, "new_code": None})
    assert f"\n{good}:1: {load_records(good)[0].id}\n" in check_rows(good, "--ids").stdout
    done = check_rows(bad, "--write-clean", tmp_path / "clean.jsonl")
    assert done.returncode == 1
    assert f"{bad}:2: new_code: the value is null" in done.stdout
    assert len(load_records(tmp_path / "clean.jsonl")) == 1
    [found] = json.loads(check_rows(bad, "--json").stdout)["files"]
    assert (found["rows"], found["good"], found["by_check"]) == (2, 1, {"null": 1})
    absent = check_rows(tmp_path / "absent")
    assert absent.returncode == 2
    assert absent.stderr.count("\n") == 1


class Hub(BaseHTTPRequestHandler):
    """The two answers of a model hub that a download needs."""

    content = (json.dumps(GOOD) + "\n").encode()

    def do_HEAD(self) -> None:
        found = self.path == "/datasets/some/rows/resolve/v1/rows.jsonl"
        self.send_response(200 if found else 404)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", '"abc"')
        self.send_header("Content-Length", str(len(self.content) if found else 0))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.content)

    def log_message(self, *args: object) -> None:
        pass


def test_records_from_a_hub_and_a_hub_that_is_away(tmp_path):
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path)}
    env.pop("HF_HUB_OFFLINE", None)
    (tmp_path / "sitecustomize.py").write_text("import time\ntime.sleep = lambda seconds: None\n")  # between retries
    env["PYTHONPATH"] = str(tmp_path)

    def run(source: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "src" / "check_data.py"), "rows", source]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=120)

    done = run("hf://datasets/some/rows@v1/rows.jsonl")
    assert done.returncode == 0, done.stderr
    assert "1 rows, 1 good" in done.stdout
    server.shutdown()
    server.server_close()
    for source in ("hf://datasets/some/other@v1/rows.jsonl", "hf://datasets/some/bad--name"):
        gone = run(source)
        assert gone.returncode == 2
        assert gone.stderr.splitlines()[-1].startswith(f"check_data: {source}: cannot be downloaded: ")


SHARE = {**GOOD, "old_code": "a = f(1)", "new_code": "a = g(1)"}


@pytest.mark.parametrize(
    ("old", "new", "status", "found"),
    [
        # both become "v0 = f(1)\nv0 = g(1)": names, comments and blanks do not count
        ("b = f(1)  # why", "b=g(1)", 1, "highest 1.00; 1 above 0.9"),
        # 2 of the 19 characters differ: 1 - 2/19 = 0.89
        ("b = f(2)", "b = g(2)", 0, "highest 0.89; 0 above 0.9"),
        # f is bound by this code itself, so it is numbered: another program
        ("f = len\nb = f(1)", "f = len\nb = g(1)", 0, "0 above 0.9"),
        # does not parse: compared without white space, "a=f(1" and "a=g(1)" against the canonical text
        ("a = f(1", "a = g(1)", 0, "0 above 0.9"),
    ],
)
def test_copies_of_another_file_are_found(tmp_path, old, new, status, found):
    ours = write(tmp_path / "ours.jsonl", SHARE)
    theirs = write(tmp_path / "theirs.jsonl", {**SHARE, "new_code": None}, {**GOOD, "old_code": old, "new_code": new})
    done = check_rows(ours, "--against", theirs)
    assert found in done.stdout
    assert f"{ours}:1 and {theirs}:2" in done.stdout
    assert done.returncode == status, done.stderr


def test_a_row_is_not_a_copy_of_itself(tmp_path):
    one = write(tmp_path / "one.jsonl", SHARE, GOOD)
    assert check_rows(one, "--against", one).returncode == 0
    alone = write(tmp_path / "alone.jsonl", SHARE)
    assert "nothing to compare" in check_rows(alone, "--against", alone).stdout
    twice = write(tmp_path / "twice.jsonl", SHARE, {**SHARE, "old_code": "z = f(1)", "new_code": "z = g(1)"})
    assert "2 above 0.9" in check_rows(twice, "--against", twice).stdout
    gone = check_rows(one, "--against", tmp_path / "absent.jsonl")
    assert gone.returncode == 2
    assert "absent.jsonl: no such file" in gone.stderr


def test_no_record_of_ours_is_nearly_another_one():
    """Clones that differ in variable names count once: none in the set, and none across the split."""
    files = [ROOT / "data" / f"{split}.jsonl" for split in ("train", "heldout")]
    done = check_rows(*files, "--against", *files)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not PUBLISHED, reason="RECODE_PUBLISHED has no recode-train-data.jsonl")
def test_no_record_of_ours_is_nearly_a_published_row():
    files = [ROOT / "data" / f"{split}.jsonl" for split in ("train", "heldout")]
    done = check_rows(*files, "--against", PUBLISHED)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("0 above 0.9") == 2


KINDS = ("rename", "move", "signature", "default", "removal", "behaviour", "partial")


def our_records() -> tuple[dict[str, list[Record]], dict[str, dict]]:
    """The records of each split, and the evidence by record id."""
    splits = {split: load_records(ROOT / "data" / f"{split}.jsonl") for split in ("train", "heldout")}
    return splits, {row["id"]: row for row in read_jsonl(ROOT / "data" / "evidence.jsonl")}


def test_our_own_records_hold_together():
    splits, evidence = our_records()
    assert all(not check_file(ROOT / "data" / f"{split}.jsonl").problems for split in splits)
    assert {split: len(records) for split, records in splits.items()} == {"train": 830, "heldout": 319}
    assert len({record.dependency for records in splits.values() for record in records}) == 31
    assert set(evidence) == {record.id for records in splits.values() for record in records}
    updates = {split: {evidence[record.id]["update"] for record in splits[split]} for split in splits}
    assert not updates["train"] & updates["heldout"]  # the split is by library update
    assert max(Counter(row["update"] for row in evidence.values()).values()) <= 12
    renames = sum(row["kind"] == "rename" for row in evidence.values())
    assert renames / len(evidence) < 0.4


def test_the_evidence_is_complete():
    splits, evidence = our_records()
    for record in (record for records in splits.values() for record in records):
        row = evidence[record.id]
        needed = {"id", "split", "update", "kind", "source", "address", "old_env", "new_env", "check", "seen"}
        assert needed <= set(row) <= needed | {"alternatives", "equivalents", "facts", "proof", "use"}, record.id
        is_addition = row["kind"] == "addition"
        assert is_addition or row["kind"] in KINDS, record.id
        assert (row.get("proof") == "adopt") == is_addition, record.id
        assert row["address"].startswith("https://"), record.id
        assert re.search(r"\d", row["source"]), record.id  # a source names a release
        assert all("==" in pin for pin in row["old_env"] + row["new_env"]), record.id
        library = row["new_env"][0].lower()  # the library itself is the first pin
        package = {"pytorch": "torch"}.get(record.dependency.lower(), record.dependency.lower())
        assert library == f"{package}=={record.new_version}", record.id
        assert row["old_env"][0].lower() != library, record.id
        seen = row["seen"]
        runs = {name for name in seen if not name.startswith("alternative")}
        assert runs == {"new_on_new", "old_on_new", "old_on_old", "new_on_old"}, record.id
        assert seen["new_on_new"]["outcome"] == "ok", record.id
        assert seen["old_on_new"]["outcome"] in (("ok",) if is_addition else ("error", "warning", "check")), record.id
        assert not is_addition or seen["new_on_old"]["outcome"] in ("error", "check"), record.id
        assert seen["old_on_old"]["outcome"] in ("ok", "warning"), record.id


def test_a_check_fails_on_an_empty_program():
    """A check uses the code's variables. On 66 held-out records, additions, the old code passes; 18 times it warns."""
    _, evidence = our_records()
    for row in evidence.values():
        tree = ast.parse(row["check"])
        own = {*bound(tree), *imports(tree), *dir(builtins)}
        assert loaded(row["check"]) - own, row["id"]  # it reads a name that only the code can bind
        with pytest.raises((NameError, ImportError)):  # a library that it imports may not be installed here
            exec(compile(row["check"], row["id"], "exec"), {})
    heldout = [row["seen"]["old_on_new"]["outcome"] for row in evidence.values() if row["split"] == "heldout"]
    assert Counter(heldout) == {"error": 162, "check": 73, "ok": 66, "warning": 18}


@pytest.mark.skipif(not PUBLISHED, reason="RECODE_PUBLISHED has no recode-train-data.jsonl")
def test_the_published_rows(capsys):
    checked = check_file(PUBLISHED)
    assert checked.rows == 1600
    assert len(checked.records) + len({p.line for p in checked.errors}) == 1600
    assert {r.dependency for r in checked.records} == {
        *("NumPy", "SciPy", "pandas", "Scrapy", "PyTorch", "seaborn", "Matplotlib", "JAX", "scikit-learn")
    }
    assert len(load_records(PUBLISHED, bad_rows="drop")) == len(checked.records) == 1129
    assert len(load_records(PUBLISHED, bad_rows="keep")) == 1580  # all but 20 rows with nulls
    assert {p.check for p in checked.errors} == {"null", "parse", "empty_target", "no_old_code", "no_op", "duplicate"}


def test_the_table_counts_checks_by_library(tmp_path):
    rows = (GOOD, {**GOOD, "new_code": None}, {**GOOD, "dependency": "scipy", "old_code": "x = ("}, "{broken")
    path = write(tmp_path / "r.jsonl", *rows)
    table = [line for line in check_rows(path, "--table").stdout.splitlines() if line.startswith("|")]
    assert table == [
        "| check | none | NumPy | SciPy | all |",
        "|---|---|---|---|---|",
        "| rows | 1 | 2 | 1 | 4 |",
        "| json | 1 | 0 | 0 | 1 |",
        "| null | 0 | 1 | 0 | 1 |",
        "| parse | 0 | 0 | 1 | 1 |",
        "| good | 0 | 1 | 0 | 1 |",
    ]


# Lines 1 to 6: good, a no-op, broken, good, good, good; the verdicts know lines 1, 4 and 5.
LEVEL_ROWS = [
    GOOD,
    {**GOOD, "new_code": GOOD["old_code"]},
    {**GOOD, "new_code": "x = ("},
    *({**GOOD, "old_code": f"area = np.trapz({name})"} for name in "abc"),
]
RAN = {"id": "a", "environment": 0, "exact": True}
VERDICTS = [
    {"line": 1, **RAN, "new": "ok", "old": "warning DeprecationWarning"},
    {"line": 4, **RAN, "new": "ok", "old": "ok"},
    {"line": 5, **RAN, "new": "error NameError", "old": "ok"},
]


@pytest.mark.parametrize(
    ("level", "kept"),
    [("parses", [1, 2, 4, 5, 6]), ("real-change", [1, 4, 5, 6]), ("runs", [1, 4]), ("gold", [1])],
)
def test_levels_select_rows(tmp_path, level, kept):
    rows = write(tmp_path / "rows.jsonl", *LEVEL_ROWS)
    verdicts = write(tmp_path / "v.jsonl", {"file_sha256": sha256(rows)}, *VERDICTS)
    out = tmp_path / "out.jsonl"
    done = check_rows(rows, "--clean", level, "--verdicts", verdicts, "--write-clean", out)
    assert f"wrote {len(kept)} rows to {out}" in done.stderr
    wanted = [(LEVEL_ROWS[line - 1]["old_code"], LEVEL_ROWS[line - 1]["new_code"]) for line in kept]
    assert [(row["old_code"], row["new_code"]) for row in read_jsonl(out)] == wanted


def test_verdicts_that_are_missing_or_of_another_file(tmp_path):
    rows = write(tmp_path / "rows.jsonl", *LEVEL_ROWS)
    out = ("--write-clean", tmp_path / "out.jsonl")
    for given, said in [
        ((), "the level gold needs --verdicts FILE, written by check_data.py published"),
        (("--verdicts", tmp_path / "absent"), "absent: no such file"),
        (("--verdicts", write(tmp_path / "none.jsonl", GOOD)), "none.jsonl:1: file_sha256: not verdicts on "),
        (
            ("--verdicts", write(tmp_path / "v.jsonl", {"file_sha256": "0" * 64})),
            "v.jsonl:1: file_sha256: not verdicts on ",
        ),
    ]:
        done = check_rows(rows, "--clean", "gold", *given, *out)
        assert (done.returncode, said in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.stderr
        assert not out[1].exists()
    assert "--clean selects what --write-clean writes" in check_rows(rows, "--clean", "gold").stderr


def test_the_data_folder_loads_with_datasets(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    lines = {path.stem: len(path.read_text("utf-8").splitlines()) for path in (ROOT / "data").glob("*.jsonl")}

    records = datasets.load_dataset(str(ROOT / "data"), cache_dir=str(tmp_path))
    assert {name: len(rows) for name, rows in records.items()} == {name: lines[name] for name in ("train", "heldout")}
    assert records["train"].column_names == list(FIELDS)

    evidence = datasets.load_dataset(str(ROOT / "data"), "evidence", split="evidence", cache_dir=str(tmp_path))
    assert len(evidence) == lines["evidence"]
    assert set(evidence["split"]) == {"train", "heldout"}
    invented = datasets.load_dataset(str(ROOT / "data"), "invented", split="invented", cache_dir=str(tmp_path))
    assert (len(invented), invented.column_names) == (lines["invented"], list(FIELDS))
    wrapped = datasets.load_dataset(str(ROOT / "data"), "invented_evidence", cache_dir=str(tmp_path))
    assert all(wrapped["invented_evidence"]["wrapper"])
    environments = datasets.load_dataset(str(ROOT / "data"), "environments", cache_dir=str(tmp_path))
    assert len(environments["environments"]) == lines["environments"]
