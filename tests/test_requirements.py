"""Every layer of the environment resolves for the Python versions that the README names, with the versions pinned."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "requirements"
LAYERS = ["requirements.txt"]
LAYERS += sorted(f"requirements/{path.name}" for path in FOLDER.glob("*.txt") if path.name != "constraints.txt")
APART = "requirements/humaneval.txt"  # evalplus's environment, not a layer


def pins(text: str) -> dict[str, str]:
    """Package name -> version of the lines NAME==VERSION."""
    lines = [line.split("#")[0].split(";")[0].strip() for line in text.splitlines() if "==" in line.split("#")[0]]
    return {name.lower().replace("_", "-"): version for name, _, version in (line.partition("==") for line in lines)}


def resolve(python: str, *files: str) -> dict[str, str]:
    """What `uv pip compile` makes of requirements files; skips if no package index answers."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--python-version", python, "--no-annotate", "--no-header"]
    done = subprocess.run([*command, "-q", *files], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    unreachable = ("Failed to fetch", "error sending request", "dns error", "Connection refused")
    if done.returncode and any(words in done.stderr for words in unreachable):
        pytest.skip("no package index answers")
    assert done.returncode == 0, done.stderr
    return pins(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.11", "3.12"])
@pytest.mark.parametrize("layer", [name for name in LAYERS if name != "requirements.txt"])
def test_every_layer_resolves(layer, python):
    base = () if layer == APART else ("requirements.txt",)
    assert resolve(python, *base, layer)


@pytest.mark.slow
def test_the_constraints_are_the_resolution_of_all_layers():
    together = [name for name in LAYERS if name != APART]
    constraints = pins((FOLDER / "constraints.txt").read_text())
    for python in ("3.11", "3.12"):
        assert resolve(python, *together).items() <= constraints.items()
    assert resolve("3.11", *together) == constraints


def test_setuptools_is_one_that_vllm_takes_on_python_3_12():
    """vLLM 0.27.1 on Python 3.12: setuptools>=77.0.3,<81. It once stood at 84, and no GPU node could install."""
    version = pins((FOLDER / "constraints.txt").read_text())["setuptools"]
    assert (77, 0, 3) <= tuple(map(int, version.split("."))) < (81,)


@pytest.mark.slow
def test_deepspeed_installs_without_a_cuda_toolkit(tmp_path):
    """As the launchers install it, in pip's isolated environment: nothing is compiled."""
    pinned = pins((ROOT / "requirements/deepspeed.txt").read_text())["deepspeed"]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-cache-dir", "-w", str(tmp_path)]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}  # no nvcc, no CUDA_HOME
    env |= {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
    done = subprocess.run(
        [*command, f"deepspeed=={pinned}"], env=env, capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("no package index answers")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.glob("*.whl")] == [f"deepspeed-{pinned}-py3-none-any.whl"]


def test_no_layer_asks_for_what_only_another_launch_needs():
    """The paper's GRPO run needs requirements.txt alone: neither vLLM nor DeepSpeed."""
    base = pins((ROOT / "requirements.txt").read_text())
    assert not {"vllm", "deepspeed", "liger-kernel", "verl", "ray"} & set(base)
    assert set(pins((ROOT / "requirements/deepspeed.txt").read_text())) == {"deepspeed"}
    assert "--no-build-isolation" not in (ROOT / "scripts" / "common.sh").read_text()
