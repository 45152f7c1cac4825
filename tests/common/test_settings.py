"""YAML files of settings: the text of each key as it is written, and where; what is not such a file is one line."""

from __future__ import annotations

import argparse
import os
import threading

import pytest

from common.errors import InputError
from common.settings import flag_value, read_yaml


def read(tmp_path, content: str | bytes) -> dict[str, object]:
    path = tmp_path / "c.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return {setting.key: setting.value for setting in read_yaml(str(path))}


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        (
            "a: no\nb: 0x10\nc: 2024-01-01\nd: 1e-4\ne: true",
            {"a": "no", "b": "0x10", "c": "2024-01-01", "d": "1e-4", "e": "true"},
        ),
        ("a: null\nb: ~\nc:\nd: 'null'", {"a": None, "b": None, "c": None, "d": "null"}),
        ("a: [x, 1, no]\nb: {x: 1, y: no}", {"a": ["x", "1", "no"], "b": {"x": 1, "y": False}}),
        ("1: x\nno: y", {"1": "x", "no": "y"}),
        (b"\xef\xbb\xbfa: 1", {"a": "1"}),  # a byte order mark
        ("a: 1\r\nb: 2\r\n", {"a": "1", "b": "2"}),
        ("a: é\nb: '½'", {"a": "é", "b": "½"}),
        ("a: &x 5\nb: *x", {"a": "5", "b": "5"}),
        ("a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
    ],
)
def test_what_is_read(tmp_path, content, settings):
    assert read(tmp_path, content) == settings


def test_merged_keys_do_not_count_as_repeated(tmp_path):
    (tmp_path / "c.yaml").write_text("a: &x {b: 1, c: 2}\n<<: *x\nb: 3\n")
    assert {s.key: (s.value, s.where[-1]) for s in read_yaml(str(tmp_path / "c.yaml"))} == {
        "a": ({"b": 1, "c": 2}, "1"),
        "b": ("3", "3"),
        "c": ("2", "1"),
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "c.yaml: expected a mapping of keys to values"),
        ("# a comment\n", "c.yaml: expected a mapping of keys to values"),
        ("null", "c.yaml: expected a mapping of keys to values"),
        ("text", "c.yaml: expected a mapping of keys to values"),
        ("- a\n", "c.yaml: expected a mapping of keys to values"),
        ("a: 1\nb: 2\na: 3", "c.yaml:3: a: given already in line 1"),
        ("a:\t1\n\tb: 2", "c.yaml: not YAML: "),
        ("a: *x", "c.yaml: not YAML: found undefined alias 'x'"),
        ("a: !!python/object:os.system x", "c.yaml: not YAML: could not determine a constructor"),
        ("a: 1\n---\nb: 2", "c.yaml: not YAML: expected a single document"),
        ("a: \x07", "c.yaml: not YAML: unacceptable character"),
        ("种子: 1".encode("gbk"), "c.yaml: not UTF-8: "),
        (b"\x1f\x8b\x08\x00", "c.yaml: not UTF-8: "),
        ("a: " + "[" * 3000, "c.yaml: nested too deeply"),
        ("a: " + "9" * 5000, "c.yaml: not YAML: Exceeds the limit (4300 digits)"),
        ("a: 2026-13-45", "c.yaml: not YAML: month must be in 1..12"),
        ("a: 1\n[b]: 1", "c.yaml:2: a key is not a single value"),
        ("a: 1\n<<: {{b: 1}: 1}", "c.yaml:2: a key is not a single value"),
    ],
)
def test_what_is_refused_in_one_line(tmp_path, content, message):
    with pytest.raises(InputError) as stopped:
        read(tmp_path, content)
    assert message in str(stopped.value)
    assert "\n" not in str(stopped.value)


def test_settings_may_come_from_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    threading.Thread(target=lambda: (tmp_path / "pipe").write_text("a: 1"), daemon=True).start()
    assert [setting.value for setting in read_yaml(str(tmp_path / "pipe"))] == ["1"]


def test_a_missing_file_is_named_with_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"^absent\.yaml: no such file in {tmp_path}$"):
        read_yaml("absent.yaml")
    with pytest.raises(InputError, match=rf"^{tmp_path}: is a folder; expected a file$"):
        read_yaml(str(tmp_path))


@pytest.mark.parametrize(
    ("flag", "content", "value"),
    [
        ({"type": int}, "x: 3", 3),
        ({"type": int}, "x: 3.0", "invalid int value: '3.0'"),
        ({"type": int}, "x: [3]", "expected one value, got ['3']"),
        ({"type": int, "nargs": "+"}, "x: [3, 4]", [3, 4]),
        ({"type": int, "nargs": "+"}, "x: 3", [3]),
        ({"type": int, "nargs": "+"}, "x: [3, no]", "invalid int value: 'no'"),
        ({"type": int, "nargs": "+"}, "x: [3, null]", "expected a list of single values, got ['3', None]"),
        ({"choices": ["no", "all"]}, "x: no", "no"),
        ({"choices": ["no", "all"]}, "x: some", "invalid choice: 'some'"),
        ({"action": "store_true"}, "x: Off", False),
        ({"action": "store_true"}, "x: maybe", "expected true or false, got 'maybe'"),
    ],
)
def test_a_setting_is_checked_as_its_flag_is(tmp_path, flag, content, value):
    parser = argparse.ArgumentParser()
    action = parser.add_argument("--x", **flag)
    (tmp_path / "c.yaml").write_text(content)
    [setting] = read_yaml(str(tmp_path / "c.yaml"))
    try:
        assert flag_value(parser, action, setting) == value
    except InputError as error:
        assert f"c.yaml:1: x: {value}" in str(error)
