"""evidence.jsonl has one reader: what it accepts, keeps and reports."""

from __future__ import annotations

import json

import pytest
from conftest import ROOT

from common.errors import InputError
from common.files import read_jsonl
from curation.evidence import read_evidence

ROW = {"id": "a", "update": "u", "kind": "rename", "old_env": ["toylib==1.0"], "new_env": ["toylib==2.0"]}


def test_rows_are_written_as_they_were_read():
    path = ROOT / "data" / "evidence.jsonl"
    assert [json.dumps(one.to_row()) for one in read_evidence(path).values()] == list(map(json.dumps, read_jsonl(path)))


def test_unknown_fields_are_kept_and_missing_ones_not_added(tmp_path):
    path = tmp_path / "evidence.jsonl"
    path.write_text(json.dumps({**ROW, "reviewer": "me"}) + "\n")
    assert read_evidence(path)["a"].to_row() == {**ROW, "reviewer": "me"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, "id: input should be a valid string"),
        ({"update": " "}, "update: the value is empty"),
        ({"split": "test"}, "split: input should be 'train' or 'heldout'"),
        ({"check": ""}, "check: the value is empty"),
        (
            {"use": ["numpy.sum", "sum(axis)"]},
            "use.1: expected a name or a call, such as numpy.sum or DataFrame.sum(min_count=), got 'sum(axis)'",
        ),
        ({"old_env": []}, "old_env: expected a list of exact pins, such as numpy==2.0.0"),
        ({"seen": {"new_on_new": {"outcome": "ok"}}}, "seen.new_on_new.text: field required"),
        ({"wrapper": "x = 1"}, "wrapper: an invented update needs the same pins in old_env and new_env"),
        ({"wrapper": " "}, "wrapper: the value is empty"),
        ({}, "id: an earlier line has evidence for a"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path, change, message):
    path = tmp_path / "evidence.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + json.dumps({**ROW, **change}) + "\n")
    with pytest.raises(InputError) as error:
        read_evidence(path)
    assert str(error.value) == f"{path}:2: {message}"
