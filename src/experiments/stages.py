"""What a run of a study consists of: its training, and for each measure the samples and their scores."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import InputError
from common.files import read_jsonl
from common.run_logs import METRICS
from evaluation.flags import make_parser
from experiments.grid import UNTRAINED, Run, Study

OF_ARENA = ("arena", "multi")
TRAIN, MERGED = "train", "merged"
REWARD_FILES = {  # verl: rewards that the file of configs/dapo.yaml, src/rewards.py, does not have
    "dm_star": "src/diff_match.py",
    "execution": "src/evaluation/migration/execution.py",
}


@dataclass(frozen=True)
class Machine:
    """What a study is run with on this machine; none of it changes what a run is."""

    gpus: int
    envs: Path  # the environments of the migration records
    evalplus: str  # the interpreter that has evalplus


@dataclass(frozen=True)
class Stage:
    """Commands that each resume if they were interrupted, and the file that the last one writes when it is done.

    `check`: a command that finds what would keep them from starting; a launch script with INSTALL_ONLY.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    done: Path
    check: tuple[str, ...]

    @property
    def is_done(self) -> bool:
        return self.done.exists()


def training(run: Run, study: Study, folder: Path, machine: Machine) -> Stage:
    """The training of a run, by the launch script of its method."""
    out, records, reward = str(folder / TRAIN), study.data[str(run.data)], ",".join(run.reward)
    weights = [f"{weight:g}" for weight in run.weights]
    if run.method == "dapo":
        return dapo_training(run, study, folder, weights)
    flags = ["--config", study.configs[run.method], "--model_name_or_path", study.model, "--data", records]
    flags += ["--reward", reward] if reward else []
    flags += ["--reward_weights", *weights] if weights else []
    flags += ["--seed", str(run.seed), "--output_dir", out, "--resume_from_checkpoint", "auto"]
    flags += [] if machine.gpus else ["--use_cpu", "true"]
    command = ("bash", f"scripts/{run.method}.sh", *flags)
    return Stage(TRAIN, (command,), folder / TRAIN / "adapter_model.safetensors", command)


def dapo_training(run: Run, study: Study, folder: Path, weights: Sequence[str]) -> Stage:
    """DAPO's training, which resumes by itself, and the merge of its last checkpoint."""
    out, function = folder / TRAIN, "reward.custom_reward_function"
    keys = [f"run={run.name}", f"trainer.default_local_dir={out}", f"data.seed={run.seed}"]
    keys += [f"actor_rollout_ref.model.path={study.model}", f"recode.data={study.data[str(run.data)]}"]
    keys += [f"{function}.reward_kwargs.reward='{','.join(run.reward)}'"]
    keys += [f"{function}.reward_kwargs.weights=[{','.join(weights)}]"] if weights else []
    keys += [f"{function}.path={file}" for part, file in REWARD_FILES.items() if part in run.reward]
    name = str(Path(study.configs["dapo"]).relative_to("configs").with_suffix(""))
    train = ("bash", "scripts/dapo.sh", "--config-name", name, *keys)
    last = '--checkpoint "$1/global_step_$(cat "$1/latest_checkpointed_iteration.txt")" --out "$2"'
    merge = ("bash", "-c", f'exec "$0" src/merge_adapter.py {last}', sys.executable, str(out), str(out / MERGED))
    return Stage(TRAIN, (train, merge), out / MERGED, train)


def measure(name: str, run: Run, study: Study, folder: Path, machine: Machine) -> Stage:
    """The samples and the scores of one measure."""
    out, flags = folder / name, shlex.split(study.measures[name])
    samples = out / "samples.jsonl"
    base = ["--model", study.model]
    adapter = [] if run.method == UNTRAINED else ["--adapter", str(folder / TRAIN)]
    model = ["--model", str(folder / TRAIN / MERGED)] if run.method == "dapo" else [*base, *adapter]
    benchmark = benchmark_of(study, name)
    has_python = ["--python", machine.evalplus] if benchmark in ("humaneval", "mbpp") else []
    has_envs = ["--envs", str(machine.envs)] if benchmark == "migration" else []
    draw = [sys.executable, "src/generate.py", "--config", study.evaluation, *flags, *has_python]
    score = [sys.executable, "src/score.py", "--samples", str(samples), "--out", str(out), *has_python, *has_envs]
    commands = ((*draw, *model, "--out", str(samples)), tuple(score))
    return Stage(name, commands, out / "results.json", (*draw, *base, "--out", str(samples), "--check"))


def benchmark_of(study: Study, name: str) -> str:
    """The benchmark of a measure. Raises InputError if its flags are none of src/generate.py's."""
    parser = make_parser(None)
    parser.exit_on_error = False
    try:
        known, unknown = parser.parse_known_args(shlex.split(study.measures[name]))
    except argparse.ArgumentError as error:
        raise InputError(f"measures.{name}: {error}") from None
    if unknown:
        raise InputError(f"measures.{name}: {unknown[0]}: src/generate.py has no such flag")
    return str(known.benchmark)


def stages(run: Run, study: Study, folder: Path, machine: Machine) -> list[Stage]:
    """Everything that a run needs, in order."""
    first = [] if run.method == UNTRAINED else [training(run, study, folder, machine)]
    return first + [measure(name, run, study, folder, machine) for name in study.measures]


def trained_steps(folder: Path) -> int:
    """How many steps the log of a run's training has."""
    log = folder / TRAIN / METRICS
    return max((int(row.get("step", 0)) for row in read_jsonl(log)), default=0) if log.is_file() else 0


def with_files(study: Study, model: str | None, data: Mapping[str, str], arena: str | None) -> Study:
    """The study with another model, other files of its training data, or another file of CodeUpdateArena's problems."""
    if unknown := sorted(data.keys() - study.data.keys()):
        raise InputError(f"--data {unknown[0]}: expected one of {', '.join(study.data)}")
    measures = {
        name: f"{flags} {shlex.join(['--data', arena])}" if arena and benchmark_of(study, name) in OF_ARENA else flags
        for name, flags in study.measures.items()
    }
    chosen = {"model": model or study.model, "data": {**study.data, **data}, "measures": measures}
    return study.model_copy(update=chosen)
