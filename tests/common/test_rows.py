"""What is read from files: their kinds, and JSON that Python's own functions could not handle."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import threading
from pathlib import Path

import pytest

from common.errors import InputError
from common.files import read_json, read_jsonl, replacing, require_writable, write_text
from common.rows import loads, nesting, read_rows, read_text, resolve

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


def test_paths_that_are_not_files(tmp_path):
    for path, message in ((tmp_path, "is a folder; expected a file"), (tmp_path / "absent", "no such file")):
        for read in (resolve, read_text, read_jsonl):
            with pytest.raises(InputError, match=f"{path}: {message}$"):
                read(path)
    long = tmp_path / ("x" * 300)
    with pytest.raises(InputError, match="File name too long"):
        read_text(long)


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
