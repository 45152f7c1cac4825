"""What one H100 should measure with the 7B shape, and when a number is alarming. Nothing here has been measured.

The estimates start from 14.1 GB of bf16 weights that are read for each token, and from 3.0 TB/s and 800 TFLOP/s, the
share of the data sheet that such cards reach.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    # The norms: bytes read and written at 3 TB/s, or 5 to 7 µs for each launch. Factored, q: 20 launches; v: 14; down:
    # 46, 0.7 GB, and 8.7e9 fp32 operations at 30 TFLOP/s. Memory: a chunk of W in float32 (16.8 MB; all of v: 7.3 MB)
    # and two [3584, 64] in float32 (0.9 MB each; v: 0.1)
    E("norm", "q_proj, factored", "ms", "ms", 0.10, 0.20),
    E("norm", "q_proj, factored", "extra_mb", "MB", 19, 19, above=40),
    E("norm", "v_proj, factored", "ms", "ms", 0.07, 0.15),
    E("norm", "v_proj, factored", "extra_mb", "MB", 7.6, 7.6, above=40),
    E("norm", "down_proj, factored", "ms", "ms", 0.35, 0.60),
    E("norm", "down_proj, factored", "extra_mb", "MB", 19, 19, above=40),
    # peft, q: 0.64 GB in 14 launches, some of it transposed; v: 0.22 GB; down: 6.9 GB. Memory, q: W, BA, and two
    # results in float32 (206 MB), eye(3584) in bf16 that autograd keeps (26). v, down: eye in float32 and in bf16 (77;
    # 2,153), and BA in bf16 (4; 136)
    E("norm", "q_proj, peft", "ms", "ms", 0.2, 0.5),
    E("norm", "q_proj, peft", "extra_mb", "MB", 231, 231),
    E("norm", "v_proj, peft", "ms", "ms", 0.1, 0.2),
    E("norm", "v_proj, peft", "extra_mb", "MB", 81, 81),
    E("norm", "down_proj, peft", "ms", "ms", 2.3, 3.5),
    E("norm", "down_proj, peft", "extra_mb", "MB", 2290, 2290),
    # float32 against the bf16 products of autocast: at most 2^-8 of BA, a sixth of W; without BA it is above 0.01
    *(
        E("norm", f"{layer}, factored against peft", "difference", "of the norm, largest", above=0.002)
        for layer in ("q_proj", "v_proj", "down_proj")
    ),
    # about 1,060 kernel launches a token, 20 to 28 µs of Python each; the floor is 14.1 GB / 3.0 TB/s
    E("rollout", "base", "ms", "ms a token", 22, 30, above=40),
    E("rollout", "base", "floor_ms", "ms a token, all weights read once", 4.7, 4.7),
    E("rollout", "base", "of_bandwidth", "of the bandwidth", 0.16, 0.21),
    # merged copies are plain linear layers; 28 q (3584 x 3584) and 28 v (512 x 3584) in bf16
    E("rollout", "q and v, merge", "of_base", "of the base's speed", 0.97, 1.0, below=0.95),
    E("rollout", "q and v, merge", "extra_gb", "GB more than the base", 0.8, 0.8),
    # cache: 56 layers x 10 more launches of 6 to 14 µs; stock: x 24, and 14.7 GB more traffic a token (4.9 ms)
    E("rollout", "q and v, cache", "of_base", "of the base's speed", 0.77, 0.89),
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
    # as "q and v, merge" above
    E("decoding", "generate", "ms", "ms a token", 22, 31, above=40),
    # 28 layers x 9 more launches of 6 to 14 µs (1.5 to 3.5 ms), less generate's own work between tokens (1 to 2 ms)
    E("decoding", "shared prompt", "ms", "ms a token", 22, 33, above=45),
    E("decoding", "shared prompt", "times", "times generate's speed", 0.90, 1.02),
    E("decoding", "shared prompt", "equal", "of greedy tokens are generate's, bf16"),
    # 4.7 ms at 0.75 to 0.85 of the bandwidth in products of 8 rows; 2 to 5 ms of guards, sampling and stopping between
    E("decoding", "compiled", "ms", "ms a token", 7.5, 11.5, above=20),
    E("decoding", "compiled", "times", "times generate's speed", 1.9, 4.1, below=1.3),  # not compiled: about 1
    E("decoding", "compiled", "equal", "of greedy tokens are generate's, bf16"),
    E("decoding", "compiled, first call", "seconds", "s, compiles"),
    E("decoding", "compiled, after an update", "follows", "tokens change (1: yes)", 1, 1, below=1),
    E("decoding", "shared prompt, small float32 model", "equal", "of greedy tokens are generate's", 1, 1, below=1),
    E("decoding", "compiled, small float32 model", "equal", "of greedy tokens are generate's", 1, 1, below=1),
    E("decoding", "compiled, small float32 model, after an update", "follows", "as generate (1: yes)", 1, 1, below=1),
    # merged rollouts must be nearer to the updated policy than the base is
    E("agreement", "merged", "of_base", "of the base's distance", above=1.0),
    # 2.1e14 operations (6 N D) at about half of the matrix product's rate
    E("update", "LoRA, dropout 0.01, 1024 tokens", "seconds", "s", 0.45, 0.60),
    E("update", "LoRA, dropout 0.01, 1024 tokens", "tflops", "TFLOP/s", 370, 480, below=250),
    E("update", "LoRA, dropout 0.01, 1024 tokens", "peak_gb", "GB at its peak", 18, 20, above=26),
    # peft: the norm reads 14.7 GB twice a pass (12 ms), dropout needs a second base product (25 ms), fp32 elementwise
    # (20 ms). Factored norms: 4.1 GB and 5e10 fp32 operations, twice (5 ms)
    E("update", "DoRA, dropout 0.01, 1024 tokens", "of_lora", "times LoRA's seconds", 1.08, 1.12, above=1.4),
    E("update", "DoRA, dropout 0.01, 1024 tokens", "extra_gb", "GB more than LoRA"),
    E("update", "DoRA, dropout 0, 1024 tokens", "of_lora", "times LoRA's seconds", 1.04, 1.06, above=1.4),
    E("update", "DoRA, dropout 0, 1024 tokens", "extra_gb", "GB more than LoRA"),
    E("update", "peft's DoRA, dropout 0.01, 1024 tokens", "of_lora", "times LoRA's seconds", 1.10, 1.18, above=1.4),
    E("update", "peft's DoRA, dropout 0.01, 1024 tokens", "extra_gb", "GB more than LoRA"),
    E("update", "peft's DoRA, dropout 0, 1024 tokens", "of_lora", "times LoRA's seconds", 1.06, 1.12, above=1.4),
    E("update", "peft's DoRA, dropout 0, 1024 tokens", "extra_gb", "GB more than LoRA"),
    # the same cost on fewer tokens: a larger share
    E("update", "DoRA, dropout 0.01, 400 tokens", "of_lora", "times LoRA's seconds"),
    E("update", "DoRA, dropout 0, 400 tokens", "of_lora", "times LoRA's seconds"),
    E("update", "reference pass, 1024 tokens", "seconds", "s", 0.11, 0.15),  # 2 N D
    # Whole rows: LoRA's seconds times DoRA's. Shared: 4,325 instead of 5,016 positions (0.86) but in attention, which
    # is the same; 28 layers x 8 gathers, in the second forward pass too, read and write 9 to 31 MB each: 0.01 s
    E("update", "whole rows, 1024 tokens", "seconds", "s", 0.49, 0.67),
    E("update", "whole rows, 1024 tokens", "peak_gb", "GB at its peak"),
    E("update", "shared prompt, 1024 tokens", "of_rows", "times the seconds of whole rows", 0.86, 0.91),
    E("update", "shared prompt, 1024 tokens", "peak_gb", "GB at its peak"),
    # rounding is 1 % of logits that spread by 1.2, 4 sigma of it below 0.2; another position is nats away
    E("update", "shared prompt, 1024 tokens", "difference", "nats, largest", above=0.5),
    # 1,829 instead of 2,520 positions (0.73)
    E("update", "shared prompt, 400 tokens", "of_rows", "times the seconds of whole rows", 0.73, 0.80),
    E("update", "shared prompt, 400 tokens", "difference", "nats, largest", above=0.5),
    # 8 completions of 256 tokens x 25 ms, 2 updates of 4, 2 reference passes of 4
    E("trainer", "step", "seconds", "s a step of src/grpo.py", 7, 9),
    E("trainer", "resume continues", "continues", "next prompt after a resume (1: yes)", 1, 1, below=1),
    # Whole parts. To make a model takes 2 to 5 s. A measurement decodes 390 tokens: the base's and q and v's take 22 to
    # 54 ms each, those of all linear layers up to 300 (stock); then 1,024 tokens
    E("machine", "part", "part_seconds", "s of the whole part", above=LIMIT),
    E("norm", "part", "part_seconds", "s of the whole part", 1, 10, above=LIMIT),
    E("rollout", "part", "part_seconds", "s of the whole part", 130, 280, above=LIMIT),
    # two compilations of 20 to 100 s; the ways decode 390, 390 and 520 tokens, greedily 128 each, and once more
    E("decoding", "part", "part_seconds", "s of the whole part", 70, 250, above=LIMIT),
    E("agreement", "part", "part_seconds", "s of the whole part", above=LIMIT),
    # 6 models; 28 updates of 4 x 1,254 tokens and 28 of 4 x 630, of 0.2 to 1.0 s
    E("update", "part", "part_seconds", "s of the whole part", 30, 80, above=LIMIT),
    # 15 GB written, and read twice; two starts of 20 to 40 s; 4 steps
    E("trainer", "part", "part_seconds", "s of the whole part", 90, 200, above=LIMIT),
)
