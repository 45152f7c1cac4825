"""The command line of src/generate.py, and the flags of single benchmarks in both programs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sandbox
from adapters import adapter_base, find_adapter, named_adapter
from common import endpoint
from common.cli import Parser, above_zero, between, fail, in_range, parse_flags, require
from common.completion import Sampling
from common.ranges import Range
from evaluation.backends import LocalModel
from evaluation.benchmarks import BENCHMARKS, Benchmark, Flags
from evaluation.idle_flags import given, refuse_idle, users_of
from evaluation.prompts import EVALPLUS_STOPS
from prompts import DEFAULT_WORDING, wording_of

PROMPT_HELP = (
    "zero-shot, the paper's form; or one-shot, evalplus: the benchmark's own; migration: the wording paper or precise, "
    "by default that of the run that trained the model, and paper for a base model (default: %(default)s)"
)
LOCAL = ("transformers", "vllm")  # the model is loaded here
BACKENDS = (*LOCAL, "endpoint")
# Below 0.01, logits that are divided by the temperature overflow.
TEMPERATURE = in_range(float, Range(0.01, 10, also=0))


@dataclass(frozen=True)
class Drawing:
    """What src/generate.py is asked to draw: an adapter's base model is known, and the flags fit together."""

    benchmark: Benchmark
    out: Path
    backend: str  # BACKENDS, or reference or copy: no model
    model: LocalModel | None  # for an endpoint only its name counts: the served one
    prompt: str
    docs: bool
    limit: int | None
    max_target_tokens: int | None
    skip_bad_tasks: bool
    samples: int
    sampling: Sampling
    seed: int
    batch_size: int
    concurrency: int
    dialect: str


def add_benchmark_flags(parser: argparse.ArgumentParser, flags: dict[str, Flags]) -> None:
    """The flags of single benchmarks (name -> its flags); each help begins with the names."""
    declared = {flag: how for own in flags.values() for flag, how in own.items() if how}
    for flag, how in declared.items():
        helps: dict[str, list[str]] = {}
        for name, own in flags.items():
            if flag in own:
                helps.setdefault(own[flag]["help"], []).append(name)
        text = "; ".join(f"{', '.join(names)}: {words}" for words, names in helps.items())
        parser.add_argument(flag, **{**how, "help": text})


DRAW_FLAGS = {name: benchmark.draw_flags for name, benchmark in BENCHMARKS.items()}
# The flags of each back end, of all of them, and of those that load a model here.
OWN_FLAGS: dict[str, tuple[str, ...]] = {
    "transformers": ("--batch-size",),
    "vllm": ("--tensor-parallel-size", "--gpu-memory-utilization"),
    "endpoint": ("--url", "--dialect", "--key-variable", "--request-seconds", "--tries", "--concurrency"),
}
ASKING_FLAGS = (
    "--backend",
    "--model",
    "--prompt",
    "--samples",
    "--temperature",
    "--top-p",
    "--max-new-tokens",
    "--seed",
)
LOCAL_FLAGS = ("--adapter", "--revision", "--dtype", "--max-target-tokens")
BACKEND_USERS = users_of(
    {
        f"--backend {name}": (*own, *ASKING_FLAGS, *(LOCAL_FLAGS if name in LOCAL else ()))
        for name, own in OWN_FLAGS.items()
    }
)


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """All flags of src/generate.py but --help and --config."""
    parser = Parser(description=description)
    add, count = parser.add_argument, above_zero(int, 10**6)
    add("--benchmark", choices=list(BENCHMARKS), default="arena", help="default: %(default)s")
    add("--data", help="JSONL or JSON file, or hf://datasets/OWNER/NAME[@REVISION][/FILE]; default: the benchmark's")
    add("--out", type=Path, help="samples.jsonl to write")
    add("--reference", action="store_true", help="write the reference solutions as samples; no model")
    add("--model", help="folder or hub name of a model, or an adapter folder; the served name of an endpoint")
    add("--adapter", help="folder of a peft adapter of trl's or verl's, merged before sampling")
    add("--revision", default="main", help="revision of a hub model (default: %(default)s)")
    add("--backend", choices=BACKENDS, default="transformers", help="default: %(default)s")
    prompts = dict.fromkeys(prompt for benchmark in BENCHMARKS.values() for prompt in benchmark.prompts)
    add("--prompt", choices=list(prompts), default="zero-shot", help=PROMPT_HELP)
    add("--no-docs", action="store_true", help="leave the update out of the prompt")
    add("--limit", type=count, help="a fixed subset of this many problems (that of 100 is part of that of 200)")
    add("--max-target-tokens", type=count, help="only references up to this long; --limit takes them by id")
    add("--skip-bad-tasks", action="store_true", help="leave out rows of the data that cannot be used")
    add("--samples", type=above_zero(int, 10**4), default=10, help="samples per problem (default: %(default)s)")
    add("--temperature", type=TEMPERATURE, default=0.8, help="0 is greedy (default: %(default)s)")
    add("--top-p", type=above_zero(float, 1), default=0.7, help="default: %(default)s")
    add("--max-new-tokens", type=count, default=1024, help="default: %(default)s")
    add("--seed", type=between(int, 0, 2**32 - 1), default=42, help="default: %(default)s")
    add("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    add("--batch-size", type=count, default=16, help="transformers: completions at once (default: %(default)s)")
    add("--tensor-parallel-size", type=above_zero(int, 1024), default=1, help="vllm: GPUs for one model")
    add("--gpu-memory-utilization", type=above_zero(float, 1), default=0.9, help="vllm: share of the GPU's memory")
    add(
        "--concurrency",
        type=above_zero(int, 1024),
        default=32,
        help="endpoint: requests at a time (default: %(default)s)",
    )
    checks = "check flags, model and data (or only the flags), print the requirements files they need, and stop"
    add("--check", nargs="?", const="all", choices=["all", "flags"], help=checks)
    endpoint.add_flags(parser, "endpoint: ")
    add_benchmark_flags(parser, DRAW_FLAGS)
    sandbox.add_flags(parser)  # multi
    return parser


def parse_arguments(
    argv: Sequence[str] | None = None, description: str | None = None
) -> tuple[argparse.Namespace, Drawing]:
    """(the flags, what they ask for). Stops in one line if they do not fit together."""
    parser = make_parser(description)
    args = parse_flags(parser, argv)
    if not args.out or args.out.suffix != ".jsonl":
        fail(f"--out {args.out}: expected a name that ends in .jsonl")
    benchmark = BENCHMARKS[args.benchmark]
    refuse_idle(given(parser, args, argv), users_of(DRAW_FLAGS), benchmark.name)
    if args.no_docs and not benchmark.has_docs:
        fail(f"--no-docs: {benchmark.name} has no update to withhold")
    if args.copy and args.reference:
        fail("--copy and --reference: choose one")
    backend = "reference" if args.reference else "copy" if args.copy else args.backend
    is_asked = backend in BACKENDS
    mode = f"--backend {backend}" if is_asked else f"--{backend}"
    refuse_idle(given(parser, args, argv, ("--backend", "--reference", "--copy")), BACKEND_USERS, mode)
    if args.max_target_tokens and backend not in LOCAL:
        fail("--max-target-tokens needs the tokenizer of a model that is loaded here")
    if is_asked:
        check_asked(args, benchmark)
    model = model_of(args) if is_asked else None
    stop = EVALPLUS_STOPS if args.prompt == "evalplus" else ()
    return args, Drawing(
        benchmark=benchmark,
        out=args.out,
        backend=backend,
        model=model,
        prompt=form_of(args.prompt if is_asked else "zero-shot", benchmark, model),
        docs=not args.no_docs,
        limit=args.limit,
        max_target_tokens=args.max_target_tokens,
        skip_bad_tasks=args.skip_bad_tasks,
        samples=args.samples if is_asked else 1,
        sampling=Sampling(args.temperature, args.top_p, args.max_new_tokens, stop),
        seed=args.seed,
        batch_size=args.batch_size,
        concurrency=args.concurrency,
        dialect=args.dialect,
    )


def check_asked(args: argparse.Namespace, benchmark: Benchmark) -> None:
    """Stop in one line if a model cannot be asked in this way."""
    if not args.model:
        fail("--model is needed (or --reference)")
    if args.temperature == 0 and args.samples > 1:
        fail("--temperature 0 draws the same sample each time: --samples 1")
    if args.prompt not in benchmark.prompts:
        fail(f"--prompt {args.prompt}: {benchmark.name} has the forms {', '.join(benchmark.prompts)}")
    if args.backend != "endpoint":
        return
    if not args.url:
        fail("--backend endpoint needs --url")
    if args.prompt == "evalplus" and args.dialect != "vllm":
        fail("--prompt evalplus begins the answer, which needs --dialect vllm")
    endpoint.connect(args)  # only to check them


def form_of(prompt: str, benchmark: Benchmark, model: LocalModel | None) -> str:
    """The form of the prompt. For migration, zero-shot is the wording that the model was trained with."""
    if not benchmark.asks_as_trained or prompt != "zero-shot":
        return prompt
    return wording_of(model.adapter or model.name) if model else DEFAULT_WORDING


def model_of(args: argparse.Namespace) -> LocalModel:
    """The model with its adapter; the base of an adapter that is given as the model is read from it."""
    if args.backend == "vllm" and not args.check:
        require("vllm")
    name, adapter = args.model, named_adapter(args.adapter) if args.adapter else None
    if adapter is None and args.backend != "endpoint" and (adapter := find_adapter(args.model)):
        name = adapter_base(adapter)
    folder, gpus, share = str(adapter) if adapter else None, args.tensor_parallel_size, args.gpu_memory_utilization
    return LocalModel(name, folder, args.revision, args.dtype, gpus, share)
