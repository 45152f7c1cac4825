"""The configuration that verl gets: what the user set, and what follows from it.

Nothing writes to the configuration after `finalise`. So --print-config, run.json and verl see the same keys and values.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path

from omegaconf import DictConfig, open_dict

from prompts import load_tokenizer, open_chat_template
from verl_training.config import SRC
from verl_training.parquet import DataFiles
from verl_training.resume import choose_resume


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
    return open_chat_template(load_tokenizer(config.actor_rollout_ref.model.path))


def finalise(config: DictConfig, template: str | None) -> DictConfig:
    """A copy of `config` with everything that follows from it: paths, template, adapter, Ray, checkpoint.

    Raises InputError if the run's folder holds results that the run would not resume from.
    """
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
