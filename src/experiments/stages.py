"""What a run of a study consists of: its training, and for each measure the samples and their scores."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import read_json, read_jsonl, write_json
from common.provenance import sha256
from common.rows import HUB, resolve
from common.run_logs import METRICS
from common.same_run import differences
from common.settings import read_yaml
from evaluation.flags import make_parser
from evaluation.samples import FileFormat
from experiments.grid import TRAIN, UNTRAINED, Run, Study

OF_ARENA = ("arena", "multi")
EVALPLUS = ("humaneval", "mbpp")
MERGED = "merged"
REWARD_FILES = {  # verl: rewards that the file of configs/dapo.yaml, src/rewards.py, does not have
    "dm_star": "src/diff_match.py",
    "execution": "src/evaluation/migration/execution.py",
}
Command = tuple[str, ...]


@dataclass(frozen=True)
class Machine:
    """What a study is run with here."""

    gpus: int
    evalplus: str  # the interpreter that has evalplus

    @property
    def variables(self) -> dict[str, str]:
        """The environment of every command: the launch scripts read GPUS; without GPUs, none is visible."""
        return {"GPUS": str(self.gpus), **({} if self.gpus else {"CUDA_VISIBLE_DEVICES": ""})}


class Made(FileFormat):
    """A marker: the settings with which a stage was done."""


@dataclass(frozen=True)
class Stage:
    """A training or a measure of a run.

    `commands`: each resumes if it was interrupted. `checks`: commands that find what would keep them from starting
    (a launch script with INSTALL_ONLY=1). `made`: what the result depends on; the marker records it when it is done.
    """

    name: str
    folder: Path  # of the run
    commands: tuple[Command, ...]
    checks: tuple[Command, ...]
    made: Mapping[str, Any]

    @property
    def marker(self) -> Path:
        return self.folder / "done" / f"{self.name}.json"

    @property
    def results(self) -> Path:
        """The folder of what it writes."""
        return self.folder / self.name

    @property
    def is_done(self) -> bool:
        """Raises InputError if it was done with other settings."""
        if change := self.change:
            raise InputError(f"{change}: remove it and {self.results}, or --out")
        return self.marker.is_file()

    @property
    def change(self) -> str | None:
        """What is different now from the settings with which it was done, if it was."""
        if not self.marker.is_file():
            return None
        before = read_json(self.marker, Made).model_dump()
        changed = [*differences(before, self.made), *differences(self.made, before)]
        if not changed:
            return None
        key = changed[0][0]
        was, now = (value_at(made, key) for made in (before, self.made))
        return f"{self.marker}: was made with {key} {was}, now {now}"

    def finish(self) -> None:
        """Record that it is done."""
        write_json(self.marker, dict(self.made))


Stages = Mapping[Run, Sequence[Stage]]


def value_at(made: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None if it is not there."""
    value: Any = made
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def settings_of(config: str) -> dict[str, Any]:
    """The keys of a configuration, without its comments."""
    return {setting.key: setting.value for setting in read_yaml(config)}


def content_of(data: str) -> str:
    """What identifies a data file: its hash, or the hub's name for it. Raises InputError if there is no such file."""
    return data if data.startswith(HUB) else sha256(resolve(data))


def training(run: Run, study: Study, folder: Path, machine: Machine) -> Stage:
    """The training of a run, by the launch script of its method."""
    config, records = study.configs[run.method], study.data[str(run.data)]
    made = {
        **{"method": run.method, "model": study.model, "data": content_of(records), "seed": run.seed},
        **{"reward": list(run.reward), "weights": list(run.weights), "config": settings_of(config)},
    }
    if run.method == "dapo":
        train, merge = dapo_commands(run, study, folder / TRAIN)
        return Stage(TRAIN, folder, (train, merge), (train,), made)
    flags = ["--config", config, "--model_name_or_path", study.model, "--data", records]
    flags += ["--reward", ",".join(run.reward)] if run.reward else []
    flags += ["--reward_weights", *map(str, run.weights)] if run.weights else []
    flags += ["--seed", str(run.seed), "--output_dir", str(folder / TRAIN), "--resume_from_checkpoint", "auto"]
    flags += [] if machine.gpus else ["--use_cpu", "true"]
    train = ("bash", f"scripts/{run.method}.sh", *flags)
    return Stage(TRAIN, folder, (train,), (train,), made)


def dapo_commands(run: Run, study: Study, out: Path) -> tuple[Command, Command]:
    """DAPO's training, which resumes by itself, and the merge of its last checkpoint."""
    function = "reward.custom_reward_function"
    keys = {
        "run": run.name,
        "trainer.default_local_dir": str(out),
        "data.train_files": str(out / "data" / "train.parquet"),
        "data.val_files": str(out / "data" / "val.parquet"),
        "actor_rollout_ref.model.path": study.model,
        "recode.data": study.data[str(run.data)],
        f"{function}.reward_kwargs.reward": ",".join(run.reward),
        **{f"{function}.path": file for part, file in REWARD_FILES.items() if part in run.reward},
    }
    quoted = [f"{key}='{value}'" for key, value in keys.items()]  # Hydra would read a bare comma as a list
    weights = [f"++{function}.reward_kwargs.weights=[{','.join(map(str, run.weights))}]"] if run.weights else []
    name = str(Path(study.configs["dapo"]).relative_to("configs").with_suffix(""))
    train = ("bash", "scripts/dapo.sh", "--config-name", name, *quoted, f"data.seed={run.seed}", *weights)
    return train, (sys.executable, "src/merge_adapter.py", "--checkpoint", str(out), "--out", str(out / MERGED))


def measure(name: str, run: Run, study: Study, folder: Path, machine: Machine) -> Stage:
    """The samples and the scores of one measure. It is checked with the base model: the adapter is not there yet."""
    (benchmark, data), flags = benchmark_of(study, name), shlex.split(study.measures[name])
    samples = folder / name / "samples.jsonl"
    base = ["--model", study.model]
    adapter = [] if run.method == UNTRAINED else ["--adapter", str(folder / TRAIN)]
    model = ["--model", str(folder / TRAIN / MERGED)] if run.method == "dapo" else [*base, *adapter]
    python = ["--python", machine.evalplus] if benchmark in EVALPLUS else []
    draw = [sys.executable, "src/generate.py", "--config", study.evaluation, *flags, *python, "--out", str(samples)]
    score = [sys.executable, "src/score.py", "--samples", str(samples), "--out", str(folder / name), *python]
    checks: list[Command] = [(*draw, *base, "--check")]
    if benchmark in EVALPLUS:
        checks.append((sys.executable, "src/score.py", "--benchmark", benchmark, "--check", *python))
    made = {"model": study.model, "flags": flags, "config": settings_of(study.evaluation)}
    made |= {"data": content_of(data)} if data else {}
    return Stage(name, folder, ((*draw, *model), tuple(score)), tuple(checks), made)


def benchmark_of(study: Study, name: str) -> tuple[str, str | None]:
    """(benchmark, data file) of a measure. Raises InputError if its flags are none of src/generate.py's."""
    parser = make_parser(None)
    parser.exit_on_error = False
    try:
        known, unknown = parser.parse_known_args(shlex.split(study.measures[name]))
    except (argparse.ArgumentError, ValueError) as error:  # ValueError: an open quotation mark
        raise InputError(f"measures.{name}: {error}") from None
    if unknown:
        raise InputError(f"measures.{name}: {unknown[0]}: src/generate.py has no such flag")
    return known.benchmark, known.data


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
    more = {name: benchmark_of(study, name)[0] in OF_ARENA for name in study.measures} if arena else {}
    measures = {
        name: f"{flags} {shlex.join(['--data', str(arena)])}" if more.get(name) else flags
        for name, flags in study.measures.items()
    }
    chosen = {"model": model or study.model, "data": {**study.data, **data}, "measures": measures}
    return study.model_copy(update=chosen)
