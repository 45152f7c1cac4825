"""The device, timings, peak memory, and the log that every measurement is written to at once."""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from common.files import append_jsonl
from common.provenance import git_state, hardware, versions
from gpu.shapes import Shape

DIGITS = 5


def rounded(value: Any) -> Any:
    """A float with the digits that a timing deserves; anything else unchanged."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


@dataclass(frozen=True)
class Log:
    """The JSON lines of a run. A run that is cut short keeps what it has measured."""

    path: Path
    rows: list[dict[str, Any]]

    def note(self, part: str, what: str, **numbers: Any) -> None:
        row = {"part": part, "what": what, **{name: rounded(value) for name, value in numbers.items()}}
        self.rows.append(row)
        append_jsonl(self.path, row)
        print(json.dumps(row), flush=True)

    def number(self, part: str, what: str, name: str, default: float) -> float:
        """A number of this run, or `default` if it has not been measured."""
        found = [row[name] for row in self.rows if (row["part"], row["what"]) == (part, what) and name in row]
        return found[-1] if found else default


@dataclass(frozen=True)
class Bench:
    """What every part gets."""

    shape: Shape
    device: torch.device
    seed: int
    log: Log

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def timed(self, function: Callable[[], object], repeats: int = 3, warm_up: int = 1) -> float:
        """Median seconds of a call, after `warm_up` calls that are not timed."""
        times = []
        for i in range(warm_up + repeats):
            self.synchronise()
            start = time.perf_counter()
            function()
            self.synchronise()
            if i >= warm_up:
                times.append(time.perf_counter() - start)
        return statistics.median(times)

    def free(self) -> float:
        """Give back what is no longer referenced; return the GB that remain allocated. `peak_gb` counts from here."""
        gc.collect()
        if self.device.type != "cuda":
            return 0.0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 1e9

    def peak_gb(self) -> float | None:
        """The highest allocated memory since `free`; None on a CPU."""
        return torch.cuda.max_memory_allocated() / 1e9 if self.device.type == "cuda" else None

    def prompts(self, rows: int, tokens: int) -> torch.Tensor:
        """Random token ids, without the two special ones."""
        return torch.randint(2, self.shape.model["vocab_size"], (rows, tokens), device=self.device)


def driver() -> str | None:
    """The version of NVIDIA's driver; None without one."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.split("\n")[0].strip() or None if done.returncode == 0 else None


def describe(bench: Bench, shape: str, commit: str | None) -> None:
    """Log what identifies the rows that follow."""
    machine, state = hardware(), git_state()
    on_gpu = bench.device.type == "cuda"
    bench.log.note(
        "environment",
        "start",
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        shape=shape,
        card=machine["gpus"][0]["name"] if on_gpu else None,
        card_gb=machine["gpus"][0]["memory_gb"] if on_gpu else None,
        cpu=machine["cpu"],
        driver=driver() if on_gpu else None,
        cuda=machine["cuda"],
        commit=commit or state["commit"],
        dirty=state["dirty"],
        seed=bench.seed,
        versions={name: version for name, version in versions().items() if version},
    )
