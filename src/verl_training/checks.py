"""Values of the configuration that would end the run late, or make it silently something else than DAPO.

Every check raises InputError with one line that names the key, before verl is imported and before a model loads.
"""

from __future__ import annotations

from importlib.util import find_spec

from omegaconf import DictConfig, OmegaConf

from adapters import DECAYS_MAGNITUDES
from common.errors import InputError
from records import BAD_ROWS
from rewards import reward_names
from verl_training.config import CONFIGS, check_keys, one_line

ADAPTERS = ("dora", "full")
METRICS = ("reward", "score", "format", "correctness", "syntax", "em", "es")  # reward: score and overlong penalty


def need(holds: bool, message: str) -> None:
    """Raise InputError with `message` unless `holds`."""
    if not holds:
        raise InputError(message)


def check(config: DictConfig) -> None:
    """Refuse what would not be this run, or would silently not be DAPO. Raises InputError, in one line."""
    check_keys(config)
    try:
        OmegaConf.to_container(config, resolve=True)
    except Exception as error:
        raise InputError(one_line(error)) from None
    rows = config.recode.bad_rows
    need(rows in BAD_ROWS, f"recode.bad_rows={rows}: choose from {', '.join(BAD_ROWS)}")
    check_numbers(config)
    check_algorithm(config)
    check_reward_keys(config)
    check_model(config)
    check_rollout(config)
    check_trainer(config)


def warnings(config: DictConfig) -> list[str]:
    """What runs and is probably not meant, a line each."""
    decay = config.actor_rollout_ref.actor.optim.weight_decay
    if config.recode.adapter == "dora" and decay > 0:
        return [f"actor_rollout_ref.actor.optim.weight_decay={decay} {DECAYS_MAGNITUDES}"]
    return []


def check_numbers(config: DictConfig) -> None:
    """The numbers that the other checks calculate with."""
    keys = ["data.train_batch_size", "data.max_prompt_length", "data.max_response_length", "trainer.nnodes"]
    keys += ["trainer.n_gpus_per_node", "actor_rollout_ref.rollout.n", "actor_rollout_ref.actor.ppo_mini_batch_size"]
    keys += ["actor_rollout_ref.actor.ppo_epochs", "recode.lora_r", "recode.lora_alpha"]
    keys += ["transfer_queue.backend.SimpleStorage.num_data_storage_units"]
    for key in keys:
        value = OmegaConf.select(config, key)
        need(type(value) is int and value > 0, f"{key}={value}: must be a whole number above 0")
    cap = config.algorithm.filter_groups.max_num_gen_batches
    need(type(cap) is int, f"algorithm.filter_groups.max_num_gen_batches={cap}: must be a whole number")
    for key in ("actor_rollout_ref.rollout.max_model_len", "ray_kwargs.ray_init.num_cpus"):
        value = OmegaConf.select(config, key)
        holds = value is None or (type(value) is int and value > 0)
        need(holds, f"{key}={value}: must be a whole number above 0, or null")
    decay = config.actor_rollout_ref.actor.optim.weight_decay
    need(type(decay) in (int, float), f"actor_rollout_ref.actor.optim.weight_decay={decay}: must be a number")


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
        need(cap > 0, f"algorithm.filter_groups.max_num_gen_batches={cap}: without a cap, flat rewards sample for ever")
    batch, mini = config.data.train_batch_size, actor.ppo_mini_batch_size
    need(batch % mini == 0, f"data.train_batch_size={batch} is no multiple of actor.ppo_mini_batch_size={mini}")
    gpus = config.trainer.n_gpus_per_node * config.trainer.nnodes
    total = mini * rollout.n
    need(total % gpus == 0, f"ppo_mini_batch_size x n = {total} is no multiple of {gpus} processes")
    need(
        actor.grad_clip == 1.0, "actor_rollout_ref.actor.grad_clip: verl's engine does not read it; set optim.clip_grad"
    )


def check_reward_keys(config: DictConfig) -> None:
    """The reward manager, the choice of rewards, the overlong penalty."""
    reward = config.reward
    manager = reward.reward_manager
    need(
        manager.source == "register" and manager.name == "dapo",
        f"reward.reward_manager.name={manager.name}: must be dapo",
    )
    kwargs = reward.get("reward_kwargs") or {}
    if (kwargs.get("overlong_buffer_cfg") or {}).get("enable"):
        length, limit = kwargs.overlong_buffer_cfg.len, kwargs.get("max_resp_len")
        where = "reward.reward_kwargs"
        need(
            limit == config.data.max_response_length, f"{where}.max_resp_len={limit}: must be data.max_response_length"
        )
        need(0 < length <= limit, f"{where}.overlong_buffer_cfg.len={length}: must be in 1..{limit}")
    function = reward.custom_reward_function
    chosen = function.get("reward_kwargs") or {}
    if ours(function.path):
        where = "reward.custom_reward_function.reward_kwargs"
        unknown = sorted(set(chosen) - {"reward", "weights"})
        need(not unknown, f"unknown key '{where}.{''.join(unknown[:1])}'")
        try:
            names = reward_names(chosen.get("reward", "format,es_star"))
        except ValueError as error:
            raise InputError(f"{where}.reward: {error}") from None
        weights = chosen.get("weights")
        fits = weights is None or len(weights) == len(names)
        need(fits, f"{where}.weights: {len(names)} rewards ({', '.join(names)}) but {len(weights or [])} weights")


def ours(path: str | None) -> bool:
    """Whether a reward file is src/rewards.py."""
    return path is not None and (CONFIGS.parent / path).resolve() == CONFIGS.parent / "src" / "rewards.py"


def check_model(config: DictConfig) -> None:
    """The adapter, the prompt's template and the attention."""
    model, kind = config.actor_rollout_ref.model, config.recode.adapter
    need(kind in ADAPTERS, f"recode.adapter={kind}: choose from {', '.join(ADAPTERS)}")
    for key in ("lora_rank", "lora_adapter_path"):
        need(not model.get(key), f"actor_rollout_ref.model.{key}: set recode.adapter and recode.lora_* instead")
    strategy = config.actor_rollout_ref.actor.strategy
    need(kind == "full" or strategy == "fsdp2", f"actor_rollout_ref.actor.strategy={strategy}: DoRA needs fsdp2")
    need(
        model.custom_chat_template is None,
        "actor_rollout_ref.model.custom_chat_template: derived from the tokenizer here",
    )
    need(
        not config.data.apply_chat_template_kwargs,
        "data.apply_chat_template_kwargs: they would close the open think tag",
    )
    attention = model.override_config.get("attn_implementation", "flash_attention_2")
    need(
        attention != "flash_attention_2" or find_spec("flash_attn") is not None,
        "actor_rollout_ref.model.override_config.attn_implementation=flash_attention_2 (verl's default): flash_attn is "
        "not installed; use sdpa",
    )


def check_rollout(config: DictConfig) -> None:
    """The rollout's mode and its context."""
    rollout, data = config.actor_rollout_ref.rollout, config.data
    need(rollout.mode == "async", f"actor_rollout_ref.rollout.mode={rollout.mode}: verl 0.9 knows only async")
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
        type(shards) is int and (shards == -1 or shards >= processes),
        f"actor_rollout_ref.actor.fsdp_config.fsdp_size={shards} of {processes} processes: src/merge_adapter.py cannot "
        "read checkpoints of hybrid sharding; use -1",
    )
    need(bool(trainer.use_v1), "trainer.use_v1=false: the legacy trainer has no dynamic sampling; leave it true")
    mode = trainer.v1.trainer_mode
    need(mode == "sync", f"trainer.v1.trainer_mode={mode}: only sync; the asynchronous trainers are off-policy")
    need(not trainer.v1.sampler.custom_sampler.path, "trainer.v1.sampler.custom_sampler: not supported here")
    need(
        trainer.max_actor_ckpt_to_keep is None or trainer.max_actor_ckpt_to_keep > 1,
        "trainer.max_actor_ckpt_to_keep=1: verl deletes the last checkpoint before the new one is whole; keep 2",
    )
    loggers = [trainer.logger] if isinstance(trainer.logger, str) else list(trainer.logger)
    for backend in {"wandb", "trackio", "swanlab", "mlflow"} & set(loggers):
        need(find_spec(backend) is not None, f"trainer.logger: {backend} is not installed")
