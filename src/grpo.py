"""GRPO with DoRA on version-migration records (paper §3, §4.1), with trl's GRPOTrainer.

    python src/grpo.py --config configs/quickstart/grpo.yaml
    accelerate launch --config_file configs/accelerate/ddp.yaml src/grpo.py --config configs/grpo.yaml
    python src/grpo.py --config configs/grpo.yaml --reward format,em_star --reward_weights 1.0 0.5
    PYTHONPATH=. python src/grpo.py --config configs/grpo.yaml --reward format,my_rewards.mine

Every key of the YAML is also a flag, and flags win. `bash scripts/grpo.sh` counts the GPUs and launches this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from common import toolchain
from common.cli import fail, program
from common.launch import world_size
from trl_training import arguments
from trl_training.own_keys import GrpoArguments


def derive(values: Mapping[str, Any]) -> dict[str, int]:
    """trl's batch size, accumulation and generation steps, from prompts_per_step and updates_per_generation."""
    derived = {}
    accumulation = values["gradient_accumulation_steps"]
    if values["prompts_per_step"] is not None:
        derived = arguments.batch_of(values, values["prompts_per_step"] * values["num_generations"])
        accumulation = derived["gradient_accumulation_steps"]
    updates = values["updates_per_generation"]
    if updates != 1:
        if values["steps_per_generation"] is not None:
            raise ValueError(f"updates_per_generation {updates}: not together with steps_per_generation")
        derived["steps_per_generation"] = accumulation * updates
    return derived


def check_rollouts(script: GrpoArguments, args: Any, model: Any) -> None:
    """Exit if sampling as configured would damage the weights or truncate the completions."""
    from trl_training.checks import shards_weights

    if model.use_peft and shards_weights(args):
        if args.use_vllm:
            fail("use_vllm with an adapter needs whole weights: DDP or ZeRO-2")
        if script.dora_generation != "stock":
            fail(f"dora_generation {script.dora_generation} needs whole weights: DDP or ZeRO-2, or use stock")
    if args.use_vllm and args.vllm_mode == "server" and model.use_peft and not model.use_dora:
        # vLLM packs tensors by the gigabyte, and reads the last of them after peft has subtracted LoRA in place.
        fail("vllm_mode server with use_dora false: trl 1.16 would send weights without the adapter; use colocate")
    arguments.check_groups(vars(args), script.check or world_size())
    if args.use_vllm and script.rollouts != "auto":
        fail(f"rollouts {script.rollouts}: has no effect with use_vllm true")
    if args.vllm_mode == "server" and not args.use_vllm:
        fail("vllm_mode server: has no effect without use_vllm true")
    if args.generation_kwargs:
        fail("generation_kwargs: not supported: set temperature, top_p, top_k, min_p, repetition_penalty")
    if args.use_transformers_continuous_batching and (model.use_peft or args.bf16 or args.fp16):
        fail("use_transformers_continuous_batching: not supported: trl leaves the trained weights in bf16")
    if args.use_vllm and args.vllm_enable_sleep_mode and (problem := toolchain.hidden_segments()):
        fail(problem)
    longest = script.max_prompt_length + args.max_completion_length
    if args.use_vllm and args.vllm_max_model_length is not None and args.vllm_max_model_length < longest:
        fail(
            f"vllm_max_model_length {args.vllm_max_model_length}: max_prompt_length {script.max_prompt_length} + "
            f"max_completion_length {args.max_completion_length} need {longest}"
        )


def parse_arguments(argv: list[str] | None = None) -> tuple[GrpoArguments, Any, Any]:
    """(script, GRPO, model) arguments, checked."""
    from trl import GRPOConfig, ModelConfig

    from trl_training.reward_functions import load_rewards

    script, args, model = arguments.parse((GrpoArguments, GRPOConfig, ModelConfig), argv, derive)
    rewards = load_rewards(script.reward)
    if args.reward_weights is not None and len(args.reward_weights) != len(rewards):
        fail(f"{len(rewards)} rewards ({script.reward}) but {len(args.reward_weights)} reward_weights")
    if (script.overlong_buffer or 0) > args.max_completion_length:
        fail(f"overlong_buffer {script.overlong_buffer}: max_completion_length is {args.max_completion_length}")
    check_rollouts(script, args, model)
    arguments.require_layers(script, args)
    return script, args, model


def check_vllm_server(script: GrpoArguments, args: Any, model: Any) -> None:
    """Wait for the vLLM server that the run samples from. Raises InputError if it does not answer or does not fit.

    The process that talks to it asks: the first one, on the first node. With use_cpu there is no NCCL to send weights,
    so that is a check of the flags (DRY_RUN=1).
    """
    is_first = args.process_index == 0 and os.environ.get("NODE_RANK", "0") == "0"
    if args.use_vllm and args.vllm_mode == "server" and is_first and not args.use_cpu:
        from trl_training.vllm_server import check_server

        check_server(args, model.model_name_or_path, script.max_prompt_length + args.max_completion_length)


def train(script: GrpoArguments, args: Any, model: Any) -> None:
    """Run GRPO into args.output_dir."""
    from trl.rewards import get_soft_overlong_punishment

    from trl_training.callbacks import say
    from trl_training.checks import check_model
    from trl_training.data import prepare
    from trl_training.grpo_trainer import DoraGRPOTrainer
    from trl_training.reward_functions import check_rewards, load_rewards
    from trl_training.run import run_trainer
    from trl_training.techniques import norm_of_dora, shares_prompts, way_of_rollouts

    if script.updates_per_generation > 1:
        say(f"each batch of rollouts holds the completions of {script.updates_per_generation} steps")
    empty = check_model(args, model)
    check_vllm_server(script, args, model)
    techniques = {
        "rollouts": way_of_rollouts(script, args, model, empty.config),
        "shared_prompt": shares_prompts(script, empty.config),
    }
    norm = norm_of_dora(script, args, model)
    rows, chat, checkpoint = prepare(script, args, model, empty.config, {**techniques, "dora_norm": norm})
    say(f"first prompt, as the model sees it:\n{rows[0]['prompt']}\n")
    rewards = load_rewards(script.reward)
    check_rewards(rewards, rows, chat, script.data)
    functions = list(rewards.values())
    if script.overlong_buffer is not None:
        functions.append(get_soft_overlong_punishment(args.max_completion_length, script.overlong_buffer))
        args.reward_weights = [*(args.reward_weights or [1.0] * len(rewards)), 1.0]
    settings = {
        **techniques,
        "generation": script.dora_generation,
        "print_samples": script.print_samples,
        "reward_funcs": functions,
    }
    run_trainer(DoraGRPOTrainer, args, model, rows, chat.tokenizer, checkpoint, norm, **settings)


@program()
def main() -> None:
    arguments.run(__doc__, GrpoArguments, parse_arguments, train, check_vllm_server)


if __name__ == "__main__":
    main()
