"""What is read from files: their kinds, and JSON that Python's own functions could not handle."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import re
import threading
from functools import partial
from pathlib import Path

import pytest

from common.errors import InputError
from common.files import read_json, read_jsonl, replacing, require_writable, write_text
from common.rows import loads, nesting, read_rows, read_text, resolve
from curation.similarity import read_snippets
from evaluation.arena.problems import load_tasks
from evaluation.humaneval.problems import load_functions
from evaluation.samples import read_rows as read_samples
from records import load_records

ROW = '{"a": "é"}\n'


@pytest.mark.parametrize(
    "content",
    [ROW.encode(), ROW.encode("utf-8-sig"), gzip.compress(ROW.encode(), mtime=0), ROW.replace("\n", "\r\n").encode()],
)
def test_a_byte_order_mark_gzip_and_crlf_do_not_matter(tmp_path, content):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    assert read_rows(path) == [(1, {"a": "é"})]
    assert read_jsonl(path) == [{"a": "é"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04\x14", "a zip archive; expected UTF-8 text"),
        (b"PAR1\x15", "a Parquet file; expected UTF-8 text"),
        (bz2.compress(b"{}"), "compressed with bzip2; expected UTF-8 text"),
        (ROW.encode("utf-16"), "UTF-16 text; expected UTF-8 text"),
        (b"caf\xe9", "not UTF-8: unexpected end of data at byte 3"),
        (gzip.compress(ROW.encode(), mtime=0)[:-9], "not a complete gzip file: "),
        (b"\x1f\x8b and no more", "not a complete gzip file: "),
        (b'{\n "a": 1\n}\n', "one JSON object: expected a JSON array, or one JSON object a line"),
        (b'[{"a": 1}]\n[{"a": 2}]', "2: row: the array has ended: expected one array, or one JSON object a line"),
        (ROW.encode("utf-32"), "UTF-32 text; expected UTF-8 text"),
        ('{"a": 1}'.encode("utf-16-le"), "UTF-16 or UTF-32 text; expected a JSON array, or one JSON object a line"),
        (b"dependency,old_code\nnumpy,x = 1\n", "CSV text; expected a JSON array, or one JSON object a line"),
        (b'"a";"b c"\r\n1;2\r\n', "CSV text; "),
        (b"a\tb\n1\t2\n", "CSV text; "),
        (b"a, b" * 40 + b"!\nx\n", "none of its 2 lines is JSON; "),  # no regular expression that never ends
        (b"{'a': 1}\n{'a': 2}\n", "Python dictionaries (json.dumps writes them as JSON); "),
        (b"[{'a': 1}]", "Python dictionaries (json.dumps writes them as JSON); "),
        (b"- a: 1\n  b: 2\n", "YAML text; "),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS, not the data itself"),
        (b"\n<!DOCTYPE html>\n<html>", "an HTML or XML page; "),
        (b'{"data": [{"a": 1}]}', "one JSON object, with the rows under 'data'; expected a JSON array, or"),
        (b'{\n "version": 2,\n "rows": []\n}', "one JSON object a line (jq -c '.rows[]')"),
        (
            b"root:x:0:0\nnobody:x:1:1\n",
            "none of its 2 lines is JSON; expected a JSON array, or one JSON object a line",
        ),
        (b'[{"a": 1},\n{"a": 2}', "2: row: the array is not closed: the file is truncated"),
        (b"[", "1: row: the array is not closed: the file is truncated"),
        (b"[" * 200 + b"]" * 200, "1: row: nested too deeply: at most 100 levels"),
        (b"[" * 20_000 + b"]" * 20_000, "1: row: nested too deeply: at most 100 levels"),
    ],
)
def test_a_file_of_another_kind_is_one_line_that_names_the_kind(tmp_path, content, message):
    path = tmp_path / "rows\n\x1b.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_rows(path)
    assert message in str(raised.value)


def test_paths_that_are_not_files(tmp_path, monkeypatch):
    for path, message in ((tmp_path, "is a folder; expected a file"), (tmp_path / "absent", "no such file")):
        for read in (resolve, read_text, read_jsonl):
            with pytest.raises(InputError, match=f"{path}: {message}$"):
                read(path)
    monkeypatch.chdir(tmp_path)
    for read in (resolve, read_text, read_jsonl):
        with pytest.raises(InputError, match=f"^absent: no such file in {tmp_path}$"):
            read(Path("absent"))
    with pytest.raises(InputError, match=r"^~/x: no such file: only a shell knows ~, outside of quotation marks$"):
        resolve("~/x")
    for address in ("https://huggingface.co/x.jsonl", "s3://bucket/x", "hf://owner/name", Path("https://a/b")):
        with pytest.raises(InputError, match=rf"^{address}: expected a file, or hf://datasets/OWNER/NAME"):
            resolve(address)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match=r"^absent: no such file: the current folder was removed$"):
        resolve("absent")
    monkeypatch.chdir(tmp_path)
    long = tmp_path / ("x" * 300)
    with pytest.raises(InputError, match="File name too long"):
        read_text(long)


def test_a_file_with_a_line_that_looks_like_another_kind_keeps_its_rows(tmp_path):
    (tmp_path / "rows.jsonl").write_text("a,b\n" + ROW)
    (_, first), second = read_rows(tmp_path / "rows.jsonl")
    assert isinstance(first, ValueError) and second == (2, {"a": "é"})


FUNCTION = {"task_id": "HumanEval/0", "prompt": "def f():", "entry_point": "f", "canonical_solution": "    pass"}
SAMPLE = {"task_id": "a", "sample_id": 0, "completion": "x", "code": None}
MIGRATION = {"dependency": "NumPy", "old_code": "a", "new_code": "b"}


@pytest.mark.parametrize(
    ("load", "row", "message"),
    [
        (load_tasks, FUNCTION, "holds HumanEval+ or MBPP+ problems; expected CodeUpdateArena problems"),
        (load_tasks, {"multi_id": "1"}, "holds multi-update questions; expected CodeUpdateArena problems"),
        (partial(load_tasks, skip_bad=True), MIGRATION, "holds migration records; expected CodeUpdateArena problems"),
        (partial(load_tasks, benchmark="multi"), {"prog_syn_id": "1"}, "expected multi-update questions"),
        (load_functions, MIGRATION, "holds migration records; expected HumanEval+ or MBPP+ problems"),
        (load_records, SAMPLE, "holds samples of src/generate.py; expected migration records"),
        (load_records, {"messages": []}, "holds chat messages; expected migration records"),
        (read_snippets, FUNCTION, "holds HumanEval+ or MBPP+ problems; expected migration records"),
        (read_samples, {"prog_syn_id": "1"}, "holds CodeUpdateArena problems; expected samples of src/generate.py"),
    ],
)
def test_a_file_for_another_purpose_is_named(tmp_path, load, row, message):
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n{}\n")
    with pytest.raises(InputError, match=f"rows.jsonl: .*{re.escape(message)}$"):
        load(tmp_path / "rows.jsonl")


def test_a_row_of_another_kind_among_others_is_an_error_of_its_row(tmp_path):
    whole = {**MIGRATION, "old_code": "a()", "new_version": "2.0", "description": "d", "update_info": "u"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(FUNCTION) + "\n" + json.dumps(whole))
    assert len(load_records(tmp_path / "rows.jsonl", "drop")) == 1


def test_keys_that_are_given_twice_are_known_at_every_level(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1, "a": 2, "b": {"c": {"d": 1, "d": 2}}, "e": [{"f": 1, "f": 2}]}')
    assert read_rows(tmp_path / "rows.jsonl")[0][1].repeated == ["a", "b.c.d", "e.f"]


def test_a_pipe_is_read_once_and_can_be_used_twice(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_text(ROW), daemon=True).start()
    assert read_rows(resolve(pipe)) == read_rows(resolve(pipe)) == [(1, {"a": "é"})]
    assert str(resolve(pipe)).endswith(str(pipe))  # as messages name it


def test_files_without_rows_have_none(tmp_path):
    for content in ("", "\n \n\n", "[]", "\ufeff"):
        (tmp_path / "rows.jsonl").write_text(content)
        assert read_rows(tmp_path / "rows.jsonl") == []


@pytest.mark.parametrize("depth", [101, 900, 100_000])
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_json_that_is_nested_too_deeply_is_an_error_at_every_depth(depth, opened, closed):
    with pytest.raises(ValueError, match=r"^nested too deeply: at most 100 levels$"):
        loads(opened * depth + "1" + closed * depth)


def test_json_that_is_not_too_deep():
    assert nesting(loads("[" * 100 + "]" * 100)) == 100
    assert loads(json.dumps("[" * 5000)) == "[" * 5000
    assert [nesting(value) for value in (1, "[[", [], [[], 1], {"a": [{}]})] == [0, 0, 1, 2, 3]
    with pytest.raises(ValueError, match="Exceeds the limit"):
        loads("1" * 5000)


# --- outputs ---------------------------------------------------------------------------------------------------------


def test_a_replaced_file_keeps_its_mode_and_its_link(tmp_path):
    target, link = tmp_path / "target.py", tmp_path / "link.py"
    target.write_text("old")
    target.chmod(0o750)
    link.symlink_to(target)
    write_text(link, "new")
    assert (link.is_symlink(), target.read_text(), target.stat().st_mode & 0o777) == (True, "new", 0o750)


def test_a_device_is_written_and_stays_a_device():
    write_text(Path("/dev/null"), "x")
    assert Path("/dev/null").is_char_device()


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path):
    with pytest.raises(UnicodeEncodeError), replacing(tmp_path / "a.txt") as part:
        part.write_text("\ud83d", "utf-8")
    assert not list(tmp_path.iterdir())


def test_an_output_is_tried_before_the_work(tmp_path):
    require_writable(tmp_path / "new" / "out.jsonl", tmp_path / "other.jsonl")
    assert not list(tmp_path.iterdir())
    require_writable(Path("/dev/null"))
    (tmp_path / "file").write_text("kept")
    require_writable(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
    for path, message in (
        (tmp_path, "is a folder; expected a file to write"),
        (tmp_path / "file" / "out", "cannot be written: Not a directory"),
        (Path("/proc/none/out"), "cannot be written: No such file or directory"),
        (tmp_path / ("x" * 300) / "out", "cannot be written: File name too long"),
    ):
        with pytest.raises(InputError, match=f"{path}: {message}"):
            require_writable(path)


def test_an_empty_json_file_names_itself(tmp_path):
    from pydantic import BaseModel

    (tmp_path / "run.json").write_text("")
    with pytest.raises(InputError, match=r"run\.json: the file is empty$"):
        read_json(tmp_path / "run.json", BaseModel)
