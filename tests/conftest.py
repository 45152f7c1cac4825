"""What several tests share: programs of src/ as processes, a tiny chat model (random weights, trained by src/sft.py
until it writes the tags), a chat server, a collection of src/collect.py."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

ROOT = Path(__file__).parent.parent
STARTED_WITH = dict(os.environ)  # torch counts its threads when it is imported, which a test may have changed by then

# Property tests (docs/testing.md): the same few examples in every run; many others with --hypothesis-profile long.
# Failing inputs are not shrunk: they are small already, and shrinking a file takes minutes.
PHASES = (Phase.explicit, Phase.generate)
settings.register_profile("quick", deadline=None, derandomize=True, database=None, phases=PHASES)
settings.register_profile("long", deadline=None, database=None, phases=PHASES, report_multiple_bugs=False)
if settings.get_current_profile_name() == "default":  # tests import this file a second time
    settings.load_profile("quick")

# Records that differ in one name: a tiny model memorises them in seconds, so that GRPO's groups hold correct, wrong and
# malformed answers.
TINY_ROWS = [
    {
        "dependency": "NumPy",
        "new_version": "==2.0.0",
        "description": "Integrate samples.",
        "update_info": "trapz was renamed to trapezoid.",
        "old_code": f"import numpy as np\n{name} = np.trapz({name})",
        "new_code": f"import numpy as np\n{name} = np.trapezoid({name})",
    }
    for name in ("area", "total", "power", "dose")
]
CPU = ["--use_cpu", "true", "--bf16", "false", "--report_to", "none", "--logging_steps", "1"]


# Programs whose imports take seconds: tests/warm_python.py runs them.
HEAVY = {"data_process.py", "generate.py", "grpo.py", "heldout.py", "merge_adapter.py", "sft.py"}


def environment(env: dict[str, str] | None = None) -> dict[str, str]:
    """Without the hub and without a network."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **(env or {})}


@functools.cache
def warm_python():
    from warm_python import WarmPython

    return WarmPython({**environment(), **STARTED_WITH})


def run_script(script: str, *args: object, env: dict[str, str] | None = None, check: bool = True, timeout: int = 600):
    """`python src/SCRIPT ARGS`, as a user would; the output is part of the failure message."""
    command = [sys.executable, str(ROOT / "src" / script), *map(str, args)]
    if script in HEAVY and not env:  # a variable of a test may be one that an import reads
        done = warm_python().run(command, cwd=str(ROOT), env=environment(), timeout=timeout)
        return checked(done) if check else done
    return run_command(command, env=env, check=check, timeout=timeout)


def run_command(command: list[str], *, env=None, check: bool = True, timeout: int = 600, cwd: Path = ROOT):
    """A command in the repository's root, or in another folder."""
    settings = {"cwd": cwd, "env": environment(env), "timeout": timeout}
    done = subprocess.run(command, capture_output=True, text=True, check=False, **settings)
    return checked(done) if check else done


def checked(done: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    if done.returncode:
        raise AssertionError(f"{done.args}\nexit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}")
    return done


@pytest.fixture
def stops(monkeypatch, capsys) -> Callable[..., str]:
    """A function that calls a program's main with these words, in this process: the one line that it stops with."""

    def call(main: Callable[[], int], *words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["program.py", *map(str, words)])
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
        [line] = capsys.readouterr().err.splitlines()
        return line

    return call


# What src/dapo.py sets before it imports verl on a CPU.
VERL_ON_CPU = {
    "PYTHONPATH": str(ROOT / "src"),
    "VERL_PLATFORM": "cpu",
    "VERL_ENGINE_DEVICE": "cuda",
    "VERL_USE_EXTERNAL_MODULES": "verl_training.cpu_platform,verl_training.fixes",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@pytest.fixture(scope="session")
def verl():
    """verl, imported as src/dapo.py imports it on a CPU; skips if requirements/dapo.txt is not installed."""
    os.environ.update(VERL_ON_CPU)
    return pytest.importorskip("verl", reason="requirements/dapo.txt is not installed")


@pytest.fixture(autouse=True)
def verl_is_imported_for_a_cpu() -> Iterator[None]:
    """Fails a test that imports verl without the fixture above: it would fail later tests of its worker instead."""
    yield
    assert "verl" not in sys.modules or "verl_training.fixes" in sys.modules, "this test needs the fixture `verl`"


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "tiny.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in TINY_ROWS))
    return path


def save_random_model(folder: Path, tokenizer: Any) -> Path:
    """A random Qwen2 of 0.9 million parameters with this tokenizer, as a Hugging Face folder."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def random_model(tmp_path_factory) -> Path:
    """The random model with a ChatML tokenizer."""
    from chat_templates import make_tokenizer

    return save_random_model(tmp_path_factory.mktemp("models") / "random", make_tokenizer("chatml"))


@pytest.fixture(scope="session")
def warm_model(random_model: Path, tiny_data: Path, tmp_path_factory) -> Path:
    """The random model after a short SFT on the four tiny records (all weights, src/sft.py).

    It writes the tags, and guesses the record's name: about one answer of four is right, with each of three tokenizers
    and two seeds that were tried. After 70 steps, with some of them none was.
    """
    out = tmp_path_factory.mktemp("models") / "warm"
    run_script(
        *("sft.py", "--model_name_or_path", random_model, "--data", tiny_data, "--output_dir", out),
        *("--max_steps", 100, "--per_device_train_batch_size", 4, "--learning_rate", "3e-3", "--save_strategy", "no"),
        *("--lr_scheduler_type", "cosine", "--gradient_checkpointing", "false", *CPU),
    )
    return out


@pytest.fixture(scope="session")
def offline(tmp_path_factory) -> dict[str, str]:
    """Lets pip find only tidemark's two wheels."""
    from tidemark import make_wheels
    from wheels import only

    return only(make_wheels(tmp_path_factory.mktemp("wheels")))


@pytest.fixture(scope="session")
def envs(tmp_path_factory) -> Path:
    """The folder of tidemark's environments, made once for all tests."""
    return tmp_path_factory.mktemp("envs")


@pytest.fixture
def serve() -> Iterator[Callable]:
    """Starts servers (tests/chat_server.py) and stops them after the test."""
    from chat_server import Server

    started: list[Server] = []

    def start(behave: Callable) -> Server:
        started.append(Server(behave))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def notes(tmp_path) -> Path:
    """tidemark's release notes."""
    from tidemark import NOTES

    path = tmp_path / "notes.md"
    path.write_text(NOTES)
    return path


@pytest.fixture(scope="session")
def whole(tmp_path_factory, offline, envs):
    """A finished run: (the requests, its folder, its output)."""
    from chat_server import Server
    from tidemark import NOTES, behave, command

    folder, server = tmp_path_factory.mktemp("whole"), Server(behave)
    (folder / "notes.md").write_text(NOTES)
    done = run_script("collect.py", *command(folder / "notes.md", server.url, folder / "out", envs), env=offline)
    server.close()
    return server.bodies, folder / "out", done.stdout
