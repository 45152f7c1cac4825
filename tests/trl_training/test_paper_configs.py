"""The paper's configurations run on a tiny model: gradient checkpointing, KL, dropout, warm-up, r 64 and bf16 together.

Overridden are data, model, output, lengths, the number of steps and the device, nothing else. One process, and two that
average their gradients (DDP over gloo).
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY_ROWS, run_command
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

STEPS = 4
SCRIPTS = {"grpo": "src/grpo.py", "grpo_dapo_loss": "src/grpo.py", "sft": "src/sft.py"}
SHORT = ["--max_prompt_length", "512", "--max_completion_length", "48", "--max_steps", str(STEPS), "--save_steps", "2"]
OVERRIDES = {
    "grpo": SHORT,
    "grpo_dapo_loss": SHORT,
    "sft": ["--max_prompt_length", "512", "--num_train_epochs", str(STEPS)],  # 8 examples a step, all there are
}


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16; elsewhere it is emulated, slowly, and the runs fall back to float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@dataclass(frozen=True)
class Run:
    config: str
    processes: int
    folder: Path
    steps: list[dict]  # what tests/watched_training.py noted, of every process
    ends: list[dict]
    metrics: list[dict]


def train(config: str, processes: int, model: Path, data: Path, out: Path, *more: str) -> tuple[list[dict], list[dict]]:
    """Train as the launch scripts do; (notes per step, last notes) of every process."""
    flags = ["--config", f"configs/{config}.yaml", "--model_name_or_path", str(model), "--data", str(data)]
    flags += ["--output_dir", str(out), "--use_cpu", "true", *OVERRIDES[config], *more]
    if not cpu_has_bf16():
        flags += ["--bf16", "false", "--dtype", "float32"]
    python = [sys.executable]
    if processes > 1:
        python += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    notes = out.parent / f"{out.name}-notes"
    command = [*python, str(ROOT / "tests" / "watched_training.py"), str(notes), SCRIPTS[config], *flags]
    run_command(command, env={"OMP_NUM_THREADS": "1"})
    lines = [json.loads(line) for path in out.parent.glob(f"{notes.name}-*") for line in path.open()]
    return [line for line in lines if "step" in line], [line for line in lines if "step" not in line]


@pytest.fixture(scope="module")
def eight_rows(tmp_path_factory) -> Path:
    """grpo_dapo_loss.yaml samples eight different prompts at once."""
    more = ("speed", "force", "count", "share")
    rows = [*TINY_ROWS]
    rows += [json.loads(json.dumps(TINY_ROWS[0]).replace("area", name)) for name in more]
    path = tmp_path_factory.mktemp("data") / "eight.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(
    scope="module",
    params=[(config, processes) for config in SCRIPTS for processes in (1, 2)],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def run(request, warm_model: Path, eight_rows: Path, tmp_path_factory) -> Run:
    config, processes = request.param
    out = tmp_path_factory.mktemp("paper") / "run"
    steps, ends = train(config, processes, warm_model, eight_rows, out)
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").open()] if config != "sft" else []
    return Run(config, processes, out, steps, ends, metrics)


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def test_the_settings_are_the_paper_s(run):
    assert len(run.ends) == run.processes
    for end in run.ends:
        assert end["dropout"] == [0.01]
        assert end["bf16"] == cpu_has_bf16()
        assert end["searches_the_graph"] is (False if run.processes > 1 else None)  # None: not DDP
    config = json.loads((run.folder / "run.json").read_text())["starts"][0]["config"]
    assert (config["gradient_checkpointing"], config["use_dora"], config["lora_r"]) == (True, True, 64)
    assert config.get("beta") == {"grpo": 0.001, "grpo_dapo_loss": 0.0, "sft": None}[run.config]


def test_one_hook_on_the_embedding(run):
    assert sorted(step["step"] for step in run.steps) == sorted(list(range(1, STEPS + 1)) * run.processes)
    # SFT: trl's hook and one that transformers adds when training starts; nothing switches checkpointing off and on
    assert {step["hooks"] for step in run.steps} == {2 if run.config == "sft" else 1}
    assert all(step["checkpointing"] for step in run.steps)


def test_the_adapter_is_float32_and_moves_in_warm_up(run, warm_model):
    assert all(step["trained"] == ["torch.float32"] for step in run.steps)
    weights = adapter(run.folder)
    assert {value.dtype for value in weights.values()} == {torch.float32}
    base = load_file(warm_model / "model.safetensors")
    dtype = torch.bfloat16 if cpu_has_bf16() else torch.float32
    magnitudes = {name: value for name, value in weights.items() if "magnitude" in name}
    assert len(magnitudes) == 6  # q_proj and v_proj of three layers
    for name, value in magnitudes.items():
        at = name.removeprefix("base_model.model.").replace(".lora_magnitude_vector", ".weight")
        start = base[at].to(dtype).float().norm(dim=1)
        assert torch.allclose(value, start, atol=1e-3)
        assert (value != start).float().mean() > 0.9
    assert all(value.abs().max() > 0 for name, value in weights.items() if "lora_B" in name)


def test_the_reference_is_the_base_model(run):
    assert all(end["base_is_intact"] for end in run.ends)
    if run.config != "grpo":
        assert not any("kl" in row for row in run.metrics)  # beta is 0, or there is no such thing
        return
    assert all(end["reference_is_base"] and not end["policy_is_base"] for end in run.ends)
    kl = [row["kl"] for row in run.metrics]
    # Warm-up: step 1 has learning rate 0, so step 2 samples from the base model too. Not 0: the two passes may have
    # other completions beside a prompt, and other shapes round otherwise.
    assert all(0 <= value < 1e-4 for value in kl[:2])
    assert kl[-1] > 0 or not cpu_has_bf16()  # in float32 so small a KL rounds to 0


def test_groups_differ(run):
    if run.config == "sft":
        pytest.skip("SFT has no groups")
    assert [row["step"] for row in run.metrics] == list(range(1, STEPS + 1))
    assert any(row["frac_reward_zero_std"] < 1 for row in run.metrics)


def test_a_resumed_run_ends_with_the_same_bits(run, warm_model, eight_rows, tmp_path):
    out = shutil.copytree(run.folder, tmp_path / "run")
    (out / "adapter_model.safetensors").unlink()
    for later in (3, 4):
        shutil.rmtree(out / f"checkpoint-{later}", ignore_errors=True)
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-2"]
    steps, _ = train(run.config, run.processes, warm_model, eight_rows, out, "--resume_from_checkpoint", "auto")
    assert {step["step"] for step in steps} == {3, 4}
    expected, resumed = adapter(run.folder), adapter(out)
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
