"""One update of GRPO: forward, backward and AdamW; and how far merged rollouts are from the policy that is updated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from adapters import merged_copies
from gpu.harness import Bench
from gpu.shapes import adapt, build
from trl_training.shared_prompt import NAME, log_probabilities

AT_ONCE = 4  # configs/grpo.yaml: per_device_train_batch_size
CHUNK = 1024  # positions whose logits exist at once
ADAPTERS: dict[str, dict[str, Any]] = {
    "LoRA, dropout 0.01": {"use_dora": False},
    "DoRA, dropout 0.01": {"use_dora": True},
    "DoRA, dropout 0": {"use_dora": True, "dropout": 0.0},
    "peft's DoRA, dropout 0.01": {"use_dora": True, "factored": False},
    "peft's DoRA, dropout 0": {"use_dora": True, "dropout": 0.0, "factored": False},
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
    """Updates with each adapter, then with a shared prompt."""
    compare_adapters(bench)
    bench.free()
    compare_rows(bench)


def compare_adapters(bench: Bench) -> None:
    """LoRA, DoRA with factored norms and with peft's, and the reference pass that beta > 0 needs."""
    lora: dict[int, tuple[float, float | None]] = {}
    for what, options in ADAPTERS.items():
        bench.free()
        policy = adapt(build(bench.shape, bench.device, bench.seed), **options).train()
        core = policy.get_base_model()
        core.gradient_checkpointing_enable({"use_reentrant": False})
        for length in bench.shape.updates:
            ids = bench.prompts(AT_ONCE, bench.shape.prompt + length)
            seconds, peak = time_update(bench, policy, partial(log_probs, policy, ids, length))
            lora_seconds, lora_peak = lora.setdefault(length, (seconds, peak))
            rate = operations(core, ids, length) / seconds / 1e12
            extra = None if peak is None or lora_peak is None else peak - lora_peak
            numbers = {"seconds": seconds, "tflops": rate, "peak_gb": peak, "of_lora": seconds / lora_seconds}
            bench.log.note("update", f"{what}, {length} tokens", **numbers, extra_gb=extra)
            if what == "DoRA, dropout 0.01":
                seconds = bench.timed(reference_pass(bench, policy, ids, length))
                bench.log.note("update", f"reference pass, {length} tokens", seconds=seconds)


def compare_rows(bench: Bench) -> None:
    """Completions of one prompt: each in a row with the prompt, as trl does, and packed behind one copy of it.

    Both with trl's own LM head, and with dropout, except where their log-probabilities are compared.
    """
    from trl.trainer.utils import add_fused_lm_head

    policy = adapt(build(bench.shape, bench.device, bench.seed))
    core = policy.get_base_model()
    core.gradient_checkpointing_enable({"use_reentrant": False})
    core.config._attn_implementation = NAME  # as SharesPrompts does
    add_fused_lm_head(core, outputs=("log_probs", "entropy"))  # as GRPOTrainer does
    for length in bench.shape.updates:
        prompt = bench.prompts(1, bench.shape.prompt).repeat(AT_ONCE, 1)
        ids = torch.cat((prompt, bench.prompts(AT_ONCE, length)), dim=1)
        rows, packed = partial(whole_rows, policy, ids, length), partial(shared_rows, policy, ids, length)
        policy.eval()
        with torch.no_grad(), torch.autocast(bench.device.type, torch.bfloat16):
            difference = (rows() - packed()).abs().max().item()
        policy.train()
        seconds, peak = time_update(bench, policy, rows)
        bench.log.note("update", f"whole rows, {length} tokens", seconds=seconds, peak_gb=peak)
        once, its_peak = time_update(bench, policy, packed)
        numbers = {"seconds": once, "of_rows": once / seconds, "peak_gb": its_peak, "difference": difference}
        bench.log.note("update", f"shared prompt, {length} tokens", **numbers)


def whole_rows(policy: Any, ids: torch.Tensor, keep: int) -> torch.Tensor:
    """Log-probabilities of the last `keep` tokens of each row."""
    labels = ids.clone()
    labels[:, :-keep] = -100
    out = policy(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, fused_lm_head=True)
    found: torch.Tensor = out.log_probs[:, -keep:]
    return found


def shared_rows(policy: Any, ids: torch.Tensor, keep: int) -> torch.Tensor:
    """The same with the prompt run once."""
    found = log_probabilities(policy, ids, torch.ones_like(ids), keep)
    assert found is not None, "the rows have the same prompt"
    return found[0]


def time_update(bench: Bench, policy: Any, forward: Callable[[], torch.Tensor]) -> tuple[float, float | None]:
    """(seconds, peak GB) of one micro-batch with its optimizer step. `forward` returns the log-probabilities."""
    trainable = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=5e-5, fused=bench.device.type == "cuda")
    advantages = torch.linspace(1, -1, AT_ONCE, device=bench.device)[:, None]

    def step() -> None:
        with torch.autocast(bench.device.type, torch.bfloat16):
            found = forward()
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
