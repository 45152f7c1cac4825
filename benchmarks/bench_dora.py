"""Milliseconds and memory of DoRA's row norms for the layers of a 7B model on a CPU: factored (src/dora.py) and peft's.

One layer at a time, with random weights in bf16 and an adapter of rank 64 in float32. Times: the two take turns, and
the median of the rounds is shown. Memory: by how much the norms of one call raise the peak of a fresh process (Linux).

    PYTHONPATH=src python benchmarks/bench_dora.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from common.cli import Parser, above_zero, program
from common.provenance import git_state, hardware
from gpu.norms import dense, dora_layer, factored, sizes
from gpu.shapes import SHAPES

LAYERS = sizes(SHAPES["7b"])
WAYS = {"peft": dense, "factored": factored}


def memory_mb(field: str) -> float:
    """VmRSS, the memory that this process has now, or VmHWM, the most that it has had (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024 / 1e6


def made(name: str) -> Any:
    """The layer, the same in every process."""
    torch.manual_seed(0)
    return dora_layer(SimpleNamespace(device=torch.device("cpu")), *LAYERS[name])


def extra_mb(name: str, way: str) -> float:
    """The memory that the norms of a layer need beyond its weights, measured in a process of its own."""
    command = [sys.executable, __file__, "--measure", name, way]
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # glibc then returns what is freed, and counts it again
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout)


def measure(name: str, way: str) -> float:
    """What `extra_mb` measures, in this process."""
    layer = made(name)
    norms = WAYS[way](layer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        WAYS[way](made("v_proj"))()  # what is loaded once, by the smallest layer
        before = memory_mb("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forget the largest so far
        norms()
    return memory_mb("VmHWM") - before


def seconds(name: str, rounds: int) -> tuple[dict[str, list[float]], float]:
    """(way -> seconds of each round, largest difference of the norms)."""
    layer = made(name)
    ways = {way: make(layer) for way, make in WAYS.items()}
    spent: dict[str, list[float]] = {way: [] for way in ways}
    found = {}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for turn in range(rounds + 1):  # the first warms up
            for way, norms in ways.items():
                began = time.perf_counter()
                found[way] = norms()
                if turn:
                    spent[way].append(time.perf_counter() - began)
    return spent, float((found["factored"] / found["peft"] - 1).abs().max())


@program()
def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=above_zero(int), default=5)
    parser.add_argument("--measure", nargs=2, metavar=("LAYER", "WAY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(measure(*args.measure))
        return
    print(f"commit {str(git_state()['commit'])[:7]}, {hardware()['cpu']}, {torch.get_num_threads()} threads\n")
    heads = {"layer": -12, "weight": 16, "peft ms": 11, "ours ms": 10, "ratio": 8, "peft MB": 10, "ours MB": 10}
    print("".join(f"{head:{'<' if width < 0 else '>'}{abs(width)}}" for head, width in heads.items()) + "    differ")
    for name, (rows, columns) in LAYERS.items():
        spent, difference = seconds(name, args.rounds)
        theirs, ours = (1e3 * statistics.median(spent[way]) for way in WAYS)
        memory = [extra_mb(name, way) for way in WAYS]
        print(
            f"{name:<12}{f'{rows} x {columns}':>16}{theirs:>11.1f}{ours:>10.1f}{theirs / ours:>8.2f}"
            f"{memory[0]:>10.0f}{memory[1]:>10.0f}{difference:>10.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
