"""What one program may use, and the flags that set it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    seconds: float = 30.0  # wall-clock time
    memory_gb: float = 4.0  # GiB above the preloaded baseline: address space per process, resident memory in total
    file_mb: float = 256.0  # MiB: one file, all of /tmp, all of /dev/shm
    processes: int = 64  # processes and threads at a time
    output_kb: int = 64  # KiB of stdout and stderr kept, from the end; dropping the rest is not a failure


DEFAULT = Limits()
DAY = 86400  # seconds


def _positive(kind: Callable[[str], float], most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not 0 < value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most {most}")
        return value

    number.__name__ = kind.__name__  # in argparse's message about a text that is not a number
    return number


def add_flags(parser: argparse.ArgumentParser, seconds: str | None = None) -> None:
    """The flags of a program that runs untrusted code; `settings` reads them.

    `seconds` describes the default of --seconds if the program chooses it: the flag is then None unless given.
    """
    add = parser.add_argument_group("sandbox").add_argument
    time = f"time limit of a program (default: {seconds or DEFAULT.seconds})"
    memory = "memory above the imported libraries, GiB (default: %(default)s)"
    add("--seconds", type=_positive(float, DAY), default=None if seconds else DEFAULT.seconds, help=time)
    add("--memory-gb", type=_positive(float, 65536), default=DEFAULT.memory_gb, help=memory)
    add("--workers", type=_positive(int, 4096), help="sandboxes at a time (default: one per core)")
    add("--read-only", nargs="+", default=[], metavar="PATH", help="more paths that programs may read")
    add("--unsafe", action="store_true", help="no sandbox: programs can read and delete your files")


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The keywords of `run_all` from the flags of `add_flags`."""
    limits = Limits(args.seconds, args.memory_gb)
    return {"limits": limits, "workers": args.workers, "read_only": args.read_only, "unsafe": args.unsafe}
