"""The start of a DAPO run: everything that can fail early, run.json, verl's trainer.

The configuration comes from `config.finalise` and is only read here. verl is imported inside the functions: it chooses
its platform when it is imported, from variables that src/dapo.py sets first.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from adapters import adapter_config, check_base, initial_adapter
from common.chat import Chat, chat_of
from common.errors import InputError, ReCodeError, message_of
from common.models import is_adapter, load_config
from common.provenance import describe, record_start, sha256
from prompts import PREFILL, check_round_trip, reference_completion
from verl_training.checks import KNOWN, warnings
from verl_training.config import algorithm_line, plain
from verl_training.parquet import DataFiles
from verl_training.resume import check_same_run, passed_over

if TYPE_CHECKING:
    from peft import LoraConfig


def prepare(config: DictConfig) -> None:
    """Check data, prompts, reward and configuration, write the adapter and run.json. Raises InputError."""
    folder, checkpoint = Path(config.trainer.default_local_dir), config.trainer.resume_from_path
    data = DataFiles(config)
    if why := data.stale():
        raise InputError(f"{why}: run src/data_process.py with the same --config-name and overrides")
    print(f"algorithm: {algorithm_line(config)}")
    for line in warnings(config):
        print(f"warning: {line}")
    files = {**data.sources, **{path.name: path for path in data.files.values()}}
    description = describe(plain(config), files, config.data.seed)
    if (reward := Path(config.reward.custom_reward_function.path)) not in KNOWN:  # the user's own
        description["reward_files"] = {reward.name: sha256(reward)}
    for line in passed_over(folder, Path(checkpoint) if checkpoint else None):
        print(f"passed over: {line}")
    if checkpoint:
        check_same_run((Path(checkpoint).parent, folder), description)
        print(f"resuming from {checkpoint}")
    check_base(config.actor_rollout_ref.model.path, configured_adapter(config))
    check_reward(config, first_row(config))
    check_with_verl(config)
    write_adapter(config)
    record_start(folder, description, checkpoint)


def configured_adapter(config: DictConfig) -> LoraConfig | None:
    """The adapter that the configuration describes; None for all weights."""
    recode = config.recode
    lora = (recode.lora_r, recode.lora_alpha, recode.lora_dropout, recode.lora_target_modules)
    return adapter_config(*lora) if recode.adapter == "dora" else None


def first_row(config: DictConfig) -> dict[str, Any]:
    """Read the training prompts with verl's own data set, check and print the first one; return its row."""
    from verl.utils import hf_tokenizer
    from verl.utils.dataset.rl_dataset import RLHFDataset

    tokenizer: Any = hf_tokenizer(config.actor_rollout_ref.model.path)
    chat = chat_of(tokenizer)
    check_round_trip(chat)
    check_end_of_turn(config.actor_rollout_ref.model.path, chat)
    for note in chat.notes:
        print(note)
    tokenizer.chat_template = config.actor_rollout_ref.model.custom_chat_template
    rows = RLHFDataset(config.data.train_files, tokenizer, config.data)
    if len(rows) < (batch := config.data.train_batch_size):
        raise InputError(f"data.train_files: {len(rows)} prompts for data.train_batch_size={batch}")
    text = tokenizer.apply_chat_template(rows[0]["raw_prompt"], tokenize=False, add_generation_prompt=True)
    assert text.endswith(PREFILL)  # the template of config.py leaves the turn open
    print(f"first prompt, as the model sees it:\n{text}\n")
    return rows[0]


def check_end_of_turn(model: str, chat: Chat) -> None:
    """Raise InputError if the rollouts, which stop where the model's own files say, would not stop after a turn."""
    from transformers import GenerationConfig

    try:
        ends = GenerationConfig.from_pretrained(model).eos_token_id
    except OSError:  # no generation_config.json: transformers takes them from the model's configuration
        ends = load_config(model).eos_token_id
    known = {*(ends if isinstance(ends, list) else [ends]), chat.tokenizer.eos_token_id}
    if chat.tokenizer.convert_tokens_to_ids(chat.end_of_turn) not in known:
        raise InputError(
            f"model {model}: a turn ends with {chat.end_of_turn}, which is not in the eos_token_id of its "
            "generation_config.json: rollouts would not stop there"
        )


def check_reward(config: DictConfig, row: dict[str, Any]) -> None:
    """Load the reward as verl's workers will, and score one reference answer with it. Raises InputError."""
    from verl.trainer.ppo.reward import get_custom_reward_fn

    where = f"reward.custom_reward_function {config.reward.custom_reward_function.path}"
    target = row["reward_model"]["ground_truth"]
    try:
        function = get_custom_reward_fn(config)
        assert function is not None  # checks.py
        answer = {"solution_str": reference_completion(target), "ground_truth": target, "extra_info": row["extra_info"]}
        found = function(data_source="recode", **answer)
    except Exception as error:  # the file, and what it is called with, may be the user's
        raise InputError(f"{where}: {message_of(error)}") from None
    if not isinstance(found, dict) or "score" not in found:
        raise InputError(f"{where}: must return a dict with 'score'")
    others = [name for name, value in found.items() if not isinstance(value, (int, float))]
    if others:
        raise InputError(f"{where}: {others[0]} is not a number")
    groups = config.algorithm.filter_groups
    if groups.enable and groups.metric not in ("reward", *found):
        raise InputError(f"algorithm.filter_groups.metric={groups.metric}: the reward returns {', '.join(found)}")


def check_with_verl(config: DictConfig) -> None:
    """verl's own validation. Raises InputError."""
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    try:
        validate_config(config, need_reference_policy(config), need_critic(config))
    except (AssertionError, ValueError, TypeError) as error:  # what verl raises for keys that contradict each other
        raise InputError(f"verl rejects the configuration: {message_of(error)}") from None


def write_adapter(config: DictConfig) -> None:
    """Save the untrained DoRA adapter that verl loads; a resumed run already has it.

    Training is in float32 (verl keeps a float32 master of the base too); checkpoints hold only the adapter.
    """
    model, adapter = config.actor_rollout_ref.model, configured_adapter(config)
    if adapter is None:
        return
    folder = Path(model.lora_adapter_path)
    if config.trainer.resume_from_path is None:  # an adapter that an earlier start left may have another shape or base
        initial_adapter(model.path, adapter, folder, config.data.seed)
    elif not is_adapter(folder):
        raise InputError(f"{folder} is missing: the checkpoint's adapter cannot be loaded without it")


def train(config: DictConfig) -> None:
    """Run verl's trainer in Ray. Raises the ReCodeError that the runner raised there."""
    import ray
    from ray.exceptions import RayTaskError
    from verl.trainer.main_ppo import run_ppo

    from verl_training.trainer import DapoRunner

    try:
        run_ppo(config, task_runner_class=DapoRunner)
    except RayTaskError as error:
        if not isinstance(error.cause, ReCodeError):
            raise
        ray.shutdown()  # prints what its workers still have to log
        raise error.cause from None
