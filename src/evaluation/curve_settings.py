"""What a curve over checkpoints was made with, noted in its folder, so that two settings never mix in one curve."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from common.cli import fail
from common.files import write_json

OWN = ("model", "adapter", "revision", "out", "reference", "benchmark")  # flags of src/generate.py that are set for it
NO_MATTER = ("data", "tensor_parallel_size", "gpu_memory_utilization")  # may change between calls; data: by its hash


def canonical(value: object) -> str:
    """The same text for the same value, as YAML and command line spell it: 0.70 and 0.7."""
    try:
        return str(float(str(value)))
    except ValueError:
        return str(value)


def generate_settings(config: Mapping[str, Any], flags: Sequence[str]) -> dict[str, str]:
    """Key -> value of the flags for src/generate.py, over those of its YAML (arguments.read_yaml).

    Stops in one line at a stray word and at a flag that is not the user's to set here.
    """
    found = {key: str(value) for key, value in config.items() if value not in (None, "False")}
    if found.pop("benchmark", "arena") != "arena":
        fail("the curve is of CodeUpdateArena: benchmark: arena")
    words, given = list(flags), dict[str, str]()
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            fail(f"unexpected argument {word!r}")
        key, equals, value = word.removeprefix("--").partition("=")
        if not equals:
            value = words.pop(0) if words and not words[0].startswith("--") else "True"
        given[key.replace("-", "_")] = value
    for key in (found | given).keys() & set(OWN):
        fail(f"--{key}: not yours to set: the checkpoints of --run are evaluated on CodeUpdateArena")
    found |= given
    if found.get("backend") == "endpoint":
        fail("--backend endpoint: a server holds one model, not a run's checkpoints")
    return found


def claim(out: Path, settings: Mapping[str, Any], *, write: bool) -> None:
    """Stop in one line where the curve in `out` is of something else; `write`: note what it is of, if nothing does."""
    path = out / "settings.json"
    if path.is_file():
        old = json.loads(path.read_text("utf-8"))
        for key in dict.fromkeys([*settings, *old]):
            if key not in NO_MATTER and canonical(old.get(key)) != canonical(settings.get(key)):
                fail(f"{out} holds a curve with {key} {old.get(key)}, now {settings.get(key)}: choose another --out")
    elif write:
        write_json(path, dict(settings))


def locked(out: Path) -> IO[str]:
    """A lock on the folder, to be handed to the programs started for it: those of a killed call may still be at work.

    It is held while the file is open in any of them. Stops in one line where it is taken.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = open(out / ".lock", "w")  # noqa: SIM115 (open until the end)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        fail(f"{out}: another call, or a program that one started, is still at work there")
    return file
