"""Values of the configuration that would end the run late, or silently make it something other than DAPO.

Every check raises InputError with one line that names the key, before verl is imported and before a model loads.
"""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import diff_match
import rewards
from adapters import DECAYS_MAGNITUDES
from common.errors import InputError, message_of
from common.models import refuse_overflow, refuse_unusable
from common.rows import HUB
from verl_training.config import EXECUTION, SRC, check_keys, plain
from verl_training.parquet import DataFiles
from verl_training.values import check_present, check_values

KNOWN = {
    SRC / "rewards.py": tuple(rewards.REWARDS),
    SRC / "diff_match.py": tuple(diff_match.REWARDS),
    EXECUTION: (*rewards.REWARDS, "execution"),
}
# of a completion; `reward` is the score with the overlong penalty
METRICS = ("reward", "score", "format", "correctness", "syntax", "em", "es", "dm_star", "execution")


def need(holds: bool, message: str) -> None:
    """Raise InputError with `message` unless `holds`."""
    if not holds:
        raise InputError(message)


def check(config: DictConfig) -> None:
    """Check the composed configuration. Raises InputError."""
    check_keys(config)
    check_present(config)
    try:
        plain(config)
    except OmegaConfBaseException as error:  # an unknown interpolation, a missing value
        raise InputError(message_of(error)) from None
    check_values(config)
    need(bool(config.run.strip()), "run=: must name the run's folder")
    DataFiles(config).files  # noqa: B018 (raises)
    check_algorithm(config)
    check_reward_keys(config)
    check_model(config)
    check_trainer(config)


def check_files(config: DictConfig) -> None:
    """Check that the files which the configuration names are there; src/data_process.py writes those of `data`."""
    recode, function = config.recode, config.reward.custom_reward_function
    for key, path in (("recode.data", recode.data), ("recode.val_data", recode.val_data)):
        there = path is None or path.startswith(HUB) or Path(path).is_file()
        need(there, f"{key}={path}: no such file in {Path.cwd()}")
    model = refuse_unusable(config.actor_rollout_ref.model.path)
    if config.actor_rollout_ref.rollout.name == "vllm":  # which would reserve the whole length, and refuse it late
        prompt, new = config.data.max_prompt_length, config.data.max_response_length
        refuse_overflow(model, prompt + new, f"data.max_prompt_length {prompt} + data.max_response_length {new}")
    where = f"reward.custom_reward_function.path={function.path}"
    path = Path(function.path) if Path(function.path).is_file() else SRC.parent / function.path
    need(path.is_file(), f"{where}: no such file")
    try:
        names = {getattr(node, "name", None) for node in ast.parse(path.read_bytes()).body}
    except (SyntaxError, ValueError) as error:
        raise InputError(f"{where}: not Python: {message_of(error)}") from None
    need(function.name in names, f"{where}: it defines no function {function.name}")


def warnings(config: DictConfig) -> list[str]:
    """What would run but is probably a mistake, one line each."""
    decay = config.actor_rollout_ref.actor.optim.weight_decay
    if config.recode.adapter == "dora" and decay > 0:
        return [f"actor_rollout_ref.actor.optim.weight_decay={decay} {DECAYS_MAGNITUDES}"]
    return []


def check_algorithm(config: DictConfig) -> None:
    """What makes the run DAPO."""
    algorithm, actor, rollout = config.algorithm, config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    need(algorithm.adv_estimator == "grpo", f"algorithm.adv_estimator={algorithm.adv_estimator}: DAPO uses grpo")
    need(rollout.n > 1, f"actor_rollout_ref.rollout.n={rollout.n}: a group needs at least 2 completions")
    groups = algorithm.filter_groups
    if groups.enable:
        metrics = ", ".join(METRICS)
        need(groups.metric in METRICS, f"algorithm.filter_groups.metric={groups.metric}: choose from {metrics}")
        cap = groups.max_num_gen_batches
        need(
            cap > 0,
            f"algorithm.filter_groups.max_num_gen_batches={cap}: without a limit, a step would keep sampling when all "
            "rewards of a group are equal",
        )
    batch, mini = config.data.train_batch_size, actor.ppo_mini_batch_size
    need(batch % mini == 0, f"data.train_batch_size={batch} is not a multiple of actor.ppo_mini_batch_size={mini}")
    gpus = config.trainer.n_gpus_per_node * config.trainer.nnodes
    total = mini * rollout.n
    need(total % gpus == 0, f"ppo_mini_batch_size x n = {total} is not a multiple of {gpus} processes")
    engine = rollout.tensor_model_parallel_size * rollout.data_parallel_size * rollout.pipeline_model_parallel_size
    unequal = f"rollout.tensor_model_parallel_size={rollout.tensor_model_parallel_size}: an engine of {engine} GPU(s) "
    need(engine > 0 and gpus % engine == 0, f"{unequal}does not divide the {gpus} processes")  # verl asks after loading
    unread = "actor_rollout_ref.actor.grad_clip: verl's engine does not read it; set optim.clip_grad"
    need(actor.grad_clip == 1.0, unread)


def check_reward_keys(config: DictConfig) -> None:
    """The reward manager, the overlong penalty, the choice of rewards."""
    reward, function = config.reward, config.reward.custom_reward_function
    manager, kwargs = reward.reward_manager, reward.reward_kwargs
    is_dapo = manager.source == "register" and manager.name == "dapo"
    need(is_dapo, f"reward.reward_manager.name={manager.name}: must be dapo")
    if OmegaConf.select(kwargs, "overlong_buffer_cfg.enable"):
        where, length, limit = "reward.reward_kwargs", kwargs.overlong_buffer_cfg.len, kwargs.get("max_resp_len")
        longest = config.data.max_response_length
        need(limit == longest, f"{where}.max_resp_len={limit}: must be data.max_response_length")
        holds = type(length) is int and 0 < length <= limit
        need(holds, f"{where}.overlong_buffer_cfg.len={length}: must be in 1..{limit}")
    where = "reward.custom_reward_function"
    need(bool(function.path), f"{where}.path: must name a file, such as src/rewards.py")
    known = KNOWN.get(Path(SRC.parent, function.path).resolve())
    if known is None:  # a file of the user's takes arguments of its own
        return
    chosen = function.get("reward_kwargs") or {}
    unknown = sorted(set(chosen) - {"reward", "weights"})
    need(not unknown, f"unknown key '{where}.reward_kwargs.{''.join(unknown[:1])}'")
    try:
        names = rewards.reward_names(chosen.get("reward", "format,es_star"), known)
    except ValueError as error:  # rewards.py imports nothing, so it has no InputError
        raise InputError(f"{where}.reward_kwargs.reward: {error}") from None
    weights = chosen.get("weights")
    count, listed = len(names) if weights is None else len(weights), ", ".join(names)
    need(count == len(names), f"{where}.reward_kwargs.weights: {len(names)} rewards ({listed}) but {count} weights")


def check_model(config: DictConfig) -> None:
    """The adapter, the prompt's template, the attention, and the rollout's mode and context."""
    model, kind = config.actor_rollout_ref.model, config.recode.adapter
    for key in ("lora_rank", "lora_adapter_path"):
        need(not model.get(key), f"actor_rollout_ref.model.{key}: set recode.adapter and recode.lora_* instead")
    strategy = config.actor_rollout_ref.actor.strategy
    need(kind == "full" or strategy == "fsdp2", f"actor_rollout_ref.actor.strategy={strategy}: DoRA needs fsdp2")
    template = "actor_rollout_ref.model.custom_chat_template"
    need(model.custom_chat_template is None, f"{template}: derived from the tokenizer here")
    need(
        not config.data.apply_chat_template_kwargs,
        "data.apply_chat_template_kwargs: must be empty, as the keys would close the open think tag",
    )
    attention = model.override_config.get("attn_implementation", "flash_attention_2")
    need(
        attention != "flash_attention_2" or find_spec("flash_attn") is not None,
        "actor_rollout_ref.model.override_config.attn_implementation=flash_attention_2 (verl's default): flash_attn is "
        "not installed; use sdpa",
    )
    rollout, data = config.actor_rollout_ref.rollout, config.data
    need(rollout.mode == "async", f"actor_rollout_ref.rollout.mode={rollout.mode}: verl 0.9 supports only async")
    context, longest = rollout.max_model_len, data.max_prompt_length + data.max_response_length
    need(
        context is None or context >= longest,
        f"actor_rollout_ref.rollout.max_model_len={context}: data.max_prompt_length + data.max_response_length are "
        f"{longest} tokens",
    )


def check_trainer(config: DictConfig) -> None:
    """verl's trainer, its checkpoints and its loggers."""
    trainer, shards = config.trainer, config.actor_rollout_ref.actor.fsdp_config.fsdp_size
    processes = trainer.n_gpus_per_node * trainer.nnodes
    need(
        shards == -1 or shards >= processes,
        f"actor_rollout_ref.actor.fsdp_config.fsdp_size={shards} of {processes} processes: src/merge_adapter.py cannot "
        "read checkpoints of hybrid sharding; use -1",
    )
    need(bool(trainer.use_v1), "trainer.use_v1=false: the legacy trainer has no dynamic sampling; leave it true")
    mode = trainer.v1.trainer_mode
    need(mode == "sync", f"trainer.v1.trainer_mode={mode}: only sync; the asynchronous trainers are off-policy")
    need(not trainer.v1.sampler.custom_sampler.path, "trainer.v1.sampler.custom_sampler: not supported here")
    loggers = [trainer.logger] if isinstance(trainer.logger, str) else list(trainer.logger)
    for backend in {"wandb", "trackio", "swanlab", "mlflow"} & set(loggers):
        need(find_spec(backend) is not None, f"trainer.logger: {backend} is not installed")
