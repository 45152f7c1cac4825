"""One node: its GPUs, driver, CPUs, memory and disks, read from the system. Standard library only.

preflight reads this before anything is installed. A container's limits (CPU affinity, cgroup quota, cgroup memory)
count, not what the machine has.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import InputError

GB = 10**9
MIB = 2**20
QUERY = "index,uuid,name,memory.total,memory.free,driver_version,compute_cap"


@dataclass(frozen=True)
class Card:
    """One GPU; memory in bytes."""

    name: str
    memory: int
    free: int
    index: int = 0
    uuid: str = ""
    compute: str = ""  # compute capability: 9.0
    processes: tuple[str, ...] = ()  # of anyone: name, pid and memory


@dataclass(frozen=True)
class Node:
    """What a run gets. None: not known, and not checked."""

    cards: tuple[Card, ...]
    driver: str | None = None
    python: tuple[int, int] | None = None
    cpus: int | None = None
    memory: int | None = None
    described: bool = False  # by flags; not this machine


def described_node(gpus: int, gpu_memory: int, gpu: str, cpus: int | None, memory: int | None) -> Node:
    """A node that flags describe, with empty GPUs."""
    cards = tuple(Card(gpu, gpu_memory, gpu_memory, index) for index in range(gpus))
    return Node(cards, cpus=cpus, memory=memory, described=True)


def this_node() -> Node:
    """The machine or container that runs this program."""
    listed, processes = smi("--query-gpu=" + QUERY), smi("--query-compute-apps=gpu_uuid,pid,process_name,used_memory")
    cards, driver = parse_cards(listed or "", processes or "")
    shown = visible(cards, os.environ.get("CUDA_VISIBLE_DEVICES"))
    return Node(shown, driver, sys.version_info[:2], cpus(), memory())


# --- GPUs -------------------------------------------------------------------------------------------------------------


def smi(query: str) -> str | None:
    """What nvidia-smi answers, in CSV; None if it is missing or cannot reach the driver."""
    try:
        command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (FileNotFoundError, PermissionError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def cells(csv: str) -> list[list[str]]:
    """The cells of each line."""
    return [[cell.strip() for cell in line.split(",")] for line in csv.splitlines() if line.strip()]


def parse_cards(listed: str, processes: str) -> tuple[tuple[Card, ...], str | None]:
    """(the cards, the driver's version) from nvidia-smi's two answers. Raises InputError for what it cannot read."""
    running: dict[str, list[str]] = {}
    for row in cells(processes):
        if len(row) == 4:
            uuid, pid, name, used = row
            running.setdefault(uuid, []).append(f"{Path(name).name} (pid {pid}, {used} MiB)")
    cards, driver = [], None
    for row in cells(listed):
        if len(row) != 7 or not (row[0] + row[3] + row[4]).isdigit():  # MIG and unified memory: [N/A]
            raise InputError(
                f"nvidia-smi: cannot read {', '.join(row)}: describe the node with --gpus and --gpu-memory"
            )
        index, uuid, name, total, free, driver, compute = row
        used_by = tuple(running.get(uuid, ()))
        cards.append(Card(name, int(total) * MIB, int(free) * MIB, int(index), uuid, compute, used_by))
    return tuple(cards), driver


def visible(cards: Sequence[Card], devices: str | None) -> tuple[Card, ...]:
    """The cards that CUDA_VISIBLE_DEVICES shows: CUDA stops at the first entry that is not a device."""
    if devices is None:
        return tuple(cards)
    shown = []
    for entry in map(str.strip, devices.split(",")):
        if entry.startswith("MIG-"):
            raise InputError("CUDA_VISIBLE_DEVICES names MIG devices: describe the node with --gpus and --gpu-memory")
        found = [card for card in cards if entry in (str(card.index), card.uuid)]
        if not found:
            break
        shown.append(found[0])
    return tuple(shown)


def limited(node: Node, gpus: int | None) -> Node:
    """The node with its first `gpus` cards. Raises InputError if it has fewer."""
    if gpus is None or gpus == len(node.cards):
        return node
    if gpus > len(node.cards):
        raise InputError(
            f"--gpus {gpus}: this machine shows {len(node.cards)}; add --gpu-memory to describe another node"
        )
    return replace(node, cards=node.cards[:gpus])


# --- CPUs, memory, disks ----------------------------------------------------------------------------------------------


def text(path: str) -> str:
    """A file of the kernel; empty if it is not there."""
    try:
        return Path(path).read_text("utf-8").strip()
    except OSError:
        return ""


def quota(cpu_max: str) -> int | None:
    """CPUs of a cgroup's cpu.max: `200000 100000` is 2, `max 100000` has no limit."""
    found = re.fullmatch(r"(\d+) (\d+)", cpu_max)
    return max(1, int(found[1]) // int(found[2])) if found else None


def cpus() -> int:
    """CPUs of this process: its affinity, and its cgroup's quota (v2, then v1)."""
    v1 = [text(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us") for name in ("quota", "period")]
    given = quota(text("/sys/fs/cgroup/cpu.max") or " ".join(v1))
    affinity = len(os.sched_getaffinity(0))
    return affinity if given is None else min(affinity, given)


def available(meminfo: str) -> int:
    """Bytes of /proc/meminfo's MemAvailable."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(found[1]) * 1024 if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def left_in_cgroup(limit: str, used: str, stat: str) -> int | None:
    """Bytes that a cgroup may still take. Its page cache counts as free, because the kernel drops it first."""
    if not limit.isdigit() or not used.isdigit():
        return None
    cache = re.search(r"^(?:total_)?inactive_file (\d+)", stat, re.MULTILINE)
    return int(limit) - int(used) + (int(cache[1]) if cache else 0)


def memory() -> int:
    """Bytes of memory that this process may take: what the machine has available, and what its cgroup has left."""
    here = available(text("/proc/meminfo"))
    for folder, limit, used in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        left = left_in_cgroup(text(f"{folder}/{limit}"), text(f"{folder}/{used}"), text(f"{folder}/memory.stat"))
        if left is not None:
            here = min(here, left)
    return here


def free_space(folder: Path) -> tuple[int, int]:
    """(bytes free, device) of the disk on which `folder` is, or will be."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free, place.stat().st_dev


def hub_cache(environment: Mapping[str, str]) -> Path:
    """Where huggingface_hub keeps downloads."""
    home = environment.get("HF_HOME") or os.path.join(
        environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"
    )
    return Path(environment.get("HF_HUB_CACHE") or os.path.join(home, "hub"))
