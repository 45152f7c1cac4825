"""Whether a resume continues the run that run.json describes, with no change to anything that affects the result.

Every recorded key of the configuration counts unless its trainer lists it as harmless, so that a key that nobody
thought of stops the resume instead of passing silently.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from common.checkpoints import find_checkpoints
from common.errors import InputError
from common.provenance import Start, read_starts

FREE = ("*_kwargs", "*.override_*")  # mappings with keys of the user's choice: an added key counts


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted path, old value, new value) of what differs. A key that `old` lacks was unknown to its version."""
    if isinstance(old, Mapping) and old and isinstance(new, Mapping) and not matches(path, FREE):
        for key, value in old.items():
            yield from differences(value, new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield path, old, new


def matches(path: str, patterns: Collection[str]) -> bool:
    """Whether a dotted path fits one of the patterns, in which * also matches dots."""
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def identity(start: Start) -> dict[str, Any]:
    """What may decide the result: the configuration, and the data by content."""
    hashes = [file.get("sha256") for file in start.data.values()]
    # Unknown to the trainer, or to its version, if they are missing.
    about = {"prompts": start.prompts, "sha256 of the rewards": start.reward_files}
    known = {key: value for key, value in about.items() if value}
    return {"the trainer": method_of(start.config), "sha256 of the data": hashes, **known, **start.config}


def method_of(config: Mapping[str, Any]) -> str:
    """SFT, GRPO or DAPO, by keys that only that trainer has."""
    return "DAPO" if "actor_rollout_ref" in config else "GRPO" if "num_generations" in config else "SFT"


def check_same_run(
    runs: Collection[Path], description: Mapping[str, Any], harmless: Collection[str], length: Collection[str] = ()
) -> None:
    """Raise InputError, which names the first key that differs from the last start in one of the folders `runs`.

    `harmless`: patterns of keys that do not change the result. `length`: keys that may grow, because they only make
    the run longer.
    """
    now = Start.model_validate(json.loads(json.dumps(description, default=str)))
    for run in runs:
        if not (run / "run.json").is_file():
            if find_checkpoints(run, sharded=True):
                lost = f"{run}: has checkpoints, but no run.json that shows whether this is the same run"
                raise InputError(f"{lost}: put it back, or start from scratch in another folder")
            continue
        for key, old, new in differences(identity(read_starts(run)[-1]), identity(now)):
            grows = isinstance(old, (int, float)) and isinstance(new, (int, float)) and new > old
            if not (matches(key, harmless) or (key in length and grows)):
                raise InputError(f"{run} was started with {key} = {old}, now it is {new}: not the same run")
