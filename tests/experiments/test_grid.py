"""The file of a study: which runs it has, in which order, and the mistakes that it can hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import InputError
from experiments.grid import choose, read_study, runs_of

ROOT = Path(__file__).parents[2]
STUDY = """
model: base
configs: {sft: sft.yaml, grpo: grpo.yaml}
data: {ours: train.jsonl, published: rows.jsonl}
runs:
  - {method: untrained}
  - {method: sft, data: ours, seeds: [1]}
  - {method: grpo, data: published, reward: [format, es_star], seeds: [1, 2]}
  - {method: grpo, data: ours, reward: [format, es_star, dm_star], weights: [1, 0.5, 0.5], seeds: [3]}
evaluation: eval.yaml
measures: {migration: --benchmark migration}
"""


def write(folder: Path, text: str) -> Path:
    (folder / "study.yaml").write_text(text)
    return folder / "study.yaml"


def test_the_first_seed_of_every_entry_comes_before_the_second_of_any(tmp_path):
    assert [run.name for run in runs_of(read_study(write(tmp_path, STUDY)))] == [
        "untrained",
        "sft-ours-1",
        "grpo-es_star-published-1",
        "grpo-0.5xes_star+0.5xdm_star-ours-3",
        "grpo-es_star-published-2",
    ]


def test_the_example_of_the_docs(tmp_path):
    text = (ROOT / "docs" / "study.md").read_text()
    study = read_study(write(tmp_path, text.split("```yaml\n")[1].split("```")[0]))
    names = ["untrained", "grpo-es_star-mine-42", "grpo-0.5xes_star+0.5xdm_star-mine-42", "grpo-es_star-mine-43"]
    assert [run.name for run in runs_of(study)] == names


def test_patterns_choose_names():
    names = ["untrained", "sft-ours-1", "grpo-dm_star-ours-1"]
    assert choose(names, [], "--only") == names
    assert choose(names, ["grpo-*", "untrained"], "--only") == ["untrained", "grpo-dm_star-ours-1"]
    with pytest.raises(InputError) as error:
        choose(names, ["dapo-*"], "--only")
    assert str(error.value) == f"--only dapo-*: expected one of {', '.join(names)}, or a pattern of them"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("data: ours, seeds: [1]", "data: mine, seeds: [1]", "runs: data 'mine': expected one of ours, published"),
        ("{method: sft,", "{method: dapo, reward: [format],", "configs: none for dapo"),
        ("{method: untrained}", "{method: untrained, data: ours}", "runs.0: data: untrained has no training data"),
        ("{method: sft, data: ours,", "{method: sft,", "runs.1: data: sft needs training data"),
        ("{method: sft,", "{method: sft, reward: [es],", "runs.1: reward: sft has no reward"),
        ("reward: [format, es_star],", "", "runs.2: reward: grpo needs a reward"),
        (
            "weights: [1, 0.5, 0.5]",
            "weights: [1]",
            "runs.3: weights: expected one for each of format, es_star, dm_star",
        ),
        ("reward: [format, es_star],", "reward: [es_star],", "runs.2: reward: format is missing"),
        (
            "{migration: --b",
            "{train: --b",
            "measures: 'train': expected letters, digits, dots and dashes, and not train",
        ),
        ("{ours: train.jsonl,", "{a/b: x.jsonl, ours: train.jsonl,", "data: 'a/b': expected letters, digits, dots and"),
        (
            "{method: sft, data: ours,",
            "{method: dapo, reward: [format, dm_star, execution], data: ours,",
            "runs.1: reward: verl reads one file of rewards: dm_star or execution",
        ),
        ("grpo: grpo.yaml", "dapo: dapo.yaml", "configs: none for grpo"),
        ("seeds: [1, 2]", "seeds: [1, 1]", "runs: grpo-es_star-published-1 is there twice"),
        ("seeds: [1, 2]", "seeds: []", "runs.2.seeds: List should have at least 1 item after validation, not 0"),
        ("seeds: [1, 2]", "seed: 1", "runs.2.seed: Extra inputs are not permitted"),
        ("model: base", "model: 7", "model: Input should be a valid string"),
        ("evaluation: eval.yaml", "evaluation: [", "not YAML: "),
    ],
)
def test_a_mistake_is_one_line_with_its_key(tmp_path, old, new, message):
    assert old in STUDY
    path = write(tmp_path, STUDY.replace(old, new))
    with pytest.raises(InputError) as error:
        read_study(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_study(tmp_path / "none.yaml")


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_the_studies_of_configs_name_files_that_exist(scale):
    study = read_study(ROOT / "configs" / "study" / f"{scale}.yaml")
    for path in (*study.configs.values(), study.evaluation, study.data["ours"]):
        assert (ROOT / path).is_file(), path
    assert study.data["published"].startswith("hf://datasets/zjunlp/ReCode-Train-Data@")
