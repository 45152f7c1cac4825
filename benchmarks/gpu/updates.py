"""One update of GRPO: forward, backward and AdamW; and how far merged rollouts are from the policy that is updated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from adapters import merged_copies
from gpu.harness import Bench
from gpu.shapes import adapt, build

AT_ONCE = 4  # configs/grpo.yaml: per_device_train_batch_size
CHUNK = 1024  # positions whose logits exist at once
ADAPTERS: dict[str, dict[str, Any]] = {
    "LoRA, dropout 0.01": {"use_dora": False},
    "DoRA, dropout 0.01": {"use_dora": True},
    "DoRA, dropout 0": {"use_dora": True, "dropout": 0.0},
}


def log_probs(policy: Any, ids: torch.Tensor, keep: int) -> torch.Tensor:
    """Log-probabilities of the last `keep` tokens; the logits in chunks, recomputed in the backward pass."""
    core = policy.get_base_model()

    def head(hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = core.lm_head(hidden).float()
        return logits.gather(-1, labels[:, None])[:, 0] - logits.logsumexp(-1)

    hidden = core.model(ids).last_hidden_state[:, -keep - 1 : -1].reshape(-1, core.config.hidden_size)
    pairs = zip(hidden.split(CHUNK), ids[:, -keep:].reshape(-1).split(CHUNK), strict=True)
    return torch.cat([checkpoint(head, h, labels, use_reentrant=False) for h, labels in pairs]).view(-1, keep)


def agreement(bench: Bench) -> None:
    """How far the sampling policy (merged copies, bf16) is from the one that is updated (adapter, autocast).

    With random weights only the ratio to the distance from the base has a meaning.
    """
    bench.free()
    policy = adapt(build(bench.shape, bench.device, bench.seed), dropout=0.0).eval()
    keep = bench.shape.scored
    ids = bench.prompts(AT_ONCE, keep + bench.shape.prompt)
    with torch.no_grad():
        with torch.autocast(bench.device.type, torch.bfloat16):
            updated = log_probs(policy, ids, keep)
        with merged_copies(policy):
            merged = log_probs(policy, ids, keep)
        with policy.disable_adapter():
            base = log_probs(policy, ids, keep)
    to_merged, to_base = ((updated - other).abs().mean().item() for other in (merged, base))
    bench.log.note("agreement", "merged", nats=to_merged, nats_to_base=to_base, of_base=to_merged / to_base)


def update(bench: Bench) -> None:
    """Updates with LoRA and DoRA, and the reference pass that beta > 0 needs."""
    lora: dict[int, float] = {}
    for what, options in ADAPTERS.items():
        bench.free()
        policy = adapt(build(bench.shape, bench.device, bench.seed), **options).train()
        core = policy.get_base_model()
        core.gradient_checkpointing_enable({"use_reentrant": False})
        for length in bench.shape.updates:
            ids = bench.prompts(AT_ONCE, bench.shape.prompt + length)
            seconds, peak = time_update(bench, policy, ids, length)
            lora.setdefault(length, seconds)
            rate = operations(core, ids, length) / seconds / 1e12
            numbers = {"seconds": seconds, "tflops": rate, "peak_gb": peak, "of_lora": seconds / lora[length]}
            bench.log.note("update", f"{what}, {length} tokens", **numbers)
            if what == "DoRA, dropout 0.01":
                seconds = bench.timed(reference_pass(bench, policy, ids, length))
                bench.log.note("update", f"reference pass, {length} tokens", seconds=seconds)


def time_update(bench: Bench, policy: Any, ids: torch.Tensor, length: int) -> tuple[float, float | None]:
    """(seconds, peak GB) of one micro-batch with its optimizer step."""
    trainable = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=5e-5, fused=bench.device.type == "cuda")
    advantages = torch.linspace(1, -1, AT_ONCE, device=bench.device)[:, None]

    def step() -> None:
        with torch.autocast(bench.device.type, torch.bfloat16):
            found = log_probs(policy, ids, length)
        (-(found - found.detach()).exp() * advantages).mean().backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    bench.free()
    return bench.timed(step), bench.peak_gb()


def reference_pass(bench: Bench, policy: Any, ids: torch.Tensor, length: int) -> Callable[[], None]:
    """The log-probabilities of the base, without gradients."""

    def once() -> None:
        with torch.no_grad(), policy.disable_adapter(), torch.autocast(bench.device.type, torch.bfloat16):
            log_probs(policy, ids, length)

    return once


def operations(core: Any, ids: torch.Tensor, length: int) -> float:
    """Floating-point operations of an update, counted as 6 N D, the LM head for the completion alone."""
    layers = sum(p.numel() for name, p in core.named_parameters() if "layers" in name and "lora" not in name)
    return 6.0 * (layers * ids.numel() + core.lm_head.weight.numel() * AT_ONCE * length)
