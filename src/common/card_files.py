"""Writes the model card of a folder of weights, from the files in it and the run.json of the run that trained it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from common.checkpoints import base_of, find_checkpoints, is_adapter
from common.errors import InputError
from common.files import read_json, write_text
from common.model_card import CONFIGS, Facts, Score, card
from common.provenance import Start, read_starts, sha256
from common.same_run import method_of

ROOT = Path(__file__).resolve().parent.parent.parent
MERGED = "merged_from.json"
KINDS = {"adapter": "adapter_config.json", "merged": MERGED, "model": "config.json"}


class AdapterFile(BaseModel):
    """adapter_config.json."""

    base_model_name_or_path: str | None = None
    use_dora: bool = False


class MergedFile(BaseModel):
    """merged_from.json, which src/merge_adapter.py writes."""

    base: str
    revision: str = "main"
    source: str
    dtype: str = "bfloat16"
    prompt: str | None = None


class Made(BaseModel):
    """Which weights drew the samples of a result."""

    adapter_sha256: str | None = None
    model_sha256: dict[str, str] | None = None


class SamplesPart(BaseModel):
    """`samples` of a results.json."""

    made: Made = Made()


class ResultFile(BaseModel):
    """A results.json of src/score.py."""

    benchmark: str
    problems: int
    samples_per_problem: int
    scores: dict[str, dict[str, float | None]] = {}
    rewards: dict[str, dict[str, float]] = {}
    samples: SamplesPart


def write_card(
    weights: Path,
    folder: Path | None = None,
    *,
    run: Path | None = None,
    step: int | None = None,
    with_scores: bool = False,
) -> None:
    """Write the card of `weights` to `folder`, by default beside them. Raises InputError if there are no weights.

    `run`: the folder of run.json, by default found from `weights`. `step`: of the weights, by default found there too.
    `with_scores`: with those that are beside the weights; when weights are saved, there cannot be any yet.
    """
    folder = folder or weights
    facts = replace(read_facts(weights, run, step), name=folder.resolve().name.removesuffix(".part"))
    write_text(folder / "README.md", card(replace(facts, scores=list(scores_of(weights))) if with_scores else facts))


def read_facts(folder: Path, run: Path | None = None, step: int | None = None) -> Facts:
    """What the card of the weights in `folder` reports, without their scores."""
    kind = kind_of(folder)
    merged = read_json(folder / MERGED, MergedFile) if kind == "merged" else None
    adapter = read_json(folder / "adapter_config.json", AdapterFile) if kind == "adapter" else AdapterFile()
    source = Path(merged.source) if merged else folder
    if not source.is_dir():
        raise InputError(f"{folder / MERGED}: source {source}: no such folder")
    run = run or find_run(source)
    starts = run_starts(run)
    base, revision = adapter.base_model_name_or_path, "main"
    if merged:
        base, revision = merged.base, merged.revision
    elif starts:
        trained_from, revision = base_of(starts[-1].model_dump())
        base = base or trained_from
    return Facts(
        name=folder.resolve().name,
        kind=kind,
        base=base,
        revision=revision,
        base_is_local=base is not None and Path(base).is_dir(),
        uses_dora=adapter.use_dora or (kind == "merged" and trained_dora(starts)),
        starts=starts,
        step=step if step is not None else step_of(source, run),
        paper=paper_settings(starts),
        dtype=merged.dtype if merged else str((starts and starts[-1].config.get("dtype")) or "bfloat16"),
    )


def kind_of(folder: Path) -> str:
    """What weights are in the folder. Raises InputError if there are none."""
    for kind, name in KINDS.items():
        if (folder / name).is_file():
            return kind
    raise InputError(f"{folder}: no weights there: expected {' or '.join(KINDS.values())}")


def find_run(weights: Path) -> Path | None:
    """The folder of run.json: that of the weights, or the run that a checkpoint is in."""
    folder = weights.resolve()
    while re.fullmatch(r"checkpoint-\d+|global_step_\d+|actor|lora_adapter", folder.name):
        folder = folder.parent
    return folder if (folder / "run.json").is_file() else None


def run_starts(run: Path | None) -> list[Start]:
    """The starts of the run that run.json describes last: from the one that began it."""
    if run is None or not (run / "run.json").is_file():
        return []
    starts = read_starts(run)
    fresh = [i for i, start in enumerate(starts) if start.resumed_from is None]
    return starts[fresh[-1] if fresh else 0 :]


def trained_dora(starts: Sequence[Start]) -> bool:
    """Whether a run trained a DoRA adapter."""
    if not starts:
        return False
    config = starts[-1].config
    if method_of(config) == "DAPO":
        return bool(config.get("recode", {}).get("adapter") == "dora")
    return bool(config.get("use_peft") and config.get("use_dora"))


def step_of(weights: Path, run: Path | None) -> int | None:
    """The step in the name of a checkpoint; for the result of a run its last checkpoint's; None if there is none."""
    for part in (weights.resolve().name, weights.resolve().parent.name):
        number = part.removeprefix("checkpoint-").removeprefix("global_step_")
        if number != part and number.isdigit():
            return int(number)
    found = find_checkpoints(run) if run else []
    return found[-1].step if found else None


def paper_settings(starts: Sequence[Start]) -> Mapping[str, Any]:
    """The file of configs/ that the run is compared with."""
    if not starts:
        return {}
    import yaml

    settings: Mapping[str, Any] = yaml.safe_load((ROOT / CONFIGS[method_of(starts[-1].config)][0]).read_text("utf-8"))
    return settings


def scores_of(folder: Path) -> Iterator[Score]:
    """The numbers of every results.json in the folder, or one below, whose samples these very weights drew."""
    for path in sorted([*folder.glob("results.json"), *folder.glob("*/results.json")]):
        result = read_json(path, ResultFile)
        if drew(folder, result.samples.made):
            samples = f"{result.problems} problems x {result.samples_per_problem}"
            place = (str(path.relative_to(folder)), result.benchmark, samples)
            for name, numbers in result.scores.items():
                yield Score(*place, name, percent(numbers))
            for name, rewards in result.rewards.items():
                yield Score(*place, name, f"{rewards['mean']:.3f} ± {rewards['standard_error']:.3f}")


def percent(numbers: Mapping[str, float | None]) -> str:
    """A rate with its 95 % interval."""
    mean, low, high = (numbers.get(key) for key in ("mean", "low", "high"))
    if mean is None:
        return "none"
    return f"{100 * mean:.1f} %" + ("" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]")


def drew(folder: Path, made: Made) -> bool:
    """Whether the weights in `folder` drew the samples."""
    if is_adapter(folder):
        weights = folder / "adapter_model.safetensors"
        return made.adapter_sha256 is not None and weights.is_file() and sha256(weights) == made.adapter_sha256
    files = sorted(folder.glob("*.safetensors"))
    return made.adapter_sha256 is None and bool(files) and made.model_sha256 == {f.name: sha256(f) for f in files}
