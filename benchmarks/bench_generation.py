"""Tokens per second of DoRA rollouts: stock, cached and with merged copies, compared with a permanently merged model.

The four take turns on the same prompts, so that the ratios are fair even if the machine's speed drifts. Each timing
covers what src/trl_training/grpo_trainer.py does for one generation, including entering and leaving the context.

    PYTHONPATH=src python benchmarks/bench_generation.py --model models/SmolLM2-135M-Instruct
    PYTHONPATH=src python benchmarks/bench_generation.py --targets all-linear --rounds 5
"""

from __future__ import annotations

import statistics
import time

import torch
from peft import get_peft_model

from adapters import adapter_config, load_base, rollout_policy
from common.cli import Parser, above_zero, program


def generate(model: torch.nn.Module, ids: torch.Tensor, new_tokens: int) -> None:
    with torch.no_grad():
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            top_k=0,
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            pad_token_id=0,
        )


@program()
def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--targets", default=None, help="all-linear (default: q_proj and v_proj)")
    parser.add_argument("--rank", type=above_zero(int), default=64)
    parser.add_argument("--completions", type=above_zero(int), default=8)
    parser.add_argument("--prompt-tokens", type=above_zero(int), default=200)
    parser.add_argument("--new-tokens", type=above_zero(int), default=96)
    parser.add_argument("--rounds", type=above_zero(int), default=3)
    args = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    dtype, adapter = getattr(torch, args.dtype), adapter_config(args.rank, args.rank, 0.01, args.targets)
    policy = get_peft_model(load_base(args.model, dtype), adapter).to(device).train()
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    merged = load_base(args.model, dtype).to(device).eval()
    ids = torch.randint(100, 4000, (args.completions, args.prompt_tokens), device=device)

    seconds: dict[str, list[float]] = {"stock": [], "cache": [], "merge": [], "merged model": []}
    for _ in range(args.rounds):
        for name, times in seconds.items():
            start = time.perf_counter()
            if name == "merged model":
                generate(merged, ids, args.new_tokens)
            else:
                with rollout_policy(policy, name):
                    generate(policy, ids, args.new_tokens)
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    tokens = args.completions * args.new_tokens
    print(f"{args.model} {args.dtype} on {device}, r={args.rank}, targets {args.targets or 'q_proj, v_proj'}")
    print(
        f"{args.completions} completions x {args.new_tokens} tokens after {args.prompt_tokens}; {args.rounds} rounds\n"
    )
    base, limit = statistics.median(seconds["stock"]), statistics.median(seconds["merged model"])
    for name, times in seconds.items():
        middle = statistics.median(times)
        print(
            f"{name:<13}{tokens / middle:>8.1f} tokens/s   {base / middle:>5.2f}x stock   "
            f"{limit / middle:>5.2f}x merged model   ({min(times):.2f}-{max(times):.2f} s)"
        )


if __name__ == "__main__":
    main()
