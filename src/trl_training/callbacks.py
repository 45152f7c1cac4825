"""What a trl run logs and prints at each step."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ProgressCallback

from common.files import append_jsonl
from common.run_logs import METRICS

SHOWN = {  # logged key -> the short name in the progress line
    "loss": "loss",
    "reward": "reward",
    "rewards/format_reward/mean": "format",
    "rewards/em/mean": "EM",
    "rewards/es/mean": "ES",
    "rewards/em_star/mean": "EM*",
    "rewards/es_star/mean": "ES*",
    "rewards/dm_star/mean": "DM*",
    "completions/mean_length": "length",
    "completions/clipped_ratio": "clipped",
    "frac_reward_zero_std": "zero-variance",
    "mean_token_accuracy": "accuracy",
    "step_time": "seconds",
}
WARNINGS = (  # (logged key, the share above which the run warns, what it is a share of)
    ("completions/clipped_ratio", 0.2, "completions are cut at max_completion_length"),
    ("frac_reward_zero_std", 0.5, "groups have equal rewards: they give no gradient"),
)
PAUSE = 50  # steps between two warnings of one kind; metrics.jsonl has every value


def say(message: str = "") -> None:
    """Print on the main process only."""
    from accelerate import PartialState

    if PartialState().is_main_process:
        print(message, flush=True)


class MetricsLog(TrainerCallback):
    """Write every logged step to metrics.jsonl, and warn if there is little to learn from."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS
        self.warned: dict[str, int] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or not logs or "train_runtime" in logs:
            return
        append_jsonl(self.path, {"step": state.global_step, "time": round(time.time(), 1), **logs})
        for key, limit, meaning in WARNINGS:
            share = logs.get(key) or 0
            if share > limit and state.global_step - self.warned.get(key, -PAUSE) >= PAUSE:
                self.warned[key] = state.global_step
                print(f"warning: step {state.global_step}: {share:.0%} of {meaning}", file=sys.stderr, flush=True)


class ProgressLine(ProgressCallback):
    """transformers' progress bar, with one readable line per logged step instead of the whole dictionary."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and self.training_bar is not None and logs and "train_runtime" not in logs:
            shown = [f"{name} {float(logs[key]):.3g}" for key, name in SHOWN.items() if logs.get(key) is not None]
            self.training_bar.write(f"step {state.global_step}  " + "  ".join(shown))
