"""The variables with which a launcher (torchrun, accelerate) tells a process which of how many it is.

Left in a shell by another job, they make torch wait for processes that nobody starts. Standard library only.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import InputError

VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")  # accelerate reads them on a CPU
ALONE = f"to run as one process: unset {' '.join(VARIABLES)}, or start it with the script in scripts/"


def given() -> dict[str, str]:
    """Those of VARIABLES that are set."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def shown() -> str:
    """What is set, as a shell shows it."""
    return " ".join(f"{name}={value}" for name, value in given().items())


def number(name: str, low: int, high: int) -> int:
    """A variable as a whole number in low..high; `low` if it is not set. Raises InputError."""
    text = os.environ.get(name, str(low))
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise InputError(f"{name}={text}: must be a whole number in {low}..{high}; {ALONE}")
    return int(text)


def world_size() -> int:
    """Processes of this launch. Raises InputError if the variables cannot be those of a launch."""
    size = number("WORLD_SIZE", 1, 100_000)
    set_here = given()
    missing = [name for name in VARIABLES if not set_here.get(name)]
    if missing and (size > 1 or {"RANK", "LOCAL_RANK"} & set_here.keys()):
        raise InputError(f"{shown()}: set without {' '.join(missing)}; {ALONE}")
    number("RANK", 0, size - 1)
    number("LOCAL_RANK", 0, size - 1)
    number("MASTER_PORT", 1, 65535)
    for name in MPI:
        if "WORLD_SIZE" not in set_here and os.environ.get(name, "1") != "1":
            raise InputError(f"{name}={os.environ[name]}: MPI does not start these programs; unset it")
    return size


def refuse_launch() -> None:
    """For a program that is one process. Raises InputError if a launcher started several of it; forgets the rest."""
    if world_size() > 1:
        raise InputError(f"{shown()}: this program is one process; {ALONE}")
    forget()


def forget() -> None:
    """Unset the variables for this process and its children."""
    for name in VARIABLES:
        os.environ.pop(name, None)


@contextmanager
def rendezvous(seconds: float) -> Iterator[None]:
    """Within the context, torch waits for the other processes. If they do not come, the process ends with status 2.

    A thread ends it, because torch waits in C++, which no signal interrupts, and on a CPU accelerate gives it no
    time-out of its own.
    """
    size, who = world_size(), Path(sys.argv[0]).stem
    if size == 1:
        yield
        return
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # torchrun and accelerate set it
        wait = f"not started by torchrun: waiting at most {seconds:g} s (ddp_timeout) for {size} processes"
        print(f"{who}: {shown()}: {wait}; {ALONE}", file=sys.stderr, flush=True)

    def stop() -> None:
        line = f"{who}: {shown()}: {size} processes did not meet within {seconds:g} s (ddp_timeout); {ALONE}"
        print(line, file=sys.stderr, flush=True)
        os._exit(2)

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
