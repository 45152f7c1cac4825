"""The commands of a run's stages."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from conftest import run_script

from common.errors import InputError
from common.provenance import sha256
from experiments.grid import Run, Study
from experiments.report import results_of
from experiments.stages import Machine, dapo_commands, stages, trained_steps, with_files

STUDY = Study.model_validate(
    {
        "model": "base",
        "configs": {"sft": "configs/sft.yaml", "grpo": "configs/grpo.yaml", "dapo": "configs/dapo.yaml"},
        "data": {"ours": "data/train.jsonl"},
        "runs": [{"method": "untrained"}],
        "evaluation": "configs/study/eval.yaml",
        "measures": {
            "migration": "--benchmark migration --data data/heldout.jsonl",
            "arena": "--benchmark arena --limit 2",
            "humaneval": "--benchmark humaneval",
        },
    }
)
CPU = Machine(gpus=0, evalplus="evalplus/python")


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
            "python src/generate.py --config configs/study/eval.yaml --benchmark migration --data data/heldout.jsonl "
            "--out out/migration/samples.jsonl --model base",
            "python src/score.py --samples out/migration/samples.jsonl --out out/migration",
        ],
        "arena": [
            "python src/generate.py --config configs/study/eval.yaml --benchmark arena --limit 2 "
            "--out out/arena/samples.jsonl --model base",
            "python src/score.py --samples out/arena/samples.jsonl --out out/arena",
        ],
        "humaneval": [
            "python src/generate.py --config configs/study/eval.yaml --benchmark humaneval --python evalplus/python "
            "--out out/humaneval/samples.jsonl --model base",
            "python src/score.py --samples out/humaneval/samples.jsonl --out out/humaneval --python evalplus/python",
        ],
    }


def test_grpo_is_trained_by_its_launcher_and_its_adapter_measured():
    run = Run("grpo", "ours", ("format", "es_star", "dm_star"), (1, 0.5, 0.5), seed=7)
    found = commands(run)
    assert found["train"] == [
        "bash scripts/grpo.sh --config configs/grpo.yaml --model_name_or_path base --data data/train.jsonl "
        "--reward format,es_star,dm_star --reward_weights 1 0.5 0.5 --seed 7 --output_dir out/train "
        "--resume_from_checkpoint auto --use_cpu true"
    ]
    assert found["arena"][0].endswith("--out out/arena/samples.jsonl --model base --adapter out/train")


def test_sft_on_gpus():
    assert commands(Run("sft", "ours", seed=7), machine=Machine(8, "python"))["train"] == [
        "bash scripts/sft.sh --config configs/sft.yaml --model_name_or_path base --data data/train.jsonl --seed 7 "
        "--output_dir out/train --resume_from_checkpoint auto"
    ]


def test_dapo_is_merged_after_its_training():
    found = commands(Run("dapo", "ours", ("format", "dm_star"), seed=7))
    train, merge = found["train"]
    assert shlex.split(train) == [
        *("bash", "scripts/dapo.sh", "--config-name", "dapo", "run='dapo-dm_star-ours-7'"),
        "trainer.default_local_dir='out/train'",
        "data.train_files='out/train/data/train.parquet'",
        "data.val_files='out/train/data/val.parquet'",
        "actor_rollout_ref.model.path='base'",
        "recode.data='data/train.jsonl'",
        "reward.custom_reward_function.reward_kwargs.reward='format,dm_star'",
        "reward.custom_reward_function.path='src/diff_match.py'",
        "data.seed=7",
    ]
    assert merge == "python src/merge_adapter.py --checkpoint out/train --out out/train/merged"
    assert found["arena"][0].endswith("--out out/arena/samples.jsonl --model out/train/merged")


@pytest.mark.slow
def test_hydra_takes_dapo_s_overrides():
    """With weights, and with names that hold Hydra's own characters."""
    study = STUDY.model_copy(update={"data": {"ours": "data/train.jsonl"}, "model": "models/my=model, (0.5B)"})
    run = Run("dapo", "ours", ("format", "es_star"), (1, 0.5), seed=7)
    train, _ = dapo_commands(run, study, Path("out/train"))
    done = run_script("dapo.py", "--print-config", *train[train.index("dapo") + 1 :])
    config = yaml.safe_load(done.stdout)
    assert config["reward"]["custom_reward_function"]["reward_kwargs"] == {
        "reward": "format,es_star",
        "weights": [1, 0.5],
    }
    assert config["actor_rollout_ref"]["model"]["path"].endswith("models/my=model, (0.5B)")
    assert config["trainer"]["default_local_dir"].endswith("out/train")
    assert config["data"]["train_files"].endswith("out/train/data/train.parquet")
    assert config["data"]["seed"] == 7


def test_other_files_of_the_same_data(tmp_path):
    problems = tmp_path / "my problems.jsonl"
    problems.touch()
    study = with_files(STUDY, "folder", {"ours": "data/heldout.jsonl"}, str(problems))
    found = commands(Run("sft", "ours", seed=7), study)
    assert "--model_name_or_path folder --data data/heldout.jsonl" in found["train"][0]
    assert f"--limit 2 --data '{problems}' --out" in found["arena"][0]
    assert "--data data/heldout.jsonl --out out/migration/samples.jsonl --model folder" in found["migration"][0]
    with pytest.raises(InputError, match=r"^--data theirs: expected one of ours$"):
        with_files(STUDY, None, {"theirs": "rows.jsonl"}, None)


def test_measures_are_checked_with_the_base_model():
    """The adapter is not there yet."""
    run = Run("sft", "ours", seed=7)
    train, _, arena, humaneval = stages(run, STUDY, Path("out"), CPU)
    assert train.checks == train.commands
    [check] = arena.checks
    assert shlex.join(check).replace(sys.executable, "python") == (
        "python src/generate.py --config configs/study/eval.yaml --benchmark arena --limit 2 "
        "--out out/arena/samples.jsonl --model base --check"
    )
    assert humaneval.checks[1][1:] == (
        *("src/score.py", "--benchmark", "humaneval", "--check", "--python", "evalplus/python"),
    )


def test_a_stage_that_was_done_with_other_settings_is_refused(tmp_path):
    run = Run("sft", "ours", seed=7)
    train, migration, *_ = stages(run, STUDY, tmp_path, CPU)
    assert not train.is_done
    train.finish()
    migration.finish()
    assert train.is_done
    assert json.loads((tmp_path / "done" / "train.json").read_text())["data"] == sha256(Path("data/train.jsonl"))
    other = with_files(STUDY, None, {"ours": "data/heldout.jsonl"}, None)
    again, same, *_ = stages(run, other, tmp_path, CPU)
    with pytest.raises(InputError, match=r"done/train.json: was made with data \w{64}, now \w{64}: remove it and"):
        assert again.is_done
    assert same.is_done
    greedy = STUDY.model_copy(update={"measures": {"migration": "--benchmark migration --limit 3"}})
    with pytest.raises(InputError, match=r"done/migration.json: was made with flags .*, now .*: remove it and"):
        assert stages(run, greedy, tmp_path, CPU)[1].is_done


def test_a_report_has_what_was_made_with_other_settings_and_says_so(tmp_path, capsys):
    """A copy of results, such as results/study/, names the model and the files of the machine that made it."""
    run, other = Run("sft", "ours", seed=7), with_files(STUDY, "elsewhere/base", {}, None)
    made, now = ({run: stages(run, study, tmp_path, CPU)} for study in (other, STUDY))
    train, _, arena, _ = made[run]
    train.finish()
    arena.finish()
    done = {"benchmark": "arena", "problems": 1, "samples_per_problem": 1, "data": {}}
    done |= {"scores": {"pass@1": {"mean": 1.0, "low": 1.0, "high": 1.0}}, "tasks": {"a": {"n": 1, "passed": 1}}}
    (tmp_path / "arena").mkdir()
    (tmp_path / "arena" / "results.json").write_text(json.dumps({**done, "samples": {"sha256": "0"}}))
    assert list(results_of(now)["sft-ours-7"]) == ["arena"]
    other_model = "was made with model elsewhere/base, now base"
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path}/done/{name}.json: {other_model}" for name in ("train", "arena")
    ]


def test_commands_see_the_gpus_that_the_study_uses():
    assert CPU.variables == {"GPUS": "0", "CUDA_VISIBLE_DEVICES": ""}
    assert Machine(8, "python").variables == {"GPUS": "8"}


def test_a_measure_with_a_flag_that_does_not_exist():
    study = STUDY.model_copy(update={"measures": {"arena": "--benchmark arena --greedy"}})
    with pytest.raises(InputError, match=r"^measures.arena: --greedy: src/generate.py has no such flag$"):
        commands(Run("untrained"), study)
    study = STUDY.model_copy(update={"measures": {"arena": "--data 'my file"}})
    with pytest.raises(InputError, match=r"^measures.arena: No closing quotation$"):
        commands(Run("untrained"), study)
    study = STUDY.model_copy(update={"measures": {"arena": "--benchmark colosseum"}})
    with pytest.raises(InputError, match=r"^measures.arena: argument --benchmark: invalid choice: 'colosseum'"):
        commands(Run("untrained"), study)


def test_the_steps_of_a_training(tmp_path):
    assert trained_steps(tmp_path) == 0
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3')
    assert trained_steps(tmp_path) == 2
