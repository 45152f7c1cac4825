"""The node: its GPUs as CUDA shows them, and the limits of containers and Slurm jobs."""

from __future__ import annotations

import os

import pytest
from preflight_runs import GB, SMI, fake_smi

from common import node, node_checks
from common.errors import InputError


def csv(text: str) -> list[list[str]]:
    return [line.split(", ") for line in text.splitlines()]


def test_nvidia_smi_is_read():
    cards, driver = node.parse_cards(csv(SMI), csv("GPU-bb, 4242, /usr/bin/python3, 41000\n"))
    assert driver == "580.65.06"
    assert [(card.index, card.memory, card.free) for card in cards] == [
        (0, 81559 * 2**20, 81000 * 2**20),
        (1, 81559 * 2**20, 40000 * 2**20),
    ]
    assert cards[1].processes == ("python3 (pid 4242, 41000 MiB)",)
    checks = node_checks.gpu_checks(node.Node(cards, driver))
    assert [(check.name, check.found) for check in checks][1:] == [
        ("GPU 1", "41.9 GB free; used by python3 (pid 4242, 41000 MiB)"),
        ("driver", "580.65.06"),
    ]
    with pytest.raises(InputError, match="describe the node"):
        node.parse_cards(csv("0, GPU-aa, NVIDIA GB10, [N/A], [N/A], 580.1, 12.1\n"), [])


UUIDS = ["GPU-0ab1", "GPU-0ac2", "GPU-3ad3"]


@pytest.mark.parametrize(
    ("devices", "shown"),
    [
        ("1", [1]),
        ("02, 1", [2, 1]),  # leading zeros and spaces
        ("GPU-3ad3,0", [2, 0]),
        ("GPU-3", [2]),  # the start of a UUID is enough
        ("GPU-0a,2", []),  # unless two have it
        ("GPU-0ab,GPU-9", [0]),
        ("0,7,1", [0]),  # CUDA stops at the first that is not there
        ("0,-1,2", [0]),
        ("0,1 2", [0]),
        ("GPU-", []),
        ("gpu-3ad3", []),
        ("", []),
        ("MIG-1f2e/3/0,MIG-3d4c", ["MIG-1f2e/3/0"]),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(devices, shown):
    assert node.visible(devices, UUIDS) == shown


@pytest.mark.parametrize(
    ("devices", "named"), [("1,1", "1"), ("1,01", "1"), ("2,GPU-3ad3", "2"), ("GPU-3,GPU-3a", "2")]
)
def test_a_device_named_twice_is_refused(devices, named):
    with pytest.raises(InputError, match=f"={devices} names {named} twice: CUDA sees no GPU"):
        node.visible(devices, UUIDS)


def test_visible_devices_without_nvidia_smi_are_taken_to_exist():
    assert node.visible("0,9,GPU-3a", []) == [0, 9, "GPU-3a"]


def test_only_visible_cards_count(tmp_path, monkeypatch):
    fake_smi(tmp_path, monkeypatch, SMI, "")
    for devices, indices in ((None, [0, 1]), ("GPU-b,0", [1, 0]), ("", [])):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if devices is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
        assert [card.index for card in node.this_node().cards] == indices
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1f2e")
    with pytest.raises(InputError, match="names a MIG device: describe the node"):
        node.this_node()


def test_old_drivers_old_gpus_and_old_pythons(monkeypatch):
    assert node_checks.driver_check("550.90.07").problem is None  # torch is installed
    monkeypatch.setattr(node_checks, "find_spec", lambda name: None)
    assert "needs 580" in str(node_checks.driver_check("550.90.07").problem)
    old = node.Card("Tesla V100", 16 * GB, 16 * GB, compute="7.0")
    assert any("has no bf16" in str(check.problem) for check in node_checks.gpu_checks(node.Node((old,))))
    assert node_checks.python_check((3, 13), dapo=False).problem is None
    assert node_checks.python_check((3, 13), dapo=True).problem == "Python 3.13: needs 3.11 to 3.12 (verl 0.9.1)"
    assert node_checks.python_check((3, 10), dapo=False).problem == "Python 3.10: needs 3.11 to 3.13"


def test_limits_of_a_container():
    assert (node.quota("200000 100000"), node.quota("max 100000"), node.quota("")) == (2, None, None)
    assert node.left_in_cgroup("8000", "3000", "anon 1\ninactive_file 1000\n") == 6000
    assert node.left_in_cgroup("8000", "3000", "inactive_file 1\ntotal_inactive_file 1000\n") == 6000  # v1
    assert node.left_in_cgroup("max", "3000", "") is None
    assert node.available("MemTotal: 9 kB\nMemAvailable:   2048 kB\n") == 2**21
    assert node.cpus() >= 1 and node.memory() > 0


SLURM = "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7"
TREES = {  # /proc/self/cgroup, the files of the tree, and what a process of it has left: CPUs, bytes
    "Slurm, v2: the job has less than its step and than the machine": (
        "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0",
        {
            f"{SLURM}/cpu.max": "300000 100000",
            f"{SLURM}/memory.max": "8000",
            f"{SLURM}/memory.current": "3000",
            f"{SLURM}/step_0/cpu.max": "400000 100000",
            f"{SLURM}/step_0/memory.max": "max",
            f"{SLURM}/step_0/memory.current": "2000",
            "sys/fs/cgroup/other/memory.max": "10",  # not this process's
            "sys/fs/cgroup/other/memory.current": "0",
        },
        (3, 5000),
    ),
    "a container, v2: the tree's root is its own": (
        "0::/",
        {
            "sys/fs/cgroup/cpu.max": "200000 100000",
            "sys/fs/cgroup/memory.max": "9000",
            "sys/fs/cgroup/memory.current": "1000",
            "sys/fs/cgroup/memory.stat": "inactive_file 500",
        },
        (2, 8500),
    ),
    "a container, v1: the path is the host's, which it does not see": (
        "4:memory:/docker/ab\n3:cpu,cpuacct:/docker/ab\n1:name=systemd:/x",
        {
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "7000",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
        },
        (1, 6000),
    ),
    "Slurm, v1": (
        "4:memory:/slurm/uid_1/job_7/step_0\n3:cpu:/slurm/uid_1/job_7",
        {
            "sys/fs/cgroup/memory/slurm/uid_1/job_7/memory.limit_in_bytes": "6000",
            "sys/fs/cgroup/memory/slurm/uid_1/job_7/memory.usage_in_bytes": "500",
            "sys/fs/cgroup/cpu/slurm/uid_1/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/slurm/uid_1/cpu.cfs_period_us": "100000",
        },
        (64, 5500),
    ),
}


@pytest.mark.parametrize(("own", "files", "left"), TREES.values(), ids=TREES)
def test_limits_of_the_process_s_own_cgroups(own, files, left, tmp_path, monkeypatch):
    for name, content in {"proc/self/cgroup": own, "proc/meminfo": "MemAvailable: 99 kB", **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{content}\n", "utf-8")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    assert (node.cpus(tmp_path), node.memory(tmp_path)) == left


def test_what_shares_a_disk_is_added_up(tmp_path, monkeypatch):
    monkeypatch.setattr(node_checks, "free_space", lambda folder: (100 * GB, 1))
    checks = node_checks.disk_checks([("checkpoints", tmp_path, 60e9), ("the model's files", tmp_path, 60e9)])
    assert [check.problem is None for check in checks] == [True, False]
    assert "40.0 GB free, the model's files need about 60.0 GB" in str(checks[1].problem)
    assert node.free_space(tmp_path / "not" / "there")[0] > 0
