"""One configuration: what --print-config prints, what run.json records and what verl gets are the same."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import yaml
from conftest import run_script
from omegaconf import OmegaConf
from verl_runs import OTHER, settings

from common.errors import InputError
from prompts import load_chat
from verl_training.config import compose, environment, finalise, leaves, plain

pytest.importorskip("hydra", reason="requirements/dapo.txt is not installed")
NAME = "quickstart/dapo"


@pytest.fixture
def overrides(tiny_data, random_model, tmp_path):
    """Overrides of a run in tmp_path/run, its parquet files written."""
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps(OTHER) + "\n")
    found = settings(tiny_data, tmp_path / "run", random_model, f"recode.val_data={other}", "recode.lora_r=4")
    run_script("data_process.py", "--config-name", NAME, *found)
    return found


def test_verl_gets_what_run_json_records_and_print_config_prints(verl, overrides, random_model, tmp_path, monkeypatch):
    import verl.trainer.main_ppo as main_ppo

    import dapo

    for name, value in environment(compose(NAME, overrides)).items():
        monkeypatch.setenv(name, value)  # restores what main sets
    monkeypatch.setattr(sys, "argv", ["dapo.py", "--config-name", NAME, *overrides])
    received = []
    monkeypatch.setattr(main_ppo, "run_ppo", lambda config, task_runner_class: received.append(config))
    dapo.main()
    printed = yaml.safe_load(run_script("dapo.py", "--config-name", NAME, "--print-config", *overrides).stdout)
    [start] = json.loads((tmp_path / "run" / "run.json").read_text())["starts"]
    got = dict(leaves(plain(received[0])))
    assert dict(leaves(start["config"])) == got
    assert dict(leaves(printed)) == got
    for key, value in {
        "actor_rollout_ref.model.lora_rank": 4,
        "actor_rollout_ref.model.lora_alpha": 64,
        "actor_rollout_ref.model.lora.merge": True,
        "actor_rollout_ref.model.lora_adapter_path": f"{tmp_path}/run/adapter_init",
        "actor_rollout_ref.model.custom_chat_template": load_chat(str(random_model)).template,
        "actor_rollout_ref.actor.checkpoint.save_lora_only": True,
        "ray_kwargs.ray_init.address": "local",
        "ray_kwargs.ray_init.runtime_env.env_vars.VERL_PLATFORM": "cpu",
        "trainer.resume_mode": "disable",
        "trainer.resume_from_path": None,
    }.items():
        assert got[key] == value, key
    assert got["reward.custom_reward_function.path"].endswith("/src/rewards.py")


def test_what_is_derived_is_not_written_into_the_user_s_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = compose("dapo", ["run=mine"])
    before = OmegaConf.to_container(config)
    final = finalise(config, "template")
    assert OmegaConf.to_container(config) == before
    assert final.trainer.default_local_dir == str(tmp_path / "runs" / "mine")
    assert final.data.train_files == str(tmp_path / "runs" / "mine" / "data" / "train.parquet")
    assert OmegaConf.to_container(finalise(config, "template")) == OmegaConf.to_container(final)
    full = finalise(compose("dapo", ["recode.adapter=full"]), "template").actor_rollout_ref
    assert (full.model.lora_rank, full.model.lora_adapter_path) == (0, None)
    assert not full.actor.checkpoint.get("save_lora_only", False)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert "address" not in finalise(config, "template").ray_kwargs.ray_init


def test_the_environment_is_the_same_after_it_was_set(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    config = compose("dapo")
    first = environment(config)
    assert first["PYTHONPATH"].endswith("/src" + os.pathsep + "/elsewhere")
    monkeypatch.setenv("PYTHONPATH", first["PYTHONPATH"])
    assert environment(config) == first


def test_a_resume_is_part_of_the_configuration(tmp_path):
    import torch

    def leaves_of(run: Path) -> dict:
        overrides = [f"trainer.default_local_dir={run}", "trainer.n_gpus_per_node=1"]
        return dict(leaves(plain(finalise(compose("dapo", overrides), "template"))))

    fresh = leaves_of(tmp_path)
    checkpoint = tmp_path / "global_step_5"
    (checkpoint / "actor").mkdir(parents=True)
    (checkpoint / "actor" / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": 1}))
    for kind in ("model", "optim", "extra_state"):
        torch.save({}, checkpoint / "actor" / f"{kind}_world_size_1_rank_0.pt")
    torch.save({}, checkpoint / "data.pt")
    resumed = leaves_of(tmp_path)
    changed = {key: value for key, value in resumed.items() if value != fresh[key]}
    assert changed == {"trainer.resume_mode": "resume_path", "trainer.resume_from_path": str(checkpoint)}


def test_print_config_without_a_model_and_data():
    overrides = ["run=mine", "actor_rollout_ref.model.path=models/absent", "recode.data=absent.jsonl"]
    lines = run_script("dapo.py", "--print-config", *overrides).stdout.splitlines()
    why = "# actor_rollout_ref.model.custom_chat_template is not known: model models/absent: no such folder"
    assert (lines[0], [line for line in lines if line.startswith("#")]) == (why, [why])
    printed = yaml.safe_load("\n".join(lines))
    assert printed["actor_rollout_ref"]["model"]["lora_rank"] == 64
    done = run_script("dapo.py", *overrides, "trainer.device=cpu", "ray_kwargs.ray_init.num_cpus=9", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("dapo: recode.data=absent.jsonl: no such file in ")


def test_a_tokenizer_without_a_template_is_one_line(tmp_path):
    from chat_templates import make_tokenizer

    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="the tokenizer has no chat template"):
        load_chat(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as stopped:
        load_chat(str(tmp_path / "empty"))
    assert str(stopped.value).startswith(f"model {tmp_path}/empty: ")
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize(
    ("generation", "stops"),
    [({"eos_token_id": [1, 2]}, True), ({"eos_token_id": 2}, True), ({"eos_token_id": 1}, False), (None, False)],
)
def test_rollouts_stop_at_the_end_of_a_turn(tmp_path, generation, stops):
    """Gemma 3's turns end with <end_of_turn>, its tokenizer's eos is <eos>; verl stops where the model's files say."""
    from chat_templates import FAMILIES, make_family

    from common.chat import chat_of
    from verl_training.start import check_end_of_turn

    tokenizer = make_family(FAMILIES["gemma-3"])
    ids = {1: tokenizer.convert_tokens_to_ids("<eos>"), 2: tokenizer.convert_tokens_to_ids("<end_of_turn>")}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", "eos_token_id": ids[1]}))
    if generation:
        ends = generation["eos_token_id"]
        named = [ids[end] for end in ends] if isinstance(ends, list) else ids[ends]
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": named}))
    if stops:
        check_end_of_turn(str(tmp_path), chat_of(tokenizer))
        return
    with pytest.raises(InputError, match="a turn ends with <end_of_turn>, which is not in the eos_token_id"):
        check_end_of_turn(str(tmp_path), chat_of(tokenizer))
