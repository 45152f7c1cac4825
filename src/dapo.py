"""DAPO on version-migration records (paper eq. 6), with verl's own trainer.

    python src/data_process.py --config-name quickstart/dapo && python src/dapo.py --config-name quickstart/dapo
    python src/dapo.py                                          # configs/dapo.yaml: GPUs, vLLM
    python src/dapo.py --config-name dapo_released trainer.n_gpus_per_node=4 run=released-4
    python src/dapo.py --print-config                           # what would run, every key resolved
    python src/dapo.py --check                                  # whether it would start on this machine

Overrides are Hydra's key=value. The run's folder is runs/RUN; the same command again goes on from its last checkpoint.
`bash scripts/dapo.sh` prepares the data, counts the GPUs and starts this.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

try:
    from omegaconf import DictConfig, OmegaConf, open_dict
except ModuleNotFoundError:
    if __name__ != "__main__":
        raise
    print("dapo: verl is not installed: pip install -r requirements/dapo.txt", file=sys.stderr)
    sys.exit(2)

from common.cli import program
from common.errors import InputError
from verl_training import checks as dapo_checks
from verl_training import config as verl_config
from verl_training import machine as dapo_machine
from verl_training import parquet as verl_data
from verl_training.resume import check_same_run, choose_resume, last_checkpoint

SRC = Path(__file__).resolve().parent


# --- before verl is imported ------------------------------------------------------------------------------------------


def environment(config: DictConfig) -> dict[str, str]:
    """Variables that verl, Ray and their workers read. verl fixes its platform when it is imported."""
    variables = {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(SRC), os.environ.get("PYTHONPATH")))),
        "VERL_USE_EXTERNAL_MODULES": "verl_training.fixes",
        "TENSORBOARD_DIR": str(Path(config.trainer.default_local_dir) / "tensorboard"),
        "VERL_LOGGING_LEVEL": os.environ.get("VERL_LOGGING_LEVEL", "ERROR"),  # it warns once per completion
        "TQ_LOGGING_LEVEL": os.environ.get("TQ_LOGGING_LEVEL", "ERROR"),
        # verl names every training engine that is not installed.
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


def make_absolute(config: DictConfig) -> None:
    """Paths as Ray's workers need them: they run in folders of their own."""
    reward, trainer, model = config.reward.custom_reward_function, config.trainer, config.actor_rollout_ref.model
    reward.path = str(Path(reward.path).resolve() if Path(reward.path).exists() else SRC.parent / reward.path)
    trainer.default_local_dir = str(Path(trainer.default_local_dir).resolve())
    for split, path in verl_data.files(config).items():
        config.data[f"{split}_files"] = str(path.resolve())
    if Path(model.path).is_dir():
        model.path = str(Path(model.path).resolve())


# --- with verl --------------------------------------------------------------------------------------------------------


def check_reward(config: DictConfig, record: dict[str, Any]) -> None:
    """Load the reward as verl's workers will, and score one reference answer with it. Raises InputError."""
    from verl.trainer.ppo.reward import get_custom_reward_fn

    from prompts import reference_completion

    path = config.reward.custom_reward_function.path
    target = record["reward_model"]["ground_truth"]
    try:
        function = get_custom_reward_fn(config)
        found = function(
            data_source="recode", solution_str=reference_completion(target), ground_truth=target, extra_info={}
        )
    except Exception as error:
        raise InputError(f"reward.custom_reward_function {path}: {verl_config.one_line(error)}") from None
    metric = config.algorithm.filter_groups.metric
    if not isinstance(found, dict) or "score" not in found:
        raise InputError(f"reward.custom_reward_function {path}: must return a dict with 'score'")
    texts = [name for name, value in found.items() if not isinstance(value, (int, float))]
    if texts:
        raise InputError(f"reward.custom_reward_function {path}: {texts[0]} is no number")
    if config.algorithm.filter_groups.enable and metric not in ("reward", *found):
        raise InputError(f"algorithm.filter_groups.metric={metric}: the reward returns {', '.join(found)}")


def prepare_prompts(config: DictConfig) -> dict[str, Any]:
    """Give verl the open chat template, check the training prompts with verl's own data set, and return the first
    row."""
    from transformers import AutoTokenizer
    from verl.utils.dataset.rl_dataset import RLHFDataset

    from prompts import PREFILL, open_chat_template

    tokenizer = AutoTokenizer.from_pretrained(config.actor_rollout_ref.model.path)
    template = open_chat_template(tokenizer)
    tokenizer.chat_template = template
    with open_dict(config):
        config.actor_rollout_ref.model.custom_chat_template = template
    rows = RLHFDataset(config.data.train_files, tokenizer, config.data)
    if len(rows) < config.data.train_batch_size:
        raise InputError(
            f"data.train_files: {len(rows)} prompts of at most {config.data.max_prompt_length} tokens for "
            f"data.train_batch_size={config.data.train_batch_size}"
        )
    text = tokenizer.apply_chat_template(rows[0]["raw_prompt"], tokenize=False, add_generation_prompt=True)
    if not text.endswith(PREFILL):
        raise InputError(f"data.train_files: prompts do not end in the open prefill {PREFILL!r}")
    print(f"first prompt, as the model sees it:\n{text}\n")
    return rows[0]


def prepare_adapter(config: DictConfig, resumed: bool) -> None:
    """Write the untrained DoRA adapter that verl starts from, and point verl to it; a resumed run has its own.

    verl builds LoRA itself, but DoRA only from a saved adapter. It must be merged into what the rollout gets: vLLM
    knows no DoRA. Everything is float32 in training (verl keeps a float32 master of the base too); checkpoints hold the
    adapter.
    """
    adapter = verl_config.adapter_of(config)
    if adapter is None:
        return
    from adapters import adapter_config, initial_adapter
    from common.checkpoints import is_adapter

    model = config.actor_rollout_ref.model
    settings = adapter_config(adapter.r, adapter.alpha, adapter.dropout, adapter.target_modules)
    folder = Path(config.trainer.default_local_dir) / "adapter_init"
    if not resumed:  # what an earlier start left there may be of another shape, or of another model
        initial_adapter(model.path, settings, folder, config.data.seed)
    elif not is_adapter(folder):
        raise InputError(f"{folder} is missing: the checkpoint's adapter cannot be loaded without it")
    with open_dict(config):
        model.lora_adapter_path = str(folder)
        model.lora_rank = adapter.r  # verl loads the adapter only where this is above 0
        model.lora_alpha = adapter.alpha
        model.lora.merge = True
        config.actor_rollout_ref.actor.checkpoint.save_lora_only = True


def prepare(config: DictConfig) -> None:
    """Everything that can fail early: data, prompts, reward, verl's validation, the adapter, the run's description."""
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    from common.provenance import describe, record_start

    folder = Path(config.trainer.default_local_dir)
    why = verl_data.stale(config)
    if why:
        raise InputError(f"{why}: run src/data_process.py with the same --config-name and overrides")
    print(f"algorithm: {verl_config.algorithm_line(config)}")
    for line in dapo_checks.warnings(config):
        print(f"warning: {line}")
    plain = OmegaConf.to_container(config, resolve=True)
    checkpoint = choose_resume(config)
    files = {**verl_data.sources(config), **{path.name: path for path in verl_data.files(config).values()}}
    description = describe(plain, files, config.data.seed)
    if checkpoint:
        check_same_run(folder, description)
        print(f"resuming from {checkpoint}")
    row = prepare_prompts(config)
    check_reward(config, row)
    try:
        validate_config(config, need_reference_policy(config), need_critic(config))
    except (AssertionError, ValueError, TypeError) as error:
        raise InputError(f"verl refuses the configuration: {verl_config.one_line(error)}") from None
    folder.mkdir(parents=True, exist_ok=True)
    prepare_adapter(config, resumed=checkpoint is not None)
    record_start(folder, description, str(checkpoint) if checkpoint else None)


def train(config: DictConfig) -> int:
    """Run verl's trainer in Ray. Returns the exit status."""
    import ray
    from verl.trainer.main_ppo import run_ppo

    from verl_training.buffer import GenerationCapError
    from verl_training.trainer import DapoRunner

    try:
        run_ppo(config, task_runner_class=DapoRunner)
    except (GenerationCapError, InputError) as error:  # Ray's error of the runner, which is one of these too
        ray.shutdown()  # its logs come first
        print(f"dapo: {error.cause}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


def summary(folder: Path, started: float) -> None:
    """Where everything is."""
    print(f"\ndone: {(time.time() - started) / 60:.1f} minutes in this start; in {folder}")
    print("  metrics.jsonl    metrics, a line per step")
    print("  samples.jsonl    scored completions")
    print("  run.json         what ran: configuration, commit, data, hardware")
    print("  tensorboard      tensorboard --logdir " + str(folder / "tensorboard"))
    checkpoint = last_checkpoint(folder)
    if checkpoint:
        print(f"  {checkpoint.name}    python src/merge_adapter.py --checkpoint {checkpoint} --out {folder}-merged")


@program()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-name", default="dapo", help="a file of configs/ (default: %(default)s)")
    parser.add_argument("--print-config", action="store_true", help="print the resolved configuration and stop")
    parser.add_argument("--check", action="store_true", help="check the configuration and this machine, and stop")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="Hydra overrides")
    args = parser.parse_args()
    started = time.time()
    try:
        config = verl_config.compose(args.config_name, args.overrides)
        dapo_checks.check(config)
        if args.print_config:
            print(OmegaConf.to_yaml(config, resolve=True))
            return 0
        dapo_machine.check(config)
        if args.check:
            return 0
        make_absolute(config)
        variables = environment(config)
        os.environ.update(variables)
        if config.trainer.device == "cpu":
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # set and empty, Ray gives no logical GPU either
        with open_dict(config):
            config.ray_kwargs.ray_init.setdefault("runtime_env", {})
            config.ray_kwargs.ray_init.runtime_env.env_vars = variables
            if not os.environ.get("RAY_ADDRESS"):
                config.ray_kwargs.ray_init.address = "local"  # not whatever cluster happens to run on this machine
        prepare(config)
    except (InputError, OSError, ValueError) as error:
        print(f"dapo: {verl_config.one_line(error)}", file=sys.stderr)
        return 2
    status = train(config)
    if status == 0:
        summary(Path(config.trainer.default_local_dir), started)
    return status


if __name__ == "__main__":
    sys.exit(main())
