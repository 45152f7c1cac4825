"""What a crash leaves of a file."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from common.errors import InputError
from common.files import (
    append_jsonl,
    drop_after,
    numbered_jsonl,
    read_json,
    read_jsonl,
    read_log,
    replacing,
    write_json,
    write_jsonl,
    write_text,
)
from common.run_logs import Rollout, cut_logs, frame, write_rollouts


def test_logs_are_cut_to_the_resumed_step_and_survive_a_truncated_line(tmp_path):
    log = tmp_path / "metrics.jsonl"
    append_jsonl(log, *({"step": step} for step in (1, 2, 3)))
    with open(log, "a") as file:
        file.write('{"step": 4, "rew')  # killed while writing
    assert [row["step"] for row in read_jsonl(log)] == [1, 2, 3]
    drop_after(log, 2)
    assert log.read_text() == '{"step": 1}\n{"step": 2}\n'
    log.write_text('{"broken\n{"step": 1}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl:1: not JSON"):
        read_jsonl(log)


@pytest.mark.parametrize("step", ['"a"', "null", "[1]", "true"])
def test_a_log_whose_steps_are_not_numbers_is_not_cut(tmp_path, step):
    log = tmp_path / "metrics.jsonl"
    log.write_text(f'{{"step": 1}}\n{{"step": {step}}}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl:2: step: not a number$"):
        cut_logs(tmp_path, 2)
    assert len(log.read_text().splitlines()) == 2


def test_half_of_a_surrogate_pair_is_written_as_its_escape(tmp_path):
    """UTF-8 has no bytes for it; programs that models write raise exceptions with it. A backslash before it stays."""
    rows = [{"half of an emoji": "\ud83d \x1b[31m é 😀"}, {"\\\ude00": ["\\\udfff"]}]
    write_jsonl(tmp_path / "rows.jsonl", rows[:1])
    append_jsonl(tmp_path / "rows.jsonl", rows[1])
    assert read_jsonl(tmp_path / "rows.jsonl") == read_log(tmp_path / "rows.jsonl") == rows
    text = (tmp_path / "rows.jsonl").read_text("utf-8")
    assert text.startswith('{"half of an emoji": "\\ud83d \\u001b[31m é 😀"}\n')
    write_json(tmp_path / "a.json", rows)
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == rows
    write_text(tmp_path / "a.md", "| \ud83d |\n")
    assert (tmp_path / "a.md").read_bytes() == b"| \\ud83d |\n"


def test_rollouts_take_any_text(tmp_path):
    rollout = Rollout(1, "r1", 0, "x = '\ud83d'\x1b[31m", "x = '😀'\n", {"es": 1.0}, None, "ok")
    write_rollouts(tmp_path, [rollout])
    assert read_jsonl(tmp_path / "rollouts.jsonl")[0]["completion"] == rollout.completion
    shown = frame(rollout).encode("utf-8").decode("utf-8").split("\n")
    assert (shown[1], shown[3]) == ("x = '\\ud83d'\\x1b[31m", "x = '😀'")


def test_a_resume_cuts_the_logs(tmp_path):
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        append_jsonl(tmp_path / name, *({"step": step} for step in (1, 2, 3)))
    cut_logs(tmp_path, 2)
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        assert [row["step"] for row in read_jsonl(tmp_path / name)] == [1, 2]


def test_a_resume_without_logs_writes_none(tmp_path):
    cut_logs(tmp_path, 2)
    assert not list(tmp_path.iterdir())


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int = 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"size": "x"}', "shape.json: size: input should be a valid integer"),
        ('{"size": null}', "shape.json: size: input should be a valid integer"),
        ("[1]", "shape.json: input should be a valid dictionary$"),
        ('{"size": 1', "shape.json: not JSON: Expecting ',' delimiter: line 1 column 11"),
        ("", "shape.json: the file is empty$"),
        (" \n\n", "shape.json: the file is empty$"),
        ("[" * 2000 + "]" * 2000, "shape.json: not JSON: nested too deeply: at most 100 levels$"),
        ('{"a\\n\\u001b": 1}', r"shape.json: a\\n\\x1b: extra inputs are not permitted$"),
    ],
)
def test_a_json_file_that_does_not_fit_is_named_with_its_field(tmp_path, content, message):
    (tmp_path / "shape.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_json(tmp_path / "shape.json", Shape)
    (tmp_path / "shape.json").write_text('{"size": 3}')
    assert read_json(tmp_path / "shape.json", Shape) == Shape(size=3)


def test_json_is_replaced_whole(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {("no", "key"): 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}


def test_a_program_that_continues_a_log_repairs_its_truncated_line(tmp_path):
    """Otherwise the next row would be appended to the truncated one, and both would be lost."""
    log = tmp_path / "log.jsonl"
    assert read_log(log) == []
    for cut in ('{"id": "b", "ru', '{"id": "b"}'):  # the second: cut between the row and its newline
        log.write_text('{"id": "a"}\n' + cut)
        rows = read_log(log)
        append_jsonl(log, {"id": "c"})
        assert read_jsonl(log) == [*rows, {"id": "c"}]
        assert [row["id"] for row in rows] == (["a"] if cut.endswith("ru") else ["a", "b"])
    log.write_text('{"id"')
    assert (read_log(log), log.read_text()) == ([], "")


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none()), max_size=4), st.data())
def test_a_log_that_was_cut_anywhere_keeps_its_whole_lines(rows, data):
    """Also inside a character: logs hold text as it is, not escaped."""
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        append_jsonl(log, *rows)
        whole = log.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        log.write_bytes(whole[:cut])
        kept = rows[: whole[: cut + 1].count(b"\n")]  # a line that lacks its newline alone is whole
        assert read_jsonl(log) == read_log(log) == kept
        append_jsonl(log, {"next": "é"})
        assert read_jsonl(log) == [*kept, {"next": "é"}]


@pytest.mark.parametrize("content", [b"my notes", b"PAR1\x15\x04\xff", b'{"a": 1}\nnotes'])
def test_a_file_that_is_not_a_log_is_not_repaired(tmp_path, content):
    (tmp_path / "log.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=r"not a log: its last line is not JSON|a Parquet file; expected UTF-8 text"):
        read_log(tmp_path / "log.jsonl")
    assert (tmp_path / "log.jsonl").read_bytes() == content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": 1}\n[1]\n', r"log.jsonl:2: not a JSON object$"),
        (b'{"a": 1}\n\xff\n', r"log.jsonl:2: not JSON: "),
        (
            b'{"a": 1%s}\n{"b": 1}\n' % (b"0" * 5000),
            r"log.jsonl:1: not JSON: ",
        ),  # more digits than int takes
        (b'{"a": %s}\n{"b": 1}\n' % (b"[" * 100_000), r"log.jsonl:1: not JSON: "),
    ],
)
def test_what_is_not_a_log(tmp_path, content, said):
    (tmp_path / "log.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_log(tmp_path / "log.jsonl")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"a": 1}])
    with pytest.raises(KeyboardInterrupt), replacing(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == '{"a": 1}\n'
    write_jsonl(path, [])  # the .part file of an interruption does not matter
    assert (path.read_text(), list(tmp_path.iterdir())) == ("", [path])


def test_the_lines_of_a_file_are_those_of_an_editor(tmp_path):
    """Blank lines count, so that a message names the line where its row is."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\n{"a": 1}\r\n\n \n{"a": 2}\n')
    assert numbered_jsonl(path) == [(2, {"a": 1}), (5, {"a": 2})]
    assert read_jsonl(path) == [{"a": 1}, {"a": 2}]
