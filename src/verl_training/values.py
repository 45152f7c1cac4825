"""Which values the keys of a DAPO run take. verl checks most of them in its workers, after a minute, or never.

The type of a key is that of its default in verl's YAML or in configs/dapo.yaml; null is a value of those keys that are
null in one of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

from omegaconf import DictConfig

from common.errors import InputError
from verl_training.config import OPEN, compose, leaves, plain, verl_folder

OPTIM, ACTOR = "actor_rollout_ref.actor.optim", "actor_rollout_ref.actor"
ROLLOUT = "actor_rollout_ref.rollout"
WHOLE = {  # key -> its least value; null is checked by type
    **dict.fromkeys(("data.train_batch_size", "data.max_prompt_length", "data.max_response_length"), 1),
    **dict.fromkeys(("trainer.nnodes", "trainer.n_gpus_per_node", "trainer.total_epochs", f"{ROLLOUT}.n"), 1),
    **dict.fromkeys((f"{ACTOR}.ppo_mini_batch_size", f"{ACTOR}.ppo_epochs", "recode.lora_r", "recode.lora_alpha"), 1),
    **dict.fromkeys((f"{ACTOR}.ppo_max_token_len_per_gpu", f"{ROLLOUT}.log_prob_max_token_len_per_gpu"), 1),
    **dict.fromkeys((f"{ROLLOUT}.max_model_len", "recode.max_target_length", "trainer.total_training_steps"), 1),
    **dict.fromkeys(("ray_kwargs.ray_init.num_cpus", "reward.num_workers"), 1),
    "trainer.max_actor_ckpt_to_keep": 2,  # with 1, verl deletes the last checkpoint before the new one is complete
    "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
    "recode.val_size": 1,
    **dict.fromkeys(("algorithm.filter_groups.max_num_gen_batches", "data.seed"), 0),
    **dict.fromkeys(("trainer.save_freq", "trainer.test_freq", f"{OPTIM}.lr_warmup_steps", f"{ROLLOUT}.top_k"), -1),
    f"{ACTOR}.fsdp_config.fsdp_size": -1,
}
SHARES = (f"{ROLLOUT}.gpu_memory_utilization", f"{ROLLOUT}.top_p", f"{ROLLOUT}.val_kwargs.top_p")  # above 0, at most 1
NOT_NEGATIVE = (
    *(f"{OPTIM}.lr", f"{OPTIM}.weight_decay", f"{OPTIM}.clip_grad", f"{ACTOR}.clip_ratio_low"),
    *(f"{ACTOR}.clip_ratio_high", f"{ACTOR}.clip_ratio_c", f"{ROLLOUT}.val_kwargs.temperature"),
)
CHOICES = {
    f"{OPTIM}.lr_scheduler_type": ("constant", "cosine"),
    f"{ACTOR}.loss_agg_mode": (
        *("token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm", "token-sum"),
    ),
    "trainer.resume_mode": ("auto", "disable", "resume_path"),
    "trainer.device": ("cuda", "cpu", "npu"),
    "recode.adapter": ("dora", "full"),
}
TEXT_OR_LIST = ("trainer.logger", "recode.lora_target_modules")


@cache
def defaults() -> tuple[dict[str, Any], dict[str, Any]]:
    """(verl's own values, those of configs/dapo.yaml over them), by dotted path."""
    verl, ours = compose("ppo_trainer", folder=verl_folder()), compose("dapo")
    return dict(leaves(plain(verl))), dict(leaves(plain(ours)))


def expected(path: str) -> tuple[set[type], bool] | None:
    """(types of a key, whether it may be null); None if the key has no default, or only null."""
    found = [values[path] for values in defaults() if path in values]
    types = {float if isinstance(value, int) and not isinstance(value, bool) else type(value) for value in found}
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
    given = {path: value for path, value in leaves(plain(config)) if path not in derived}
    problems = (*map(wrong_type, given, given.values()), *out_of_range(given))
    if found := [problem for problem in problems if problem]:
        raise InputError(found[0])


def wrong_type(path: str, value: Any) -> str:
    """What is wrong with the type of a value; empty if nothing is."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{path}={value}: must be finite"
    types, nullable = expected(path) or (set(), True)
    if path in WHOLE:
        types = {float}
    elif path.startswith(OPEN) or not types:
        return ""
    kind = float if isinstance(value, int) and not isinstance(value, bool) else type(value)
    if kind in types or (value is None and nullable) or (path in TEXT_OR_LIST and kind in (str, list)):
        return ""
    what = " or ".join(sorted(NAMES.get(each, each.__name__) for each in types))
    if path in WHOLE:
        what = f"a whole number, at least {WHOLE[path]}"
    return f"{path}={'null' if value is None else value}: must be {what}{', or null' if nullable else ''}"


def out_of_range(given: dict[str, Any]) -> Iterator[str]:
    """What is wrong with each number, and each name, that has the right type."""
    numbers = {path: value for path, value in given.items() if isinstance(value, (int, float))}
    for path, value in numbers.items():
        if path in WHOLE and not (isinstance(value, int) and value >= WHOLE[path]):
            yield f"{path}={value}: must be a whole number, at least {WHOLE[path]}"
        if path in SHARES and not 0 < value <= 1:
            yield f"{path}={value}: must be above 0 and at most 1"
        if path in NOT_NEGATIVE and value < 0:
            yield f"{path}={value}: must be at least 0"
        if path == "recode.lora_dropout" and not 0 <= value < 1:
            yield f"{path}={value}: must be at least 0 and below 1"
        if path == f"{ROLLOUT}.temperature" and not value > 0:
            yield f"{path}={value}: must be above 0: greedy completions of a prompt are all equal"
    for path, known in CHOICES.items():
        if path in given and given[path] not in known:
            yield f"{path}={given[path]}: choose from {', '.join(known)}"
