"""A trl run around trl's own loop: the trainer, metrics and a line for each step, and a summary at its end.

`_use_triton` is private to trl, so this file belongs to the pinned version.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import trl.trainer.utils
from datasets import Dataset
from transformers import PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from adapters import adapter_config, start_from_base
from common.files import append_jsonl
from common.run_logs import METRICS, results

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
STARTED = time.time()
trl_s_own = trl.trainer.utils._use_triton


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


def picks_first(device: torch.device) -> bool:
    """Whether trl's loss selects the positions that count before the LM head: with Triton, and here on a CPU too.

    Otherwise trl computes every position and drops the prompts' afterwards, which keeps shapes fixed for compilers. On
    a CPU nothing is compiled, and prompts are most of the tokens (benchmarks/bench_loss.py). The result is the same.
    """
    return device.type == "cpu" or trl_s_own(device)


def run_trainer(
    trainer_class: Any,
    args: Any,
    model: Any,
    rows: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    checkpoint: Path | None,
    **settings: Any,
) -> None:
    """Train on `rows`, from the base model or from `checkpoint`, with this project's logs, and save the result."""
    loading = {"revision": model.model_revision, "dtype": model.dtype, "attn_implementation": model.attn_implementation}
    args.model_init_kwargs = (args.model_init_kwargs or {}) | {k: v for k, v in loading.items() if v is not None}
    lora = (model.lora_r, model.lora_alpha, model.lora_dropout, model.lora_target_modules)
    trainer = trainer_class(
        model=model.model_name_or_path,
        args=args,
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=tokenizer,
        peft_config=adapter_config(*lora, use_dora=model.use_dora) if model.use_peft else None,
        **settings,
    )
    start_from_base(trainer.model)
    trl.trainer.utils._use_triton = picks_first
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    if not args.disable_tqdm:
        trainer.add_callback(ProgressLine())
    folder = Path(args.output_dir)
    trainer.add_callback(MetricsLog(folder))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_model(str(folder))
    if trainer.accelerator.is_main_process:
        tokenizer.save_pretrained(folder)
    minutes = (time.time() - STARTED) / 60
    say(f"\ndone: {trainer.state.global_step} steps, {minutes:.1f} minutes in this start")
    say(results(folder))
