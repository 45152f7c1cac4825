"""The runs and the evaluations in the folders that a user names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import InputError
from common.provenance import Start, read_starts
from common.run_logs import METRICS, ROLLOUTS

LOGS = (METRICS, ROLLOUTS)
RESULTS = "results.json"
CURVE = "curve.json"  # the scores of a run's checkpoints (src/checkpoint_curve.py)


@dataclass(frozen=True)
class Place:
    """A folder with the logs of a training run, or with the results of an evaluation."""

    folder: Path
    is_evaluation: bool
    name: str = ""  # how the page calls it: the shortest path that tells it from the others


def is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in LOGS)


def walk(folder: Path) -> Iterator[Place]:
    """The folder if it is a run or an evaluation, and those inside it."""
    for inside, folders, files in os.walk(folder):
        path = Path(inside)
        if is_run(path) or RESULTS in files:
            yield Place(path, RESULTS in files)
        checkpoints = ("checkpoint-", "global_step_", ".")
        folders[:] = sorted(name for name in folders if not name.startswith(checkpoints))


def started(place: Place) -> str:
    """When a place that was found in a folder was written: places are shown in this order."""
    if place.is_evaluation:
        return f"{(place.folder / RESULTS).stat().st_mtime:020.3f}"
    return f"{min((place.folder / name).stat().st_mtime for name in LOGS if (place.folder / name).is_file()):020.3f}"


def named(places: Sequence[Place]) -> list[Place]:
    """The places with their names: paths from the folder that holds all of them, or as many last parts of the paths as
    tell them apart, whichever is shorter."""
    paths = [place.folder.resolve() for place in places]
    shared = Path(os.path.commonpath([path.parent for path in paths]))
    below = [str(path.relative_to(shared)) for path in paths]
    ends = ["/".join(path.parts[-last_parts(paths) :]) for path in paths]
    names = min(below, ends, key=lambda some: sum(map(len, some)))
    return [
        Place(place.folder, place.is_evaluation, name or str(place.folder))
        for place, name in zip(places, names, strict=True)
    ]


def last_parts(paths: Sequence[Path]) -> int:
    """How many last parts of each path are enough for all to differ."""
    longest = max(len(path.parts) for path in paths)
    enough = (n for n in range(1, longest) if len({path.parts[-n:] for path in paths}) == len(paths))
    return next(enough, longest)


def find(folders: Sequence[Path]) -> list[Place]:
    """Every run and evaluation, once: in the order of the folders, within a folder by time. Raises InputError."""
    found: dict[Path, Place] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
        places = sorted(walk(folder), key=started)
        if not places:
            raise InputError(f"{folder}: no run ({' or '.join(LOGS)}) and no evaluation ({RESULTS}) in this folder")
        for place in places:
            found.setdefault(place.folder.resolve(), place)
    return named(list(found.values()))


def find_curves(folders: Sequence[Path]) -> list[Path]:
    """The curves of checkpoints in the folders, or in the runs inside them."""
    found = [path for folder in folders for path in sorted(folder.rglob(CURVE))]
    return list(dict.fromkeys(found))


def starts_of(folder: Path) -> list[Start]:
    """The starts in run.json; none without the file."""
    return read_starts(folder) if (folder / "run.json").is_file() else []
