"""What one program may use, and the flags that set it."""

from __future__ import annotations

import argparse
import dataclasses
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

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not value > 0:
                raise ValueError(f"{name} is {value}: a limit must be above 0")


DEFAULT = Limits()
HELP = {
    "seconds": "time limit of a program",
    "memory_gb": "memory above the imported libraries, GiB",
    "file_mb": "what a program may write, MiB",
    "processes": "processes and threads at a time",
    "output_kb": "output kept, KiB",
}


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return number


def add_flags(parser: argparse.ArgumentParser, seconds: str | None = None) -> None:
    """The limits as flags, for every program that runs untrusted code; `settings` reads them.

    `seconds` describes the default of --seconds if the program chooses it: the flag is then None unless given.
    """
    group = parser.add_argument_group("sandbox")
    for name, value in dataclasses.asdict(DEFAULT).items():
        words = seconds if name == "seconds" else None
        text = f"{HELP[name]} (default: {words or value})"
        flag = "--" + name.replace("_", "-")
        group.add_argument(flag, type=_positive(type(value)), default=None if words else value, help=text)
    group.add_argument("--workers", type=_positive(int), help="sandboxes at a time (default: one per core)")
    group.add_argument("--read-only", nargs="+", default=[], metavar="PATH", help="more paths that programs may read")
    group.add_argument("--unsafe", action="store_true", help="no sandbox: programs can read and delete your files")


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The keywords of `run_all` from the flags of `add_flags`."""
    limits = Limits(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Limits)})
    return {"limits": limits, "workers": args.workers, "read_only": args.read_only, "unsafe": args.unsafe}
