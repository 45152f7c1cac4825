"""Every YAML parses with the real parser, and every mistake ends in one line before a model loads."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import generate
import grpo
import sft
from common.cli import program
from common.errors import InputError
from common.launch import VARIABLES

ROOT = Path(__file__).parent.parent
VLLM_CONFIG = ROOT / "configs" / "grpo_vllm.yaml"
GRPO_CONFIGS = [ROOT / "configs" / name for name in ("grpo.yaml", "quickstart/grpo.yaml", "grpo_dapo_loss.yaml")]
GRPO_CONFIGS.append(VLLM_CONFIG)
SFT_CONFIGS = [ROOT / "configs" / "sft.yaml", ROOT / "configs" / "quickstart" / "sft.yaml"]
TRAINING_CONFIGS = GRPO_CONFIGS + SFT_CONFIGS
EVAL_CONFIG = ROOT / "configs" / "eval.yaml"
QUICK = str(GRPO_CONFIGS[1])


def grpo_arguments(config: Path, *flags: str):
    """As in a check, which does not need vLLM to be installed."""
    return grpo.parse_arguments(["--config", str(config), "--use_cpu", "true", "--check", "1", *flags])


def failure(capsys, *flags: str, parse=grpo.parse_arguments) -> str:
    """The one line that a bad command line ends with."""
    with pytest.raises(SystemExit) as stopped:
        program()(parse)(list(flags))
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def test_there_is_no_other_training_config():
    found = {path for path in (ROOT / "configs").rglob("*.yaml") if "accelerate" not in path.parts}
    verl_s = {path for path in found if path.stem.startswith("dapo")}  # test_dapo_config.py
    names = ("eval", "grpo", "paper", "sft", "small")  # test_launchers.py and experiments/test_grid.py
    study_s = {ROOT / "configs" / "study" / f"{name}.yaml" for name in names}
    assert found - verl_s == {*TRAINING_CONFIGS, EVAL_CONFIG, *study_s}


@pytest.mark.parametrize("config", GRPO_CONFIGS, ids=str)
def test_grpo_configs_parse(config):
    script, args, model = grpo_arguments(config)
    loss = "dapo" if config.stem == "grpo_dapo_loss" else "grpo"
    assert (script.reward, args.loss_type, args.scale_rewards) == ("format,es_star", loss, "group")
    assert (model.use_dora, model.lora_r, model.lora_alpha, args.num_generations) == (True, 64, 64, 8)


@pytest.mark.parametrize("config", SFT_CONFIGS, ids=str)
def test_sft_configs_parse(config):
    _, args, model = sft.parse_arguments(["--config", str(config), "--use_cpu", "true"])
    assert model.use_dora
    assert args.learning_rate in (5e-5, 3e-4)


def test_the_paper_s_numbers():
    script, args, model = grpo_arguments(GRPO_CONFIGS[0])
    assert (args.learning_rate, args.warmup_steps, args.max_steps) == (5e-5, 150, 5000)
    assert (args.lr_scheduler_type, args.beta, args.epsilon) == ("cosine", 0.001, 0.2)
    assert (script.max_prompt_length, args.max_completion_length) == (2048, 1024)
    assert (model.lora_dropout, model.lora_target_modules) == (0.01, ["q_proj", "v_proj"])
    assert (args.seed, args.save_steps, args.bf16) == (42, 100, True)
    assert args.report_to == ["tensorboard"]


@pytest.mark.parametrize("config", TRAINING_CONFIGS, ids=str)
def test_the_configs_train_on_the_paper_s_wording(config):
    parse = sft.parse_arguments if config in SFT_CONFIGS else grpo.parse_arguments
    flags = ["--config", str(config), "--use_cpu", "true", "--check", "1"]
    assert [parse([*flags, *more])[0].prompt for more in ([], ["--prompt", "precise"])] == ["paper", "precise"]


def eval_arguments(*flags: str):
    flags = ["--model", "absent/model", "--out", "samples.jsonl", "--backend", "transformers", *flags]
    return generate.parse_arguments(["--config", str(EVAL_CONFIG), *flags])


def test_the_evaluation_config():
    args, _ = eval_arguments()
    assert (args.benchmark, args.prompt, args.samples, args.temperature, args.top_p) == (
        "arena",
        "zero-shot",
        10,
        0.8,
        0.7,
    )
    assert (args.max_new_tokens, args.seed, args.dtype) == (1024, 42, "bfloat16")
    assert eval_arguments("--samples", "1", "--temperature=0")[1].sampling.temperature == 0  # flags win


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("temperatur: 0.5", "c.yaml:1: unknown key 'temperatur': did you mean 'temperature'?"),
        ("samples: 2.5", "c.yaml:1: samples: invalid int value: '2.5'"),
        ("prompt: two-shot", "c.yaml:1: prompt: invalid choice: 'two-shot'"),
        ("no_docs: 3", "c.yaml:1: no_docs: expected true or false, got '3'"),
        ("samples: [1, 2]", "c.yaml:1: samples: expected one value, got ['1', '2']"),
        ("no_docs: true", None),
        ("no_docs: false", None),
        ("no_docs: on  # true in YAML 1.1", None),
        ("no_docs: off", None),
        ("samples: null", None),
    ],
)
def test_mistakes_in_an_evaluation_yaml(capsys, tmp_path, content, message):
    (tmp_path / "c.yaml").write_text(content)
    flags = ["--config", str(tmp_path / "c.yaml"), "--data", "x", "--out", "x.jsonl", "--model", "absent/model"]
    if message is None:
        assert generate.parse_arguments(flags)[0].no_docs == ("true" in content)
    else:
        assert message in failure(capsys, *flags, parse=generate.parse_arguments)


@pytest.mark.parametrize("config", [*TRAINING_CONFIGS, EVAL_CONFIG], ids=str)
def test_headers_and_sources(config):
    text = config.read_text()
    header = text.split("model_name_or_path:")[0].split("benchmark:")[0]
    for word in ("Runs on:", "Launch:", "Override:"):
        assert word in header
    if config.parent.name == "configs":
        numbers = [line for line in text.splitlines() if re.match(r"^\w+: *[0-9.]", line)]
        bare = [line for line in numbers if "#" not in line and not line.startswith("logging_steps: ")]
        assert set(bare) <= {"print_samples: 1"}


def test_batches_that_do_not_come_out_even(capsys, monkeypatch):
    message = failure(capsys, "--config", QUICK, "--per_device_train_batch_size", "3")
    expected = "16 sequences a step cannot be divided evenly among 1 process(es) x per_device_train_batch_size 3"
    assert expected in message
    message = failure(capsys, "--config", QUICK, "--gradient_accumulation_steps", "5")
    assert "gradient_accumulation_steps 5 contradicts the 16 sequences of a step, which need 2" in message
    for name, value in zip(VARIABLES, ("3", "0", "0", "127.0.0.1", "29500"), strict=True):
        monkeypatch.setenv(name, value)
    assert "among 3 process(es)" in failure(capsys, "--config", QUICK)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--learning_rat", "1e-4"], "unknown key 'learning_rat': did you mean 'learning_rate'?"),  # abbreviated
        (["--lerning_rate=1e-4"], "did you mean 'learning_rate'?"),
        (["--learning_rate", "fast"], "invalid float value: 'fast'"),
        (["--load_in_4bit", "true"], "load_in_4bit: not supported here"),
        (["--hub_token", "hf_0123456789"], "hub_token: would be saved in training_args.bin, which push_to_hub uploads"),
        (["--reward", "format,es-star"], "unknown reward 'es-star': choose from format, em"),
        (["--reward", "format es_star"], "es_star, dm_star, execution, separated by commas"),
        (["--reward_weights", "1.0"], "2 rewards (format,es_star) but 1 reward_weights"),
        (["--dora_generation", "live"], "choose from merge, cache, stock"),
        (["sk-secret"], "an argument without a flag: every flag starts with --, and takes one value"),
        (["--hub_tokne", "hf_secret"], "unknown key 'hub_tokne': did you mean 'hub_token'?"),
        (["--bad_rows", "skip"], "bad_rows skip: choose from stop, drop, keep"),
        (["--prompt", "terse"], "prompt terse: choose from paper, precise"),
        (["--use_vllm", "true"], "vllm is not installed: pip install -r requirements/vllm.txt"),
        (["--report_to", "wandb"], "wandb is not installed: pip install -r requirements/extras.txt"),
        (["--num_generations", "1", "--prompts_per_step", "16"], "num_generations 1: must be at least 2"),
        (["--updates_per_generation", "0"], "updates_per_generation 0: must be at least 1"),
        (["--updates_per_generation", "2", "--steps_per_generation", "2"], "not together with steps_per_generation"),
        (["--overlong_buffer", "97"], "overlong_buffer 97: max_completion_length is 96"),
    ],
)
def test_mistakes_on_the_command_line(capsys, flags, message):
    from importlib.util import find_spec

    package = message.split()[0]
    if package in ("vllm", "wandb") and find_spec(package):
        pytest.skip(f"{package} is installed here")
    line = failure(capsys, "--config", QUICK, *flags)
    assert message in line
    assert "secret" not in line  # what is not understood may be one


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("learning_rat: 1e-4", "c.yaml:1: unknown key 'learning_rat': did you mean 'learning_rate'?"),
        ("seed: 1\nmax_steps: 2.5", "c.yaml:2: max_steps: invalid int value: '2.5'"),
        ("bad_rows: true", "bad_rows true: choose from stop, drop, keep"),
        ("max_steps: true", "c.yaml:1: max_steps: invalid int value: 'true'"),
        ("learning_rate: yes", "c.yaml:1: learning_rate: invalid float value: 'yes'"),
        ("learning_rate: [1, 2]", "c.yaml:1: learning_rate: expected one value, got ['1', '2']"),
        ("learning_rate: {a: 1}", "c.yaml:1: learning_rate: expected one value, got {'a': 1}"),
        (
            "lora_target_modules: {a: 1}",
            "c.yaml:1: lora_target_modules: expected a list of single values, got {'a': 1}",
        ),
        ("lora_target_modules: [[a]]", "c.yaml:1: lora_target_modules: expected a list of single values, got [['a']]"),
        ("use_cpu: 3", "c.yaml:1: use_cpu: expected true or false, got '3'"),
        ("seed: null", "c.yaml:1: seed: null is not allowed"),
        ("1: x", "c.yaml:1: unknown key '1'"),
        ("lr_scheduler_type: [", "c.yaml: not YAML"),
        ("save_strategy: never", "c.yaml:1: save_strategy: invalid choice: 'never'"),
        ("[1, 2]", "c.yaml: expected a mapping"),
        ("a: [", "c.yaml: not YAML"),
    ],
)
def test_mistakes_in_a_yaml(capsys, tmp_path, content, message):
    (tmp_path / "c.yaml").write_text(content)
    assert message in failure(capsys, "--config", str(tmp_path / "c.yaml"), "--data", "x")
    assert message in failure(capsys, f"--config={tmp_path / 'c.yaml'}", "--data", "x", parse=sft.parse_arguments)


def test_a_yaml_says_what_is_written(tmp_path):
    """YAML 1.1 makes False of no, and a date of a folder's name."""
    (tmp_path / "c.yaml").write_text(
        "save_strategy: no\noutput_dir: 2024-01-01\nuse_cpu: on\nbf16: off\nreport_to: [none]\nlearning_rate: 1e-4\n"
        "lr_scheduler_kwargs: {power: 2}\nlora_target_modules: null\nmodel_name_or_path: 007\n"
    )
    _script, args, model = sft.parse_arguments(["--config", str(tmp_path / "c.yaml"), "--data", "x"])
    assert (args.save_strategy.value, args.output_dir, args.use_cpu, args.bf16) == ("no", "2024-01-01", True, False)
    assert (args.learning_rate, args.lr_scheduler_kwargs, args.report_to) == (1e-4, {"power": 2}, [])
    assert (model.lora_target_modules, model.model_name_or_path) == (None, "007")


@pytest.mark.parametrize("key", ["lr_scheduler_kwargs", "gradient_checkpointing_kwargs", "model_init_kwargs"])
def test_a_json_object_on_the_command_line_is_a_mapping(key):
    _, args, _ = grpo_arguments(GRPO_CONFIGS[1], f"--{key}", '{"power": 2}')
    assert getattr(args, key) == {"power": 2}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--learning_rate nan", "learning_rate nan: must be finite"),
        ("--learning_rate inf", "learning_rate inf: must be finite"),
        ("--learning_rate=-1", "learning_rate -1.0: must be at least 0"),
        ("--weight_decay nan", "weight_decay nan: must be finite"),
        ("--max_grad_norm=-1", "max_grad_norm -1.0: must be at least 0"),
        ("--adam_beta1 2", "adam_beta1 2.0: must be at least 0 and below 1"),
        ("--beta=-1", "beta -1.0: must be at least 0"),
        ("--beta nan", "beta nan: must be finite"),
        ("--epsilon=-1", "epsilon -1.0: must be at least 0"),
        ("--temperature 0", "temperature 0.0: must be above 0"),
        ("--top_p 2", "top_p 2.0: must be above 0 and at most 1"),
        ("--top_k=-7", "top_k -7: must be at least 0"),
        ("--min_p 3", "min_p 3.0: must be between 0 and 1"),
        ("--repetition_penalty 0", "repetition_penalty 0.0: must be above 0"),
        ("--reward_weights nan 1", "reward_weights [nan, 1.0]: must be finite"),
        ("--num_generations 0", "num_generations 0: must be at least 2"),
        ("--per_device_train_batch_size 0", "per_device_train_batch_size 0: must be at least 1"),
        ("--gradient_accumulation_steps 0", "gradient_accumulation_steps 0: must be at least 1"),
        ("--max_completion_length 0", "max_completion_length 0: must be at least 1"),
        ("--max_prompt_length 0", "max_prompt_length 0: must be at least 1"),
        ("--max_steps 0", "max_steps 0: must be -1 or at least 1"),
        ("--num_train_epochs 0", "num_train_epochs 0.0: must be above 0"),
        ("--num_iterations 0", "num_iterations 0: must be at least 1"),
        ("--seed=-1", "seed -1: must be between 0 and 4294967295"),
        ("--seed 4294967296", "seed 4294967296: must be between 0 and 4294967295"),
        ("--lora_r 0", "lora_r 0: must be at least 1"),
        ("--lora_dropout 1", "lora_dropout 1.0: must be at least 0 and below 1"),
        ("--save_steps 0", "save_steps 0.0: must be above 0"),
        ("--logging_steps 0", "logging_steps 0.0: must be above 0"),
        ("--print_samples=-2", "print_samples -2: must be at least 0"),
        ("--check 0", "check 0: must be at least 1"),
        ("--prompts_per_step 0", "prompts_per_step 0: must be at least 1"),
        ("--overlong_buffer 0", "overlong_buffer 0: must be at least 1"),
        ("--report_to bogus", "report_to bogus: choose from none, all, "),
        ("--loss_type foo", "loss_type foo: choose from grpo, bnpo, dr_grpo, dapo"),
        ("--scale_rewards foo", "scale_rewards foo: choose from group, batch, none"),
        ("--attn_implementation foo", "attn_implementation foo: choose from eager, sdpa, "),
        ("--eval_strategy steps", "eval_strategy steps: choose from no"),
        ("--lr_scheduler_kwargs foo", "lr_scheduler_kwargs 'foo': expected a JSON object"),
        ("--model_init_kwargs foo", "model_init_kwargs 'foo': expected a JSON object"),
        ("--output_dir=", "output_dir '': must name a folder"),
        (f"--output_dir {__file__}", "must name a folder"),
        ("--importance_sampling_level foo", "importance_sampling_level foo: choose from token, sequence"),
        ("--cache_implementation foo", "cache_implementation foo: choose from static, "),
        ("--save_strategy best", "save_strategy best: choose from no, steps, epoch"),
        ("--remove_unused_columns true", "remove_unused_columns True: choose from False"),
        ("--ref_model_sync_steps 0", "ref_model_sync_steps 0: must be at least 1"),
        ("--sync_ref_model true", "sync_ref_model true: needs beta above 0 and use_peft false"),
        ("--lora_target_modules q_proj,v_proj", "lora_target_modules q_proj,v_proj: separate the names by spaces"),
        ("--lora_target_modules q_proj,", "lora_target_modules q_proj,: separate the names by spaces"),
        ('--model_init_kwargs {"dtype":"bfloat16"}', "model_init_kwargs: dtype: set dtype, model_revision or"),
        ('--model_init_kwargs {"device_map":"cpu"}', "model_init_kwargs: device_map: "),
        ('--generation_kwargs {"do_sample":false}', "generation_kwargs: not supported: set temperature, "),
        ('--generation_kwargs {"bogus":1}', "generation_kwargs: not supported: set temperature, "),
    ],
)
def test_values_that_trl_would_take_or_refuse_late(capsys, flags, message):
    """Before: a traceback after the model had loaded, or a run (top_p 2, beta -1, learning_rate inf)."""
    assert message in failure(capsys, "--config", QUICK, *flags.split())


@pytest.mark.parametrize(
    ("text", "parse", "message"),
    [
        ("report_to: [tensorboard, none]", grpo.parse_arguments, "report_to tensorboard none: none stands alone"),
        ("generation_kwargs: {stop_strings: [a]}", grpo.parse_arguments, "generation_kwargs: not supported: "),
        ("examples_per_step: 8", grpo.parse_arguments, "examples_per_step: a key of src/sft.py, not of this program"),
        ("prompts_per_step: 8", sft.parse_arguments, "prompts_per_step: a key of src/grpo.py, not of this program"),
        ("defaults: [ppo_trainer]", sft.parse_arguments, "defaults: a key of src/dapo.py, not of this program"),
    ],
)
def test_keys_of_a_file(capsys, tmp_path, text, parse, message):
    (tmp_path / "c.yaml").write_text(f"{text}\nuse_cpu: true\nbf16: false\nmodel_name_or_path: m\ndata: d\n")
    assert message in failure(capsys, "--config", str(tmp_path / "c.yaml"), parse=parse)


def test_values_of_sft(capsys):
    flags = ["--config", str(SFT_CONFIGS[1])]
    assert "max_length 0: must be at least 1" in failure(capsys, *flags, "--max_length", "0", parse=sft.parse_arguments)
    assert "seed -1: must be" in failure(capsys, *flags, "--seed=-1", parse=sft.parse_arguments)
    assert sft.parse_arguments([*flags, "--loss_type", "nll"])[1].loss_type == "nll"  # SFT has other losses than GRPO


def test_missing_model_and_config(capsys):
    assert "no model: set model_name_or_path" in failure(capsys, "--data", "x", "--use_cpu", "true", "--bf16", "false")
    assert "absent.yaml: no such file" in failure(capsys, "--config", "absent.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "accelerate").glob("*.yaml")), ids=lambda p: p.name)
def test_accelerate_configs_load(path):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    assert str(config.distributed_type).endswith({"ddp.yaml": "MULTI_GPU", "zero2.yaml": "DEEPSPEED"}[path.name])
    if path.name == "zero2.yaml":
        assert yaml.safe_load(path.read_text())["deepspeed_config"]["zero_stage"] == 2


@pytest.mark.parametrize("parse", [grpo.parse_arguments, sft.parse_arguments], ids=["grpo", "sft"])
def test_full_weights_without_float32_copies(capsys, monkeypatch, parse):
    """At 5e-5 Adam moves a weight of 0.02 by 5e-5; bf16 cannot represent a value between 0.02 and 0.02 + 1.2e-4."""
    flags = ["--model_name_or_path", "absent/model", "--data", "x", "--use_cpu", "true", "--use_peft", "false"]
    message = failure(capsys, *flags, "--dtype", "bfloat16", parse=parse)
    assert "use_peft false with dtype bfloat16: most updates would round to nothing. Add --dtype float32" in message
    assert "with dtype auto" in failure(capsys, *flags, "--dtype", "auto", parse=parse)
    assert parse([*flags, "--dtype", "float32"])[2].use_peft is False
    assert parse(flags)[2].use_peft is False  # trl's default is float32
    assert parse([*flags, "--dtype", "bfloat16", "--use_peft", "true"])[2].use_peft  # the adapter is float32


@pytest.mark.parametrize("parse", [grpo.parse_arguments, sft.parse_arguments], ids=["grpo", "sft"])
def test_fsdp_is_refused(capsys, monkeypatch, parse):
    """By trl's key, or by accelerate, which announces it to a process only in its environment: args.fsdp stays None."""
    flags = ["--config", QUICK if parse is grpo.parse_arguments else str(SFT_CONFIGS[0]), "--use_cpu", "true"]
    assert "FSDP is not supported: use DDP (the default), or ACCELERATE=zero2" in failure(
        capsys, *flags, "--fsdp", "full_shard", parse=parse
    )
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert "FSDP is not supported" in failure(capsys, *flags, parse=parse)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "false")
    parse(flags)


def test_merged_rollouts_need_whole_weights(capsys):
    """ZeRO-3, which is on if DeepSpeed's configuration says so."""
    from grpo import check_rollouts

    script, args, model = grpo.parse_arguments(["--config", QUICK])
    args.deepspeed_plugin = SimpleNamespace(zero_stage=3)
    for how, vllm, said in (
        ("merge", False, "dora_generation merge needs whole weights"),
        ("cache", False, "dora_generation cache needs whole weights"),
        ("stock", True, "use_vllm with an adapter needs whole weights: DDP or ZeRO-2"),
    ):
        script.dora_generation, args.use_vllm = how, vllm
        with pytest.raises(SystemExit):
            check_rollouts(script, args, model)
        assert said in capsys.readouterr().err
    args.use_vllm = False
    check_rollouts(script, args, model)
    args.deepspeed_plugin = SimpleNamespace(zero_stage=2)
    script.dora_generation = "merge"
    check_rollouts(script, args, model)


def test_continuous_batching_casts_what_is_trained(capsys):
    flags = ["--config", QUICK, "--use_transformers_continuous_batching", "true"]
    assert "use_transformers_continuous_batching: not supported" in failure(capsys, *flags)
    assert "not supported" in failure(capsys, "--config", QUICK, "--use_transformers_paged", "true")  # its old name
    full = ["--use_peft", "false", "--dtype", "float32"]
    assert "not supported" in failure(capsys, *flags, *full)  # bf16 is true
    assert grpo.parse_arguments([*flags, *full, "--bf16", "false"])[1].use_transformers_continuous_batching


def test_a_machine_whose_gpu_torch_does_not_see(capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch sees a GPU here")
    message = failure(capsys, "--config", str(GRPO_CONFIGS[0]))
    assert message.startswith(f"{Path(sys.argv[0]).stem}: bf16 needs a GPU, and torch {torch.__version__}")
    assert "nvidia-smi" in message
    assert "--use_cpu true" in message


def test_the_vllm_config_is_the_paper_s_but_for_vllm():
    paper, vllm = (yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text()) for name in ("grpo", "grpo_vllm"))
    differs = {key for key in {*paper, *vllm} if paper.get(key) != vllm.get(key)}
    assert {key for key in differs if not key.startswith("vllm_")} == {"use_vllm", "output_dir"}
    # comments too, from the model to the sampling: the header and the part about vLLM differ
    texts = [(ROOT / "configs" / f"{name}.yaml").read_text() for name in ("grpo", "grpo_vllm")]
    same = [text.replace("runs/grpo_vllm", "runs/grpo") for text in texts]
    for start, end in (("model_name_or_path:", "# GRPO\n"), ("prompts_per_step:", "top_k:"), ("# optimisation", None)):
        cut = [text[text.index(start) : text.index(end) if end else None] for text in same]
        assert cut[0] == cut[1]


def test_the_importance_correction_of_the_vllm_config_is_trl_s_default():
    from trl import GRPOConfig

    keys = ("correction", "mode", "clip_max", "clip_min")
    _, args, _ = grpo_arguments(VLLM_CONFIG)
    defaults = {field.name: field.default for field in dataclasses.fields(GRPOConfig)}
    for key in (f"vllm_importance_sampling_{key}" for key in keys):
        assert getattr(args, key) == defaults[key]
    assert args.vllm_gpu_memory_utilization == defaults["vllm_gpu_memory_utilization"] == 0.3
    assert (args.vllm_mode, args.vllm_max_model_length) == ("colocate", 3072)


def test_a_vllm_server_needs_dora(capsys):
    flags = ["--config", str(VLLM_CONFIG), "--use_cpu", "true", "--vllm_mode", "server"]
    assert "vllm_mode server with use_dora false: trl 1.16 would send" in failure(capsys, *flags, "--use_dora", "false")
    assert grpo_arguments(VLLM_CONFIG, "--vllm_mode", "server")[2].use_dora


def test_keys_of_vllm_that_trl_would_ignore_or_reject_after_the_model_has_loaded(capsys):
    flags = ["--config", str(GRPO_CONFIGS[0]), "--use_cpu", "true", "--vllm_mode", "server"]
    assert "vllm_mode server: has no effect without use_vllm true" in failure(capsys, *flags)
    flags = ["--config", str(VLLM_CONFIG), "--use_cpu", "true", "--rollouts", "shared"]
    assert "rollouts shared: has no effect with use_vllm true" in failure(capsys, *flags)
    flags = ["--config", str(VLLM_CONFIG), "--use_cpu", "true", "--check", "2", "--vllm_tensor_parallel_size"]
    message = "vllm_tensor_parallel_size 3: does not divide the 2 process(es) of the run"
    assert message in failure(capsys, *flags, "3")
    assert grpo.parse_arguments([*flags, "2"])[1].vllm_tensor_parallel_size == 2


def test_vllm_s_context_holds_prompt_and_completion(capsys):
    for config in (GRPO_CONFIGS[0], VLLM_CONFIG):
        _, args, _ = grpo_arguments(config)
        assert (args.use_vllm, args.vllm_max_model_length) == (config == VLLM_CONFIG, 3072)
    flags = ["--config", str(GRPO_CONFIGS[0]), "--use_cpu", "true", "--use_vllm", "true"]
    message = failure(capsys, *flags, "--max_completion_length", "2048")
    assert "vllm_max_model_length 3072: max_prompt_length 2048 + max_completion_length 2048 need 4096" in message


def test_the_sampling_of_early_2025(capsys):
    _, args, _ = grpo_arguments(GRPO_CONFIGS[0], "--temperature", "0.9", "--top_k", "50")
    assert (args.temperature, args.top_k) == (0.9, 50)
    assert (grpo_arguments(GRPO_CONFIGS[0])[1].temperature, grpo_arguments(GRPO_CONFIGS[0])[1].top_k) == (1.0, 0)
    assert "--temperature 0.9 --top_k 50" in GRPO_CONFIGS[0].read_text()


@pytest.mark.parametrize("config", TRAINING_CONFIGS, ids=str)
def test_no_training_decays_the_magnitudes_or_searches_the_graph(config):
    parse = sft.parse_arguments if config in SFT_CONFIGS else grpo.parse_arguments
    args = parse(["--config", str(config), "--use_cpu", "true", "--check", "1"])[1]
    assert args.weight_decay == 0.0
    if config.parent.name == "configs":
        assert args.ddp_find_unused_parameters is False
        assert args.save_total_limit == (3 if config in SFT_CONFIGS else args.max_steps // args.save_steps)


def test_a_gpu_run_needs_a_compiler(monkeypatch):
    """Triton compiles at run time; a driver-only image has no gcc, and would fail after the model has loaded."""
    from trl_training import checks

    monkeypatch.setenv("CC", "absent-cc")
    checks.refuse_missing_compiler(SimpleNamespace(device=SimpleNamespace(type="cpu")))
    with pytest.raises(InputError, match="Triton compiles with CC=absent-cc, which is not there"):
        checks.refuse_missing_compiler(SimpleNamespace(device=SimpleNamespace(type="cuda")))


def test_one_process_takes_one_card(monkeypatch):
    """trl would spread the model over all cards that a single process sees."""
    import torch

    from trl_training import checks

    cards = SimpleNamespace(device=SimpleNamespace(type="cuda"))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    checks.refuse_several_cards(cards)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    with pytest.raises(InputError, match="one process sees 8 GPUs: set CUDA_VISIBLE_DEVICES=0"):
        checks.refuse_several_cards(cards)
    for name, value in zip(VARIABLES, ("8", "0", "0", "127.0.0.1", "29500"), strict=True):
        monkeypatch.setenv(name, value)
    checks.refuse_several_cards(cards)


def test_decay_of_magnitudes_is_reported(capsys):
    from trl_training import checks

    model = SimpleNamespace(use_peft=True, use_dora=True)
    checks.warn_of_decay(SimpleNamespace(weight_decay=0.0), model)
    assert capsys.readouterr().out == ""
    checks.warn_of_decay(SimpleNamespace(weight_decay=0.1), model)
    assert "warning: weight_decay 0.1 also shrinks DoRA's magnitudes" in capsys.readouterr().out
