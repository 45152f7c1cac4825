"""SFT and GRPO end to end on a tiny model, through the real command lines and the real trl, peft and accelerate."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import CPU, ROOT, TINY_ROWS, run_command, run_script
from safetensors.torch import load_file
from trainers import build

pytestmark = pytest.mark.slow

DORA = ["--use_peft", "true", "--use_dora", "true", "--lora_r", "8", "--lora_alpha", "8", "--lora_dropout", "0.0"]


def grpo_args(model: Path, data: Path, out: Path, *extra: object) -> list[object]:
    return [
        *("--model_name_or_path", model, "--data", data, "--output_dir", out, *DORA, *CPU),
        *("--max_steps", 5, "--num_generations", 4, "--per_device_train_batch_size", 8, "--prompts_per_step", 2),
        *("--max_completion_length", 80, "--learning_rate", "1e-2", "--lr_scheduler_type", "constant"),
        *("--beta", "0.0", "--gradient_checkpointing", "false", "--save_steps", 3, "--print_samples", 1, *extra),
    ]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(warm_model: Path, tiny_data: Path, tmp_path_factory) -> Path:
    """An uninterrupted GRPO run of five steps."""
    out = tmp_path_factory.mktemp("runs") / "grpo"
    done = run_script("grpo.py", *grpo_args(warm_model, tiny_data, out))
    (out / "stdout.txt").write_text(done.stdout)
    return out


def test_the_warm_model_writes_the_tags_and_its_groups_differ(trained):
    metrics = lines(trained / "metrics.jsonl")
    assert [row["step"] for row in metrics] == [1, 2, 3, 4, 5]
    assert max(row["rewards/format_reward/mean"] for row in metrics) > -1.0
    assert any(row["frac_reward_zero_std"] < 1 and row["reward_std"] > 0 for row in metrics)
    assert all(-3 <= row["reward"] <= 3 for row in metrics)


def test_the_adapter_is_one_dora_adapter_and_moved(trained, warm_model):
    weights = adapter(trained)
    kinds = {key.rsplit("lora_", 1)[1].split(".")[0] for key in weights}
    assert kinds == {"A", "B", "magnitude_vector"}
    assert {key.split(".")[-3] for key in weights if "lora_A" in key} == {"q_proj", "v_proj"}
    assert not any("base_layer.base_layer" in key or key.count("base_model") > 1 for key in weights)  # wrapped once
    assert all(value.abs().max() > 0 for key, value in weights.items() if "lora_B" in key)  # B starts at zero
    base = load_file(warm_model / "model.safetensors")
    for key, value in weights.items():
        if "magnitude" in key:  # starts as the row norm of the base weight
            name = key.removeprefix("base_model.model.").replace(".lora_magnitude_vector", ".weight")
            assert not torch.equal(value, base[name].norm(dim=1))


def test_the_run_directory_describes_itself(trained, tiny_data):
    import hashlib

    [start] = json.loads((trained / "run.json").read_text())["starts"]
    assert start["data"][str(tiny_data)]["sha256"] == hashlib.sha256(tiny_data.read_bytes()).hexdigest()
    assert start["command"].split()[1].endswith("grpo.py")
    assert start["seed"] == 42
    assert start["config"]["reward"] == "format,es_star"
    assert start["config"]["prompt"] == "paper"
    assert start["config"]["gradient_accumulation_steps"] == 1
    assert start["versions"]["trl"] == "1.16.0"
    assert start["hardware"]["cores"] == os.cpu_count()
    assert start["resumed_from"] is None


def test_rollouts_are_logged_with_every_share_of_their_reward(trained):
    from rewards import score

    rollouts = lines(trained / "rollouts.jsonl")
    assert len(rollouts) == 5 * 8
    for rollout in rollouts:
        found = score(rollout["completion"], rollout["target"])
        assert rollout["rewards"] == pytest.approx({"format_reward": found.format, "es_star": found.es_star})
        assert rollout["reason"] == found.reason
        assert rollout["target"].startswith("import numpy")
    groups: dict = {}
    for rollout in rollouts:
        groups.setdefault((rollout["step"], rollout["group"]), []).append(rollout)
    assert sorted(groups) == [(step, group) for step in range(1, 6) for group in (0, 1)]
    for group in groups.values():
        assert len({rollout["record_id"] for rollout in group}) == 1
        # scale_rewards: group. The advantages of a group sum to 0.
        assert (len(group), sum(rollout["advantage"] for rollout in group)) == (4, pytest.approx(0, abs=1e-4))
    assert "advantage" in (trained / "stdout.txt").read_text()


def test_the_saved_tokenizer_keeps_its_own_template(trained, warm_model):
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(warm_model).chat_template
    assert AutoTokenizer.from_pretrained(trained).chat_template == own
    assert AutoTokenizer.from_pretrained(trained / "checkpoint-5").chat_template == own


def test_every_saved_folder_has_our_card(trained, warm_model, tiny_data, tmp_path):
    """trl and peft write their own at the same moments."""
    from huggingface_hub import ModelCard

    run_script("merge_adapter.py", "--adapter", trained, "--out", tmp_path / "merged")
    titles = {trained: "grpo", trained / "checkpoint-3": "checkpoint-3", tmp_path / "merged": "merged"}
    for folder, title in {**titles, warm_model: "warm"}.items():
        text = (folder / "README.md").read_text()
        assert f"# `{title}`\n" in text
        assert f"| `{tiny_data}` |" in text
        assert not re.search("(?i)framework versions|transformer reinforcement|quick start|more information", text)
        assert "recode" in ModelCard(text).data.tags
    assert "GRPO, 3 steps." in (trained / "checkpoint-3" / "README.md").read_text()
    assert "GRPO, 5 steps." in (trained / "README.md").read_text()
    assert "SFT, 100 steps." in (warm_model / "README.md").read_text()
    written = (trained / "README.md").read_text()
    run_script("model_card.py", trained)
    assert (trained / "README.md").read_text() == written


def test_resume_after_sigkill_equals_an_uninterrupted_run(trained, warm_model, tiny_data, tmp_path):
    """Four records, two a step: step 3 lies within the second epoch, step 5 within the third."""
    out = tmp_path / "killed"
    args = [str(a) for a in grpo_args(warm_model, tiny_data, out)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(ROOT / "src" / "grpo.py"), *args]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 300
    state = out / "checkpoint-3" / "trainer_state.json"
    while not (state.exists() and state.read_text().endswith("}\n")):  # complete
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.time() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()

    again = run_script("grpo.py", *args, check=False)
    assert again.returncode == 2
    assert "add --resume_from_checkpoint auto" in again.stderr
    for flags, said in (
        (["--reward", "format,em"], "reward = format,es_star, now it is format,em"),
        (["--learning_rate", "1e-3"], "learning_rate = 0.01, now it is 0.001"),
        (["--loss_type", "dr_grpo"], "loss_type = dapo, now it is dr_grpo"),
    ):
        other = run_script("grpo.py", *args, "--resume_from_checkpoint", "auto", *flags, check=False)
        assert (other.returncode, other.stderr) == (2, f"grpo: {out} was started with {said}: not the same run\n")

    harmless = ["--save_steps", "2", "--print_samples", "0", "--save_total_limit", "9"]
    done = run_script("grpo.py", *args, "--resume_from_checkpoint", "auto", *harmless)
    assert "(step 3)" in done.stdout
    assert [row["step"] for row in lines(out / "metrics.jsonl")] == [1, 2, 3, 4, 5]
    assert len(lines(out / "rollouts.jsonl")) == 5 * 8
    expected, resumed = adapter(trained), adapter(out)
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)
    starts = json.loads((out / "run.json").read_text())["starts"]
    assert [start["resumed_from"] is None for start in starts] == [True, False]


def test_groups_of_equal_rewards_are_counted(trained):
    groups: dict = {}
    for row in lines(trained / "rollouts.jsonl"):
        groups.setdefault(row["step"], {}).setdefault(row["group"], []).append(sum(row["rewards"].values()))
    shares = [row["frac_reward_zero_std"] for row in lines(trained / "metrics.jsonl")]
    assert shares == [sum(len(set(one)) == 1 for one in found.values()) / len(found) for found in groups.values()]


def test_equal_rewards_are_equal_whatever_their_deviation_in_float32():
    from trl_training.grpo_trainer import share_of_flat

    reward = 1.0 + 1.7272727272727273  # format and ES* of a copy
    trl_s = torch.tensor([reward] * 8).std()
    assert not torch.isclose(trl_s, torch.zeros_like(trl_s)), "trl's test would do"
    assert share_of_flat([*[reward] * 8, *[reward] * 7, -0.5], 8) == 0.5


def test_run_json_names_the_techniques_of_the_run(trained):
    start = json.loads((trained / "run.json").read_text())["starts"][0]
    assert start["config"]["rollouts"] == "auto"
    used = {"rollouts": "shared", "shared_prompt": True, "dora_norm": "factored"}
    assert start["techniques"] == used
    assert (
        "techniques: rollouts shared, shared_prompt True, dora_norm factored\n" in (trained / "stdout.txt").read_text()
    )


def test_a_checkpoint_of_one_run_does_not_touch_the_logs_of_another(trained, warm_model, tiny_data, tmp_path):
    """The checkpoint is of this very configuration; the output folder holds a run with another learning rate."""
    other = tmp_path / "other"
    other.mkdir()
    start = json.loads((trained / "run.json").read_text())["starts"][0]
    start["config"]["learning_rate"] = 0.5
    (other / "run.json").write_text(json.dumps({"starts": [start]}))
    log = "".join(f'{{"step": {step}}}\n' for step in range(1, 201))
    (other / "metrics.jsonl").write_text(log)
    flags = ["--resume_from_checkpoint", trained / "checkpoint-3"]
    done = run_script("grpo.py", *grpo_args(warm_model, tiny_data, other), *flags, check=False)
    said = f"grpo: {other} was started with learning_rate = 0.5, now it is 0.01: not the same run\n"
    assert (done.returncode, done.stderr) == (2, said)
    assert (other / "metrics.jsonl").read_text() == log


def test_two_processes_with_torchrun(warm_model, tiny_data, tmp_path):
    out = tmp_path / "ddp"
    args = grpo_args(warm_model, tiny_data, out, "--max_steps", 2, "--per_device_train_batch_size", 4)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29611"]
    done = run_command([*command, str(ROOT / "src" / "grpo.py"), *map(str, args)], env={"OMP_NUM_THREADS": "1"})
    assert "batch: 2 process(es) x 4 per device x 1 accumulation = 8 completions a step" in done.stdout
    assert done.stdout.count("batch: ") == 1
    assert [row["step"] for row in lines(out / "metrics.jsonl")] == [1, 2]
    rollouts = lines(out / "rollouts.jsonl")
    assert len(rollouts) == 2 * 8  # the completions of both processes
    assert all(rollout["reason"] for rollout in rollouts)
    assert len({(r["step"], r["group"], r["record_id"]) for r in rollouts}) == 2 * 2
    assert all(value.abs().max() > 0 for key, value in adapter(out).items() if "lora_B" in key)


@pytest.mark.deepspeed
def test_two_processes_with_zero2(warm_model, tiny_data, tmp_path):
    pytest.importorskip("deepspeed", reason="requirements/deepspeed.txt is not installed")
    if not shutil.which("g++"):
        pytest.skip("DeepSpeed compiles an operator, and there is no C++ compiler")
    out = tmp_path / "zero2"
    args = grpo_args(warm_model, tiny_data, out, "--max_steps", 2, "--per_device_train_batch_size", 4)
    config = ROOT / "configs" / "accelerate" / "zero2.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), "--num_processes", "2"]
    command += ["--mixed_precision", "no", "--main_process_port", "29612"]
    env = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    run_command([*command, str(ROOT / "src" / "grpo.py"), *map(str, args)], env=env, timeout=900)
    # DeepSpeed's optimizer state, one shard a process: without it the launcher has quietly started something else.
    assert len(list((out / "checkpoint-2" / "global_step2").glob("zero_pp_rank_*_optim_states.pt"))) == 2
    weights = adapter(out)
    assert all(value.abs().max() > 0 for key, value in weights.items() if "lora_B" in key)
    assert all(value.dtype == torch.float32 for value in weights.values())


def test_dapo_s_loss_takes_two_updates_and_punishes_length(warm_model, tiny_data, tmp_path):
    out = tmp_path / "dapo_loss"
    more = [
        "--prompts_per_step",
        1,
        "--per_device_train_batch_size",
        4,
        "--updates_per_generation",
        2,
        "--max_steps",
        4,
    ]
    more += ["--loss_type", "dapo", "--epsilon", 0.2, "--epsilon_high", 0.28, "--overlong_buffer", 40]
    run_script("grpo.py", *grpo_args(warm_model, tiny_data, out, *more))
    rows = lines(out / "metrics.jsonl")
    samples = lines(out / "rollouts.jsonl")
    # 2 updates x 1 prompt x 4 completions are sampled at once, before steps 1 and 3, and logged once.
    assert [sample["step"] for sample in samples] == [1] * 8 + [3] * 8
    clipped = [row["clip_ratio/region_mean"] for row in rows]
    assert (clipped[0], clipped[2]) == (0.0, 0.0)  # the first update's policy is the one that sampled
    assert max(clipped[1], clipped[3]) > 0
    # DAPO eq. 13 with a limit of 80 and a buffer of 40 tokens: 0 up to 40 tokens, -1 at 80.
    [name] = {key for sample in samples for key in sample["rewards"]} - {"format_reward", "es_star"}
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(warm_model)
    for sample in samples:
        tokens = len(tokenizer(sample["completion"])["input_ids"])  # as sampled, or fewer
        punishment = sample["rewards"][name]
        assert -1 <= punishment <= 0
        assert punishment == 0 or tokens > 30
        assert punishment < 0 or tokens <= 40


def test_kept_rows_train(random_model, tmp_path):
    """bad_rows: keep, with the targets at which rewards could trip: no code, nothing to change, no parse, a tag."""
    new = ["x = (", "", "import numpy as np\ndose = np.trapz(dose)", "x = '</answer>'"]
    rows = [{**row, "new_code": code} for row, code in zip([TINY_ROWS[3]] * 4, new, strict=True)]
    rows.append({**TINY_ROWS[0], "update_info": "half an emoji \ud83d"})
    data = tmp_path / "bad.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    keep = ["--bad_rows", "keep", "--max_steps", 2, "--reward", "format,em,es,em_star,es_star,dm_star"]
    done = run_script("grpo.py", *grpo_args(random_model, data, tmp_path / "grpo", *keep))
    assert "bad_rows: keep: 4 of 5 rows are used" in done.stderr
    assert "data: 4 of 4 records" in done.stdout
    metrics = lines(tmp_path / "grpo" / "metrics.jsonl")
    assert [row["step"] for row in metrics] == [1, 2]
    assert all(math.isfinite(row["reward"]) and math.isfinite(row["loss"]) for row in metrics)
    done = run_script(
        *("sft.py", "--model_name_or_path", random_model, "--data", data, "--output_dir", tmp_path / "sft", *CPU),
        *("--bad_rows", "keep", "--max_steps", 2, "--per_device_train_batch_size", 4, "--save_strategy", "no"),
    )
    assert "data: 4 of 4 records" in done.stdout


def test_merged_folders_load_and_speak_like_base_plus_adapter(trained, warm_model, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    out = tmp_path / "merged"
    run_script("merge_adapter.py", "--adapter", trained, "--out", out, "--dtype", "float32")
    merged = AutoModelForCausalLM.from_pretrained(out).eval()
    base = AutoModelForCausalLM.from_pretrained(warm_model).eval()
    ids = torch.arange(5, 45).unsqueeze(0)
    with torch.no_grad():
        plain = base(ids).logits
        expected = PeftModel.from_pretrained(base, str(trained))(ids).logits
        assert torch.allclose(merged(ids).logits, expected, atol=1e-4)
    assert not torch.allclose(plain, expected, atol=1e-2)
    again = run_script("merge_adapter.py", "--adapter", trained, "--out", out, check=False)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_migrate_answers_with_a_diff_or_reports_why_not(warm_model, tmp_path):
    old = tmp_path / "old.py"
    old.write_text("import numpy as np\narea = np.trapz(area)\n")
    done = run_script(
        *("migrate.py", "--model", warm_model, "--dependency", "NumPy", "--version", "2.0.0", "--max-new-tokens", 80),
        *("--update", "trapz was renamed to trapezoid.", "--show-thinking", old),
        check=False,
    )
    said = done.stdout.splitlines()[-1]
    if done.returncode:
        assert (done.returncode, said[:28]) == (1, "migrate: the answer has no c")
    else:
        assert "+++ " in done.stdout or said == "no change"
    assert old.read_text() == "import numpy as np\narea = np.trapz(area)\n"  # only --write changes the file


@pytest.mark.parametrize(
    ("completion", "code"),
    [
        ("a</think><answer>```python\nx = 1\n```</answer>", "x = 1\n"),
        ("a</think><answer>\n  ```python\n  x = 1\n  y = 2\n  ```\n</answer>", "x = 1\ny = 2\n"),  # a uniform indent
        ("a</think><answer>```python\nx = = 1\n```</answer>", None),
        ("a</think>x = 1", None),
    ],
)
def test_the_code_that_migrate_takes_is_the_code_that_the_reward_scores(completion, code):
    from migrate import new_code

    assert new_code(completion) == code


def test_on_a_cpu_the_loss_looks_at_completions_alone(random_model, monkeypatch):
    """The same log-probabilities and gradients as trl's over every position, from the completions' rows of the head."""
    import torch
    import trl.trainer.utils
    from transformers import AutoModelForCausalLM

    from trl_training.run import TRL_USE_TRITON, use_triton_or_cpu

    ids = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])
    labels = torch.tensor([[-100, -100, 7, 8, 9], [-100, -100, -100, 6, 5]])
    rows, seen = [], []
    real = trl.trainer.utils._ChunkedLogProbFunction.apply
    monkeypatch.setattr(
        *(trl.trainer.utils._ChunkedLogProbFunction, "apply"),
        lambda hidden, *rest: rows.append(len(hidden)) or real(hidden, *rest),
    )
    for look in (use_triton_or_cpu, TRL_USE_TRITON):
        monkeypatch.setattr(trl.trainer.utils, "_use_triton", look)
        model = AutoModelForCausalLM.from_pretrained(random_model)
        trl.trainer.utils.add_fused_lm_head(model)
        found = model(input_ids=ids, labels=labels, fused_lm_head=True).log_probs
        found.sum().backward()
        seen.append((found.detach(), model.model.layers[0].mlp.up_proj.weight.grad))
    assert rows == [5, 8]  # 3 + 2 labels; 2 sequences of 5 tokens, each but the last one predicts
    for mine, theirs in zip(*seen, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)
    assert seen[0][0][1].count_nonzero() == 2  # the prompt's places hold zeros


def test_checkpointing_leaves_one_hook_on_the_embedding(random_model, tmp_path):
    """transformers adds one each time trl turns checkpointing back on: before the fix 4, 6, 8 after the steps."""
    trainer = build(random_model, tmp_path, beta=0.001, gradient_checkpointing=True, max_steps=3, learning_rate=1e-2)
    hooks = trainer.model.get_input_embeddings()._forward_hooks
    assert len(hooks) == 1
    before = {name: value.clone() for name, value in trainer.model.named_parameters() if value.requires_grad}
    trainer.train()
    assert len(hooks) == 1
    assert trainer.model.is_gradient_checkpointing
    after = dict(trainer.model.named_parameters())
    # 3 layers x (q, v) x (A, B, magnitude), all reached by the gradient through the checkpointed layers
    assert len(before) == 18
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_the_seed_survives_vllm_s_engine(random_model, tmp_path, monkeypatch):
    """vLLM's engine resets this process's generators to its own seed, trl's process index, when it starts.

    Real: the trainer and everything in it. Replaced: trl's VLLMGeneration, that is, the engine, by what the engine does
    to the generators (vllm.utils.torch_utils.set_random_seed).
    """
    import random

    import numpy
    import trl.trainer.grpo_trainer

    class Engine:
        def __init__(self, **kwargs) -> None:
            random.seed(0)
            numpy.random.seed(0)
            torch.manual_seed(0)

    monkeypatch.setattr(trl.trainer.grpo_trainer, "VLLMGeneration", Engine)
    draws = []
    for seed in (42, 43, 42):
        trainer = build(random_model, tmp_path, seed=seed, use_vllm=True, vllm_mode="colocate")
        assert isinstance(trainer.vllm_generation, Engine)
        assert torch.initial_seed() == seed  # process 0 of a launch; process 1 has seed + 1
        draws.append((random.random(), numpy.random.rand(), torch.rand(()).item()))
    assert draws[0] == draws[2]
    assert not set(draws[0]) & set(draws[1])


def test_ranks_differ_except_within_a_tensor_parallel_group():
    from trl_training.grpo_trainer import rank_seed

    assert [rank_seed(42, process, 1) for process in range(3)] == [42, 43, 44]
    assert [rank_seed(42, process, 2) for process in range(4)] == [42, 42, 43, 43]
