"""A lock on a folder that the programs started for it hold too: they may outlive a killed caller."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from common.errors import ReCodeError

NAME = ".lock"


class LockedError(ReCodeError):
    """Another process works in the folder."""


def locked(folder: Path) -> IO[str]:
    """A lock on the folder, which is made. Pass its file descriptor to the programs that work there (`pass_fds`).

    It is held while any process has the file open. Raises LockedError if it is taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = open(folder / NAME, "w")  # noqa: SIM115 (open until the work ends)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise LockedError(f"{folder}: another call, or a program that it started, is still running there") from None
    return file


def is_locked(folder: Path) -> bool:
    """Whether a process works in the folder."""
    try:
        with (folder / NAME).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
