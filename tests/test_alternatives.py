"""The key `alternatives`: a record with several right targets, in the rewards and in both trainers' rows."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from conftest import TINY_ROWS
from transformers import AutoTokenizer

import diff_match
import rewards
from common.alternatives import read_alternatives
from common.errors import InputError
from prompts import chat_of, reference_completion
from records import load_records
from trl_training.data import prompt_rows
from verl_training.parquet import row

OLD, TARGET, OTHER = "f(a)", "f(a, x=1, y=2)", "f(a, y=2, x=1)"
ANSWERS = [reference_completion(code) for code in (TARGET, OTHER, OLD)] + ["no tags"]


def test_the_best_of_the_targets_counts():
    """`f(a, y=2, x=1)` differs from the target in 4 of 14 characters (x, 1, y and 2 change places), the old code lacks
    10: ES* 3.5 x 10/14 - 1.5 = 1 and 3.5 x 4/14 - 1.5 = -0.5."""
    columns = {"target": [TARGET] * 4, "old_code": [OLD] * 4}
    assert rewards.es_star(ANSWERS, **columns) == pytest.approx([2.0, 1.0, -0.5, -2.0])
    both = {**columns, "alternatives": [[OTHER]] * 4}
    assert rewards.es_star(ANSWERS, **both) == pytest.approx([2.0, 2.0, -0.5, -2.0])
    assert rewards.em_star(ANSWERS, **both) == [2.0, 2.0, -1.5, -2.0]
    assert rewards.es_star(ANSWERS, **{**columns, "alternatives": [[]] * 4}) == rewards.es_star(ANSWERS, **columns)
    assert diff_match.dm_star(ANSWERS, **columns)[1] < 2.0
    assert diff_match.dm_star(ANSWERS, **both) == [2.0, 2.0, -1.5, -2.0]
    # an old code that equals an alternative says nothing about the target
    assert diff_match.best_match(TARGET, OLD, [TARGET, OLD]) == 2.0


@pytest.mark.parametrize("entry", [rewards.compute_score, diff_match.compute_score])
def test_verl_s_entries_read_them_from_the_row(entry):
    about = {"old_code": OLD}
    assert entry("recode", ANSWERS[1], TARGET, about, reward="format,es_star")["score"] == pytest.approx(2.0)
    assert (
        entry("recode", ANSWERS[1], TARGET, about | {"alternatives": [OTHER]}, reward="format,es_star")["score"] == 3.0
    )


def test_the_rows_of_both_trainers(tmp_path, random_model):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in TINY_ROWS))
    records = load_records(path)
    lines = [{"id": record.id, "update": "u"} for record in records]
    lines[0]["alternatives"] = [OTHER]
    (tmp_path / "evidence.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    chat = chat_of(AutoTokenizer.from_pretrained(random_model))
    args = SimpleNamespace(data=str(path), max_prompt_length=2048, max_target_length=None, prompt="paper")
    assert "alternatives" not in prompt_rows(records, chat, args)[0]
    rows = prompt_rows(records, chat, SimpleNamespace(**vars(args), alternatives=True))
    assert [one["alternatives"] for one in rows] == [[OTHER], *([[]] * (len(records) - 1))]
    found = read_alternatives(str(path))
    assert row(records[0], 0, "train", others=found)["extra_info"]["alternatives"] == [OTHER]
    assert "alternatives" not in row(records[0], 0, "train")["extra_info"]


def test_evidence_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"alternatives: .*evidence\.jsonl: no such file"):
        read_alternatives(str(tmp_path / "rows.jsonl"))
    (tmp_path / "evidence.jsonl").write_text('{"id": "a", "alternatives": "f(a)"}\n')
    with pytest.raises(InputError, match=r"evidence\.jsonl:1: alternatives: "):
        read_alternatives(str(tmp_path / "rows.jsonl"))
    with pytest.raises(InputError, match="has no evidence"):
        read_alternatives("hf://datasets/some/rows")
