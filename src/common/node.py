"""One node: its GPUs, driver, CPUs, memory and disks, read from the system. Standard library only.

preflight reads this before anything is installed. The limits of a container or a Slurm job (CPU affinity,
CPU quota and memory of its cgroups) count, not what the machine has.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import InputError

GB = 10**9
MIB = 2**20
QUERY = "index,uuid,name,memory.total,memory.free,driver_version,compute_cap"


def gb(size: float) -> str:
    return f"{size / GB:.1f} GB"


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
    """What a run gets. None: unknown, and not checked."""

    cards: tuple[Card, ...]
    driver: str | None = None
    cpus: int | None = None
    memory: int | None = None
    described: bool = False  # by flags: not this machine


def this_node() -> Node:
    """The machine or container that runs this program. Raises InputError for GPUs that cannot be described."""
    processes = smi("--query-compute-apps=gpu_uuid,pid,process_name,used_memory")
    cards, driver = parse_cards(smi("--query-gpu=" + QUERY), processes)
    if (devices := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        shown = visible(devices, [card.uuid for card in cards])
        if any(isinstance(device, str) and device.startswith("MIG-") for device in shown):
            raise InputError("CUDA_VISIBLE_DEVICES names a MIG device: describe the node with --gpus and --gpu-memory")
        cards = tuple(cards[device] for device in shown if isinstance(device, int) and cards)
    return Node(cards, driver, cpus(), memory())


# --- GPUs -------------------------------------------------------------------------------------------------------------


def smi(query: str) -> list[list[str]]:
    """The cells of the lines that nvidia-smi prints; none if it is missing or cannot reach the driver."""
    try:
        command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (FileNotFoundError, PermissionError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return [[cell.strip() for cell in line.split(",")] for line in lines if line.strip()]


def installed() -> tuple[list[str], str | None]:
    """(the UUIDs of this machine's GPUs, the driver's version)."""
    rows = [row for row in smi("--query-gpu=uuid,driver_version") if row[0].startswith("GPU-")]  # not a message
    return [row[0] for row in rows], rows[0][-1] if rows else None


def parse_cards(listed: list[list[str]], processes: list[list[str]]) -> tuple[tuple[Card, ...], str | None]:
    """(the cards, the driver's version) from nvidia-smi's two answers. Raises InputError for what it cannot read."""
    running: dict[str, list[str]] = {}
    for row in processes:
        if len(row) == 4:
            uuid, pid, name, used = row
            running.setdefault(uuid, []).append(f"{Path(name).name} (pid {pid}, {used} MiB)")
    cards, driver = [], None
    for row in listed:
        if len(row) != 7 or not (row[0] + row[3] + row[4]).isdigit():  # MIG and unified memory: [N/A]
            raise InputError(
                f"nvidia-smi: cannot read {', '.join(row)}: describe the node with --gpus and --gpu-memory"
            )
        index, uuid, name, total, free, driver, compute = row
        used_by = tuple(running.get(uuid, ()))
        cards.append(Card(name, int(total) * MIB, int(free) * MIB, int(index), uuid, compute, used_by))
    return tuple(cards), driver


def visible(devices: str, uuids: Sequence[str]) -> list[int | str]:
    """The devices that a CUDA_VISIBLE_DEVICES shows: indices into `uuids`, or the UUID of a MIG device.

    CUDA stops at the first entry that is not a device, shows at most one MIG device, and nothing if a device is named
    twice, which raises InputError. If `uuids` is empty (no nvidia-smi), every device is assumed to exist.
    """
    shown: list[int | str] = []
    for entry in map(str.strip, devices.split(",")):
        device = device_of(entry, uuids)
        if device in shown:
            raise InputError(f"CUDA_VISIBLE_DEVICES={devices} names {device} twice: CUDA sees no GPU")
        if device is None or (shown and isinstance(device, str) and device.startswith("MIG-")):
            break
        shown.append(device)
    return shown


def device_of(entry: str, uuids: Sequence[str]) -> int | str | None:
    """The device of an entry: a number, or a UUID, or the start of a single one. None if there is no such device."""
    if re.fullmatch("[0-9]+", entry):
        return int(entry) if not uuids or int(entry) < len(uuids) else None
    if re.fullmatch("MIG-[0-9A-Za-z/-]+", entry):
        return entry
    if not re.fullmatch("GPU-[0-9a-f-]+", entry):
        return None
    found = [index for index, uuid in enumerate(uuids) if uuid.startswith(entry)]
    if not uuids:
        return entry
    return found[0] if len(found) == 1 else None


# --- CPUs, memory, disks ----------------------------------------------------------------------------------------------


def text(path: Path) -> str:
    """A file of the kernel; empty if it is not there."""
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""


def cgroups(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """The folders of the cgroups that this process is in, each followed by those above it: of v2, and of v1's tree for
    `controller`. A limit of any of them holds (Slurm sets a job's above that of the process)."""
    top = root / "sys/fs/cgroup"
    for line in (text(root / "proc/self/cgroup") or "0::/").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for tree in (top / controllers, top / controller) if controllers else (top, top / "unified"):
            folder = tree / path.lstrip("/")  # in a container it may be the host's, and only the tree's root exists
            yield from (one for one in (folder, *folder.parents) if one.is_relative_to(tree))


def quota(cpu_max: str) -> int | None:
    """CPUs of a cgroup's cpu.max: `200000 100000` is 2, `max 100000` has no limit."""
    found = re.fullmatch(r"(\d+) (\d+)", cpu_max)
    return max(1, int(found[1]) // int(found[2])) if found else None


def cpus(root: Path = Path("/")) -> int:
    """CPUs of this process: its affinity, and the smallest quota of its cgroups (v2 and v1)."""
    limits = [len(os.sched_getaffinity(0))]
    for folder in cgroups("cpu", root):
        v1 = " ".join(text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        limits += [limit for limit in (quota(text(folder / "cpu.max")), quota(v1)) if limit is not None]
    return min(limits)


def available(meminfo: str) -> int:
    """Bytes of /proc/meminfo's MemAvailable."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(found[1]) * 1024 if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def left_in_cgroup(limit: str, used: str, stat: str) -> int | None:
    """Bytes that a cgroup may still take. Its page cache counts as free, because the kernel drops it first."""
    if not limit.isdigit() or not used.isdigit():
        return None
    cache = re.search(r"^total_inactive_file (\d+)", stat, re.MULTILINE)  # v1: with the cgroups below it, as v2 counts
    cache = cache or re.search(r"^inactive_file (\d+)", stat, re.MULTILINE)
    return int(limit) - int(used) + (int(cache[1]) if cache else 0)


def memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may take: what the machine has available, and what its cgroups have left."""
    left = [available(text(root / "proc/meminfo"))]
    for folder in cgroups("memory", root):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            found = left_in_cgroup(text(folder / limit), text(folder / used), text(folder / "memory.stat"))
            left += [] if found is None else [found]
    return min(left)


def free_space(folder: Path) -> tuple[int, int]:
    """(bytes free, device) of the disk on which `folder` is, or will be."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free, place.stat().st_dev
