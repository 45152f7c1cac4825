"""The logs of a training run: metrics.jsonl, a row per logged step, and rollouts.jsonl, every scored completion.

Both trainers write the same rollouts, because reading what the policy writes is how a reward bug is found. Their
metrics have the trainers' own keys; MEASURES gives the shared ones a common name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.cli import printable
from common.files import append_jsonl, drop_after

METRICS, ROLLOUTS = "metrics.jsonl", "rollouts.jsonl"
WIDTH = 100
RESULTS = {  # file in the run's folder -> what it is
    "adapter_model.safetensors": "the adapter",
    METRICS: "metrics, one line per logged step",
    ROLLOUTS: "scored completions",
    "run.json": "what ran: configuration, commit, data, hardware",
    "runs": "for tensorboard --logdir",
    "tensorboard": "for tensorboard --logdir",
}
# measure -> its key in trl's metrics, then in verl's. Both rewards are means over every sampled completion.
MEASURES = {
    "reward": ("reward", "reward/before_filter/score"),
    "response_length": ("completions/mean_length", "response_length/mean"),
    "zero_variance_share": ("frac_reward_zero_std", "groups/zero_variance_share"),
}


@dataclass(frozen=True)
class Rollout:
    """One scored completion."""

    step: int
    record_id: str
    group: int  # number of the prompt group within the step
    completion: str
    target: str
    rewards: Mapping[str, float]  # each reward's own value, before weights
    advantage: float | None  # None: discarded by dynamic sampling
    reason: str  # why the reward is what it is; empty if no reward gives one


def write_rollouts(folder: Path, rollouts: Iterable[Rollout]) -> None:
    """Append to the run's rollouts.jsonl."""
    append_jsonl(folder / ROLLOUTS, *(asdict(rollout) for rollout in rollouts))


def cut_logs(folder: Path, step: int) -> None:
    """Remove what the logs of a run hold beyond `step`: a resumed run writes it again."""
    for name in (METRICS, ROLLOUTS):
        drop_after(folder / name, step)


def results(folder: Path) -> str:
    """Where the results of a run are: a line for each file."""
    return "\n".join(f"  {folder / name}  {what}" for name, what in RESULTS.items() if (folder / name).exists())


def frame(rollout: Rollout) -> str:
    """A rollout as framed text for the terminal."""
    shares = [f"{name} {value:+.2f}" for name, value in rollout.rewards.items()]
    if rollout.advantage is not None:
        shares.append(f"advantage {rollout.advantage:+.2f}")
    if rollout.reason:
        shares.append(f"({rollout.reason})")
    title = f" step {rollout.step}  group {rollout.group}  record {rollout.record_id} "
    return "\n".join(
        [
            f"┌{title:─^{WIDTH}}┐",
            printable(rollout.completion.strip("\n")),
            f"├{' target ':─^{WIDTH}}┤",
            printable(rollout.target.strip("\n")),
            f"├{'':─^{WIDTH}}┤",
            "  ".join(shares),
            f"└{'':─^{WIDTH}}┘",
        ]
    )


def ema(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average with bias correction: the first value is unchanged."""
    out, total, norm = [], 0.0, 0.0
    for value in values:
        total = weight * total + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        out.append(total / norm)
    return out


def is_number(value: object) -> bool:
    """Whether a logged value can be drawn: not NaN, infinite, null or a text."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def points(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    """(steps, values) of the metrics rows that have a number under `key`."""
    found = [row for row in rows if is_number(row.get(key)) and is_number(row.get("step"))]
    return [row["step"] for row in found], [row[key] for row in found]


def series(rows: Sequence[Mapping[str, Any]], measure: str) -> tuple[list[int], list[float]]:
    """(steps, values) of one of MEASURES, whichever trainer wrote the metrics; empty if neither key was logged."""
    return next((found for key in MEASURES[measure] if (found := points(rows, key))[0]), ([], []))


def at_step(steps: Sequence[int], values: Sequence[float], step: int) -> float | None:
    """The last value logged at or before `step`; None if there is none."""
    return next((value for at, value in zip(reversed(steps), reversed(values), strict=True) if at <= step), None)
