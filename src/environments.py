"""Virtual environments that a list of exact pins names, made by pip once and reused.

What pip adds to the pins (their dependencies) changes with the index from day to day. So a folder of records holds, in
environments.jsonl, what each list of pins resolved to when its records were proven, and pip is held to that:

    {"pins": ["pandas==2.0.0", …], "installed": ["numpy==1.26.4", "pandas==2.0.0", "six==1.17.0", …]}
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from durable_files import read_jsonl, write_jsonl, write_text
from record_files import RecordError

PIN = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w,.-]+\])?==\d[\w.+!]*")
LOCKS = "environments.jsonl"

Pins = tuple[str, ...]
Locks = Mapping[Pins, Sequence[str]]  # sorted pins -> all that pip installs for them


class EnvironmentFailed(RuntimeError):
    """An environment could not be made; the message names its pins and says why."""


def is_pins(value: object) -> bool:
    """Whether a value is a list of exact pins, NAME==VERSION: nothing that pip would build, or fetch elsewhere."""
    return isinstance(value, list) and bool(value) and all(isinstance(p, str) and PIN.fullmatch(p) for p in value)


def read_locks(folder: Path) -> dict[Pins, list[str]]:
    """What a folder's environments.jsonl holds; {} where there is none. Raises RecordError."""
    path, found = folder / LOCKS, {}
    if path.is_file():
        for line, row in enumerate(read_jsonl(path), start=1):
            if wrong := [field for field in ("pins", "installed") if not is_pins(row.get(field))]:
                raise RecordError(f"{path}:{line}: {wrong[0]}: expected exact pins, as numpy==2.0.0")
            found[tuple(sorted(row["pins"]))] = row["installed"]
    return found


def write_locks(folder: Path, locks: Locks) -> None:
    """Replace a folder's environments.jsonl."""
    rows = [{"pins": list(pins), "installed": list(found)} for pins, found in sorted(locks.items())]
    write_jsonl(folder / LOCKS, rows)


def _run(command: list[str], pins: Sequence[str]) -> str:
    """The output of a command; EnvironmentFailed with the first error that it told."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        said = next((line for line in lines if line.startswith(("ERROR", "Error"))), lines[-1] if lines else "no word")
        raise EnvironmentFailed(f"pip could not install {' '.join(pins)}: {said}")
    return done.stdout


def installed(python: Path) -> list[str]:
    """All that the environment of this interpreter holds, as pins."""
    return (python.parent.parent / "ready").read_text("utf-8").split()


def environment(pins: Sequence[str], root: Path, locks: Locks | None = None) -> Path:
    """The interpreter of a virtual environment that holds `pins`, with the rest as `locks` says, if it does.

    Made once, found again by the hash of the pins, made anew where it was made with another lock. Several processes may
    ask for one at a time. Raises EnvironmentFailed.
    """
    wanted = "".join(f"{pin}\n" for pin in (locks or {}).get(tuple(sorted(pins)), ()))
    home = root.resolve() / hashlib.sha256("\n".join(sorted(pins)).encode()).hexdigest()[:12]
    python, ready, constraints = home / "bin" / "python", home / "ready", home / "constraints.txt"

    def is_made() -> bool:
        return ready.exists() and (not wanted or constraints.read_text("utf-8") == wanted)

    if is_made():
        return python
    home.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{home}.lock", "w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not is_made():
            _run([sys.executable, "-m", "venv", "--clear", str(home)], pins)
            constraints.write_text(wanted, encoding="utf-8")
            pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
            _run([*pip, "install", "--quiet", "--constraint", str(constraints), "--", *pins], pins)
            write_text(ready, _run([*pip, "freeze"], pins))
    return python
