"""GRPO with DoRA on version-migration records (paper §3, §4.1), with trl's GRPOTrainer.

    python src/grpo.py --config configs/quickstart/grpo.yaml
    accelerate launch --config_file configs/accelerate/ddp.yaml src/grpo.py --config configs/grpo.yaml
    python src/grpo.py --config configs/grpo.yaml --reward format,em_star --reward_weights 1.0 0.5

Every key of a YAML is a flag, and flags win. `bash scripts/grpo.sh` counts the GPUs and launches.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from common import toolchain
from common.cli import fail, program
from trl_training import arguments
from trl_training.batch import Batch


def derive(namespace: object) -> dict[str, int]:
    """trl's batch size, accumulation and generation steps, from prompts_per_step and updates_per_generation.

    A value that was set as well must agree.
    """
    derived = {}
    accumulation = int(namespace.gradient_accumulation_steps)
    if namespace.prompts_per_step is not None:
        derived = arguments.batch_of(namespace, namespace.prompts_per_step * namespace.num_generations)
        accumulation = derived["gradient_accumulation_steps"]
    updates = namespace.updates_per_generation
    if updates != 1:
        if updates < 1 or namespace.steps_per_generation is not None:
            raise ValueError(f"updates_per_generation {updates}: at least 1, and not beside steps_per_generation")
        derived["steps_per_generation"] = accumulation * updates
    return derived


@dataclass
class ScriptArguments(arguments.DataArguments):
    """Keys of this script beyond trl's."""

    reward: str = field(
        default="format,es_star",
        metadata={"help": "rewards by name: format,em,es,em_star,es_star, and ours: dm_star (src/diff_match.py)"},
    )
    prompts_per_step: int | None = field(
        default=None, metadata={"help": "prompts in an optimizer step; sets gradient_accumulation_steps"}
    )
    updates_per_generation: int = field(
        default=1, metadata={"help": "optimizer steps on each batch of rollouts; above 1 the clip acts"}
    )
    overlong_buffer: int | None = field(
        default=None,
        metadata={"help": "DAPO's soft punishment, 0 to -1 over the last N tokens of max_completion_length"},
    )
    dora_generation: str = field(default="merge", metadata={"help": "how rollouts run: merge, cache or stock"})
    print_samples: int = field(default=1, metadata={"help": "scored completions to print at each logged step"})


def known_rewards() -> dict[str, Callable[..., list]]:
    """The paper's rewards, and DM*: ours, not the paper's; not shown to train better."""
    from diff_match import dm_star
    from rewards import REWARDS

    return {**REWARDS, "dm_star": dm_star}


def check_rollouts(script: ScriptArguments, args: Any, model: Any) -> None:
    """Exit if sampling as asked would harm the weights or cut the completions."""
    from adapters import GENERATION_MODES
    from trl_training.checks import shards_weights

    if script.dora_generation not in GENERATION_MODES:
        fail(f"dora_generation {script.dora_generation!r}: choose from {', '.join(GENERATION_MODES)}")
    if model.use_peft and shards_weights(args):
        if args.use_vllm:
            fail("use_vllm with an adapter needs whole weights: DDP or ZeRO-2")
        if script.dora_generation != "stock":
            fail(f"dora_generation {script.dora_generation} needs whole weights: DDP or ZeRO-2, or use stock")
    if args.use_transformers_continuous_batching and (model.use_peft or args.bf16 or args.fp16):
        fail("use_transformers_continuous_batching: not supported: trl leaves the trained weights in bf16")
    if args.use_vllm and args.vllm_enable_sleep_mode and (problem := toolchain.hidden_segments()):
        fail(problem)
    if args.use_vllm:
        longest = script.max_prompt_length + args.max_completion_length
        if args.vllm_max_model_length is not None and args.vllm_max_model_length < longest:
            fail(
                f"vllm_max_model_length {args.vllm_max_model_length}: max_prompt_length {script.max_prompt_length} + "
                f"max_completion_length {args.max_completion_length} need {longest}"
            )


def parse_arguments(argv: list[str] | None = None) -> tuple:
    """(script, GRPO, model) arguments, checked."""
    from trl import GRPOConfig, ModelConfig

    from rewards import reward_names
    from trl_training.checks import refuse_lost_updates

    script, args, model = arguments.parse((ScriptArguments, GRPOConfig, ModelConfig), argv, derive)
    try:
        names = reward_names(script.reward, known_rewards())
    except ValueError as error:
        fail(error)
    if args.reward_weights is not None and len(args.reward_weights) != len(names):
        fail(f"{len(names)} rewards ({script.reward}) but {len(args.reward_weights)} reward_weights")
    if script.overlong_buffer is not None and not 0 < script.overlong_buffer <= args.max_completion_length:
        fail(f"overlong_buffer {script.overlong_buffer}: must be in 1..{args.max_completion_length}")
    check_rollouts(script, args, model)
    refuse_lost_updates(args, model)
    arguments.refuse_unread(model)
    arguments.require_layers(script, args)
    return script, args, model


@program()
def main() -> None:
    if {"-h", "--help"} & set(sys.argv[1:]):
        arguments.print_help(__doc__, ScriptArguments)
        return
    script, args, model = parse_arguments()
    if script.check is not None:
        arguments.report_check(script, args)
        return
    from datasets import Dataset
    from trl.rewards import get_soft_overlong_punishment

    from adapters import start_from_base
    from rewards import reward_names
    from trl_training.callbacks import add_callbacks, finish, say
    from trl_training.cpu_loss import look_at_completions_alone
    from trl_training.data import prepare
    from trl_training.grpo_trainer import DoraGRPOTrainer
    from trl_training.model import model_kwargs, peft_config

    started = time.time()
    batch = Batch(
        args.world_size, args.per_device_train_batch_size, args.gradient_accumulation_steps, args.num_generations
    )
    say(f"batch: {batch}")
    if script.updates_per_generation > 1:
        say(f"       each batch of rollouts holds the completions of {script.updates_per_generation} steps")
    rows, tokenizer, checkpoint = prepare(script, args, model)
    say(f"first prompt, as the model sees it:\n{rows[0]['prompt']}\n")

    known = known_rewards()
    rewards = [known[name] for name in reward_names(script.reward, known)]
    if script.overlong_buffer is not None:
        rewards.append(get_soft_overlong_punishment(args.max_completion_length, script.overlong_buffer))
        args.reward_weights = [*(args.reward_weights or [1.0] * (len(rewards) - 1)), 1.0]
    args.model_init_kwargs = (args.model_init_kwargs or {}) | model_kwargs(model)
    trainer = DoraGRPOTrainer(
        model=model.model_name_or_path,
        reward_funcs=rewards,
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=peft_config(model),
        generation=script.dora_generation,
        print_samples=script.print_samples,
    )
    start_from_base(trainer.model)
    look_at_completions_alone()
    add_callbacks(trainer)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finish(trainer, tokenizer, started)


if __name__ == "__main__":
    main()
