"""A machine that lacks what a run needs is reported in one line, before the run would wait forever."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import ROOT, run_script

from common import toolchain
from common.errors import InputError
from verl_training import config as verl_config
from verl_training import machine as dapo_machine

pytest.importorskip("hydra", reason="requirements/dapo.txt is not installed")
CPUS = "ray_kwargs.ray_init.num_cpus"
UNITS = "transfer_queue.backend.SimpleStorage.num_data_storage_units"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("RAY_ADDRESS", "CC", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(dapo_machine, "count_gpus", lambda: 8)


def compose(*overrides: str):
    return verl_config.compose("dapo", overrides)


# Runner 1 + controller 1 + storage units + 3 per GPU.
@pytest.mark.parametrize(
    ("gpus", "units", "cpus"),
    [(1, 1, 6), (2, 1, 9), (4, 1, 15), (8, 1, 27), (1, 8, 13), (2, 8, 16), (8, 8, 34)],
)
def test_the_cpus_that_a_run_needs(gpus, units, cpus):
    sizes = [f"trainer.n_gpus_per_node={gpus}", f"{UNITS}={units}", "trainer.device=cpu"]
    assert dapo_machine.cpus_needed(compose(*sizes)) == cpus
    dapo_machine.check(compose(*sizes, f"{CPUS}={cpus}"))
    with pytest.raises(InputError) as stopped:
        dapo_machine.check(compose(*sizes, f"{CPUS}={cpus - 1}"))
    assert f"needs {cpus} CPUs for {gpus} GPU(s), Ray sees {cpus - 1}" in str(stopped.value)
    assert "\n" not in str(stopped.value)


def test_what_the_count_rests_on(verl):
    """What the pinned packages ask Ray for. tests/test_paper_dapo.py starts real runs with just that many CPUs."""
    from transfer_queue.controller import TransferQueueController
    from transfer_queue.storage.simple_storage import SimpleStorageUnit
    from verl.single_controller.ray import ResourcePoolManager
    from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ

    from verl_training.trainer import DapoRunner

    for actor in (DapoRunner, TransferQueueController, SimpleStorageUnit):
        assert actor._default_options["num_cpus"] == 1
    assert "num_cpus" not in AgentLoopWorkerTQ._default_options  # Ray places it on any node that has CPUs at all
    assert ResourcePoolManager.max_colocate_count == dapo_machine.CPUS_PER_GPU == 3


def test_the_cpus_that_ray_finds():
    """Ray ignores the CPU affinity: in a process that may use only one CPU it counts as many as the check."""
    code = "import ray; ray.init(address='local', include_dashboard=False); print(ray.cluster_resources()['CPU'])"
    one = {min(os.sched_getaffinity(0))}
    command = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {one}); {code}"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert dapo_machine.cpus_seen(compose()) == float(found.stdout.splitlines()[-1])


def test_several_nodes_need_a_cluster(monkeypatch):
    two = compose("trainer.nnodes=2", "trainer.n_gpus_per_node=8", "trainer.device=cpu")
    with pytest.raises(InputError, match="several nodes need a Ray cluster; set RAY_ADDRESS"):
        dapo_machine.check(two)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    dapo_machine.check(two)
    with pytest.raises(InputError, match=r"num_cpus=8: the cluster at RAY_ADDRESS has CPUs of its own"):
        dapo_machine.check(compose(f"{CPUS}=8"))
    # 2 nodes x 8 GPUs: 2 + 1 + 3 x 16 = 51 CPUs, 24 of them on each node with its GPUs.
    good = {"GPU": 8.0, "CPU": 26.0}
    dapo_machine.check_cluster(two, [good, good])
    with pytest.raises(InputError, match=r"needs 2 node\(s\) with 8 GPU\(s\) and 24 CPUs, Ray has 1 of 2"):
        dapo_machine.check_cluster(two, [good, {"GPU": 8.0, "CPU": 23.0}])
    with pytest.raises(InputError, match=r"Ray has 1 of 2"):
        dapo_machine.check_cluster(two, [good, {"CPU": 64.0}])
    with pytest.raises(InputError, match=r"needs 51 CPUs, the Ray cluster has 50"):
        dapo_machine.check_cluster(two, [{"GPU": 8.0, "CPU": 25.0}] * 2)


def test_triton_needs_a_compiler_and_headers(monkeypatch, tmp_path):
    compiler = tmp_path / "gcc"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(toolchain.sysconfig, "get_paths", lambda scheme: {"include": str(tmp_path)})
    monkeypatch.setenv("PATH", str(tmp_path))
    assert toolchain.missing() is None
    monkeypatch.setenv("CC", "icc")
    assert toolchain.missing() == "Triton compiles with CC=icc, which is not there: unset CC, or install it"
    monkeypatch.delenv("CC")
    (tmp_path / "Python.h").unlink()
    assert f"{tmp_path}/Python.h is missing" in toolchain.missing()
    compiler.rename(tmp_path / "clang")
    assert "Python.h" in toolchain.missing()  # Triton takes clang too
    (tmp_path / "clang").unlink()
    assert toolchain.missing() == "Triton needs a C compiler at run time: install gcc, or set CC"
    with pytest.raises(InputError, match="Triton needs a C compiler"):
        dapo_machine.check(compose(f"{CPUS}=9"))
    dapo_machine.check(compose(f"{CPUS}=9", "trainer.device=cpu"))


def test_expandable_segments_that_vllm_does_not_see(monkeypatch):
    on = "expandable_segments:True"
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", on)
    dapo_machine.check_allocator(compose())  # vLLM turns them off around its pool
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", on)
    dapo_machine.check_allocator(compose())  # torch reads the other name first
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF")
    with pytest.raises(InputError, match=r"PYTORCH_ALLOC_CONF=expandable_segments:True: vLLM does not see it"):
        dapo_machine.check_allocator(compose())
    dapo_machine.check_allocator(compose("actor_rollout_ref.rollout.free_cache_engine=false"))
    dapo_machine.check_allocator(compose("actor_rollout_ref.rollout.name=hf"))
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "max_split_size_mb:128,expandable_segments:False")
    dapo_machine.check_allocator(compose())


def test_missing_gpus_are_reported_before_cpus(monkeypatch):
    monkeypatch.setattr(dapo_machine, "count_gpus", lambda: 1)
    with pytest.raises(InputError, match=r"needs 2 GPU\(s\), this machine shows 1 .*: set trainer\.n_gpus_per_node"):
        dapo_machine.check(compose(f"{CPUS}=8"))


def test_the_command_line_reports_it_in_one_line():
    on_cpus = "trainer.device=cpu"
    done = run_script("dapo.py", f"{CPUS}=8", on_cpus, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("dapo: needs 9 CPUs for 2 GPU(s), Ray sees 8 and would wait forever: ")
    assert run_script("dapo.py", "--check", f"{CPUS}=8", on_cpus, check=False).stderr == done.stderr
    good = run_script("dapo.py", "--check", f"{CPUS}=9", "trainer.device=cpu")
    assert (good.stdout, good.stderr) == ("", "")
    assert "num_cpus: 8" in run_script("dapo.py", f"{CPUS}=8", "--print-config").stdout  # to look, any machine will do


WITHOUT_THE_LAYER = """
import runpy, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"omegaconf", "hydra", "verl", "ray", "tensordict", "transfer_queue"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("script", ["dapo", "data_process"])
def test_without_verl_s_layer_help_answers_and_a_run_names_the_layer(script):
    command = [sys.executable, "-c", WITHOUT_THE_LAYER, str(ROOT / "src" / f"{script}.py")]
    asked = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False, timeout=60)
    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout.startswith(f"usage: {script}.py ")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    message = f"{script}: omegaconf is not installed: pip install -r requirements/dapo.txt\n"
    assert (done.returncode, done.stderr) == (2, message)
