"""Which technique a run uses where its keys leave the choice to the model and the machine. run.json records it."""

from __future__ import annotations

from typing import Any

import rollouts
from trl_training import shared_prompt
from trl_training.callbacks import say
from trl_training.checks import shards_weights
from trl_training.own_keys import DataArguments, GrpoArguments


def norm_of_dora(script: DataArguments, args: Any, model: Any) -> str | None:
    """How DoRA's norms are computed: factored, or peft; None without DoRA."""
    if not (model.use_peft and model.use_dora):
        return None
    if script.dora_norm == "factored" and shards_weights(args):
        say("DoRA's norms are computed by peft: ZeRO-3 shards the weights")
        return "peft"
    return script.dora_norm


def way_of_rollouts(script: GrpoArguments, args: Any, model: Any, config: Any) -> str:
    """How completions are sampled: vllm, shared, transformers or compiled; prints why it is not what was asked for."""
    if args.use_vllm:
        return "vllm"
    chosen = script.rollouts
    if chosen == "auto":
        chosen = "shared" if args.device.type == "cpu" else "transformers"
    obstacle = rollouts.obstacle(config)
    if model.use_peft and script.dora_generation == "stock":
        obstacle = "dora_generation stock samples with dropout"
    if shards_weights(args):
        obstacle = "ZeRO-3 shards the weights"
    theirs = ("cache_implementation", "use_transformers_continuous_batching")
    if any(getattr(args, key) for key in theirs) or args.repetition_penalty != 1:
        obstacle = f"repetition_penalty, {' and '.join(theirs)} are for transformers' sampling"
    if chosen == "compiled" and args.device.type == "cpu":
        say("decoding is not compiled: transformers compiles on a GPU only")
        return "transformers"
    if chosen == "shared" and obstacle:
        say(f"completions are sampled by transformers: {obstacle}")
        return "transformers"
    return chosen


def shares_prompts(script: GrpoArguments, config: Any) -> bool:
    """Whether updates run a prompt once for its completions; prints why not, if it was asked for."""
    if script.shared_prompt and (obstacle := shared_prompt.obstacle(config)):
        say(f"updates run a prompt once for each completion: {obstacle}")
        return False
    return script.shared_prompt
