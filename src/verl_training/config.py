"""verl's configuration for DAPO: composed with Hydra from configs/, its keys checked, and what follows from them.

verl silently ignores unknown keys, such as renamed ones and misspelt ones in a YAML. checks.py checks the values.
Nothing writes to the configuration after `finalise`. So --print-config, run.json and verl see the same keys and values.
verl is not imported here: it chooses its platform when it is imported, from variables that src/dapo.py sets first.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from common.cli import unknown_key
from common.errors import InputError, message_of
from prompts import load_chat
from verl_training.parquet import DataFiles
from verl_training.resume import choose_resume

SRC = Path(__file__).resolve().parents[1]
EXECUTION = SRC / "evaluation" / "migration" / "execution.py"  # a reward that needs to know where the records are
CONFIGS = SRC.parent / "configs"
# Keys that verl reads but does not declare.
UNDECLARED = (
    "reward.reward_kwargs.max_resp_len",
    "reward.reward_kwargs.overlong_buffer_cfg.enable",
    "reward.reward_kwargs.overlong_buffer_cfg.len",
    "reward.reward_kwargs.overlong_buffer_cfg.penalty_factor",
    "reward.reward_kwargs.overlong_buffer_cfg.log",
)
OPEN = (  # everything below them
    "reward.custom_reward_function.reward_kwargs.",  # of any reward; checks.py checks this project's
    "actor_rollout_ref.actor.fsdp_config.mixed_precision.",
    "ray_kwargs.ray_init.",  # any argument of ray.init
)
# Keys that verl 0.9 still declares but no longer reads -> their replacements.
LEGACY = {
    "custom_reward_function": "reward.custom_reward_function",
    "reward_model": "reward.reward_model, reward.reward_manager and reward.reward_kwargs",
    "sandbox_fusion": "reward.sandbox_fusion",
}


def verl_folder() -> Path:
    """The folder of verl's own YAML files, found without importing verl."""
    spec = find_spec("verl")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("verl is not installed", name="verl")
    return Path(spec.origin).parent / "trainer" / "config"


def compose(name: str, overrides: Sequence[str] = (), folder: Path = CONFIGS) -> DictConfig:
    """folder/NAME.yaml over verl's defaults, with Hydra overrides. Raises InputError."""
    defaults = verl_folder()
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    name = name.removesuffix(".yaml")
    if not (folder / f"{name}.yaml").is_file():
        raise InputError(f"--config-name {name}: no configs/{name}.yaml")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder), version_base=None):
            searchpath = f"hydra.searchpath=[file://{defaults}]"
            config = hydra_compose(name, overrides=[searchpath, *overrides])
    except (HydraException, ValueError) as error:  # a ValueError: a number for a group of files, `data=5`
        message = message_of(error)
        missing = re.match(r"Could not override '([^']+)'", message)
        # Hydra's own message advises +key, which verl would ignore
        if folder == CONFIGS and missing and not is_known(missing[1]):
            message = unknown_key(missing[1], known_keys()[0])
        raise InputError(message) from None
    if isinstance(config.get("run"), (int, float)):  # run=2024 is a name
        config.run = str(config.run)
    return config


def plain(config: DictConfig, *, resolve: bool = True) -> dict[str, Any]:
    """The configuration as dicts, lists and values."""
    container: Any = OmegaConf.to_container(config, resolve=resolve)
    return container


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of every leaf; an empty mapping is a leaf."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node


@cache
def verl_defaults() -> DictConfig:
    """verl's own configuration."""
    return compose("ppo_trainer", folder=verl_folder())


@cache
def known_keys() -> tuple[frozenset[str], tuple[str, ...]]:
    """(the keys that verl or this project reads, the prefixes below which any key may be)."""
    base = list(leaves(plain(verl_defaults(), resolve=False)))
    own = [f"recode.{key}" for key in OmegaConf.load(CONFIGS / "dapo.yaml").recode]
    known = frozenset({"run", *own, *UNDECLARED, *(path for path, _ in base)})
    return known, (*OPEN, *(f"{path}." for path, value in base if value == {}))


def is_known(path: str) -> bool:
    """Whether verl or this project reads this key."""
    known, below = known_keys()
    return path in known or path.startswith(below)


def check_keys(config: DictConfig) -> None:
    """Reject keys that neither verl nor this project reads. Raises InputError."""
    container = plain(config, resolve=False)
    for name, now in LEGACY.items():
        for path, value in leaves(container.get(name), name):
            if value is not None:
                raise InputError(f"{path}: verl 0.9 accepts this key and ignores it; it is now {now}")
    known, _ = known_keys()
    for path, _ in leaves(container):
        if not is_known(path):
            if any(key.startswith(f"{path}.") for key in (*known, *OPEN)):
                raise InputError(f"{path}: is a section of keys, not a value")
            raise InputError(unknown_key(path, known))


def algorithm_line(config: DictConfig) -> str:
    """The algorithm that will run, in one line."""
    actor, groups, recode = config.actor_rollout_ref.actor, config.algorithm.filter_groups, config.recode
    batch, n, mini = config.data.train_batch_size, config.actor_rollout_ref.rollout.n, actor.ppo_mini_batch_size
    sampling = "off: not DAPO"
    if groups.enable:
        sampling = f"on {groups.metric}, at most {groups.max_num_gen_batches} x {batch} prompts a step"
    adapter = "full weights" if recode.adapter == "full" else f"DoRA {recode.lora_r}/{recode.lora_alpha}"
    kl = "no KL"
    if actor.use_kl_loss or config.algorithm.use_kl_in_reward:
        kl = "with KL: not DAPO"
    return (
        f"{batch} prompts x {n} completions a step, {batch // mini * actor.ppo_epochs} update(s); "
        f"dynamic sampling {sampling}; clip [{actor.clip_ratio_low}, {actor.clip_ratio_high}] c={actor.clip_ratio_c}; "
        f"loss {actor.loss_agg_mode}; {kl}; {adapter}, lr {actor.optim.lr}"
    )


def environment(config: DictConfig) -> dict[str, str]:
    """Variables that verl, Ray and their workers read. verl chooses its platform when it is imported."""
    path = [str(SRC), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    variables = {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(filter(None, path))),
        "VERL_USE_EXTERNAL_MODULES": "verl_training.fixes",
        "TENSORBOARD_DIR": str(Path(config.trainer.default_local_dir).resolve() / "tensorboard"),
        "VERL_LOGGING_LEVEL": os.environ.get("VERL_LOGGING_LEVEL", "ERROR"),  # it warns once per completion
        "TQ_LOGGING_LEVEL": os.environ.get("TQ_LOGGING_LEVEL", "ERROR"),
        # verl warns about every training engine that is not installed.
        "PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS", "ignore::UserWarning:verl.workers.engine"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    if config.trainer.device == "cpu":
        variables |= {
            "VERL_USE_EXTERNAL_MODULES": "verl_training.cpu_platform,verl_training.fixes",
            "VERL_PLATFORM": "cpu",
            "VERL_ENGINE_DEVICE": "cuda",  # the name under which verl registers its FSDP engine
            "OMP_NUM_THREADS": str(os.cpu_count() or 1),  # Ray would give each worker one
        }
    return variables


def chat_template(config: DictConfig) -> str:
    """The open chat template of the run's model. Raises InputError if there is none."""
    return load_chat(config.actor_rollout_ref.model.path).template


def finalise(config: DictConfig, template: str | None) -> DictConfig:
    """A copy of `config` with everything that follows from it: paths, template, adapter, Ray, checkpoint."""
    final = copy.deepcopy(config)
    with open_dict(final):
        set_absolute_paths(final)
        final.actor_rollout_ref.model.custom_chat_template = template
        set_adapter(final)
        ray_init = final.ray_kwargs.ray_init
        ray_init.setdefault("runtime_env", {})
        ray_init.runtime_env.env_vars = environment(final)
        if not os.environ.get("RAY_ADDRESS"):
            ray_init.address = "local"  # not a cluster that happens to run on this machine
        choose_resume(final)  # sets trainer.resume_mode and trainer.resume_from_path
    return final


def set_absolute_paths(config: DictConfig) -> None:
    """Ray's workers run in other folders."""
    reward, trainer, model = config.reward.custom_reward_function, config.trainer, config.actor_rollout_ref.model
    reward.path = str(Path(reward.path).resolve() if Path(reward.path).exists() else SRC.parent / reward.path)
    if reward.path == str(EXECUTION):
        reward.reward_kwargs.data = str(Path(config.recode.data).resolve())
        reward.reward_kwargs.envs = str(Path(".venvs").resolve())
    trainer.default_local_dir = str(Path(trainer.default_local_dir).resolve())
    for split, path in DataFiles(config).files.items():
        config.data[f"{split}_files"] = str(path.resolve())
    if Path(model.path).is_dir():
        model.path = str(Path(model.path).resolve())


def set_adapter(config: DictConfig) -> None:
    """Point verl to the untrained DoRA adapter that start.write_adapter saves.

    verl builds LoRA by itself, but loads DoRA only from a saved adapter. The adapter must be merged into the weights
    that the rollout gets, because vLLM does not support DoRA.
    """
    if config.recode.adapter == "full":
        return
    model, recode = config.actor_rollout_ref.model, config.recode
    model.lora_adapter_path = str(Path(config.trainer.default_local_dir) / "adapter_init")
    model.lora_rank = recode.lora_r  # verl loads the adapter only if this is above 0
    model.lora_alpha = recode.lora_alpha
    model.lora.merge = True
    config.actor_rollout_ref.actor.checkpoint.save_lora_only = True
