"""Seconds for GRPO's loss and its gradient on a CPU: trl's LM head on prompts and completions, or completions only.

The two take turns on the same batch (src/trl_training/run.py explains why they differ only on a CPU); the
log-probabilities of the completions are compared as well.

    PYTHONPATH=src python benchmarks/bench_loss.py --model models/SmolLM2-135M-Instruct
"""

from __future__ import annotations

import statistics
import time

import torch
import trl.trainer.utils
from peft import get_peft_model

from adapters import adapter_config, load_base
from common.cli import Parser, above_zero, program
from trl_training.run import use_triton_or_cpu

WAYS = {"completions only": use_triton_or_cpu, "every position": lambda device: False}


def loss(model: torch.nn.Module, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The log-probabilities as trl's trainer computes them; also computes their gradient."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(
            input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, fused_lm_head=True, use_cache=False
        )
    found.log_probs.sum().backward()
    return found.log_probs.detach()


@program()
def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct")
    parser.add_argument("--completions", type=above_zero(int), default=4)
    parser.add_argument("--prompt-tokens", type=above_zero(int), default=250)
    parser.add_argument("--new-tokens", type=above_zero(int), default=75)
    parser.add_argument("--rounds", type=above_zero(int), default=3)
    args = parser.parse_args()

    torch.manual_seed(0)
    model = load_base(args.model, torch.bfloat16)
    trl.trainer.utils.add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    policy = get_peft_model(model, adapter_config(64, 64, 0.0, "all-linear")).train()
    ids = torch.randint(100, 4000, (args.completions, args.prompt_tokens + args.new_tokens))
    labels = ids.clone()
    labels[:, : args.prompt_tokens] = -100

    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    seen: dict[str, torch.Tensor] = {}
    for _ in range(args.rounds + 1):  # the first round warms up
        for name, way in WAYS.items():
            trl.trainer.utils._use_triton = way
            start = time.perf_counter()
            seen[name] = loss(policy, ids, labels)
            seconds[name].append(time.perf_counter() - start)
            policy.zero_grad()
    middle = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    print(f"{args.model} bf16 on cpu, DoRA r=64 on all linear layers; {args.rounds} rounds")
    print(f"{args.completions} completions x {args.new_tokens} tokens after {args.prompt_tokens}\n")
    for name, value in middle.items():
        print(f"{name:<18}{value:>7.2f} s   ({min(seconds[name][1:]):.2f}-{max(seconds[name][1:]):.2f})")
    print(f"every position takes {middle['every position'] / middle['completions only']:.2f} times as long")
    difference = (seen["every position"] - seen["completions only"]).abs().max()
    print(f"largest difference of log-probabilities: {difference:.2g}")


if __name__ == "__main__":
    main()
