"""The command line of src/generate.py: its flags, what goes together, and the sampling that they ask for."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from adapters import find_adapter
from common import endpoint
from common.cli import fail, require
from common.completion import Sampling
from evaluation.arena.problems import BENCHMARKS, PROMPTS
from evaluation.humaneval.problems import FUNCTION_BENCHMARKS, FUNCTION_PROMPTS, OVERRIDES
from evaluation.prompts import EVALPLUS_STOPS

BACKENDS = ("transformers", "vllm", "endpoint")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """All flags but --help and --config."""
    add = parser.add_argument
    choices = (*BENCHMARKS, *FUNCTION_BENCHMARKS)
    add("--benchmark", choices=choices, default="arena", help="multi: of src/multi_update.py; migration: records")
    add("--data", help="JSONL or JSON file, or hf://datasets/OWNER/NAME[@REVISION][/FILE]; humaneval, mbpp: evalplus's")
    add("--out", type=Path, help="samples.jsonl to write")
    add("--reference", action="store_true", help="write the reference solutions as samples; no model")
    add("--copy", action="store_true", help="migration: write the old code, unchanged, as samples; no model")
    add("--model", help="folder or hub name of a model, or an adapter folder; the served name of an endpoint")
    add("--adapter", help="folder of a peft adapter of trl's or verl's, merged before sampling")
    add("--revision", default="main", help="revision of a hub model (default: %(default)s)")
    add("--backend", choices=BACKENDS, default="transformers", help="default: %(default)s")
    prompts = tuple(dict.fromkeys((*PROMPTS, *FUNCTION_PROMPTS)))
    add("--prompt", choices=prompts, default="zero-shot", help="the paper's form, or the benchmark's own")
    add("--no-docs", action="store_true", help="withhold the update: what is the text in the prompt worth?")
    add("--limit", type=int, help="a fixed subset of this many problems (that of 100 is part of that of 200)")
    add("--skip-bad-tasks", action="store_true", help="leave out rows of the data that cannot be used")
    add("--samples", type=int, default=10, help="samples per problem (default: %(default)s)")
    add("--temperature", type=float, default=0.8, help="0 is greedy (default: %(default)s)")
    add("--top-p", type=float, default=0.7, help="default: %(default)s")
    add("--max-new-tokens", type=int, default=1024, help="default: %(default)s")
    add("--seed", type=int, default=42, help="default: %(default)s")
    add("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    add("--batch-size", type=int, default=16, help="transformers: completions at once (default: %(default)s)")
    add("--tensor-parallel-size", type=int, default=1, help="vllm: GPUs for one model")
    add("--gpu-memory-utilization", type=float, default=0.9, help="vllm: share of the GPU's memory")
    add("--concurrency", type=int, default=32, help="endpoint: requests at a time (default: %(default)s)")
    add("--check", action="store_true", help="check the flags, print the requirements files they need, and stop")
    endpoint.add_flags(parser, "endpoint: ")


def check(args: argparse.Namespace) -> argparse.Namespace:
    """The same, completed: an adapter's base model, a data file from the environment. Stops in one line."""
    functions = args.benchmark in FUNCTION_BENCHMARKS
    if functions and not args.data:
        args.data = os.environ.get(OVERRIDES[args.benchmark])
    if not (args.data and args.out):
        fail("--data and --out are needed")
    if args.out.suffix != ".jsonl":
        fail(f"--out {args.out}: expected a name that ends in .jsonl")
    if args.samples < 1 or args.batch_size < 1 or args.concurrency < 1 or args.max_new_tokens < 1 or args.tries < 1:
        fail("--samples, --batch-size, --concurrency, --max-new-tokens and --tries start at 1")
    if functions and args.no_docs:
        fail(f"--no-docs: {args.benchmark} has no update to withhold")
    if args.copy and (args.reference or args.benchmark != "migration"):
        fail("--copy goes with --benchmark migration, and not with --reference")
    if args.reference or args.copy:
        args.backend = "reference" if args.reference else "copy"
        args.model, args.adapter, args.samples, args.prompt = None, None, 1, "zero-shot"
        return args
    if not args.model:
        fail("--model is needed (or --reference)")
    if args.temperature == 0 and args.samples > 1:
        fail("--temperature 0 draws the same sample each time: --samples 1")
    if args.prompt == "one-shot" and args.benchmark != "arena":
        fail("--prompt one-shot is CodeUpdateArena's own: no other benchmark has a form for it")
    if args.prompt == "evalplus" and not functions:
        fail("--prompt evalplus is for --benchmark humaneval and mbpp")
    if args.prompt == "evalplus" and args.backend == "endpoint" and args.dialect != "vllm":
        fail("--prompt evalplus begins the answer, which needs --dialect vllm")
    if args.backend == "endpoint":
        if not args.url or args.adapter:
            fail("--backend endpoint needs --url, and takes no --adapter: the server holds the model")
        endpoint.check_flags(args)
        return args
    if args.backend == "vllm" and not args.check:
        require("vllm", "requirements/vllm.txt")
    try:
        if adapter := find_adapter(args.adapter or args.model):
            if not args.adapter:
                args.model = json.loads((adapter / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"]
            args.adapter = str(adapter)
        elif args.adapter:
            fail(f"--adapter {args.adapter}: no adapter_config.json there")
    except ValueError as error:
        fail(error)
    if not args.model:
        fail(f"{args.adapter} does not name its base model: --model BASE --adapter FOLDER")
    return args


def sampling_of(args: argparse.Namespace) -> Sampling:
    """How completions are drawn; evalplus's prompt comes with the texts that end an answer."""
    stop = EVALPLUS_STOPS if args.prompt == "evalplus" else ()
    return Sampling(args.temperature, args.top_p, args.max_new_tokens, stop)
