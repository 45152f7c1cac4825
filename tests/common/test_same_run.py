"""Which changes of a configuration stop a resume."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

import pytest
from safetensors.numpy import save_file

from common.errors import InputError
from common.provenance import record_start
from common.same_run import check_same_run

START = {
    "data": {"train.jsonl": {"sha256": "a", "bytes": 1}},
    "prompts": "4 with sha256 ab",
    "config": {"lr": 0.1, "steps": 5, "logging_steps": 1, "fsdp": None, "a": {"b": 1}, "x_kwargs": {"k": 1}},
}


def changed(**config: object) -> dict:
    return {**START, "config": {**START["config"], **config}}


@pytest.fixture
def run(tmp_path) -> Path:
    record_start(tmp_path, START)
    return tmp_path


def check(run: Path, description: dict) -> None:
    check_same_run([run], description, harmless=("logging_*", "a.c*"), length=("steps",))


@pytest.mark.parametrize(
    "description",
    [
        START,
        changed(logging_steps=5),
        changed(steps=6),  # longer
        changed(new=1),  # the version that began the run did not know the key
        changed(a={"b": 1, "new": 1}),
        {**START, "data": {"moved/train.jsonl": {"sha256": "a", "bytes": 1}}},
    ],
)
def test_what_does_not_change_the_result(run, description):
    check(run, description)


@pytest.mark.parametrize(
    ("description", "said"),
    [
        (changed(lr=0.2), "lr = 0.1, now it is 0.2"),
        (changed(steps=4), "steps = 5, now it is 4"),
        (changed(a={"b": 2}), "a.b = 1, now it is 2"),
        (changed(a=None), "a = {'b': 1}, now it is None"),
        (changed(fsdp={"size": 2}), "fsdp = None, now it is {'size': 2}"),
        (changed(x_kwargs={"k": 1, "new": 1}), "x_kwargs = {'k': 1}, now it is {'k': 1, 'new': 1}"),
        ({**START, "prompts": "5 with sha256 cd"}, "prompts = 4 with sha256 ab, now it is 5 with sha256 cd"),
        (
            {**START, "data": {"train.jsonl": {"sha256": "b", "bytes": 1}}},
            "sha256 of the data = ['a'], now it is ['b']",
        ),
    ],
)
def test_what_changes_the_result(run, description, said):
    with pytest.raises(InputError) as stopped:
        check(run, description)
    assert str(stopped.value) == f"{run} was started with {said}: not the same run"


def test_a_reward_of_the_user_s_own_must_stay_the_same(tmp_path):
    first = {**START, "reward_files": {"mine": "a"}}
    record_start(tmp_path, first)
    check(tmp_path, first)
    with pytest.raises(InputError, match=r"sha256 of the rewards\.mine = a, now it is b: not the same run"):
        check(tmp_path, {**START, "reward_files": {"mine": "b"}})
    with pytest.raises(InputError, match="sha256 of the rewards = "):
        check(tmp_path, START)


def test_the_last_start_counts(run):
    record_start(run, {**START, "config": {"lr": 0.3}}, "checkpoint-1")
    check(run, changed(lr=0.3))
    (run / "run.json").write_text(json.dumps({"starts": "none"}))
    with pytest.raises(InputError, match=r"run.json: starts: input should be a valid list$"):
        check(run, START)


@pytest.mark.parametrize("kind", ["trl", "verl"])
def test_checkpoints_without_their_run_json_are_of_no_known_run(run, kind):
    folder = run / ("checkpoint-2" if kind == "trl" else "global_step_2/actor")
    folder.mkdir(parents=True)
    if kind == "trl":
        (folder / "trainer_state.json").write_text('{"global_step": 2}')
        (folder / "adapter_config.json").write_text("{}")
        save_file({}, folder / "adapter_model.safetensors")
    else:
        (folder / "fsdp_config.json").write_text('{"world_size": 1}')
        with ZipFile(folder / "model_world_size_1_rank_0.pt", "w"):
            pass
    check(run, START)
    (run / "run.json").unlink()
    with pytest.raises(InputError, match=r"has checkpoints, but no run\.json .*: put it back, or "):
        check(run, START)


def test_another_trainer_is_named_first(tmp_path):
    sft = {"max_steps": 2, "learning_rate": 1}
    record_start(tmp_path, {**START, "config": sft})
    now = {"max_steps": 3, "learning_rate": 2, "num_generations": 8}
    with pytest.raises(InputError, match=r"was started with the trainer = SFT, now it is GRPO: not the same run"):
        check(tmp_path, {**START, "config": now})


def test_every_folder_counts_and_one_without_a_run_is_skipped(run, tmp_path):
    other = tmp_path / "other"
    record_start(other, changed(lr=0.2))
    check_same_run([run, tmp_path / "empty"], START, harmless=())
    with pytest.raises(InputError, match=r"other was started with lr = 0\.2, now it is 0\.1: not the same run$"):
        check_same_run([run, other], START, harmless=())


def test_the_lists_name_keys_that_exist():
    """A renamed key of trl would otherwise begin to count unnoticed."""
    import dataclasses
    from fnmatch import fnmatchcase

    from trl import GRPOConfig, SFTConfig

    from trl_training.own_keys import GrpoArguments, SftArguments
    from trl_training.resume import HARMLESS, LAYOUT, LENGTH

    classes = (GRPOConfig, SFTConfig, GrpoArguments, SftArguments)
    known = {field.name for each in classes for field in dataclasses.fields(each)} | {"processes"}
    assert not [pattern for pattern in (*HARMLESS, *LAYOUT, *LENGTH) if not any(fnmatchcase(k, pattern) for k in known)]


def test_how_a_step_is_divided_is_harmless_only_if_its_size_is_fixed():
    from trl_training.resume import harmless_keys, length_keys

    assert "per_device_train_batch_size" in harmless_keys({"prompts_per_step": 2})
    assert "processes" in harmless_keys({"examples_per_step": 8})
    assert "per_device_train_batch_size" not in harmless_keys({"prompts_per_step": None})
    for own in ({"loss_type": "bnpo"}, {"top_entropy_quantile": 0.2}, {"entropy_coef": 0.01}, {"deepspeed": "z.json"}):
        assert "processes" not in harmless_keys({"prompts_per_step": 2, **own})
    assert "processes" in harmless_keys({"prompts_per_step": 2, "loss_type": "grpo", "top_entropy_quantile": 1.0})
    assert length_keys({"lr_scheduler_type": "constant"}) == ("max_steps", "num_train_epochs")
    assert length_keys({"lr_scheduler_type": "cosine"}) == ()


def test_dapo_s_lists_name_keys_that_exist():
    pytest.importorskip("hydra", reason="requirements/dapo.txt is not installed")
    from fnmatch import fnmatchcase

    from omegaconf import OmegaConf

    from verl_training.config import compose, leaves
    from verl_training.resume import HARMLESS, LENGTH

    known = [path for path, _ in leaves(OmegaConf.to_container(compose("dapo"), resolve=False))]
    assert not [pattern for pattern in (*HARMLESS, *LENGTH) if not any(fnmatchcase(k, pattern) for k in known)]
