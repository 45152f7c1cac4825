"""The commands of a run's stages."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from common.errors import InputError
from experiments.grid import Run, Study
from experiments.stages import Machine, stages, trained_steps, with_files

STUDY = Study.model_validate(
    {
        "model": "base",
        "configs": {"sft": "configs/sft.yaml", "grpo": "configs/grpo.yaml", "dapo": "configs/dapo.yaml"},
        "data": {"ours": "train.jsonl"},
        "runs": [{"method": "untrained"}],
        "evaluation": "eval.yaml",
        "measures": {
            "migration": "--benchmark migration --data heldout.jsonl",
            "arena": "--benchmark arena --limit 2",
            "humaneval": "--benchmark humaneval",
        },
    }
)
CPU = Machine(gpus=0, envs=Path("envs"), evalplus="evalplus/python")


def commands(run: Run, study: Study = STUDY, machine: Machine = CPU) -> dict[str, list[str]]:
    """Stage -> its commands, as a shell would take them; this interpreter is written as `python`."""
    found = stages(run, study, Path("out"), machine)
    return {
        stage.name: [shlex.join(command).replace(sys.executable, "python") for command in stage.commands]
        for stage in found
    }


def test_an_untrained_model_is_only_measured():
    assert commands(Run("untrained")) == {
        "migration": [
            "python src/generate.py --config eval.yaml --benchmark migration --data heldout.jsonl --model base "
            "--out out/migration/samples.jsonl",
            "python src/score.py --samples out/migration/samples.jsonl --out out/migration --envs envs",
        ],
        "arena": [
            "python src/generate.py --config eval.yaml --benchmark arena --limit 2 --model base "
            "--out out/arena/samples.jsonl",
            "python src/score.py --samples out/arena/samples.jsonl --out out/arena",
        ],
        "humaneval": [
            "python src/generate.py --config eval.yaml --benchmark humaneval --python evalplus/python --model base "
            "--out out/humaneval/samples.jsonl",
            "python src/score.py --samples out/humaneval/samples.jsonl --out out/humaneval --python evalplus/python",
        ],
    }


def test_grpo_is_trained_by_its_launcher_and_its_adapter_measured():
    run = Run("grpo", "ours", ("format", "es_star", "dm_star"), (1, 0.5, 0.5), seed=7)
    found = commands(run)
    assert found["train"] == [
        "bash scripts/grpo.sh --config configs/grpo.yaml --model_name_or_path base --data train.jsonl "
        "--reward format,es_star,dm_star --reward_weights 1 0.5 0.5 --seed 7 --output_dir out/train "
        "--resume_from_checkpoint auto --use_cpu true"
    ]
    assert "--model base --adapter out/train --out" in found["arena"][0]


def test_sft_on_gpus():
    assert commands(Run("sft", "ours", seed=7), machine=Machine(8, Path("envs"), "python"))["train"] == [
        "bash scripts/sft.sh --config configs/sft.yaml --model_name_or_path base --data train.jsonl --seed 7 "
        "--output_dir out/train --resume_from_checkpoint auto"
    ]


def test_dapo_is_merged_after_its_training():
    found = commands(Run("dapo", "ours", ("format", "dm_star"), seed=7))
    train, merge = found["train"]
    assert train == (
        "bash scripts/dapo.sh --config-name dapo run=dapo-dm_star-ours-7 trainer.default_local_dir=out/train "
        "data.seed=7 actor_rollout_ref.model.path=base recode.data=train.jsonl "
        "'reward.custom_reward_function.reward_kwargs.reward='\"'\"'format,dm_star'\"'\"'' "
        "reward.custom_reward_function.path=src/diff_match.py"
    )
    assert merge.endswith("python out/train out/train/merged")
    assert "--model out/train/merged --out" in found["arena"][0]


def test_other_files_of_the_same_data():
    study = with_files(STUDY, "folder", {"ours": "mine.jsonl"}, "my problems.jsonl")
    found = commands(Run("sft", "ours", seed=7), study)
    assert "--model_name_or_path folder --data mine.jsonl" in found["train"][0]
    assert "--limit 2 --data 'my problems.jsonl' --model folder" in found["arena"][0]
    assert "--data heldout.jsonl --model folder" in found["migration"][0]
    with pytest.raises(InputError, match=r"^--data theirs: expected one of ours$"):
        with_files(STUDY, None, {"theirs": "rows.jsonl"}, None)


def test_measures_are_checked_with_the_base_model():
    """The adapter is not there yet."""
    run = Run("sft", "ours", seed=7)
    train, _, arena, _ = stages(run, STUDY, Path("out"), CPU)
    assert train.check == train.commands[0]
    assert shlex.join(arena.check).replace(sys.executable, "python") == (
        "python src/generate.py --config eval.yaml --benchmark arena --limit 2 --model base "
        "--out out/arena/samples.jsonl --check"
    )


def test_a_measure_with_a_flag_that_does_not_exist():
    study = STUDY.model_copy(update={"measures": {"arena": "--benchmark arena --greedy"}})
    with pytest.raises(InputError, match=r"^measures.arena: --greedy: src/generate.py has no such flag$"):
        commands(Run("untrained"), study)
    study = STUDY.model_copy(update={"measures": {"arena": "--benchmark colosseum"}})
    with pytest.raises(InputError, match=r"^measures.arena: argument --benchmark: invalid choice: 'colosseum'"):
        commands(Run("untrained"), study)


def test_the_steps_of_a_training(tmp_path):
    assert trained_steps(tmp_path) == 0
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3')
    assert trained_steps(tmp_path) == 2
