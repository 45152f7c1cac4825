"""Variables of another launch: refused, or reported before anything waits, and never waited on forever."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from common.errors import InputError
from common.launch import MPI, VARIABLES, refuse_launch, rendezvous, world_size

LAUNCHED = dict(zip(VARIABLES, ("2", "0", "0", "127.0.0.1", "29555"), strict=True))


@pytest.fixture
def launched(monkeypatch):
    """Sets exactly these variables of a launch."""

    def set_exactly(**variables: str) -> None:
        for name in (*VARIABLES, *MPI, "TORCHELASTIC_RUN_ID"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_exactly


@pytest.mark.parametrize(
    ("variables", "processes"),
    [
        ({}, 1),
        (LAUNCHED, 2),
        ({**LAUNCHED, "WORLD_SIZE": "1"}, 1),
        ({**LAUNCHED, "RANK": "1", "LOCAL_RANK": "1"}, 2),
        ({"MASTER_ADDR": "node-0", "MASTER_PORT": "29500"}, 1),
        ({"WORLD_SIZE": "1"}, 1),
        ({"PMI_SIZE": "1"}, 1),  # a shell of srun
        ({"SLURM_NTASKS": "4"}, 1),
    ],
)
def test_what_can_be_a_launch(launched, variables, processes):
    launched(**variables)
    assert world_size() == processes


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        *(
            ({"WORLD_SIZE": bad}, f"WORLD_SIZE={bad}: must be a whole number in 1..")
            for bad in ("0", "-1", "abc", "", "²")
        ),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2: set without RANK LOCAL_RANK MASTER_ADDR MASTER_PORT"),
        ({"RANK": "1"}, "RANK=1: set without WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT"),
        ({"LOCAL_RANK": "0"}, "LOCAL_RANK=0: set without WORLD_SIZE RANK MASTER_ADDR MASTER_PORT"),
        ({**LAUNCHED, "MASTER_ADDR": ""}, "set without MASTER_ADDR"),
        ({**LAUNCHED, "RANK": "2"}, "RANK=2: must be a whole number in 0..1"),
        ({**LAUNCHED, "LOCAL_RANK": "x"}, "LOCAL_RANK=x: must be a whole number in 0..1"),
        ({**LAUNCHED, "MASTER_PORT": "70000"}, "MASTER_PORT=70000: must be a whole number in 1..65535"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE=2: MPI does not start these programs"),
    ],
)
def test_what_cannot_be_one_is_refused_in_one_line(launched, variables, message):
    launched(**variables)
    with pytest.raises(InputError) as stopped:
        world_size()
    assert message in str(stopped.value)
    assert "unset" in str(stopped.value)
    assert "\n" not in str(stopped.value)


def test_a_program_of_one_process_is_not_launched(launched):
    launched(**LAUNCHED)
    with pytest.raises(
        InputError, match=r"WORLD_SIZE=2 RANK=0 .*: this program is one process; .*unset WORLD_SIZE RANK"
    ):
        refuse_launch()
    launched(**LAUNCHED | {"WORLD_SIZE": "1"})
    refuse_launch()
    assert not set(VARIABLES) & set(os.environ)


def test_only_a_process_without_a_launcher_is_told_why_it_waits(launched, capsys):
    launched(**LAUNCHED, TORCHELASTIC_RUN_ID="none")
    with rendezvous(60):
        pass
    assert capsys.readouterr().err == ""
    launched(**LAUNCHED)
    with rendezvous(60):
        pass
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "WORLD_SIZE=2 RANK=0 LOCAL_RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=29555: not started by torchrun" in line
    assert "waiting at most 60 s (ddp_timeout) for 2 processes; to run as one process: unset WORLD_SIZE RANK" in line


def test_the_wait_ends_although_torch_waits_in_c():
    """accelerate gives it no time-out on a CPU: before, half an hour without a line."""
    code = (
        "from common.launch import rendezvous\nimport torch.distributed as dist\n"
        "with rendezvous(0.5): dist.init_process_group('gloo')"
    )
    env = {**os.environ, **LAUNCHED, "PYTHONPATH": str(ROOT / "src")}
    started = time.time()
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert "2 processes did not meet within 0.5 s (ddp_timeout)" in done.stderr.splitlines()[-1]
    assert time.time() - started < 50
