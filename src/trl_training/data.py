"""The prompts that a trl run trains on; every mistake ends here, before the model loads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from common.cli import fail
from common.errors import InputError
from prompts import migration_messages, open_chat_template, render
from records import Record, load_records
from trl_training.arguments import DataArguments
from trl_training.callbacks import say
from trl_training.checks import refuse_missing_compiler, refuse_several_cards, warn_of_decay
from trl_training.model import load_tokenizer
from trl_training.resume import begin


def prompt_rows(
    records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, args: DataArguments
) -> list[dict[str, str]]:
    """Rows {prompt, target, old_code, record_id}: each prompt rendered once, too long ones dropped with a count."""
    template = open_chat_template(tokenizer)
    rows, long_prompts, long_targets = [], 0, 0
    lengths = []
    for record in records:
        prompt = render(tokenizer, migration_messages(record), template)
        length = len(tokenizer(prompt)["input_ids"])
        target = len(tokenizer(record.new_code, add_special_tokens=False)["input_ids"])
        if length > args.max_prompt_length:
            long_prompts += 1
        elif args.max_target_length is not None and target > args.max_target_length:
            long_targets += 1
        else:
            columns = {"target": record.new_code, "old_code": record.old_code, "record_id": record.id}
            rows.append({"prompt": prompt, **columns})
            lengths.append(length)
    say(
        f"data: {len(rows)} of {len(records)} records; dropped {long_prompts} with a prompt over "
        f"{args.max_prompt_length} tokens and {long_targets} with a target over {args.max_target_length}"
    )
    if not rows:
        raise InputError(f"{args.data}: no record is left")
    say(f"prompt tokens: median {sorted(lengths)[len(lengths) // 2]}, longest {max(lengths)}")
    return rows


def prepare(
    script: DataArguments, args: Any, model: Any
) -> tuple[list[dict[str, str]], PreTrainedTokenizerBase, Path | None]:
    """(prompt rows, tokenizer, checkpoint to resume from); any mistake ends here, before the model loads."""
    refuse_missing_compiler(args)
    refuse_several_cards(args)
    warn_of_decay(args, model)
    try:
        records = load_records(script.data, script.bad_rows)
        checkpoint = begin(args, script, model, data=script, records=records)
        tokenizer = load_tokenizer(model, args.trust_remote_code)
        return prompt_rows(records, tokenizer, script), tokenizer, checkpoint
    except (InputError, ValueError, OSError) as error:
        fail(error)
