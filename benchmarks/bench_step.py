"""Seconds of a GRPO step and of its parts: stock trl and peft beside this project, and with each technique off.

Every variant trains for a step or more in a process of its own, and the variants take turns: the same records and seed,
and completions that always run to the length limit, so that all do the same work. The first step warms up and does not
count. Before that, a process asserts that values are equal, and one measures the machine's floor of sampling: one
product with every weight for each token, and one with the completions' own keys and values.

    bash scripts/quickstart.sh                               # makes runs/quickstart/sft-merged
    PYTHONPATH=src python benchmarks/bench_step.py
    PYTHONPATH=src python benchmarks/bench_step.py --targets q_proj v_proj --variants stock before now
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from common.cli import Parser, above_zero, program
from common.provenance import git_state, hardware, versions

PARTS = ("rollouts", "rewards", "loss and gradient", "rest", "step")


@dataclass(frozen=True)
class Variant:
    """The techniques that are on. `head`: the LM head runs on completions only."""

    rollouts: str = "shared"
    shared_prompt: bool = True
    dora_norm: str = "factored"
    generation: str = "merge"
    head: bool = True


VARIANTS = {
    "stock": Variant("transformers", shared_prompt=False, dora_norm="peft", generation="stock", head=False),
    "before": Variant("transformers", shared_prompt=False, dora_norm="peft"),
    "now": Variant(),
    "now, rollouts: transformers": Variant(rollouts="transformers"),
    "now, shared_prompt: false": Variant(shared_prompt=False),
    "now, dora_norm: peft": Variant(dora_norm="peft"),
}


def load_rows(flags: argparse.Namespace) -> tuple[list[dict[str, str]], Any]:
    """(the quickstart's rows, the tokenizer)."""
    from prompts import fit_records, load_chat
    from records import load_records

    chat = load_chat(flags.model, padding_side="left")
    fitted = fit_records(load_records(flags.data, "stop"), chat, "data", 2048, 60)
    pairs = zip(fitted.records, fitted.prompts, strict=True)
    rows = [{"prompt": p, "target": r.new_code, "old_code": r.old_code, "record_id": r.id} for r, p in pairs]
    return rows, chat.tokenizer


def timed(spent: dict[str, float], part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function; its seconds are added to `spent`."""
    import torch

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        result = function(*args, **kwargs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        spent[part] += time.perf_counter() - began
        return result

    return wrapper


def trainer_of(variant: Variant, flags: argparse.Namespace) -> Any:
    """A trainer in the quickstart's setting, whose completions never end by themselves."""
    import torch
    import trl.trainer.utils
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from adapters import adapter_config, start_from_base
    from diff_match import REWARDS
    from dora import use_factored_norms
    from trl_training.grpo_trainer import DoraGRPOTrainer
    from trl_training.run import use_triton_or_cpu

    rows, tokenizer = load_rows(flags)
    if variant.head:
        trl.trainer.utils._use_triton = use_triton_or_cpu
    args = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=flags.batch,
        gradient_accumulation_steps=flags.prompts * flags.completions // flags.batch,
        num_generations=flags.completions,
        max_completion_length=flags.new_tokens,
        generation_kwargs={"min_new_tokens": flags.new_tokens},
        max_steps=flags.steps + 1,
        use_cpu=not torch.cuda.is_available(),
        seed=flags.seed,
        model_init_kwargs={"dtype": "bfloat16"},
        **{"bf16": True, "gradient_checkpointing": False, "report_to": "none", "save_strategy": "no"},
        **{"disable_tqdm": True, "logging_steps": 1, "beta": 0.0, "loss_type": "grpo", "learning_rate": 3e-4},
    )
    given = {
        "model": flags.model,
        "args": args,
        "train_dataset": Dataset.from_list(rows),
        "processing_class": tokenizer,
        "peft_config": adapter_config(64, 64, 0.0, flags.targets),
        "reward_funcs": [REWARDS["format"], REWARDS["es_star"]],
    }
    if variant == VARIANTS["stock"]:
        trainer: Any = GRPOTrainer(**given)
    else:
        own = {"generation": variant.generation, "rollouts": variant.rollouts, "shared_prompt": variant.shared_prompt}
        trainer = DoraGRPOTrainer(**given, **own, print_samples=0)
        if variant.dora_norm == "factored":
            use_factored_norms(trainer.model)
        start_from_base(trainer.model)
    trainer.eos_token_ids = [-2]
    return trainer


def measure(name: str, flags: argparse.Namespace) -> dict[str, Any]:
    """{part: seconds of each step, "memory": bytes at the peak}."""
    import torch
    from transformers import TrainerCallback

    trainer, spent = trainer_of(VARIANTS[name], flags), defaultdict(float)
    steps: dict[str, list[float]] = {part: [] for part in PARTS}
    trainer._generate_single_turn = timed(spent, "rollouts", trainer._generate_single_turn)
    trainer._calculate_rewards = timed(spent, "rewards", trainer._calculate_rewards)
    trainer._prepare_inputs = timed(spent, "inputs", trainer._prepare_inputs)
    trainer.training_step = timed(spent, "training step", trainer.training_step)

    class Clock(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            spent.clear()
            self.began = time.perf_counter()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            step = time.perf_counter() - self.began
            update = spent["training step"] - spent["inputs"]
            rest = step - update - spent["rollouts"] - spent["rewards"]
            values = (spent["rollouts"], spent["rewards"], update, rest, step)
            for part, value in zip(PARTS, values, strict=True):
                steps[part].append(value)

    trainer.add_callback(Clock())
    trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak
    return {**{part: values[1:] for part, values in steps.items()}, "memory": memory}


def equality(flags: argparse.Namespace) -> dict[str, Any]:
    """Differences of log-probabilities and gradients in float32, now against stock; asserts that they are rounding."""
    import torch
    import trl.trainer.utils
    from peft import get_peft_model

    from adapters import adapter_config, adapter_layers, load_base
    from dora import use_factored_norms
    from rollouts import Decoding, complete
    from trl_training.run import use_triton_or_cpu
    from trl_training.shared_prompt import NAME, log_probabilities

    trl.trainer.utils._use_triton = use_triton_or_cpu
    torch.manual_seed(flags.seed)
    rows, tokenizer = load_rows(flags)
    base = load_base(flags.model, torch.float32)
    prompts = [tokenizer(row["prompt"], add_special_tokens=False)["input_ids"] for row in rows[:2]]
    twice = [prompt for prompt in prompts for _ in range(2)]
    found = complete(base, twice, torch.zeros(4, 24), [], Decoding(temperature=0))
    for prompt, tokens in zip(twice, found, strict=True):
        ids = torch.tensor([prompt])
        settings = {"do_sample": False, "max_new_tokens": 24, "eos_token_id": None, "pad_token_id": 0}
        expected = base.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, len(prompt) :].tolist()
        assert tokens == expected, "greedy tokens differ"
    trl.trainer.utils.add_fused_lm_head(base, outputs=("log_probs", "entropy"))
    policy = get_peft_model(base, adapter_config(64, 64, 0.0, flags.targets))
    for layer in adapter_layers(policy):
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.01)
    ids = torch.tensor([prompts[0]] * 4)
    ids = torch.cat((ids, torch.randint(10, 1000, (4, 24))), dim=1)
    labels = ids.clone()
    labels[:, :-24] = -100

    def passed(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        policy.zero_grad()
        values.sum().backward()
        return values.detach(), torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])

    stock = passed(policy(input_ids=ids, labels=labels, fused_lm_head=True).log_probs[:, -24:])
    use_factored_norms(policy)
    base.config._attn_implementation = NAME
    shared = log_probabilities(policy, ids, torch.ones_like(ids), 24)
    assert shared
    now = passed(shared[0])
    logps = (now[0] - stock[0]).abs().max().item()
    gradient = ((now[1] - stock[1]).norm() / stock[1].norm()).item()
    assert logps < 1e-3 and gradient < 1e-3, (logps, gradient)
    return {"log-probabilities": logps, "gradient": gradient}


def floor(flags: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the least that sampling must read, in torch's own products; the shortest of ten passes."""
    import torch

    from adapters import load_base

    model = load_base(flags.model, torch.bfloat16)
    config, rows = model.config, flags.prompts * flags.completions
    weights = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear)]
    inputs = {w.shape[1]: torch.randn(1, w.shape[1], dtype=torch.bfloat16) for w in weights}
    heads, size = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
    keys = torch.randn(2 * config.num_hidden_layers, rows * heads, flags.new_tokens // 2, size, dtype=torch.bfloat16)
    query = torch.randn(rows * heads, size, 1, dtype=torch.bfloat16)
    passes = []
    with torch.no_grad():
        for _ in range(10):
            began = time.perf_counter()
            for weight in weights:
                torch.nn.functional.linear(inputs[weight.shape[1]], weight)
            for own in keys:
                own @ query
            passes.append(time.perf_counter() - began)
    return {"floor": min(passes) * flags.new_tokens}


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """The medians of all steps, and how many times as fast as the first variant each is."""
    lines = [f"{'seconds':<30}" + "".join(f"{part:>19}" for part in PARTS) + f"{'times as fast':>15}{'peak GB':>9}"]
    first = None
    for name, runs in found.items():
        middle = {part: statistics.median(value for run in runs for value in run[part]) for part in PARTS}
        first = first or middle["step"]
        memory = max(run["memory"] for run in runs) / 1e9
        numbers = "".join(f"{middle[part]:>19.2f}" for part in PARTS)
        lines.append(f"{name:<30}{numbers}{first / middle['step']:>15.2f}{memory:>9.1f}")
    return "\n".join(lines)


CHILDREN: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {"equality": equality, "floor": floor}


@program()
def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--model", default="runs/quickstart/sft-merged", help="default: %(default)s")
    parser.add_argument("--data", default="data/train.jsonl", help="default: %(default)s")
    parser.add_argument("--targets", default="all-linear", nargs="+", help="default: all-linear")
    parser.add_argument("--prompts", type=above_zero(int), default=2, help="of a step (default: %(default)s)")
    parser.add_argument("--completions", type=above_zero(int), default=8, help="of a prompt (default: %(default)s)")
    parser.add_argument("--new-tokens", type=above_zero(int), default=96, help="of a completion (default: %(default)s)")
    parser.add_argument("--batch", type=above_zero(int), default=4, help="completions at once (default: %(default)s)")
    parser.add_argument("--steps", type=above_zero(int), default=1, help="measured in a process (default: %(default)s)")
    parser.add_argument("--rounds", type=above_zero(int), default=3, help="processes of a variant (default: 3)")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="default: all")
    parser.add_argument("--seed", type=int, default=42, help="default: %(default)s")
    parser.add_argument("--child", choices=[*VARIANTS, *CHILDREN], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(CHILDREN[args.child](args) if args.child in CHILDREN else measure(args.child, args)))
        return

    def child(name: str) -> dict[str, Any]:
        done = subprocess.run([sys.executable, *sys.argv, "--child", name], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])

    where = {**git_state(), **hardware(), "torch": versions()["torch"]}
    print(*(f"{key}: {value}" for key, value in where.items()), sep="\n")
    targets = "all linear layers" if args.targets == "all-linear" else ", ".join(args.targets)
    print(f"{args.prompts} x {args.completions} completions of {args.new_tokens} tokens, DoRA 64 on {targets}, bf16")
    print(f"equal to stock trl and peft, float32: {child('equality')}")
    lowest, found = child("floor")["floor"], {name: [] for name in args.variants}
    for _ in range(args.rounds):
        for name in args.variants:
            found[name].append(child(name))
            print(f"{name}: {found[name][-1]['step']}", file=sys.stderr, flush=True)
    print(f"\n{table(found)}\n\nthe floor of the rollouts: {lowest:.2f} s")


if __name__ == "__main__":
    main()
