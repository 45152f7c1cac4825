"""DAPO's configurations compose, pass verl's own validation, and every mistake ends in one line before a model
loads."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
from conftest import ROOT, run_script
from omegaconf import OmegaConf

from common.errors import InputError
from verl_training import checks as dapo_checks
from verl_training import config as verl_config
from verl_training import resume as dapo_resume
from verl_training import start
from verl_training.parquet import DataFiles
from verl_training.values import check_values

pytest.importorskip("hydra", reason="requirements/dapo.txt is not installed")
NAMES = ("dapo", "dapo_released", "dapo_equal_budget", "quickstart/dapo")


def test_there_is_no_other_dapo_config():
    found = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*dapo*.yaml")}
    assert found == {Path(f"{name}.yaml") for name in NAMES} | {Path("grpo_dapo_loss.yaml")}


@pytest.mark.parametrize("name", NAMES)
def test_configs_compose_and_pass_verl_s_validation(name, verl, random_model):
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    config = verl_config.compose(name, [f"actor_rollout_ref.model.path={random_model}"])
    dapo_checks.check(config)
    assert not need_critic(config)
    assert not need_reference_policy(config)  # no KL
    validate_config(config, use_reference_policy=False, use_critic=False)
    actor = config.actor_rollout_ref.actor
    assert (actor.clip_ratio_low, actor.clip_ratio_high, actor.clip_ratio_c) == (0.2, 0.28, 10.0)
    assert (actor.loss_agg_mode, actor.use_kl_loss, config.algorithm.use_kl_in_reward) == ("token-mean", False, False)
    assert config.algorithm.filter_groups.enable
    assert config.reward.reward_manager.name == "dapo"


def test_the_paper_s_and_the_release_s_numbers():
    paper, released = verl_config.compose("dapo"), verl_config.compose("dapo_released")
    optim = paper.actor_rollout_ref.actor.optim
    assert (optim.lr, optim.lr_warmup_steps, optim.lr_scheduler_type) == (5e-5, 150, "cosine")
    recode = paper.recode
    assert (recode.adapter, recode.lora_r, recode.lora_alpha, recode.lora_dropout) == ("dora", 64, 64, 0.01)
    assert recode.lora_target_modules == ["q_proj", "v_proj"]
    optim = released.actor_rollout_ref.actor.optim
    assert (optim.lr, optim.lr_warmup_steps, optim.lr_scheduler_type, optim.weight_decay) == (1e-6, 10, "constant", 0.1)
    assert released.recode.adapter == "full"
    assert (paper.actor_rollout_ref.actor.optim.weight_decay, dapo_checks.warnings(paper)) == (0.0, [])
    assert dapo_checks.warnings(released) == []  # 0.1, for all weights
    (warning,) = dapo_checks.warnings(verl_config.compose("dapo_released", ["recode.adapter=dora"]))
    assert warning.startswith("actor_rollout_ref.actor.optim.weight_decay=0.1 also shrinks DoRA's magnitudes")
    for config in (paper, released):
        assert config.actor_rollout_ref.rollout.max_model_len == 2048 + 1024
        assert (config.data.train_batch_size, config.actor_rollout_ref.actor.ppo_mini_batch_size) == (8, 4)
        assert (config.actor_rollout_ref.rollout.n, config.trainer.total_training_steps) == (8, 5000)
        assert config.algorithm.filter_groups.max_num_gen_batches == 10


def test_equal_budget_is_the_budget_of_grpo(monkeypatch):
    import grpo

    script, args, model = grpo.parse_arguments(["--config", str(ROOT / "configs" / "grpo.yaml"), "--use_cpu", "true"])
    config = verl_config.compose("dapo_equal_budget")
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert (config.data.train_batch_size, rollout.n) == (script.prompts_per_step, args.num_generations)
    assert actor.ppo_mini_batch_size == config.data.train_batch_size  # one update a step
    assert (actor.optim.lr, actor.optim.lr_warmup_steps) == (args.learning_rate, args.warmup_steps)
    assert (actor.optim.lr_scheduler_type, actor.optim.weight_decay) == (args.lr_scheduler_type, args.weight_decay)
    assert (actor.optim.clip_grad, config.trainer.total_training_steps) == (args.max_grad_norm, args.max_steps)
    for key in ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"):
        assert config.recode[key] == getattr(model, key)
    assert (config.data.max_prompt_length, config.data.max_response_length) == (2048, args.max_completion_length)
    assert config.recode.data == script.data
    # The cap counts batches of train_batch_size prompts: as many prompts as configs/dapo.yaml allows, 10 x 8.
    assert config.algorithm.filter_groups.max_num_gen_batches * config.data.train_batch_size == 80


def test_sharding_over_all_processes_is_accepted():
    for size in (-1, 2, 8):
        dapo_checks.check(verl_config.compose("dapo", [f"actor_rollout_ref.actor.fsdp_config.fsdp_size={size}"]))


def test_grpo_with_dapo_s_loss_is_the_dapo_step():
    import grpo

    path = ROOT / "configs" / "grpo_dapo_loss.yaml"
    script, args, model = grpo.parse_arguments(["--config", str(path), "--use_cpu", "true"])
    config = verl_config.compose("dapo")
    actor = config.actor_rollout_ref.actor
    assert (args.epsilon, args.epsilon_high, args.delta) == (0.2, 0.28, 10.0)
    assert (args.loss_type, args.beta, args.num_iterations) == ("dapo", 0.0, 1)
    # 1 process x 4 per device x 8 accumulation = 32 completions an update; x 2 updates = 64 in a batch of rollouts.
    assert (args.gradient_accumulation_steps, args.steps_per_generation, args.generation_batch_size) == (8, 16, 64)
    assert script.prompts_per_step == actor.ppo_mini_batch_size
    assert script.prompts_per_step * script.updates_per_generation == config.data.train_batch_size
    assert args.save_steps % script.updates_per_generation == 0
    assert (args.learning_rate, args.weight_decay) == (actor.optim.lr, actor.optim.weight_decay)
    assert args.max_steps == 2 * config.trainer.total_training_steps
    assert args.warmup_steps == 2 * actor.optim.lr_warmup_steps
    assert (model.lora_r, model.lora_alpha, model.lora_dropout) == (64, 64, 0.01)


@pytest.mark.parametrize("name", NAMES)
def test_headers_and_sources(name):
    text = (ROOT / "configs" / f"{name}.yaml").read_text()
    header = text.split("defaults:")[0]
    for word in ("Runs on:", "Time:", "Launch:", "Override:"):
        assert word in header
    if name == "dapo_released":
        numbers = [line for line in text.split("defaults:")[1].splitlines() if re.match(r"^ +\w+: +\S", line)]
        assert all("#" in line for line in numbers)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["reward_model.reward_manager=dapo"],
            "reward_model.reward_manager: verl 0.9 accepts this key and ignores it",
        ),
        (["custom_reward_function.path=x.py"], "it is now reward.custom_reward_function"),
        (["+actor_rollout_ref.actor.clip_ration_high=0.3"], "did you mean 'actor_rollout_ref.actor.clip_ratio_high'?"),
        (
            ["actor_rollout_ref.actor.clip_ration_high=0.3"],
            "unknown key 'actor_rollout_ref.actor.clip_ration_high': did you mean 'actor_rollout_ref.actor.clip_ra",
        ),
        (
            ["actor_rollout_ref.rollout.tensor_model_parallel_size=4"],
            "rollout.tensor_model_parallel_size=4: an engine of 4 GPU(s) does not divide the 2 processes",
        ),
        (["ray_kwargs.ray_init.num_gpu=1"], "use +ray_kwargs.ray_init.num_gpu=1"),  # below an open key
        (["+reward.reward_kwargs.overlong_buffer_cfg.length=3"], "unknown key"),
        (["+recode.lora_rank=3"], "unknown key 'recode.lora_rank': did you mean 'recode.lora_"),
        (["recode.bad_rows=skip"], "recode.bad_rows=skip: choose from stop, drop, keep"),
        (["recode.prompt=terse"], "recode.prompt=terse: choose from paper, precise"),
        (["recode.bad_rows=true"], "recode.bad_rows=True: must be text"),
        (["trainer.use_v1=false"], "the legacy trainer has no dynamic sampling"),
        (["trainer.v1.trainer_mode=colocate_async"], "only sync"),
        (["trainer.v1.sampler.custom_sampler.path=x.py"], "not supported here"),
        (["actor_rollout_ref.rollout.mode=sync"], "verl 0.9 supports only async"),
        (["algorithm.adv_estimator=gae"], "DAPO uses grpo"),
        (["actor_rollout_ref.rollout.n=1"], "a group needs at least 2"),
        (
            ["algorithm.filter_groups.max_num_gen_batches=0"],
            "would keep sampling when all rewards of a group are equal",
        ),
        (["algorithm.filter_groups.metric=acc"], "choose from reward, score, format"),
        (["reward.reward_manager.name=naive"], "must be dapo"),
        (
            ["reward.reward_kwargs.overlong_buffer_cfg.enable=true", "reward.reward_kwargs.max_resp_len=7"],
            "max_resp_len=7: must be data.max_response_length",
        ),
        (["actor_rollout_ref.actor.ppo_mini_batch_size=3"], "data.train_batch_size=8 is not a multiple of"),
        (["trainer.n_gpus_per_node=3"], "ppo_mini_batch_size x n = 32 is not a multiple of 3 processes"),
        (["recode.adapter=lora"], "choose from dora, full"),
        (["recode.val_size=many"], "recode.val_size=many: must be a whole number"),
        (["recode.max_target_length=x"], "recode.max_target_length=x: must be a whole number, at least 1, or null"),
        (
            ["trainer.max_actor_ckpt_to_keep=x"],
            "trainer.max_actor_ckpt_to_keep=x: must be a whole number, at least 2, or null",
        ),
        (
            ["reward.reward_kwargs.overlong_buffer_cfg.enable=true", "reward.reward_kwargs.overlong_buffer_cfg.len=0"],
            "overlong_buffer_cfg.len=0: must be in 1..1024",
        ),
        (["actor_rollout_ref.model.lora_rank=8"], "set recode.adapter and recode.lora_* instead"),
        (["actor_rollout_ref.actor.strategy=fsdp"], "DoRA needs fsdp2"),
        (["+data.apply_chat_template_kwargs.continue_final_message=true"], "would close the open think tag"),
        (["actor_rollout_ref.model.custom_chat_template=x"], "derived from the tokenizer here"),
        (["trainer.max_actor_ckpt_to_keep=1"], "trainer.max_actor_ckpt_to_keep=1: must be a whole number, at least 2"),
        (["actor_rollout_ref.actor.grad_clip=0.5"], "verl's engine does not read it; set optim.clip_grad"),
        (["trainer.n_gpus_per_node=0"], "trainer.n_gpus_per_node=0: must be a whole number, at least 1"),
        (["trainer.nnodes=x"], "trainer.nnodes=x: must be a whole number, at least 1"),
        (
            ["ray_kwargs.ray_init.num_cpus=x"],
            "ray_kwargs.ray_init.num_cpus=x: must be a whole number, at least 1, or null",
        ),
        (["actor_rollout_ref.actor.optim.weight_decay=x"], "optim.weight_decay=x: must be a number"),
        (
            ["data.max_response_length=1025"],
            "max_model_len=3072: data.max_prompt_length + data.max_response_length are 3073 tokens",
        ),
        (["actor_rollout_ref.actor.fsdp_config.fsdp_size=1"], "fsdp_size=1 of 2 processes: src/merge_adapter.py"),
        (
            ["trainer.nnodes=2", "trainer.n_gpus_per_node=8", "actor_rollout_ref.actor.fsdp_config.fsdp_size=8"],
            "fsdp_size=8 of 16 processes",
        ),
        (["actor_rollout_ref.actor.fsdp_config.fsdp_size=x"], "fsdp_size=x: must be a whole number, at least -1"),
        (["data.max_prompt_length=abc"], "data.max_prompt_length=abc: must be a whole number"),
        (["reward.custom_reward_function.path=null"], "reward.custom_reward_function.path: must name a file"),
        (["reward.custom_reward_function.reward_kwargs.reward=em-star"], "unknown reward 'em-star'"),
        (["reward.custom_reward_function.reward_kwargs.reward=dm_star"], "unknown reward 'dm_star'"),
        (
            [
                "reward.custom_reward_function.path=src/diff_match.py",
                "reward.custom_reward_function.reward_kwargs.reward=dm-star",
            ],
            "unknown reward 'dm-star': choose from format, em, es, em_star, es_star, dm_star",
        ),
        (["+reward.custom_reward_function.reward_kwargs.weights=[1.0]"], "2 rewards (format, es_star) but 1 weights"),
        (["+reward.custom_reward_function.reward_kwargs.wieghts=[1,1]"], "reward_kwargs.wieghts"),
        (["data.train_batch_size=${nothing}"], "nothing"),
        (["data.train_batch_size"], "data.train_batch_size"),
        (["data=5"], "Config group override must be a string or a list"),
        (["recode=null"], "recode: is a section of keys, not a value"),
        (["~recode.bad_rows"], "recode.bad_rows: is missing: an override removes it"),
        (["~run"], "run: is missing: an override removes it"),
        (["~actor_rollout_ref.actor.optim.lr"], "actor_rollout_ref.actor.optim.lr: is missing: an override removes it"),
        (["run=null"], "run=null: must be text"),
        (["run=''"], "run=: must name the run's folder"),
        (["data.val_files=./runs/x/../dapo/data/train.parquet"], "must not be the file of data.train_files"),
        (["data.train_files=train.jsonl"], "data.train_files=train.jsonl: must be a .parquet file"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_mistakes_end_in_one_line(overrides, message):
    with pytest.raises(InputError) as stopped:
        dapo_checks.check(verl_config.compose("dapo", overrides))
    assert message in str(stopped.value)
    assert "\n" not in str(stopped.value)


@pytest.fixture(scope="module")
def paper():
    return verl_config.compose("dapo")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("actor_rollout_ref.actor.optim.lr", "abc", "must be a number"),
        ("actor_rollout_ref.actor.optim.lr", None, "must be a number"),
        ("actor_rollout_ref.actor.optim.lr", [1], "must be a number"),
        ("actor_rollout_ref.actor.optim.lr", True, "must be a number"),
        ("actor_rollout_ref.actor.optim.lr", float("nan"), "must be finite"),
        ("actor_rollout_ref.actor.optim.lr", float("inf"), "must be finite"),
        ("actor_rollout_ref.actor.optim.lr", -1, "must be at least 0"),
        ("actor_rollout_ref.actor.optim.lr_scheduler_type", "linear", "choose from constant, cosine"),
        ("actor_rollout_ref.actor.loss_agg_mode", "mean", "choose from token-mean, "),
        ("actor_rollout_ref.model.path", None, "must be text"),
        ("actor_rollout_ref.model.path", 5, "must be text"),
        ("actor_rollout_ref.rollout.temperature", 0, "must be above 0"),
        ("actor_rollout_ref.rollout.top_p", 2, "must be above 0 and at most 1"),
        ("actor_rollout_ref.rollout.gpu_memory_utilization", 0, "must be above 0 and at most 1"),
        ("actor_rollout_ref.rollout.n", 2.5, "must be a whole number, at least 1"),
        ("algorithm.filter_groups.enable", "maybe", "must be true or false"),
        ("data.seed", -1, "must be a whole number, at least 0"),
        ("data.shuffle", 7, "must be true or false"),
        ("data.train_files", None, "must be text"),
        ("data.train_files", ["a.parquet"], "must be text"),
        ("recode.data", None, "must be text"),
        ("recode.lora_dropout", 1, "must be at least 0 and below 1"),
        ("recode.lora_target_modules", 5, "must be a list"),
        ("recode.max_target_length", 0, "must be a whole number, at least 1"),
        ("recode.val_size", 0, "must be a whole number, at least 1"),
        ("reward.custom_reward_function.path", 7, "must be text"),
        ("trainer.logger", 7, "must be a list"),
        ("trainer.n_gpus_per_node", True, "must be a whole number, at least 1"),
        ("trainer.resume_mode", "yes", "choose from auto, disable, resume_path"),
        ("trainer.save_freq", "often", "must be a whole number, at least -1"),
        ("trainer.total_training_steps", "abc", "must be a whole number, at least 1, or null"),
        ("trainer.total_training_steps", 1.5, "must be a whole number, at least 1"),
        ("trainer.total_training_steps", 0, "must be a whole number, at least 1"),
    ],
)
def test_a_value_of_another_type_or_out_of_range(paper, key, value, message):
    """Before: a traceback in verl's workers after a minute, and --print-config took it."""
    config = copy.deepcopy(paper)
    OmegaConf.update(config, key, value)
    with pytest.raises(InputError) as stopped:
        check_values(config)
    assert str(stopped.value).startswith(f"{key}={'null' if value is None else value}: ")
    assert message in str(stopped.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.total_training_steps", None),
        ("trainer.max_actor_ckpt_to_keep", None),
        ("trainer.logger", "console"),
        ("recode.lora_target_modules", "all-linear"),
        ("actor_rollout_ref.actor.entropy_coeff", 0.01),  # verl's default is written 0
        ("actor_rollout_ref.actor.optim.lr", 1),
        ("reward.custom_reward_function.reward_kwargs.mine", {"a": None}),
    ],
)
def test_values_that_are_right(paper, key, value):
    config = copy.deepcopy(paper)
    OmegaConf.update(config, key, value, force_add=True)
    check_values(config)


def test_a_number_names_a_run():
    assert verl_config.compose("dapo", ["run=2024"]).trainer.default_local_dir == "runs/2024"


def test_one_file_cannot_be_both_splits(tmp_path):
    (tmp_path / "a.parquet").write_text("rows")
    (tmp_path / "link.parquet").symlink_to(tmp_path / "a.parquet")
    (tmp_path / "hard.parquet").hardlink_to(tmp_path / "a.parquet")
    for name in ("a", "link", "hard"):
        files = [f"data.train_files={tmp_path}/a.parquet", f"data.val_files={tmp_path}/{name}.parquet"]
        with pytest.raises(InputError, match=r"must not be the file of data\.train_files"):
            DataFiles(verl_config.compose("dapo", files)).files  # noqa: B018


def test_the_check_looks_at_files(tmp_path, random_model, tiny_data):
    (tmp_path / "mine.py").write_text("def compute_score(**kwargs): return 1\n")
    (tmp_path / "broken.py").write_text("def compute_score(:\n")
    reward, model = "reward.custom_reward_function", "actor_rollout_ref.model.path"
    good = [f"recode.data={tiny_data}", f"{model}={random_model}", f"{reward}.path={tmp_path}/mine.py"]
    good += ["data.max_prompt_length=300", "data.max_response_length=200"]
    dapo_checks.check_files(verl_config.compose("dapo", good))
    for override, message in {
        f"recode.data={tmp_path}/absent.jsonl": "recode.data=.*absent.jsonl: no such file in ",
        f"recode.val_data={tmp_path}/absent.jsonl": "recode.val_data=.*absent.jsonl: no such file in ",
        f"{model}={tmp_path}/absent": "model .*absent: no such folder",
        f"{model}={tmp_path}": "config.json is missing",
        "data.max_response_length=213": r"300 \+ data.max_response_length 213: 513 tokens exceed .* context of 512",
        f"{reward}.path=absent.py": "path=absent.py: no such file",
        f"{reward}.path={tmp_path}/broken.py": "broken.py: not Python: ",
        f"{reward}.name=absent": "mine.py: it defines no function absent",
    }.items():
        with pytest.raises(InputError, match=message):
            dapo_checks.check_files(verl_config.compose("dapo", [*good, override]))


def test_flash_attention_is_refused_where_it_is_not_installed():
    from importlib.util import find_spec

    if find_spec("flash_attn"):
        pytest.skip("flash_attn is installed here")
    key = "actor_rollout_ref.model.override_config.attn_implementation"
    for override in (f"{key}=flash_attention_2", f"~{key}"):
        with pytest.raises(InputError, match="flash_attn is not installed; use sdpa"):
            dapo_checks.check(verl_config.compose("dapo", [override]))


def test_the_command_line_reports_it_in_one_line():
    done = run_script("dapo.py", "--config-name", "absent", check=False)
    assert (done.returncode, done.stderr) == (2, "dapo: --config-name absent: no configs/absent.yaml\n")
    done = run_script("dapo.py", "trainer.use_v1=false", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    printed = run_script("dapo.py", "--print-config", "run=mine").stdout
    assert f"default_local_dir: {ROOT}/runs/mine" in printed
    assert "max_num_gen_batches: 10" in printed


def test_a_reward_that_cannot_be_used_is_refused(verl, tmp_path):
    row = {"reward_model": {"ground_truth": "x = 1"}, "extra_info": {"old_code": "x = 0"}}

    def refusal(*overrides: str) -> str:
        with pytest.raises(InputError) as stopped:
            start.check_reward(verl_config.compose("dapo", list(overrides)), row)
        return str(stopped.value)

    path = "reward.custom_reward_function.path"
    good = f"{path}={ROOT / 'src' / 'rewards.py'}"
    start.check_reward(verl_config.compose("dapo", [good]), row)
    assert "not found" in refusal(f"{path}=absent.py")
    (tmp_path / "broken.py").write_text("def compute_score(:\n")
    assert "Error loading module" in refusal(f"{path}={tmp_path / 'broken.py'}")
    assert "Object not found in module" in refusal(good, "reward.custom_reward_function.name=absent")
    assert "unknown reward 'es-star'" in refusal(good, "reward.custom_reward_function.reward_kwargs.reward=es-star")
    (tmp_path / "text.py").write_text("def compute_score(**kwargs): return {'score': 1.0, 'why': 'good'}\n")
    assert "why is not a number" in refusal(
        f"{path}={tmp_path / 'text.py'}", "~reward.custom_reward_function.reward_kwargs"
    )
    (tmp_path / "number.py").write_text("def compute_score(**kwargs): return 1.0\n")
    assert "must return a dict with 'score'" in refusal(
        f"{path}={tmp_path / 'number.py'}", "~reward.custom_reward_function.reward_kwargs"
    )


def test_checkpoints_that_a_kill_cut_short_are_passed_over(tmp_path):
    import torch

    def checkpoint(step: int) -> Path:
        folder = tmp_path / f"global_step_{step}"
        (folder / "actor").mkdir(parents=True)
        (folder / "actor" / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": 2}))
        for kind in ("model", "optim", "extra_state"):
            for rank in (0, 1):
                torch.save({}, folder / "actor" / f"{kind}_world_size_2_rank_{rank}.pt")
        torch.save({}, folder / "data.pt")
        return folder

    assert dapo_resume.last_checkpoint(tmp_path) is None
    whole = checkpoint(5)
    checkpoint(100)
    assert dapo_resume.last_checkpoint(tmp_path).name == "global_step_100"  # by number, not by name
    optimizer = tmp_path / "global_step_100" / "actor" / "optim_world_size_2_rank_1.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-10])
    assert dapo_resume.last_checkpoint(tmp_path) == whole
    trainer = {"default_local_dir": str(tmp_path), "resume_mode": "auto", "resume_from_path": None}
    config = OmegaConf.create({"trainer": {**trainer, "n_gpus_per_node": 2, "nnodes": 1}})
    assert dapo_resume.choose_resume(config) == whole
    assert (config.trainer.resume_mode, config.trainer.resume_from_path) == ("resume_path", str(whole))
    config.trainer.update(resume_mode="auto", n_gpus_per_node=4)
    with pytest.raises(InputError, match="saved by 2 processes, now there are 4"):
        dapo_resume.choose_resume(config)
    config.trainer.resume_mode = "disable"
    with pytest.raises(InputError, match="holds checkpoints"):
        dapo_resume.choose_resume(config)


def test_a_resume_with_another_configuration_is_refused(tmp_path):
    start = {
        "data": {"d": {"sha256": "a"}},
        "config": {
            "algorithm": {"adv_estimator": "grpo"},
            "trainer": {"save_freq": 1, "total_training_steps": 10},
            "actor_rollout_ref": {"actor": {"optim": {"lr_scheduler_type": "constant", "lr_warmup_steps_ratio": 0.0}}},
        },
    }
    (tmp_path / "run.json").write_text(json.dumps({"starts": [start]}))
    same = json.loads(json.dumps(start))
    same["config"]["trainer"]["save_freq"] = 2  # how often it saves does not make another run
    same["config"]["trainer"]["total_training_steps"] = 20  # nor does its length: the learning rate is constant
    dapo_resume.check_same_run([tmp_path], same)
    other = json.loads(json.dumps(start))
    other["config"]["algorithm"]["adv_estimator"] = "rloo"
    with pytest.raises(InputError, match=r"started with algorithm\.adv_estimator = grpo, now it is rloo"):
        dapo_resume.check_same_run([tmp_path], other)
    start["config"]["recode"] = {"bad_rows": "drop", "val_size": 64}
    (tmp_path / "run.json").write_text(json.dumps({"starts": [start]}))
    same = json.loads(json.dumps(start))
    same["config"]["recode"]["bad_rows"] = "keep"  # the same files, so there was nothing to drop
    dapo_resume.check_same_run([tmp_path], same)
    other = json.loads(json.dumps(start))
    other["data"]["d"]["sha256"] = "b"
    with pytest.raises(InputError, match=r"sha256 of the data = \['a'\], now it is \['b'\]"):
        dapo_resume.check_same_run([tmp_path], other)
