"""The prompts that a trl run trains on. Every mistake is reported here, before the model loads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from prompts import fit_records, load_tokenizer
from records import Record, load_records
from trl_training.arguments import Batch, DataArguments
from trl_training.callbacks import say
from trl_training.checks import refuse_missing_compiler, refuse_several_cards, warn_of_decay
from trl_training.resume import begin


def prompt_rows(
    records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, args: DataArguments
) -> list[dict[str, str]]:
    """Rows {prompt, target, old_code, record_id} of the records that fit."""
    fitted = fit_records(records, tokenizer, "data", args.max_prompt_length, args.max_target_length)
    say(fitted.report)
    return [
        {"prompt": prompt, "target": record.new_code, "old_code": record.old_code, "record_id": record.id}
        for record, prompt in zip(fitted.records, fitted.prompts, strict=True)
    ]


def prepare(
    script: DataArguments, args: Any, model: Any
) -> tuple[list[dict[str, str]], PreTrainedTokenizerBase, Path | None]:
    """(prompt rows, tokenizer, checkpoint to resume from). Raises InputError."""
    group = getattr(args, "num_generations", 1)  # SFT has none
    say(f"batch: {Batch(args.world_size, args.per_device_train_batch_size, args.gradient_accumulation_steps, group)}")
    refuse_missing_compiler(args)
    refuse_several_cards(args)
    warn_of_decay(args, model)
    records = load_records(script.data, script.bad_rows)
    checkpoint = begin(args, script, model, records)
    settings = {"revision": model.model_revision, "trust_remote_code": args.trust_remote_code, "padding_side": "left"}
    tokenizer = load_tokenizer(model.model_name_or_path, **settings)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return prompt_rows(records, tokenizer, script), tokenizer, checkpoint
