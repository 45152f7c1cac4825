"""The training rewards of held-out answers (--no-run), worked out by hand; which records are asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import run_script
from mini_migration import PROOFS, SCALE, SUM, sample_rows, write

from evaluation.migration.training_rewards import parts

ANSWER = "ok </think>\n<answer>\n```python\n{}\n```\n</answer>"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The records alone: without the evidence that executing needs."""
    path = write(tmp_path_factory.mktemp("mini"))
    path.with_name("evidence.jsonl").unlink()
    return path


def score(*args: object, check: bool = True):
    return run_script("score.py", "--no-run", *args, check=check)


def result_of(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_one_completion():
    right = parts(ANSWER.format(SUM.new_code), SUM)
    assert right == {"format_rate": 1.0, "es_star": 2.0, "em": 1.0, "reward": 3.0, "is_copy": 0.0}
    # "import gizmo\nbill = gizmo.tally([1, 2])" has 13 + 26 characters; from total to tally it is 4 edits.
    similar = 3.5 * (1 - 4 / 39) - 1.5
    copy = parts(ANSWER.format(SUM.old_code), SUM)
    assert copy == pytest.approx(
        {"format_rate": 1.0, "es_star": similar, "em": 0.0, "reward": 1 + similar, "is_copy": 1.0}
    )
    nothing = parts("I do not know.", SUM)
    assert nothing == {"format_rate": 0.0, "es_star": -2.0, "em": 0.0, "reward": -3.0, "is_copy": 0.0}


def test_the_sixteen_answers(data, tmp_path):
    """Of four answers to each record: exact 1, 1, 1, 1; copies 1, 0, 1, 1; well formed 4, 4, 4, 3.

    Copies: mean 3/16; deviations 1/16 three times and -3/16, squares 12/256, variance 4/256, error sqrt(1/256) = 1/16.
    Well formed: mean 15/16, the same deviations.
    """
    samples = tmp_path / "samples.jsonl"
    samples.write_text("".join(json.dumps(row) + "\n" for row in sample_rows()))
    score("--benchmark", "migration", "--data", data, "--samples", samples, "--out", tmp_path / "out")
    result = result_of(tmp_path / "out")
    assert result["rewards"]["em"] == {"mean": 0.25, "standard_error": 0.0}
    assert result["rewards"]["is_copy"] == pytest.approx({"mean": 3 / 16, "standard_error": 1 / 16})
    assert result["rewards"]["format_rate"] == pytest.approx({"mean": 15 / 16, "standard_error": 1 / 16})
    assert (result["problems"], result["samples_per_problem"], result["rates"]) == (4, 4, {"truncated": 1 / 16})
    assert "scores" not in result
    # scale: the target has 44 characters; a copy lacks 10 of them, the positional form 7, one answer has no code.
    mine = [3.5 * 34 / 44 - 1.5, -2, 2, 3.5 * 37 / 44 - 1.5]
    assert result["tasks"][SCALE.id]["es_star"] == pytest.approx(sum(mine) / 4)
    assert result["tasks"][SCALE.id]["reward"] == pytest.approx((sum(mine) + 3 - 1) / 4)
    verdicts = [json.loads(line) for line in (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()]
    assert [(row["task_id"], row["sample_id"]) for row in verdicts] == [(r.id, i) for r in PROOFS for i in range(4)]
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| returns the old code" in table
    assert "0.19 ± 0.06" in table
    assert "6.2 % cut at the length limit; nothing was executed." in table


def test_a_copy_of_the_old_code_is_the_baseline(tiny_data, tmp_path):
    """ "area = np.trapz(area)" to trapezoid: 4 edits over 18 + 1 + 25 = 44 characters; the names have 4, 5, 5, 4
    letters, each twice: 44, 46, 46, 44. ES* = 3.5 * (1 - 4/n) - 1.5, averaged."""
    samples = tmp_path / "copy.jsonl"
    run_script("generate.py", "--benchmark", "migration", "--data", tiny_data, "--copy", "--out", samples)
    score("--samples", samples, "--out", tmp_path / "out")
    result = result_of(tmp_path / "out")
    assert result["rewards"] == result["copy_baseline"]
    assert result["rewards"]["format_rate"] == {"mean": 1.0, "standard_error": 0.0}
    assert (result["rewards"]["em"]["mean"], result["rewards"]["is_copy"]["mean"]) == (0.0, 1.0)
    expected = sum(3.5 * (1 - 4 / n) - 1.5 for n in (44, 46, 46, 44)) / 4
    assert result["rewards"]["es_star"]["mean"] == pytest.approx(expected)
    refused = score("--samples", samples, "--out", tmp_path / "one", "--limit", 1, check=False)
    assert "--no-run needs at least 2 records for a standard error" in refused.stderr


def test_the_records_with_short_targets(data, random_model, tmp_path):
    """By id, the first two whose target is not the longest; scored without naming them again."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(random_model)
    sizes = {record.id: len(tokenizer(record.new_code, add_special_tokens=False)["input_ids"]) for record in PROOFS}
    longest = max(sizes.values())
    expected = sorted(identity for identity, size in sizes.items() if size < longest)[:2]
    samples = tmp_path / "samples.jsonl"
    command = ["generate.py", "--benchmark", "migration", "--data", data, "--model", random_model, "--out", samples]
    command += ["--samples", 2, "--max-new-tokens", 4, "--dtype", "float32", "--limit", 2]
    run_script(*command, "--max-target-tokens", longest - 1)
    found = [json.loads(line)["task_id"] for line in samples.read_text().splitlines()]
    assert sorted(found) == sorted(expected * 2)
    refused = run_script(*command, "--max-target-tokens", longest, check=False)
    assert "holds samples with another --max-target-tokens" in refused.stderr
    refused = run_script(*command, "--max-target-tokens", 1, check=False)
    assert "--max-target-tokens 1: no reference is that short" in refused.stderr
    score("--samples", samples, "--out", tmp_path / "out")
    result = result_of(tmp_path / "out")
    assert result["tasks"].keys() == set(expected)
    assert result["rewards"]["reward"] == {"mean": -3.0, "standard_error": 0.0}
    assert result["mean_tokens"] <= 4
