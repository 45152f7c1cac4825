"""Every launcher's dry run prints a command that the real parser takes; every --help answers."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import grpo
import sft

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path for path in (ROOT / "scripts").glob("*.sh") if path.name != "common.sh")
PROGRAMS = sorted(path for path in (ROOT / "src").glob("*.py") if '\nif __name__ == "__main__":' in path.read_text())
PROGRAMS = [path for path in PROGRAMS if path.name != "sandbox_server.py"]  # started by src/sandbox.py, never by hand


def dry_run(script: str, *flags: str, **environment: str) -> list[list[str]]:
    """The commands that a launcher would run."""
    env = {**os.environ, "DRY_RUN": "1", "VIRTUAL_ENV": sys.prefix, "GPUS": "0", **environment}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    command = ["bash", str(ROOT / "scripts" / script), *flags]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True, timeout=60)
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith("\033")]
    return [shlex.split(line) for line in lines]


def parsed(command: list[str], monkeypatch):
    """The arguments of a printed grpo or sft command, through the real parser."""
    [at] = [i for i, word in enumerate(command) if word in ("src/grpo.py", "src/sft.py")]
    monkeypatch.chdir(ROOT)
    parse = grpo.parse_arguments if command[at] == "src/grpo.py" else sft.parse_arguments
    return parse([*command[at + 1 :], "--use_cpu", "true"])


@pytest.mark.parametrize("gpus", ["0", "1", "8"])
@pytest.mark.parametrize("script", ["grpo.sh", "sft.sh"])
def test_training_launchers(script, gpus, monkeypatch):
    flags = ["--output_dir", "runs/with space", "--per_device_train_batch_size", "1"]
    [command] = dry_run(script, *flags, GPUS=gpus)
    keys, args, model = parsed(command, monkeypatch)
    if script == "grpo.sh":  # the batch comes out even on the processes that the launcher starts
        processes = max(1, int(gpus))
        batch = grpo.plan_batch(
            processes, args.per_device_train_batch_size, args.num_generations, keys.prompts_per_step
        )
        assert (batch.completions, batch.prompts) == (8, 1)
    assert args.output_dir == "runs/with space"
    assert model.model_name_or_path == "Qwen/Qwen2.5-Coder-7B-Instruct"
    assert ("accelerate.commands.launch" in command) == (gpus != "0")
    if gpus == "8":
        assert command[command.index("--config_file") + 1] == "configs/accelerate/ddp.yaml"
        assert command[command.index("--num_processes") + 1] == "8"


def test_another_config_and_zero2(monkeypatch):
    [command] = dry_run("grpo.sh", "--config", "configs/quickstart/grpo.yaml", GPUS="2", ACCELERATE="zero2")
    assert command.count("--config") == 1
    assert "configs/accelerate/zero2.yaml" in command
    script, _, _ = parsed(command, monkeypatch)
    assert script.data == "data/train.jsonl"


def test_the_accelerate_launcher_takes_the_flags():
    from accelerate.commands.launch import launch_command_parser

    for gpus in ("1", "8"):
        [command] = dry_run("grpo.sh", GPUS=gpus)
        flags = command[command.index("accelerate.commands.launch") + 1 :]
        taken = launch_command_parser().parse_args(flags)
        assert taken.num_processes == int(gpus)
        assert taken.training_script == "src/grpo.py"


def test_the_quickstart_is_nine_commands_that_exist(monkeypatch):
    commands = dry_run("quickstart.sh", "--max_steps", "64")
    names = [Path(command[1]).name for command in commands]
    assert names == [
        *("fetch_smollm2.py", "sft.py", "merge_adapter.py", "heldout.py", "heldout.py", "grpo.py"),
        *("heldout.py", "plot.py", "report.py"),
    ]
    for command in commands:
        assert (ROOT / command[1]).is_file()
        if command[1] in ("src/grpo.py", "src/sft.py"):
            _, args, _ = parsed(command, monkeypatch)
            assert args.max_steps == (64 if command[1] == "src/grpo.py" else 8)


@pytest.mark.parametrize("gpus", ["1", "8"])
@pytest.mark.parametrize("name", ["dapo", "dapo_released"])
def test_dapo_prepares_and_trains_with_the_same_configuration(name, gpus):
    import dapo_checks
    import verl_config

    commands = dry_run("dapo.sh", "--config-name", name, "run=with space", GPUS=gpus)
    assert [command[1] for command in commands] == ["src/data_process.py", "src/dapo.py"]
    for command in commands:
        assert command[2:4] == ["--config-name", name]
        config = verl_config.compose(name, [word for word in command[4:] if "=" in word])
        dapo_checks.check(config)
        assert config.trainer.n_gpus_per_node == int(gpus)
        assert config.trainer.default_local_dir == "runs/with space"
    assert commands[0][4] == "--if-stale"


def test_dapo_on_a_cpu_makes_the_warmed_model_first():
    names = [Path(command[1]).name for command in dry_run("dapo.sh", "--cpu", "trainer.total_training_steps=30")]
    assert names == ["fetch_smollm2.py", "sft.py", "merge_adapter.py", "data_process.py", "dapo.py"]


def test_dapo_says_what_it_cannot_do():
    for flags, message in [([], "no GPU found"), (["--config", "x"], "unknown argument --config")]:
        with pytest.raises(subprocess.CalledProcessError) as stopped:
            dry_run("dapo.sh", *flags, GPUS="0")
        assert stopped.value.returncode == 2
        assert message in stopped.value.stderr


def test_the_evaluation_launcher(monkeypatch):
    """Samples and scores of all benchmarks; every command goes through the parser of its script."""
    import generate
    import humaneval
    import multi_update
    import score

    flags = ["--model", "a model", "--backend", "transformers", "--limit=7", "--out", "runs/with space"]
    label = "Qwen2.5-Coder-7B-Instruct/GRPO"
    commands = dry_run("evaluate.sh", *flags, "--data", "my data.jsonl", SCORE=f"--k 1 --label {label} --seconds 9")
    assert [command[1] for command in commands] == [
        *("src/generate.py", "src/score.py", "src/multi_update.py", "src/generate.py", "src/score.py"),
        *("src/humaneval.py", "src/humaneval.py"),
    ]
    monkeypatch.chdir(ROOT)
    arena, multi = (generate.parse_arguments(commands[i][2:]) for i in (0, 3))
    assert (arena.model, arena.limit, arena.data, arena.benchmark) == ("a model", 7, "my data.jsonl", "arena")
    assert (multi.benchmark, multi.data) == ("multi", "runs/with space/multi-questions.jsonl")
    scores = [score.parse_arguments(commands[i][2:]) for i in (1, 4)]
    assert [(args.samples, args.k, args.label) for args in scores] == [(arena.out, "1", label), (multi.out, "1", label)]
    args, rest = humaneval.parse_arguments(commands[6][2:])
    assert (str(args.out), args.k, args.label, args.data) == ("runs/with space/humaneval", "1", label, None)
    drawn = generate.parse_arguments([*rest, "--benchmark", "humaneval", "--data", "FILE", "--out", "s.jsonl"])
    assert (drawn.model, drawn.limit, drawn.prompt, drawn.samples) == ("a model", 7, "zero-shot", 10)
    assert humaneval.parse_arguments(commands[5][2:])[0].check
    one_shot = dry_run("evaluate.sh", *flags, "--data", "x", "--prompt", "one-shot", HUMANEVAL="0")
    assert [generate.parse_arguments(one_shot[i][2:]).prompt for i in (0, 3)] == ["one-shot", "zero-shot"]
    monkeypatch.setattr(Path, "read_text", lambda *_: '{"identity": {"data": "my data.jsonl"}}')
    built = multi_update.parse_arguments(commands[2][2:])
    assert (str(built.out), built.data) == (multi.data, "my data.jsonl")
    assert len(dry_run("evaluate.sh", "--model", "x", MULTI="0", HUMANEVAL="0")) == 2
    assert len(dry_run("evaluate.sh", "--model", "x", MULTI="0")) == 4
    assert len(dry_run("evaluate.sh", "--model", "x", "--no-docs", MULTI="0")) == 2
    assert "evalplus" in dry_run("evaluate.sh", "--model", "x", HUMANEVAL_PROMPT="evalplus")[-1]


def test_the_evaluation_launcher_s_mistakes():
    for flags, message in {
        ("--benchmark", "multi"): "this script runs them all",
        ("--out",): "--out needs a value",
    }.items():
        command = ["bash", str(ROOT / "scripts" / "evaluate.sh"), *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, message in done.stderr) == (2, True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_scripts_explain_themselves(script):
    done = subprocess.run(["bash", str(script), "--help"], capture_output=True, text=True, check=True, timeout=20)
    assert f"bash scripts/{script.name}" in done.stdout
    assert "source" not in done.stdout


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)
def test_help_answers_without_a_heavy_import(program):
    done = subprocess.run([sys.executable, str(program), "--help"], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) > 5
    code = (
        "import runpy, sys\nsys.argv = ['x', '--help']\n"
        f"try: runpy.run_path({str(program)!r}, run_name='__main__')\nexcept SystemExit: pass\n"
        "print('HEAVY', {'torch', 'transformers', 'trl', 'vllm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "src")
    assert done.stdout.splitlines()[-1] == "HEAVY set()"
