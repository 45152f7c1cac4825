"""A trl run around trl's own loop: build the trainer, train, save, and print where everything is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import trl.trainer.utils
from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from adapters import start_from_base
from common.models import make_savable
from common.run_logs import results
from dora import use_factored_norms
from trl_training.callbacks import MetricsLog, ProgressLine, say
from trl_training.checks import configured_adapter, load_settings
from trl_training.resume import is_finished, publish

STARTED = time.time()
TRL_USE_TRITON = trl.trainer.utils._use_triton  # private: this file belongs to the pinned version of trl


def use_triton_or_cpu(device: torch.device) -> bool:
    """Whether trl's loss selects the positions that count before the LM head: with Triton, and here on a CPU too.

    Otherwise trl computes every position and drops the prompts' afterwards, which keeps shapes fixed for compilers. On
    a CPU nothing is compiled, and prompts are most of the tokens (benchmarks/bench_loss.py). The result is the same.
    """
    return device.type == "cpu" or TRL_USE_TRITON(device)


def run_trainer(
    trainer_class: Any,
    args: Any,
    model: Any,
    rows: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    checkpoint: Path | None,
    dora_norm: str | None,
    **settings: Any,
) -> None:
    """Train on `rows`, from the base model or from `checkpoint`, with this project's logs, and save the result.

    `dora_norm`: factored, peft, or None without DoRA. `settings`: what only this trainer takes.
    """
    folder = Path(args.output_dir)
    if checkpoint and is_finished(args, checkpoint):
        if args.process_index == 0:
            publish(checkpoint, folder)
        say(f"\ndone: {checkpoint} is the last of the {args.max_steps} steps")
        say(results(folder))
        return
    args.model_init_kwargs = load_settings(args, model)
    trainer = trainer_class(
        model=model.model_name_or_path,
        args=args,
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=tokenizer,
        peft_config=configured_adapter(model),
        **settings,
    )
    if dora_norm == "factored":
        use_factored_norms(trainer.model)
    start_from_base(trainer.model)
    if note := make_savable(trainer.model.get_base_model() if model.use_peft else trainer.model):
        say(f"model {model.model_name_or_path}: {note}")
    trl.trainer.utils._use_triton = use_triton_or_cpu
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    if not args.disable_tqdm:
        trainer.add_callback(ProgressLine())
    trainer.add_callback(MetricsLog(folder))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_model(str(folder))
    if trainer.accelerator.is_main_process:
        tokenizer.save_pretrained(folder)
    minutes = (time.time() - STARTED) / 60
    say(f"\ndone: {trainer.state.global_step} steps, {minutes:.1f} minutes in this start")
    say(results(folder))
