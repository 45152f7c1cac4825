"""The sample log: completions with every share of their reward, as JSONL and, framed, on the screen.

Reading what the policy writes is how a reward bug is found, so both trainers write the same log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from common.cli import printable
from common.files import append_jsonl

WIDTH = 100


@dataclass(frozen=True)
class Sample:
    """One scored completion. `rewards` holds each reward's own value, before weights; `advantage` is the group's."""

    step: int
    record_id: str
    completion: str
    target: str
    rewards: Mapping[str, float]
    advantage: float | None
    reason: str


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Append samples to a JSONL file."""
    append_jsonl(path, *(asdict(sample) for sample in samples))


def frame(sample: Sample) -> str:
    """A sample as a framed text for the terminal."""
    shares = "  ".join(f"{name} {value:+.2f}" for name, value in sample.rewards.items())
    if sample.advantage is not None:
        shares += f"  advantage {sample.advantage:+.2f}"
    title = f" step {sample.step}  record {sample.record_id} "
    return "\n".join(
        [
            f"┌{title:─^{WIDTH}}┐",
            printable(sample.completion.strip("\n")),
            f"├{' target ':─^{WIDTH}}┤",
            printable(sample.target.strip("\n")),
            f"├{'':─^{WIDTH}}┤",
            f"{shares}  ({sample.reason})",
            f"└{'':─^{WIDTH}}┘",
        ]
    )
