"""What one H100 should measure with the 7B shape, and when a number is alarming. Nothing here has been measured.

The estimates start from 14.1 GB of bf16 weights that are read for each token, and from 3.0 TB/s and 800 TFLOP/s, the
share of the data sheet that such cards reach.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ABOUT = 0.15  # a single expected value: this much around it is as expected
SLACK = 0.02  # outside a range: by more than this
LIMIT = 360  # seconds of a part


@dataclass(frozen=True)
class Expected:
    """A number of one measurement. Alarming is anything `below` or `above` the limits."""

    part: str
    what: str
    name: str
    unit: str
    low: float | None = None
    high: float | None = None
    below: float = -math.inf
    above: float = math.inf

    def verdict(self, value: float) -> str:
        """ALARM, "as expected", "outside", or nothing if no value is expected."""
        if not self.below <= value <= self.above:
            return "**ALARM**"
        if self.low is None or self.high is None:
            return ""
        slack = ABOUT if self.low == self.high else SLACK
        return "as expected" if self.low * (1 - slack) <= value <= self.high * (1 + slack) else "outside"

    def range(self) -> str:
        if self.low is None or self.high is None:
            return "—"
        if self.low < self.high:
            return f"{self.low:g} to {self.high:g}"
        return f"{self.low:g}" if self.low == self.below else f"about {self.low:g}"

    def alarm(self) -> str:
        limits = {f"below {self.below:g}": self.below, f"above {self.above:g}": self.above}
        return " or ".join(text for text, limit in limits.items() if math.isfinite(limit)) or "—"


E = Expected
EXPECTED = (
    # of 3.35 TB/s (H200: 4.8) and 989 dense bf16 TFLOP/s on the data sheet
    E("machine", "copy", "tb_s", "TB/s", 3.0, 3.0),
    E("machine", "bf16 product", "tflops", "TFLOP/s", 800, 800),
    # about 1,060 kernel launches a token, 20 to 28 µs of Python each; the floor is 14.1 GB / 3.0 TB/s
    E("rollout", "base", "ms", "ms a token", 22, 30, above=40),
    E("rollout", "base", "floor_ms", "ms a token, all weights read once", 4.7, 4.7),
    E("rollout", "base", "of_bandwidth", "of the bandwidth", 0.16, 0.21),
    # merged copies are plain linear layers; 28 q (3584 x 3584) and 28 v (512 x 3584) in bf16
    E("rollout", "q and v, merge", "of_base", "of the base's speed", 0.97, 1.0, below=0.95),
    E("rollout", "q and v, merge", "extra_gb", "GB more than the base", 0.8, 0.8),
    # 56 layers x 14 more launches; stock: x 24, and 14.7 GB more traffic a token (4.9 ms)
    E("rollout", "q and v, cache", "of_base", "of the base's speed", 0.70, 0.85),
    E("rollout", "q and v, stock", "of_base", "of the base's speed", 0.55, 0.68),
    # 0.97 / 0.68 to 1.00 / 0.55; on a CPU it was 2.1 (results/benchmarks.md)
    E("rollout", "q and v, merge against stock", "times", "times stock's speed", 1.4, 1.8, below=1.3),
    E("rollout", "q and v, merging and restoring", "ms", "ms", 15, 30, above=100),  # 56 layers
    E("rollout", "q and v, merging and restoring", "base_unchanged", "base unchanged (1: yes)", 1, 1, below=1),
    # 6.5 billion weights in bf16
    E("rollout", "all linear, merge", "of_base", "of the base's speed", 0.97, 1.0),
    E("rollout", "all linear, merge", "extra_gb", "GB more than the base", 13, 13),
    E("rollout", "all linear, cache", "of_base", "of the base's speed"),
    # peft multiplies with eye(18944) in fp32, 1.4 GB, for each layer and token
    E("rollout", "all linear, stock", "of_base", "of the base's speed", 0.10, 0.25),
    E("rollout", "all linear, merging and restoring", "ms", "ms"),
    E("rollout", "all linear, merging and restoring", "base_unchanged", "base unchanged (1: yes)", 1, 1, below=1),
    # 1,024 tokens x 22 to 30 ms; 15.2 GB of weights, 0.8 of copies, 0.6 of KV cache
    E("rollout", "longest completions, merge", "seconds", "s", 23, 31),
    E("rollout", "longest completions, merge", "tokens_s", "tokens/s", 260, 360),
    E("rollout", "longest completions, merge", "peak_gb", "GB at its peak", 17, 17, above=20),
    # merged rollouts must be nearer to the updated policy than the base is
    E("agreement", "merged", "of_base", "of the base's distance", above=1.0),
    # 2.1e14 operations (6 N D) at about half of the matrix product's rate
    E("update", "LoRA, dropout 0.01, 1024 tokens", "seconds", "s", 0.45, 0.60),
    E("update", "LoRA, dropout 0.01, 1024 tokens", "tflops", "TFLOP/s", 370, 480, below=250),
    E("update", "LoRA, dropout 0.01, 1024 tokens", "peak_gb", "GB at its peak", 18, 20, above=26),
    # the norm reads 14.7 GB twice a pass (12 ms), dropout needs a second base product (25 ms), fp32 elementwise (20 ms)
    E("update", "DoRA, dropout 0.01, 1024 tokens", "of_lora", "times LoRA's seconds", 1.10, 1.18, above=1.4),
    E("update", "DoRA, dropout 0, 1024 tokens", "of_lora", "times LoRA's seconds", 1.06, 1.12, above=1.4),
    # the same cost on fewer tokens: a larger share
    E("update", "DoRA, dropout 0.01, 400 tokens", "of_lora", "times LoRA's seconds"),
    E("update", "DoRA, dropout 0, 400 tokens", "of_lora", "times LoRA's seconds"),
    E("update", "reference pass, 1024 tokens", "seconds", "s", 0.11, 0.15),  # 2 N D
    # 8 completions of 256 tokens x 25 ms, 2 updates of 4, 2 reference passes of 4
    E("trainer", "step", "seconds", "s a step of src/grpo.py", 7, 9),
    E("trainer", "resume continues", "continues", "next prompt after a resume (1: yes)", 1, 1, below=1),
    # Whole parts. To make a model takes 2 to 5 s. A measurement decodes 390 tokens: the base's and q and v's take 22 to
    # 54 ms each, those of all linear layers up to 300 (stock); then 1,024 tokens
    E("machine", "part", "part_seconds", "s of the whole part", above=LIMIT),
    E("rollout", "part", "part_seconds", "s of the whole part", 130, 280, above=LIMIT),
    E("agreement", "part", "part_seconds", "s of the whole part", above=LIMIT),
    # 3 models; 12 updates of 4 x 1,254 tokens and 12 of 4 x 630, of 0.2 to 0.7 s
    E("update", "part", "part_seconds", "s of the whole part", 15, 40, above=LIMIT),
    # 15 GB written, and read twice; two starts of 20 to 40 s; 4 steps
    E("trainer", "part", "part_seconds", "s of the whole part", 90, 200, above=LIMIT),
)
PINNED = ("torch", "transformers", "trl", "peft")  # the libraries whose versions change these numbers


def measured(rows: Sequence[Mapping[str, Any]], expected: Expected) -> float | None:
    """The last measurement of a number; None if there is none."""
    found = [row.get(expected.name) for row in rows if (row["part"], row["what"]) == (expected.part, expected.what)]
    value = found[-1] if found else None
    return None if value is None else float(value)


def applies(environment: Mapping[str, Any]) -> bool:
    """Whether the expectations are for this shape and card."""
    card = environment["card"] or ""
    return environment["shape"] == "7b" and ("H100" in card or "H200" in card)


def failures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What did not run, unless a later attempt did."""
    last = {(row["part"], row["what"]): row for row in rows}
    return [f"{part}, {what}: {row['failed']}" for (part, what), row in last.items() if "failed" in row]


def alarms(rows: Sequence[Mapping[str, Any]]) -> list[Expected]:
    """The measurements that are alarming."""
    found = [(expected, measured(rows, expected)) for expected in EXPECTED]
    return [expected for expected, value in found if value is not None and "ALARM" in expected.verdict(value)]


def other_versions(versions: Mapping[str, str], pins: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Library -> (version here, pinned version), if they differ in more than the build (2.13.0+cpu)."""
    pairs = {name: (versions.get(name, "none"), pins[name]) for name in PINNED}
    return {name: pair for name, pair in pairs.items() if pair[0].partition("+")[0] != pair[1]}
