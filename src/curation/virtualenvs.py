"""Virtual environments that a list of exact pins names, made by pip once and reused.

What pip adds to the pins (their dependencies) changes with the index from day to day. So a folder of records holds, in
environments.jsonl, a lock for each list of pins: all that the environment held in which its records were proven.

    {"pins": ["pandas==2.0.0", …], "installed": ["numpy==1.26.4", "pandas==2.0.0", "six==1.17.0", …]}

An environment with a lock and one without, or with another lock, are different environments, in folders of their own.

Everybody may read an environment, whatever the umask was: in the sandbox, programs of root run as another user.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from common.errors import InputError, ReCodeError
from common.files import read_jsonl, write_jsonl, write_text

PIN = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w,.-]+\])?==\d[\w.+!]*")
LOCKS = "environments.jsonl"

Pins = tuple[str, ...]
Locks = Mapping[Pins, Sequence[str]]  # sorted pins -> all that the environment holds


class EnvironmentFailed(ReCodeError):
    """An environment could not be made; the message names its pins and says why."""


def is_pins(value: object) -> bool:
    """Whether a value is a list of exact pins, NAME==VERSION: what pip takes from its index, and from nowhere else."""
    return isinstance(value, list) and bool(value) and all(isinstance(p, str) and PIN.fullmatch(p) for p in value)


def read_locks(folder: Path) -> dict[Pins, list[str]]:
    """What a folder's environments.jsonl holds; {} where there is none. Raises InputError."""
    path, found = folder / LOCKS, {}
    if path.is_file():
        for line, row in enumerate(read_jsonl(path), start=1):
            if wrong := [field for field in ("pins", "installed") if not is_pins(row.get(field))]:
                raise InputError(f"{path}:{line}: {wrong[0]}: expected exact pins, as numpy==2.0.0")
            found[tuple(sorted(row["pins"]))] = row["installed"]
    return found


def write_locks(folder: Path, locks: Locks) -> None:
    """Replace a folder's environments.jsonl."""
    rows = [{"pins": list(pins), "installed": list(found)} for pins, found in sorted(locks.items())]
    write_jsonl(folder / LOCKS, rows)


def environment_name(pins: Sequence[str], locks: Locks | None = None) -> str:
    """Twelve hex digits that name the environment of these pins, with their lock if there is one."""
    lock = (locks or {}).get(tuple(sorted(pins)))
    text = "\n".join([*sorted(pins), *(["", *sorted(lock)] if lock else [])])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def installed(python: Path) -> list[str]:
    """All that the environment of this interpreter holds, pip itself aside, as pins."""
    return (python.parent.parent / "installed.txt").read_text("utf-8").split()


def _look(home: Path) -> list[str]:
    """As `installed`, from the files of the packages: no program of the environment is run."""
    [packages] = home.glob("lib/python*/site-packages")
    found = {f"{one.name}=={one.version}" for one in metadata.distributions(path=[str(packages)])}
    return sorted((pin for pin in found if not pin.startswith("pip==")), key=str.lower)


def make_readable(home: Path) -> None:
    """`chmod -R a+rX`: links are left alone."""
    for folder, folders, files in os.walk(home):
        for path in (folder, *(os.path.join(folder, name) for name in (*folders, *files))):
            if not os.path.islink(path):
                mode = os.stat(path).st_mode
                wanted = mode | (0o555 if stat.S_ISDIR(mode) or mode & 0o111 else 0o444)
                if wanted != mode:
                    os.chmod(path, stat.S_IMODE(wanted))


def _run(command: list[str], pins: Sequence[str]) -> None:
    """Run a command; EnvironmentFailed with the first error that it told."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        said = next((line for line in lines if line.startswith(("ERROR", "Error"))), lines[-1] if lines else "no word")
        raise EnvironmentFailed(f"pip could not install {' '.join(pins)}: {said}")


def environment(pins: Sequence[str], root: Path, locks: Locks | None = None) -> Path:
    """The interpreter of a virtual environment that holds `pins`, and the rest as `locks` says, if it does.

    Made once, found again by its name. Several processes may ask for one at a time. Raises EnvironmentFailed.
    """
    lock = (locks or {}).get(tuple(sorted(pins)), ())
    free = root.resolve() / environment_name(pins)
    if lock and (free / "installed.txt").exists() and sorted(installed(free / "bin" / "python")) == sorted(lock):
        return free / "bin" / "python"  # made without the lock, and yet as it says
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
            # venv brings a setuptools of its own, another one with each Python
            given = [pin for pin in lock if pin.startswith("setuptools==")]
            _run([*pip, "--constraint", str(constraints), "--", *pins, *given], pins)
            make_readable(home)
            write_text(made, "\n".join(_look(home)) + "\n")
    return python
