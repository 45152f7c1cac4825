"""The prompts that a trl run trains on. Every mistake is reported here, before the model loads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.alternatives import read_alternatives
from common.chat import Chat
from common.models import refuse_overflow
from prompts import fit_records, load_chat, reference_completion
from records import Record, load_records
from trl_training.arguments import Batch
from trl_training.callbacks import say
from trl_training.checks import refuse_missing_compiler, refuse_several_cards, warn_of_decay
from trl_training.own_keys import DataArguments
from trl_training.resume import begin


def prompt_rows(records: Sequence[Record], chat: Chat, args: DataArguments) -> list[dict[str, Any]]:
    """Rows {prompt, target, old_code, record_id} of the records that fit, and `alternatives` if the run wants them."""
    fitted = fit_records(records, chat, "data", args.max_prompt_length, args.max_target_length, args.prompt)
    say(fitted.report)
    others = read_alternatives(args.data) if getattr(args, "alternatives", False) else None  # SFT has no such key
    return [
        {"prompt": prompt, "target": record.new_code, "old_code": record.old_code, "record_id": record.id}
        | ({} if others is None else {"alternatives": others.get(record.id, [])})
        for record, prompt in zip(fitted.records, fitted.prompts, strict=True)
    ]


def description(rows: Sequence[dict[str, Any]], chat: Chat) -> dict[str, Any]:
    """For run.json: what identifies the prompts and targets, and how the chat template was adapted."""
    texts = "\0".join(text for row in rows for text in (row["prompt"], row["target"]))
    digest = hashlib.sha256(texts.encode()).hexdigest()
    return {"prompts": f"{len(rows)} with sha256 {digest[:12]}", "chat_template": list(chat.notes)}


def longest(rows: Sequence[dict[str, Any]], chat: Chat, args: Any) -> tuple[int, str]:
    """(tokens of the longest sequence that the run can train on, what they are)."""
    prompts = [len(chat.encode(row["prompt"])) for row in rows]
    if new := getattr(args, "max_completion_length", None):  # GRPO's
        return max(prompts) + new, f"the longest prompt ({max(prompts)} tokens) and max_completion_length {new}"
    answers = [len(chat.encode_turn(reference_completion(row["target"]))) for row in rows]
    whole = max(map(sum, zip(prompts, answers, strict=True)))
    return min(whole, args.max_length or whole), "the longest prompt with its completion"


def prepare(
    script: DataArguments, args: Any, model: Any, config: Any, techniques: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], Chat, Path | None]:
    """(prompt rows, tokenizer and chat format, checkpoint to resume from). Raises InputError.

    `config`: the model's own configuration. `techniques`: for run.json (trl_training/techniques.py).
    """
    if used := [f"{name} {value}" for name, value in techniques.items() if value is not None]:
        say(f"techniques: {', '.join(used)}")
    group = getattr(args, "num_generations", 1)  # SFT has none
    say(f"batch: {Batch(args.world_size, args.per_device_train_batch_size, args.gradient_accumulation_steps, group)}")
    refuse_missing_compiler(args)
    refuse_several_cards(args)
    warn_of_decay(args, model)
    records = load_records(script.data, script.bad_rows)
    settings = {"revision": model.model_revision, "trust_remote_code": args.trust_remote_code, "padding_side": "left"}
    chat = load_chat(model.model_name_or_path, **settings)
    for note in chat.notes:
        say(note)
    rows = prompt_rows(records, chat, script)
    refuse_overflow(config, *longest(rows, chat, args))
    return rows, chat, begin(args, script, model, {**description(rows, chat), "techniques": dict(techniques)})
