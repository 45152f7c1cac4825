"""Whether a node can start a run, apart from GPU memory. Standard library only: runs before anything is installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from common import toolchain
from common.errors import InputError
from common.node import Node, free_space, gb, installed, visible

DRIVER = 580  # PyPI's torch 2.13.0 is built for CUDA 13.0
BF16_SINCE = 8.0  # compute capability
FREE = 0.95  # of an unused GPU, at least: the driver takes some


@dataclass(frozen=True)
class Check:
    """One line about the node; `problem` is None if nothing is wrong."""

    name: str
    found: str
    problem: str | None = None


def gpu_checks(node: Node) -> list[Check]:
    """GPUs, driver, bf16, and other processes on the GPUs."""
    if not node.cards:
        missing = "no GPU: nvidia-smi is missing, reports none, or CUDA_VISIBLE_DEVICES hides them"
        return [Check("GPUs", "none", f"{missing}; describe another node with --gpus and --gpu-memory")]
    first = node.cards[0]
    found = f"{len(node.cards)} x {first.name or 'GPU'}, {gb(min(card.memory for card in node.cards))}"
    checks = [Check("GPUs", found + (" (described)" if node.described else ""))]
    old = [card for card in node.cards if card.compute and float(card.compute) < BF16_SINCE]
    if old:
        why = f"GPU {old[0].index} ({old[0].name}) has no bf16: compute capability {old[0].compute}, needs {BF16_SINCE}"
        checks.append(Check("bf16", "no", why))
    for card in node.cards:
        if card.processes or card.free < FREE * card.memory:
            users = ", ".join(card.processes) or "processes that are not visible here"
            checks.append(Check(f"GPU {card.index}", f"{gb(card.free)} free; used by {users}"))
    if node.driver is not None:
        checks.append(driver_check(node.driver))
    return checks


def driver_check(driver: str) -> Check:
    """An installed torch may be a build for an older driver, so only its absence makes an old driver a problem."""
    major = driver.partition(".")[0]
    if not major.isdigit() or int(major) >= DRIVER or find_spec("torch") is not None:
        return Check("driver", driver)
    why = f"NVIDIA driver {driver}: torch 2.13.0 from PyPI needs {DRIVER} or newer; install a torch build for it first"
    return Check("driver", driver, why)


def count_gpus() -> int:
    """The number of GPUs that CUDA would show, for the launch scripts. Raises InputError if the driver is too old."""
    uuids, driver = installed()
    count, devices = len(uuids), os.environ.get("CUDA_VISIBLE_DEVICES")
    if devices is not None:
        count = len(visible(devices, uuids))
        if 0 < count < len(devices.split(",")):
            print(f"CUDA_VISIBLE_DEVICES={devices}: CUDA sees only the first {count}", file=sys.stderr)
    if count and driver and (problem := driver_check(driver).problem):
        raise InputError(problem)
    return count


def python_check(version: tuple[int, int], *, dapo: bool) -> Check:
    """The versions for which every package of the layers has a release."""
    newest = 12 if dapo else 13
    found = ".".join(map(str, version))
    if (3, 11) <= version <= (3, newest):
        return Check("Python", found)
    return Check("Python", found, f"Python {found}: needs 3.11 to 3.{newest}" + (" (verl 0.9.1)" if dapo else ""))


def compiler_check() -> Check:
    """Triton compiles at run time. The CUDA toolkit is not needed: what needs it is compiled in its wheels."""
    lacks = toolchain.missing()
    return Check("C compiler, Python headers", "missing" if lacks else "found", lacks)


def cpu_check(cpus: int, needed: int, why: str) -> Check:
    problem = f"{cpus} CPUs: needs {needed}, {why}" if cpus < needed else None
    return Check("CPUs", f"{cpus} (needs {needed})", problem)


def memory_check(memory: int, needed: float) -> Check:
    """RAM. The need is only an estimate, but too little is a problem, because the kernel kills the process."""
    problem = f"RAM: {gb(memory)} available, needs about {gb(needed)} (estimate)" if memory < needed else None
    return Check("RAM", f"{gb(memory)} available (needs about {gb(needed)})", problem)


def disk_checks(wanted: Iterable[tuple[str, Path, float]]) -> list[Check]:
    """Check (what, folder, bytes) against the free space of their disks; the sizes on one disk are added up."""
    checks: list[Check] = []
    taken: dict[int, float] = {}
    for what, folder, size in wanted:
        free, device = free_space(folder)
        left = free - taken.get(device, 0)
        taken[device] = taken.get(device, 0) + size
        problem = f"disk of {folder}: {gb(left)} free, {what} need about {gb(size)}" if left < size else None
        checks.append(Check("disk", f"{folder}: {gb(left)} free ({what} need about {gb(size)})", problem))
    return checks


def this_machine(node: Node, *, dapo: bool) -> list[Check]:
    """What can be checked without a configuration."""
    here = [] if node.described else [python_check(sys.version_info[:2], dapo=dapo), compiler_check()]
    return gpu_checks(node) + here
