"""Eight completions of one prompt with merged copies: by transformers, with a shared prompt, and compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from adapters import rollout_policy
from gpu.harness import Bench
from gpu.rollouts import COMPLETIONS, seconds_per_token
from gpu.shapes import SHAPES, Shape, adapt, build, move
from rollouts import Decoding, complete

MOVED = 0.02  # the deviation of lora_B after an update: large enough to change greedy tokens
Way = Callable[[torch.Tensor, int, bool], torch.Tensor]  # (prompts, new tokens, whether to sample) -> the new tokens


def generate(model: Any, prompts: torch.Tensor, tokens: int, is_sampled: bool, **settings: Any) -> torch.Tensor:
    """transformers' generate."""
    found = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=tokens,
        **({"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0} if is_sampled else {"do_sample": False}),
        **{"pad_token_id": 0, "disable_compile": True, **settings},
    )
    return found[:, prompts.shape[1] :].cpu()


def share(model: Any, prompts: torch.Tensor, tokens: int, is_sampled: bool) -> torch.Tensor:
    """src/rollouts.py: the completions share the prompt's keys and values."""
    uniforms = torch.rand(len(prompts), tokens, dtype=torch.float64)
    return torch.tensor(complete(model, prompts.tolist(), uniforms, [], Decoding(temperature=float(is_sampled))))


def compiled(device: torch.device) -> dict[str, Any]:
    """What DoraGRPOTrainer sets for `rollouts: compiled`. On a CPU: traced by dynamo, but not compiled by inductor."""
    from transformers import CompileConfig

    settings: dict[str, Any] = {"cache_implementation": "static", "disable_compile": False}
    if device.type == "cpu":
        settings["compile_config"] = CompileConfig(backend="eager", mode="default")
        settings["compile_config"]._compile_all_devices = True
    return settings


def start(bench: Bench, shape: Shape) -> tuple[Any, dict[str, Way], torch.Tensor]:
    """(the policy, the three ways to decode with it, the prompts). No completion ends early."""
    policy = adapt(build(shape, bench.device, bench.seed)).train()
    model = policy.get_base_model()
    model.generation_config.eos_token_id = None
    ways: dict[str, Way] = {
        "generate": partial(generate, model),
        "shared prompt": partial(share, model),
        "compiled": partial(generate, model, **compiled(bench.device)),
    }
    prompt = torch.randint(2, shape.model["vocab_size"], (1, shape.prompt), device=bench.device)
    return policy, ways, prompt.repeat(COMPLETIONS, 1)


def decoding(bench: Bench) -> None:
    """Log the speed of each way, how many greedy tokens agree, and whether compiled decoding follows the adapter."""
    for measure in (same_tokens, speeds):
        bench.free()
        try:
            measure(bench)
        finally:
            torch._dynamo.reset()  # the compiled code and its CUDA graphs keep the model


def equal(found: dict[str, torch.Tensor], name: str) -> float:
    """The share of tokens that are generate's."""
    return (found[name] == found["generate"]).float().mean().item()


def same_tokens(bench: Bench) -> None:
    """A small model in float32, whose rounding decides no token: all ways must agree, also after an update.

    Without persistent buffers a captured CUDA graph would read the weights of the first step again.
    """
    shape, buffers = SHAPES["tiny"], dict[int, Any]()
    policy, ways, prompts = start(bench, shape)
    policy.float()
    rounds = []
    for _ in range(2):
        with rollout_policy(policy, "merge", buffers):
            rounds.append({name: way(prompts, shape.decoded, False) for name, way in ways.items()})
        move(policy, MOVED)
    before, after = rounds
    for name in ("shared prompt", "compiled"):
        least = min(equal(found, name) for found in rounds)
        bench.log.note("decoding", f"{name}, small float32 model", equal=least)
    has_changed = not torch.equal(before["compiled"], after["compiled"])
    follows = has_changed and torch.equal(after["generate"], after["compiled"])
    bench.log.note("decoding", "compiled, small float32 model, after an update", follows=follows)


def speeds(bench: Bench) -> None:
    """Milliseconds a token of each way, and the same comparison of tokens in bf16, whose rounding decides some."""
    tokens, buffers = bench.shape.decoded, dict[int, Any]()
    policy, ways, prompts = start(bench, bench.shape)
    seconds: dict[str, float] = {}
    with rollout_policy(policy, "merge", buffers):
        greedy: dict[str, torch.Tensor] = {}
        for name, way in ways.items():
            bench.free()
            first = bench.timed(partial(way, prompts, tokens, True), repeats=1, warm_up=0)
            if name == "compiled":
                bench.log.note("decoding", "compiled, first call", seconds=first)
            seconds[name] = seconds_per_token(bench, lambda n, way=way: way(prompts, n, True))  # type: ignore[misc]
            greedy[name] = way(prompts, tokens, False)
            times = seconds["generate"] / seconds[name]
            numbers = {"ms": 1e3 * seconds[name], "times": times, "equal": equal(greedy, name)}
            bench.log.note("decoding", name, **numbers, peak_gb=bench.peak_gb())
    move(policy, MOVED)
    with rollout_policy(policy, "merge", buffers):
        follows = not torch.equal(ways["compiled"](prompts, tokens, False), greedy["compiled"])
    bench.log.note("decoding", "compiled, after an update", follows=follows)
