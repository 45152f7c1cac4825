"""What would end a trl run after its model has loaded, or change it silently, is one line before that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import CPU

import grpo
import sft
from adapters import adapter_config, check_base
from common.checkpoints import Checkpoint
from common.errors import InputError
from common.models import load_base, make_savable, own_sampling, refuse_unusable
from trl_training.optimizer import check_optimizer
from trl_training.saved_state import check_saved

IDS = {"bos_token_id": 2000, "eos_token_id": [2002], "pad_token_id": 2002}
SHAPES = {"no_repeat_ngram_size": 2, "min_new_tokens": 7, "bad_words_ids": [[5]], "guidance_scale": 2.0}
SHAPES |= {"stop_strings": ["a"], "temperature": 0.7, "do_sample": True}


@pytest.fixture
def model(random_model, tmp_path) -> Path:
    """A copy of the random model, to change."""
    return Path(shutil.copytree(random_model, tmp_path / "model"))


def change(path: Path, **keys: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def words(model: Path, data: Path, out: Path, program: ModuleType = sft) -> list[object]:
    flags = ["--model_name_or_path", model, "--data", data, "--output_dir", out, *CPU, "--max_steps", 1]
    flags += ["--use_peft", "true", "--per_device_train_batch_size", 2]
    return flags + (["--num_generations", 2, "--max_completion_length", 8] if program is grpo else [])


# --- what shapes the samples ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "generation_config.json: input should be a valid dictionary"),
        ({"eos_token_id": "x"}, "generation_config.json: eos_token_id.int: input should be a valid integer"),
        ({"eos_token_id": ["x"]}, "generation_config.json: eos_token_id."),
        ({"pad_token_id": [1]}, "generation_config.json: pad_token_id: input should be a valid integer"),
    ],
)
def test_a_generation_configuration_that_cannot_be_used(model, content, message):
    (model / "generation_config.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as stopped:
        refuse_unusable(str(model))
    assert message in str(stopped.value)


def test_only_the_token_ids_of_a_model_s_generation_configuration_count_while_sampling(model):
    (model / "generation_config.json").write_text(json.dumps(IDS | SHAPES))
    loaded = load_base(str(model), torch.float32)
    own, seen = loaded.generation_config, {}
    with own_sampling(loaded):
        seen = loaded.generation_config.to_diff_dict()
        out = loaded.generate(torch.tensor([[5, 6]]), max_new_tokens=3, do_sample=False)  # no tokenizer: stop_strings
    assert {key: value for key, value in seen.items() if key in IDS | SHAPES} == IDS
    assert out.shape[1] <= 5
    assert loaded.generation_config is own  # what is saved with trained weights
    assert own.no_repeat_ngram_size == 2


def test_grpo_samples_under_its_own_keys(model, tmp_path):
    from trainers import build

    (model / "generation_config.json").write_text(json.dumps(IDS | SHAPES))
    trainer = build(model, tmp_path / "out")
    base, used = trainer.model.get_base_model(), []
    generate = base.generate

    def record(*args: object, **kwargs: object) -> object:
        used.append(base.generation_config.to_diff_dict())
        return generate(*args, **kwargs)

    base.generate = record
    trainer._generate_single_turn([[5, 6]], None, {}, 1)
    assert used and not used[0].keys() & SHAPES.keys()


def test_a_note_about_a_generation_configuration_that_is_replaced(model, capsys):
    assert make_savable(load_base(str(model), torch.float32)) == ""
    (model / "generation_config.json").write_text(json.dumps({**IDS, "do_sample": False, "temperature": 0.9}))
    load_base(str(model), torch.float32)
    note = "its generation_config.json contradicts itself: the saved model keeps only the token ids of it"
    assert capsys.readouterr().err.endswith(f"model {model}: {note}\n")


# --- the optimizer and the schedule -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--optim galore_adamw", "optim galore_adamw: You need to install `galore_torch`"),
        ("--optim apollo_adamw", "optim apollo_adamw: You need to install `apollo_torch`"),
        ("--optim lomo", "optim lomo: You need to install `lomo_optim`"),
        ("--optim grokadamw", "optim grokadamw: Please install grokadamw"),
        ("--optim schedule_free_adamw", "optim schedule_free_adamw: You need to install `schedulefree`"),
        ("--optim adamw_bnb_8bit", "optim adamw_bnb_8bit: You need to install `bitsandbytes`"),
        ("--optim_args x", "optim_args x: not enough values to unpack"),
        ("--optim_args bogus=1", "optim_args bogus=1: this optimizer does not read them"),
        ("--optim sgd --optim_args nesterov=true", "optim_args nesterov=true: Nesterov momentum requires"),
        ("--lr_scheduler_type cosine_with_min_lr", "cosine_with_min_lr: One of min_lr or min_lr_rate should be set"),
        ("--lr_scheduler_type warmup_stable_decay", "required positional argument: 'num_decay_steps'"),
        ('--lr_scheduler_kwargs {"bogus":1}', "lr_scheduler_kwargs {'bogus': 1}: "),
        ('--lr_scheduler_type cosine --warmup_steps 1 --lr_scheduler_kwargs {"num_cycles":"x"}', "could not convert"),
        (
            '--lr_scheduler_type polynomial --lr_scheduler_kwargs {"lr_end":1}',
            "lr_end (1) must be smaller",
        ),
    ],
)
def test_an_optimizer_or_a_schedule_that_cannot_be_built(flags, message, tmp_path):
    command = [*map(str, words(tmp_path, tmp_path, tmp_path / "out")), *flags.split()]
    _, args, _ = sft.parse_arguments(command)
    with pytest.raises(InputError) as stopped:
        check_optimizer(args, torch.nn.Linear(1, 1))
    assert message in str(stopped.value)


@pytest.mark.parametrize(
    "flags",
    [
        "--optim adamw_torch_fused",
        "--optim adafactor",
        "--optim sgd --optim_args momentum=0.9",
        '--lr_scheduler_type cosine_with_min_lr --lr_scheduler_kwargs {"min_lr_rate":0.1}',
        '--lr_scheduler_type warmup_stable_decay --lr_scheduler_kwargs {"num_decay_steps":1}',
    ],
)
def test_an_optimizer_and_a_schedule_that_can_be_built(flags, tmp_path):
    command = [*map(str, words(tmp_path, tmp_path, tmp_path / "out")), *flags.split()]
    check_optimizer(sft.parse_arguments(command)[1], torch.nn.Linear(1, 1))


# --- the model --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "flags", "message"),
    [
        ({"attn_implementation": "flex_attention"}, "", "attn_implementation flex_attention: needs a GPU"),
        ({"attn_implementation": "flash_attention_2"}, "", "cannot be loaded: FlashAttention2 has been toggled on"),
        ({}, "--attn_implementation flex_attention", "attn_implementation flex_attention: needs a GPU; use sdpa"),
        ({"max_position_embeddings": 64}, "", "64 (max_position_embeddings)"),
        ({"hidden_size": 64}, "", "its files have model.embed_tokens.weight with shape ["),
        ({}, "--lora_target_modules lm_head", "does not train an adapter of the output embeddings"),
        ({}, '--model_init_kwargs {"bogus":1}', "unexpected keyword argument 'bogus'"),
        ({}, "--optim lomo", "optim lomo: You need to install"),
    ],
)
@pytest.mark.parametrize("program", [grpo, sft], ids=["grpo", "sft"])
def test_a_model_that_the_run_cannot_use(model, tiny_data, tmp_path, stops, program, config, flags, message):
    change(model / "config.json", **config)
    line = stops(program.main, *words(model, tiny_data, tmp_path / "out", program), *flags.split())
    assert message in line
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize("program", [grpo, sft], ids=["grpo", "sft"])
def test_a_check_looks_for_the_model(model, tiny_data, tmp_path, stops, program, monkeypatch, capsys):
    command = words(model, tiny_data, tmp_path / "out", program)
    absent = words(tmp_path / "absent", tiny_data, tmp_path / "out", program)
    assert "absent: no such folder" in stops(program.main, *absent, "--check", 1)
    assert "optim lomo: " in stops(program.main, *command, "--optim", "lomo", "--check", 1)
    monkeypatch.setattr("sys.argv", ["program.py", *map(str, command), "--check", "1"])
    program.main()
    assert capsys.readouterr().out == ""  # no requirements file, and no blank line either
    monkeypatch.setenv("DRY_RUN", "1")  # of a launcher: it may describe a model that is not here
    monkeypatch.setattr("sys.argv", ["program.py", *map(str, absent), "--check", "1"])
    program.main()


# --- the environment --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ACCELERATE_MIXED_PRECISION", "bogus", "choose from no, fp16, bf16, or unset it"),
        ("ACCELERATE_MIXED_PRECISION", "fp8", "choose from no, fp16, bf16"),
        ("ACCELERATE_MIXED_PRECISION", "fp16", "unset it, or add --fp16 true"),  # trains in it, and records float32
        ("ACCELERATE_MIXED_PRECISION", "bf16", "unset it, or add --bf16 true"),
        ("ACCELERATE_USE_CPU", "x", "choose from y, yes, "),
        ("ACCELERATE_USE_FSDP", "maybe", "choose from y, yes, "),
        ("ACCELERATE_DEBUG_MODE", "x", "choose from y, yes, "),
        ("ACCELERATE_DYNAMO_BACKEND", "x", "choose from no, eager, "),
        ("ACCELERATE_TORCH_DEVICE", "x", "choose from cpu, cuda"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "choose from n, no, "),
        ("ACCELERATE_USE_DEEPSPEED", "true", "DeepSpeed needs a launcher"),
    ],
)
def test_variables_of_accelerate(tmp_path, stops, monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    line = stops(sft.main, *words(tmp_path, tmp_path, tmp_path / "out"))
    assert line.startswith(f"program: {name}")
    assert message in line


def test_variables_as_accelerate_s_launcher_sets_them(tmp_path, monkeypatch):
    for name, value in {
        "MIXED_PRECISION": "no",
        "DYNAMO_BACKEND": "NO",
        "USE_CPU": "True",
        "USE_FSDP": "false",
    }.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    sft.parse_arguments([*map(str, words(tmp_path, tmp_path, tmp_path / "out"))])


@pytest.mark.parametrize(("offline", "message"), [(True, "HF_HUB_OFFLINE is set"), (False, "set HF_TOKEN")])
def test_an_upload_that_the_hub_would_refuse(tmp_path, stops, monkeypatch, offline, message):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    command = words(tmp_path, tmp_path, tmp_path / "out")
    assert f"push_to_hub: {message}" in stops(sft.main, *command, "--push_to_hub", "true")


def test_an_output_folder_whose_name_is_not_utf_8(tmp_path, stops):
    assert "output_dir: not UTF-8 text" in stops(sft.main, *words(tmp_path, tmp_path, Path("a\udcff")))


def test_weights_that_do_not_fit_are_named(model):
    change(model / "config.json", intermediate_size=64)
    with pytest.raises(InputError, match=r"its files have .*proj.weight with shape \[\d+, \d+\], its config.json asks"):
        check_base(str(model), adapter_config())
    with pytest.raises(InputError, match=r"its files have .*proj.weight with shape \[\d+, \d+\], its config.json asks"):
        load_base(str(model), torch.float32)


# --- a checkpoint -----------------------------------------------------------------------------------------------------

STATE = {
    **{"global_step": 1, "epoch": 0.25, "log_history": [{"step": 1, "loss": 0.5}], "train_batch_size": 2},
    "stateful_callbacks": {"TrainerControl": {"args": {"should_save": True}, "attributes": {}}},
}


@pytest.fixture
def checkpoint(tmp_path) -> Checkpoint:
    """The files that check_saved reads, of an adapter with two weights."""
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    torch.save({"state": {}, "param_groups": [{"params": [0]}, {"params": [1]}]}, tmp_path / "optimizer.pt")
    torch.save({"last_epoch": 1}, tmp_path / "scheduler.pt")
    torch.save({"python": (3,), "numpy": ("MT19937",), "cpu": torch.zeros(1)}, tmp_path / "rng_state.pth")
    (tmp_path / "trainer_state.json").write_text(json.dumps(STATE))
    return Checkpoint(1, "adapter", tmp_path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"bogus": 1}, "bogus: extra inputs are not permitted"),
        ({"stateful_callbacks": []}, "stateful_callbacks: input should be a valid dictionary"),
        ({"stateful_callbacks": {"TrainerControl": 1}}, "stateful_callbacks.TrainerControl."),
        ({"log_history": 3}, "log_history: input should be a valid list"),
        ({"log_history": [3]}, "log_history.0: input should be a valid dictionary"),
        ({"epoch": "x"}, "epoch: input should be a valid number"),
        ({"train_batch_size": "x"}, "train_batch_size: input should be a valid integer"),
    ],
)
def test_a_state_that_was_edited(checkpoint, keys, message):
    check_saved(checkpoint)
    change(checkpoint.folder / "trainer_state.json", **keys)
    with pytest.raises(InputError) as stopped:
        check_saved(checkpoint)
    assert str(stopped.value).startswith(f"{checkpoint.folder / 'trainer_state.json'}: {message}")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optimizer.pt", [1], "input should be a valid dictionary"),
        ("optimizer.pt", {"model": torch.zeros(1)}, "state: field required"),
        ("optimizer.pt", {"state": {}, "param_groups": []}, "of 0 parameters, but the adapter has 2"),
        ("optimizer.pt", {"state": {}, "param_groups": [1]}, "param_groups.0: input should be a valid dictionary"),
        ("scheduler.pt", {}, "last_epoch: field required"),
        ("rng_state_1.pth", {"cpu": 1}, "python: field required"),
        ("optimizer.pt", Path("x"), "cannot be loaded: "),  # more than weights
    ],
)
def test_a_file_of_torch_that_was_replaced(checkpoint, name, value, message):
    torch.save(value, checkpoint.folder / name)
    with pytest.raises(InputError) as stopped:
        check_saved(checkpoint)
    assert message in str(stopped.value)
    assert str(stopped.value).startswith(f"{checkpoint.folder / name}: ")
    assert "\n" not in str(stopped.value)
