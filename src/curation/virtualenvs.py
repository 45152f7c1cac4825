"""Virtual environments identified by a list of exact pins, created by pip once and reused.

The dependencies that pip adds to the pins change as the package index changes. So a folder of records has a lock for
each list of pins in environments.jsonl: everything that was installed when its records were proven.

    {"pins": ["pandas==2.0.0", …], "installed": ["numpy==1.26.4", "pandas==2.0.0", "six==1.17.0", …]}

Environments are readable for every user, whatever the umask: in the sandbox, programs of root run as another user.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from pydantic import BaseModel, BeforeValidator

from common.errors import ReCodeError
from common.files import numbered_jsonl, write_jsonl, write_text
from common.rows import typed

PIN = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w,.-]+\])?==\d[\w.+!]*")
LOCKS = "environments.jsonl"


def exact_pins(value: object) -> object:
    """Accept only NAME==VERSION: what pip takes from its index and from nowhere else."""
    pins = value if isinstance(value, list | tuple) else ()
    if not pins or not all(isinstance(pin, str) and PIN.fullmatch(pin) for pin in pins):
        raise ValueError("expected a list of exact pins, such as numpy==2.0.0")
    return value


Pins = Annotated[tuple[str, ...], BeforeValidator(exact_pins)]
Locks = Mapping[Pins, Sequence[str]]  # sorted pins -> everything that the environment contains
NO_LOCKS: Locks = MappingProxyType({})


class Lock(BaseModel):
    """A line of environments.jsonl."""

    pins: Pins
    installed: Pins


def read_locks(folder: Path) -> dict[Pins, Pins]:
    """The contents of a folder's environments.jsonl; {} if the file does not exist."""
    path = folder / LOCKS
    rows = numbered_jsonl(path) if path.is_file() else []
    locks = [typed(Lock, row, f"{path}:{line}") for line, row in rows]
    return {tuple(sorted(lock.pins)): lock.installed for lock in locks}


def write_locks(folder: Path, locks: Locks) -> None:
    """Replace a folder's environments.jsonl."""
    rows = [{"pins": list(pins), "installed": list(found)} for pins, found in sorted(locks.items())]
    write_jsonl(folder / LOCKS, rows)


def environment_name(pins: Sequence[str], locks: Locks) -> str:
    """Twelve hex digits that identify the environment of these pins, with their lock if there is one."""
    lock = locks.get(tuple(sorted(pins)))
    text = "\n".join([*sorted(pins), *(["", *sorted(lock)] if lock else [])])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def installed(python: Path) -> list[str]:
    """Everything installed in the environment of this interpreter, except pip itself, as pins."""
    return (python.parent.parent / "installed.txt").read_text("utf-8").split()


def _run(command: list[str], pins: Sequence[str]) -> None:
    """Run a command. Raises ReCodeError with the first error that it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()] or ["no output"]
        reason = next((line for line in lines if line.startswith(("ERROR", "Error"))), lines[-1])
        raise ReCodeError(f"pip could not install {' '.join(pins)}: {reason}")


def environment(pins: Sequence[str], root: Path, locks: Locks = NO_LOCKS) -> Path:
    """The interpreter of a virtual environment with `pins`, and with their lock in `locks` if there is one.

    Created on the first call, then reused; safe to call from several processes.
    """
    lock = locks.get(tuple(sorted(pins)), ())
    free = root.resolve() / environment_name(pins, NO_LOCKS)
    if lock and (free / "installed.txt").exists() and sorted(installed(free / "bin" / "python")) == sorted(lock):
        return free / "bin" / "python"  # created without the lock, but with the same contents
    home = root.resolve() / environment_name(pins, locks)
    python, made = home / "bin" / "python", home / "installed.txt"
    if made.exists():
        return python
    home.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{home}.lock", "w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not made.exists():
            _run([sys.executable, "-m", "venv", "--clear", str(home)], pins)
            constraints = home / "constraints.txt"
            constraints.write_text("".join(f"{pin}\n" for pin in lock), encoding="utf-8")
            pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
            # venv installs the setuptools that comes with its Python
            given = [pin for pin in lock if pin.startswith("setuptools==")]
            _run([*pip, "--constraint", str(constraints), "--", *pins, *given], pins)
            _run(["chmod", "-R", "a+rX", str(home)], pins)
            # Read from the files of the packages: no program of the environment runs outside the sandbox.
            [packages] = home.glob("lib/python*/site-packages")
            found = {f"{one.name}=={one.version}" for one in metadata.distributions(path=[str(packages)])}
            listed = sorted((pin for pin in found if not pin.startswith("pip==")), key=str.lower)
            write_text(made, "".join(f"{pin}\n" for pin in listed))
    return python
