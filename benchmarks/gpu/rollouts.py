"""The speed of rollouts: the base model, and DoRA with each way of src/adapters.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from adapters import adapter_layers, merged_copies, rollout_policy
from dora import use_factored_norms
from gpu.harness import Bench
from gpu.shapes import ALL_LINEAR, Q_AND_V, adapt, build

COMPLETIONS = 8  # configs/grpo.yaml: num_generations, all on one GPU
NAMES = {Q_AND_V: "q and v", ALL_LINEAR: "all linear"}
MODES = ("stock", "merge", "cache")  # of src/adapters.py; stock first, with peft's own DoRA


def machine(bench: Bench) -> None:
    """The two ceilings that everything is compared with: a copy in memory, and a matrix product."""
    numbers, side = bench.shape.copied, bench.shape.side
    source, target = (torch.empty(numbers, dtype=torch.float32, device=bench.device) for _ in range(2))
    seconds = bench.timed(lambda: target.copy_(source), 10, 3)
    bench.log.note("machine", "copy", tb_s=8 * numbers / seconds / 1e12)  # 4 bytes read, 4 written
    a, b = (torch.randn(side, side, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    seconds = bench.timed(lambda: a @ b, 10, 3)
    bench.log.note("machine", "bf16 product", tflops=2 * side**3 / seconds / 1e12)


def sample(model: Any, prompts: torch.Tensor, tokens: int) -> None:
    """Sample exactly this many tokens, as configs/grpo.yaml does."""
    from transformers import GenerationConfig

    config = GenerationConfig(
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        **{"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0},
        **{"pad_token_id": 0, "eos_token_id": 1, "disable_compile": True},
    )
    with torch.no_grad():
        model.generate(prompts, attention_mask=torch.ones_like(prompts), generation_config=config)


def seconds_per_token(bench: Bench, decode: Callable[[int], object]) -> float:
    """Seconds of a decoding step, without the pass over the prompt. `decode` takes the number of tokens."""
    tokens = bench.shape.decoded
    long = bench.timed(lambda: decode(tokens), 2)
    return (long - bench.timed(lambda: decode(2), 2)) / (tokens - 2)


def rollout(bench: Bench) -> None:
    """Eight completions with the base, then with an adapter on q and v, then on all linear layers."""
    base = base_speed(bench)
    for targets in (Q_AND_V, ALL_LINEAR):
        bench.free()
        compare_modes(bench, targets, base)
    bench.free()
    long_rollout(bench)


@dataclass(frozen=True)
class Decoding:
    """`work_gb`: memory beyond the weights that were there before; None on a CPU."""

    seconds: float  # per token
    peak_gb: float | None
    work_gb: float | None


def decode(bench: Bench, model: Any, context: AbstractContextManager[None]) -> Decoding:
    """Decode within `context`, which may need memory of its own."""
    before = bench.free()
    prompts = bench.prompts(COMPLETIONS, bench.shape.prompt)
    with context:
        seconds = seconds_per_token(bench, lambda tokens: sample(model, prompts, tokens))
    peak = bench.peak_gb()
    return Decoding(seconds, peak, None if peak is None else peak - before)


def base_speed(bench: Bench) -> Decoding:
    """The base; logged with the share of the memory's bandwidth that it uses."""
    bench.free()
    model = build(bench.shape, bench.device, bench.seed)
    found = decode(bench, model, nullcontext())
    weights = 2 * sum(p.numel() for name, p in model.named_parameters() if "embed_tokens" not in name)
    floor = weights / (1e12 * bench.log.number("machine", "copy", "tb_s", 3.0))
    numbers = {"ms": 1e3 * found.seconds, "floor_ms": 1e3 * floor, "of_bandwidth": floor / found.seconds}
    bench.log.note("rollout", "base", **numbers, peak_gb=found.peak_gb)
    return found


def compare_modes(bench: Bench, targets: Sequence[str], base: Decoding) -> None:
    """Log each mode's speed and memory beside the base's, and the cost of making merged copies.

    Stock has peft's DoRA; the others have the factored norms that src/trl_training/run.py gives every run.
    """
    name = NAMES[tuple(targets)]
    policy = adapt(build(bench.shape, bench.device, bench.seed), targets, factored=False).train()
    layers = adapter_layers(policy)
    originals = [layer.get_base_layer().weight.detach().clone() for layer in layers[:4]]
    seconds = {}
    for mode in MODES:
        if mode != "stock":
            use_factored_norms(policy)
        try:
            found = decode(bench, policy, rollout_policy(policy, mode))
        except torch.cuda.OutOfMemoryError as error:  # the other modes may fit
            bench.log.note("rollout", f"{name}, {mode}", failed=str(error)[:200])
            continue
        seconds[mode] = found.seconds
        extra = None if found.work_gb is None or base.work_gb is None else found.work_gb - base.work_gb
        numbers = {"ms": 1e3 * found.seconds, "of_base": base.seconds / found.seconds, "extra_gb": extra}
        bench.log.note("rollout", f"{name}, {mode}", **numbers, peak_gb=found.peak_gb)
    if {"merge", "stock"} <= set(seconds):
        bench.log.note("rollout", f"{name}, merge against stock", times=seconds["stock"] / seconds["merge"])
    once = bench.timed(enter(merged_copies, policy))
    kept = all(torch.equal(a.get_base_layer().weight, b) for a, b in zip(layers[:4], originals, strict=True))
    bench.log.note("rollout", f"{name}, merging and restoring", ms=1e3 * once, base_unchanged=kept)


def enter(context: Callable[[Any], AbstractContextManager[None]], policy: Any) -> Callable[[], None]:
    """A function that enters and leaves the context."""

    def once() -> None:
        with context(policy):
            pass

    return once


def long_rollout(bench: Bench) -> None:
    """A whole batch of rollouts, of the longest completions."""
    policy = adapt(build(bench.shape, bench.device, bench.seed)).train()
    prompts, tokens = bench.prompts(COMPLETIONS, bench.shape.prompt), bench.shape.long
    with rollout_policy(policy, "merge"):
        sample(policy, prompts, 2)
        bench.synchronise()
        start = time.perf_counter()
        sample(policy, prompts, tokens)
        bench.synchronise()
    seconds = time.perf_counter() - start
    numbers = {"seconds": seconds, "tokens_s": COMPLETIONS * tokens / seconds, "peak_gb": bench.peak_gb()}
    bench.log.note("rollout", "longest completions, merge", tokens=tokens, **numbers)
