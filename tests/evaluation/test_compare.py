"""The comparison of results with rewards, worked out by hand; by execution: test_score.py and test_migration.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import run_script

import score
from common.errors import InputError
from common.estimates import mean_and_error
from evaluation.compare import compare, conclusion, paired
from evaluation.results import read_result

NAMES = ("reward", "format_rate", "es_star", "em", "is_copy")


def write_result(folder: Path, rewards: list[float], **made: object) -> Path:
    """A results.json of --no-run: these rewards of the records a, b, …; everything else is 0."""
    tasks = {name: dict.fromkeys(NAMES, 0.0) | {"reward": value} for name, value in zip("abcd", rewards, strict=False)}
    values = {name: mean_and_error([task[name] for task in tasks.values()]) for name in NAMES}
    result = {
        **{"benchmark": "migration", "problems": len(tasks), "samples_per_problem": 4, "tasks": tasks},
        **{"rewards": values, "copy_baseline": {name: {"mean": 1.0, "standard_error": 0.25} for name in NAMES}},
        "samples": {"sha256": "x", "made": {"sampling": {"temperature": 1.0, "seed": 42}, **made}},
        "data": {"d": {"sha256": "x"}},
    }
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(result))
    return folder


INTERVAL = {"mean": 0.0, "low": 0.0, "high": 0.0}
EXECUTED = {"scores": {"pass@1": INTERVAL}, "tasks": {name: {"n": 1, "passed": 0} for name in "ab"}}


def test_paired_differences_and_their_conclusion(tmp_path):
    before, after = (read_result(write_result(tmp_path / n, v)) for n, v in (("x", [0.0, 1.0]), ("y", [1.0, 3.0])))
    # differences 1 and 2: mean 1.5, error sqrt(0.5 / 2) = 0.5: three standard errors.
    gain = paired(before, after, "reward")
    assert gain == {"mean": 1.5, "standard_error": pytest.approx(0.5)}
    assert conclusion("grpo", gain, 205) == "grpo raised the held-out reward by 1.50 ± 0.50: 3.0 standard errors."
    assert "does NOT show" in conclusion("grpo", {"mean": 0.5, "standard_error": 0.5}, 205)
    assert "LOWERED" in conclusion("grpo", {"mean": -1.5, "standard_error": 0.5}, 205)
    assert "does NOT show" in conclusion("grpo", {"mean": 0.0, "standard_error": 0.0}, 205)  # an adapter did not move
    for error in (0.0, 0.0007):
        assert conclusion("grpo", {"mean": -1.0, "standard_error": error}, 10).endswith(
            ": more than 100 standard errors."
        )
    few = "grpo changed the held-out reward by -1.00: 9 records do not show that it learned."
    assert conclusion("grpo", {"mean": -1.0, "standard_error": 0.0007}, 9) == few


def test_a_table_of_three_results(tmp_path):
    """sft - base would be 0 and 1; grpo - sft, the last two, is 1 and 2."""
    folders = [
        write_result(tmp_path / name, values)
        for name, values in (("base", [0.0, 0.0]), ("sft", [0.0, 1.0]), ("grpo", [1.0, 3.0]))
    ]
    done = run_script("score.py", "--compare", *folders, "--out", tmp_path / "summary.md")
    text = (tmp_path / "summary.md").read_text()
    assert done.stdout == f"{text}\n{tmp_path / 'summary.md'}\n"
    assert text.splitlines()[:8] == [
        "2 held-out records x 4 samples, temperature 1.0, seed 42; ± is the standard error over records.",
        "Only 2 problems: too few for a standard error or an interval to hold.",
        "",
        "| result            | reward      | format rate | ES*         | EM          | copies old  |",
        "| ---               | ---         | ---         | ---         | ---         | ---         |",
        "| base              | 0.00 ± 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 |",
        "| sft               | 0.50 ± 0.50 | 0.00 ± 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 |",
        "| grpo              | 2.00 ± 1.00 | 0.00 ± 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 |",
    ]
    assert text.splitlines()[8].startswith("| copy the old code | 1.00 ± 0.25 |")
    assert "\ngrpo changed the held-out reward by 1.50: 2 records do not show that it learned.\n" in text
    assert "\nIts parts: format rate 0.00 ± 0.00, ES* 0.00 ± 0.00.\n" in text


def test_a_different_number_of_samples_is_reported(tmp_path):
    four, two = write_result(tmp_path / "four", [0.0, 1.0]), write_result(tmp_path / "two", [0.0, 1.0])
    result = json.loads((two / "results.json").read_text()) | {"samples_per_problem": 2}
    (two / "results.json").write_text(json.dumps(result))
    assert "\nThey have different numbers of samples per problem: 4, 2.\n" in compare([four, two])
    assert "different numbers" not in compare([four, write_result(tmp_path / "also four", [0.0, 1.0])])


def test_what_cannot_be_compared(tmp_path):
    before = write_result(tmp_path / "a", [0.0, 1.0])
    with pytest.raises(InputError, match="are not of the same problems"):
        compare([before, write_result(tmp_path / "b", [0.0, 1.0, 2.0])])
    executed = json.loads((before / "results.json").read_text()) | {"rewards": {}, **EXECUTED}
    (tmp_path / "results.json").write_text(json.dumps(executed))
    with pytest.raises(InputError, match="one was run, the other was scored with --no-run"):
        compare([before, tmp_path])
    (tmp_path / "results.json").write_text(json.dumps(executed | {"problems": "two"}))
    with pytest.raises(InputError, match=r"results\.json: problems: input should be a valid integer$"):
        compare([before, tmp_path])


def test_other_sampling_is_named(tmp_path):
    before = write_result(tmp_path / "a", [0.0, 1.0])
    after = write_result(tmp_path / "b", [0.0, 1.0], docs=False)
    assert compare([before, after]).splitlines()[2] == "They were drawn with a different docs."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": {}}, "no tasks, or neither scores nor rewards"),
        ({"tasks": {}}, "no tasks, or neither scores nor rewards"),
        ({"tasks": {"a": 3}}, "tasks.a: input should be a valid dictionary"),
        ({"tasks": {"a": {}}}, "tasks.a: n and passed do not give a pass@1"),
        ({"tasks": {"a": {"n": "1", "passed": 0}}}, "tasks.a: n and passed do not give a pass@1"),
        ({"tasks": {"a": {"n": 0, "passed": 0}}}, "tasks.a: n and passed do not give a pass@1"),
        ({"tasks": {"a": {"n": 1, "passed": 2}}}, "tasks.a: n and passed do not give a pass@1"),
        ({"tasks": {"a": {"n": float("nan"), "passed": 0}}}, "tasks.a: n and passed do not give a pass@1"),
        ({"tasks": {"a": {"n": 1, "passed": 0, "update": ["x"]}}}, "tasks.a.update: missing or of another type"),
        ({"scores": {"pass@9": INTERVAL}}, "tasks.a: n and passed do not give a pass@9"),
        ({"scores": {"pass@x": INTERVAL}}, "scores.pass@x: expected a name such as pass@1"),
        (
            {"scores": {"pass@1": {"mean": 1.0}}},
            "scores.pass@1: expected a name such as pass@1, and mean, low and high",
        ),
        ({"scores": {"pass@1": {**INTERVAL, "mean": None}}}, "scores.pass@1: expected a name"),
        ({"scores": {"upass@1": INTERVAL}}, "scores: no pass@k"),
        ({"scores": None}, "scores: input should be a valid dictionary"),
        ({"measures": {"em": {}}}, "tasks.a.em: missing or of another type"),
        ({"rewards": {"reward": {"mean": 1.0}}}, "tasks.a.reward: missing or of another type"),
        ({"samples": {"sha256": "x", "made": {"sampling": 3}}}, "samples.made.sampling: not a JSON object"),
        ({"samples": None}, "samples: input should be a valid dictionary"),
    ],
)
def test_a_damaged_result_is_named(tmp_path, change, message):
    folder = write_result(tmp_path / "a", [0.0, 1.0])
    result = json.loads((folder / "results.json").read_text()) | {"rewards": {}, "copy_baseline": {}} | EXECUTED
    (folder / "results.json").write_text(json.dumps(result | change))
    with pytest.raises(InputError) as error:
        compare([folder, folder])
    assert str(error.value).startswith(f"{folder / 'results.json'}: {message}")


def test_a_result_with_rewards_that_lacks_one(tmp_path):
    folder = write_result(tmp_path / "a", [0.0, 1.0])
    result = json.loads((folder / "results.json").read_text())
    for part, message in (("rewards", "rewards.em: expected mean"), ("copy_baseline", "copy_baseline.em: expected")):
        without = {name: value for name, value in result[part].items() if name != "em"}
        (folder / "results.json").write_text(json.dumps({**result, part: without}))
        with pytest.raises(InputError, match=message):
            compare([folder, folder])


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[]", b'{"a":' * 50_000, b"\x1f\x8b", b'{"a": "\xe9"}', b"9" * 5000]
)
def test_a_result_that_is_not_json(tmp_path, content):
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(InputError) as error:
        compare([tmp_path, tmp_path])
    assert str(error.value).startswith(f"{tmp_path / 'results.json'}: ")


def test_the_file_of_a_comparison_is_tried_first(tmp_path, stops):
    (tmp_path / "file").touch()
    line = stops(score.main, "--compare", "absent", "absent", "--out", tmp_path / "file" / "summary.md")
    assert "file/summary.md: cannot be written: " in line
    line = stops(score.main, "--compare", "absent", "absent", "--out", tmp_path)
    assert "is a folder; expected a file to write" in line
