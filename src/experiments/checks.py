"""Whether everything that a study needs is there, before hours of work begin."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from common.errors import InputError
from common.rows import resolve
from curation.evidence import evidence_path
from evaluation.arena.multi import ARENA
from evaluation.migration.problems import load_evidence
from experiments.grid import TRAIN, Run, Study
from experiments.stages import OF_ARENA, Stage, Stages, benchmark_of
from records import load_records


def layers_of(runs: Stages, study: Study, variables: Mapping[str, str]) -> list[str]:
    """Check every training, and every measure once, before hours of work begin. Raises InputError.

    Returns the requirements files that the measures need beyond those of scripts/study.sh.
    """
    from tqdm import tqdm

    once: dict[str, tuple[Run, Stage]] = {}
    for run, todo in runs.items():
        for stage in todo:
            if not stage.is_done:
                once.setdefault(run.name if stage.name == TRAIN else stage.name, (run, stage))
    check_data([run for run, stage in once.values() if stage.name == TRAIN], study)
    for _, stage in once.values():
        if stage.name != TRAIN and benchmark_of(study, stage.name)[0] in OF_ARENA:
            resolve(benchmark_of(study, stage.name)[1] or ARENA)
    layers: dict[str, None] = {}
    for run, stage in tqdm(once.values(), desc="checks"):
        for command in stage.checks:
            answer = said(command, f"{run.name}, {stage.name}", variables)
            if stage.name != TRAIN:
                layers |= {word: None for word in answer.split() if word.startswith("requirements")}
    return list(layers)


def check_data(trained: Sequence[Run], study: Study) -> None:
    """Raise InputError if records cannot be read, or lack the evidence that their reward needs."""
    for data in {str(run.data): None for run in trained}:
        ids = [record.id for record in load_records(study.data[data], "drop")]
        if any(run.data == data and "execution" in run.reward for run in trained):
            load_evidence(evidence_path(resolve(study.data[data])), ids)


def said(command: Sequence[str], what: str, variables: Mapping[str, str]) -> str:
    """The last line of stdout of a check. Raises InputError with its last line of stderr."""
    env = os.environ | variables | {"INSTALL_ONLY": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise InputError(f"{what}: {lines[-1]}", f"  found by {shlex.join(command)}")
    return (done.stdout.strip().splitlines() or [""])[-1]
