"""Which values the keys of a DAPO run take. verl checks most of them in its workers, after a minute, or never.

The type of a key is that of its default in verl's YAML or in configs/dapo.yaml; null is a value of those keys that are
null in one of them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from omegaconf import DictConfig

from common.errors import InputError
from common.ranges import BELOW_ONE, COUNT, POSITIVE, SHARE, UNSIGNED, Range
from prompts import WORDINGS
from records import BAD_ROWS
from verl_training.config import OPEN, compose, leaves, plain, verl_defaults

OPTIM, ACTOR = "actor_rollout_ref.actor.optim", "actor_rollout_ref.actor"
ROLLOUT = "actor_rollout_ref.rollout"
WHOLE = {  # range -> keys of whole numbers; null is checked by type
    COUNT: (
        *("data.train_batch_size", "data.max_prompt_length", "data.max_response_length", "trainer.nnodes"),
        *("trainer.n_gpus_per_node", "trainer.total_epochs", "trainer.total_training_steps", f"{ROLLOUT}.n"),
        *(f"{ACTOR}.ppo_mini_batch_size", f"{ACTOR}.ppo_epochs", f"{ACTOR}.ppo_max_token_len_per_gpu"),
        *(f"{ROLLOUT}.log_prob_max_token_len_per_gpu", f"{ROLLOUT}.max_model_len", "reward.num_workers"),
        *("recode.lora_r", "recode.lora_alpha", "recode.max_target_length", "recode.val_size"),
        *("ray_kwargs.ray_init.num_cpus", "transfer_queue.backend.SimpleStorage.num_data_storage_units"),
    ),
    Range(2): ("trainer.max_actor_ckpt_to_keep",),  # with 1, verl deletes the last before the new one is complete
    UNSIGNED: ("algorithm.filter_groups.max_num_gen_batches", "data.seed"),
    Range(-1): (
        *("trainer.save_freq", "trainer.test_freq", f"{OPTIM}.lr_warmup_steps", f"{ROLLOUT}.top_k"),
        f"{ACTOR}.fsdp_config.fsdp_size",
    ),
}
NUMBERS = {  # range -> its keys
    SHARE: (f"{ROLLOUT}.gpu_memory_utilization", f"{ROLLOUT}.top_p", f"{ROLLOUT}.val_kwargs.top_p"),
    UNSIGNED: (
        *(f"{OPTIM}.lr", f"{OPTIM}.weight_decay", f"{OPTIM}.clip_grad", f"{ACTOR}.clip_ratio_low"),
        *(f"{ACTOR}.clip_ratio_high", f"{ACTOR}.clip_ratio_c", f"{ROLLOUT}.val_kwargs.temperature"),
    ),
    POSITIVE: (f"{ROLLOUT}.temperature",),  # greedy completions of a prompt would all be equal
    BELOW_ONE: ("recode.lora_dropout",),
}
CHOICES = {
    f"{OPTIM}.lr_scheduler_type": ("constant", "cosine"),
    f"{ACTOR}.loss_agg_mode": (
        *("token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm", "token-sum"),
    ),
    "trainer.resume_mode": ("auto", "disable", "resume_path"),
    "trainer.device": ("cuda", "cpu", "npu"),
    "recode.adapter": ("dora", "full"),
    "recode.bad_rows": BAD_ROWS,
    "recode.prompt": tuple(WORDINGS),
}
TEXT_OR_LIST = ("trainer.logger", "recode.lora_target_modules")


@cache
def defaults() -> tuple[dict[str, Any], dict[str, Any]]:
    """(verl's own values, those of configs/dapo.yaml over them), by dotted path."""
    return dict(leaves(plain(verl_defaults()))), dict(leaves(plain(compose("dapo"))))


def expected(path: str) -> tuple[set[type], bool] | None:
    """(types of a key, whether it may be null); None if the key has no default, or only null."""
    found = [values[path] for values in defaults() if path in values]
    types = {float if type(value) is int else type(value) for value in found}
    allowed = types - {type(None)}
    return (allowed, type(None) in types) if allowed else None


NAMES = {float: "a number", bool: "true or false", str: "text", list: "a list", dict: "a mapping"}


def check_present(config: DictConfig) -> None:
    """Raise InputError if an override (`~key`) removed a key that verl or this project reads."""
    given = dict(leaves(plain(config, resolve=False)))
    verl, ours = defaults()
    for path in (*(path for path in ours if path == "run" or path.startswith("recode.")), *verl):
        if path in given or path.startswith(OPEN):
            continue
        if not any(key.startswith(f"{path}.") or path.startswith(f"{key}.") for key in given):  # ${section}
            raise InputError(f"{path}: is missing: an override removes it")


def check_values(config: DictConfig) -> None:
    """Raise InputError, which names the first key whose value has another type or is out of range."""
    raw = leaves(plain(config, resolve=False))
    derived = {path for path, value in raw if isinstance(value, str) and "${" in value}  # another key is to blame
    for path, value in leaves(plain(config)):
        if path not in derived and (wrong := problem(path, value)):
            raise InputError(f"{path}={'null' if value is None else value}: {wrong}")


def range_of(path: str, ranges: Mapping[Range, Collection[str]]) -> Range | None:
    """The range of a key, if it has one."""
    return next((accepted for accepted, keys in ranges.items() if path in keys), None)


def problem(path: str, value: Any) -> str:
    """What is wrong with a value; empty if nothing is."""
    if isinstance(value, float) and not math.isfinite(value):
        return "must be finite"
    types, nullable = expected(path) or (set(), True)
    if value is None and nullable:
        return ""
    or_null = ", or null" if nullable else ""
    if whole := range_of(path, WHOLE):
        return "" if type(value) is int and value in whole else f"must be a whole number, {whole}{or_null}"
    if path.startswith(OPEN) or not types:
        return ""
    kind = float if type(value) is int else type(value)
    if kind not in types and not (path in TEXT_OR_LIST and kind in (str, list)):
        return f"must be {' or '.join(sorted(NAMES[each] for each in types))}{or_null}"
    if (accepted := range_of(path, NUMBERS)) and value not in accepted:
        return f"must be {accepted}"
    known = CHOICES.get(path, (value,))
    return "" if value in known else f"choose from {', '.join(known)}"
