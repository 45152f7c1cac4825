"""Draw samples: problems of a benchmark -> samples.jsonl, which src/score.py scores.

    python src/generate.py --benchmark arena --data FILE --model runs/grpo --out runs/eval/samples.jsonl
    python src/generate.py --config configs/eval.yaml --model Qwen/Qwen2.5-Coder-7B-Instruct --backend vllm --out FILE
    python src/generate.py --benchmark arena --data FILE --backend endpoint --url http://localhost:8000/v1 \\
        --model Qwen/Qwen2.5-Coder-32B-Instruct --out FILE             # the key: $OPENAI_API_KEY
    python src/generate.py --benchmark arena --data FILE --reference --out reference.jsonl
    python src/generate.py --benchmark humaneval --data HumanEvalPlus.jsonl.gz --prompt evalplus --temperature 0 \\
        --samples 1 --max-new-tokens 768 --model MODEL --out FILE       # evalplus's settings; src/humaneval.py scores
    python src/generate.py --benchmark migration --data data/heldout.jsonl --model MODEL --out FILE    # or --copy

--model takes a base model, a merged one, or an adapter folder (its base is then read from it); --adapter puts an
adapter on a model. What is written: src/evaluation/samples.py. The same command goes on after an interruption, and with
a larger --samples; another model, prompt, data or sampling is refused: never mixed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common.cli import fail, parse_flags, program
from common.completion import Completion, NoAnswer
from common.endpoint import connect
from common.errors import InputError
from common.files import append_jsonl
from common.provenance import describe, prompt_hash, sha256
from common.rows import resolve
from evaluation.arena.problems import Task, fingerprint, load_tasks, subset
from evaluation.backends import (
    Drawn,
    LocalModel,
    Request,
    merged_folder,
    plan_batches,
    with_endpoint,
    with_transformers,
    with_vllm,
)
from evaluation.flags import add_flags, check, sampling_of
from evaluation.humaneval.problems import FUNCTION_BENCHMARKS, FunctionTask, data_path, load_functions
from evaluation.migration.problems import Migration
from evaluation.samples import claim, code_of, keep_whole
from prompts import open_chat_template, reference_completion, render


def model_identity(args: argparse.Namespace) -> dict[str, Any]:
    """What the samples depend on beyond names: the hash of local weights, the commit of a hub model."""
    known: dict[str, Any] = {"adapter_sha256": None, "model_sha256": None, "model_commit": None}
    if args.adapter:
        known["adapter_sha256"] = sha256(Path(args.adapter) / "adapter_model.safetensors")
    if Path(args.model).is_dir():
        files = sorted(f for f in Path(args.model).iterdir() if f.suffix in (".safetensors", ".bin", ".gguf"))
        known["model_sha256"] = {f.name: sha256(f) for f in files}
    elif args.backend != "endpoint":
        from transformers import AutoConfig

        known["model_commit"] = AutoConfig.from_pretrained(args.model, revision=args.revision)._commit_hash
    return known


Problem = Task | FunctionTask | Migration


def load(path: Path, args: argparse.Namespace) -> Sequence[Problem]:
    """The problems of the benchmark. Raises InputError."""
    if args.benchmark in FUNCTION_BENCHMARKS:
        return load_functions(path)
    return load_tasks(path, args.benchmark, skip_bad=args.skip_bad_tasks)


def render_all(tasks: Sequence[Problem], tokenizer: Any, args: argparse.Namespace) -> dict[str, Request]:
    """Task id -> the request for its sample 0."""
    template = open_chat_template(tokenizer) if tokenizer else None
    found = {}
    for task in tasks:
        messages = tuple(task.messages(args.prompt, docs=not args.no_docs))
        text = render(tokenizer, messages, template) if tokenizer else json.dumps(messages, ensure_ascii=False)
        found[task.id] = Request(task.id, 0, text, messages)
    return found


def without_model(tasks: Sequence[Problem], requests: Sequence[Request], copy: bool) -> Drawn:
    """The code of each task (the reference solution, or the old code) as if a model had written it."""
    by_id = {task.id: task for task in tasks}
    for request in requests:
        task = by_id[request.task_id]
        thought = ["I write the function."] if isinstance(task, FunctionTask) else []
        text = reference_completion(task.record.old_code if copy else task.reference, *thought)
        yield [(request, Completion(text, None, None, "stop"))]


def local(requests: Sequence[Request], batches: Sequence[Sequence[Request]], tokenizer: Any, args: Any) -> Drawn:
    """Samples of a model that is loaded here."""
    sampling = sampling_of(args)
    if args.backend == "vllm":
        gpus = args.tensor_parallel_size, args.gpu_memory_utilization
        chosen = LocalModel(args.model, args.adapter, args.revision, args.dtype, *gpus)
        with merged_folder(chosen, args.out.parent) as folder:
            yield from with_vllm(requests, tokenizer, folder, chosen, sampling, args.seed)
        return
    import torch

    from adapters import load_merged

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_merged(args.model, args.adapter, dtype=args.dtype, revision=args.revision).to(device).eval()
    yield from with_transformers(batches, tokenizer, model, sampling, args.seed)


def load_tokenizer(args: argparse.Namespace) -> tuple[Any, int | None]:
    """(tokenizer, the model's context length where its configuration tells it)."""
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.model, revision=args.revision, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    config = AutoConfig.from_pretrained(args.model, revision=args.revision)
    return tokenizer, getattr(config, "max_position_embeddings", None)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser)
    return check(parse_flags(parser, argv))


def write_down(drawn: Drawn, args: argparse.Namespace, done: int, total: int) -> Iterator[dict[str, Any]]:
    """Append what a back end yields to the samples file, with a progress bar; yields the rows."""
    from tqdm import tqdm

    started, tokens = time.monotonic(), 0
    with tqdm(total=total, initial=done, desc="samples", unit="sample") as bar:
        for batch in drawn:
            rows = [
                {
                    "task_id": request.task_id,
                    "sample_id": request.sample_id,
                    "completion": completion.text,
                    "code": code_of(completion.text, args.prompt),
                    "prompt_sha256": prompt_hash(request.prompt),
                    "prompt_tokens": completion.prompt_tokens,
                    "completion_tokens": completion.completion_tokens,
                    "finish_reason": completion.finish_reason,
                }
                for request, completion in batch
            ]
            append_jsonl(args.out, *rows)
            tokens += sum(row["completion_tokens"] or 0 for row in rows)
            bar.set_postfix_str(f"{tokens / (time.monotonic() - started):.0f} tokens/s", refresh=False)
            bar.update(len(rows))
            yield from rows


@program()
def main() -> int:
    args = parse_arguments()
    if args.check:
        print("requirements/vllm.txt" if args.backend == "vllm" else "")
        return 0
    try:
        path = data_path(args.data, args.benchmark) if args.benchmark in FUNCTION_BENCHMARKS else resolve(args.data)
        tasks = subset(load(path, args), args.limit)
    except InputError as error:
        fail(error)
    tokenizer, context = load_tokenizer(args) if args.backend in ("transformers", "vllm") else (None, None)
    try:
        prompts = render_all(tasks, tokenizer, args)
    except ValueError as error:  # a tokenizer without a usable chat template
        fail(f"{args.model}: {error}")
    if tokenizer and context:
        sizes = [len(tokenizer(request.prompt)["input_ids"]) for request in prompts.values()]
        over = [size for size in sizes if size + args.max_new_tokens > context]
        if over:
            fail(f"{len(over)} prompts (up to {max(over)} tokens) and {args.max_new_tokens} new ones exceed {context}")
    requests = [
        Request(task.id, sample, prompts[task.id].prompt, prompts[task.id].messages)
        for sample in range(args.samples)
        for task in tasks
    ]
    batches = plan_batches(requests, args.batch_size) if args.backend == "transformers" else [[r] for r in requests]
    identity = {
        "benchmark": args.benchmark,
        "data": args.data,
        "data_sha256": sha256(path),
        "limit": args.limit,
        "skip_bad_tasks": args.skip_bad_tasks,
        "tasks_sha256": fingerprint(tasks),
        "backend": args.backend,
        "model": args.model or ("old code" if args.copy else "reference solutions"),
        "adapter": args.adapter,
        **(model_identity(args) if args.model else {}),
        "dialect": args.dialect if args.backend == "endpoint" else None,
        "prompt": args.prompt,
        "docs": not args.no_docs,
        "sampling": {**sampling_of(args).recorded(), "seed": args.seed} if args.model else {},
        "dtype": args.dtype if tokenizer else None,
        "batch_size": args.batch_size if args.backend == "transformers" else None,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    settings = {key: str(value) for key, value in vars(args).items() if value is not None}
    claim(args.out, identity, describe(settings, {args.data: path}, args.seed))
    hashes = {identity: prompt_hash(request.prompt) for identity, request in prompts.items()}
    there = keep_whole(args.out, hashes, [[(r.task_id, r.sample_id) for r in batch] for batch in batches])
    batches = [batch for batch in batches if (batch[0].task_id, batch[0].sample_id) not in there]
    left = [request for batch in batches for request in batch]
    if not left:
        print(f"{args.out}: all {len(requests)} samples are there")
        return 0
    print(f"first prompt:\n{left[0].prompt}\n", file=sys.stderr)
    if args.reference or args.copy:
        drawn = without_model(tasks, left, args.copy)
    elif args.backend == "endpoint":
        drawn = with_endpoint(left, connect(args), sampling_of(args), args.seed, args.concurrency)
    else:
        drawn = local(left, batches, tokenizer, args)
    started = time.time()
    try:
        rows = list(write_down(drawn, args, len(requests) - len(left), len(requests)))
    except NoAnswer as error:
        fail(f"{error}; the same command goes on from here")
    cut = sum(row["finish_reason"] == "length" for row in rows) / len(rows)
    without = sum(row["code"] is None for row in rows) / len(rows)
    tokens = sum(row["completion_tokens"] or 0 for row in rows)
    print(f"{len(rows)} samples, {tokens} tokens in {time.time() - started:.0f} s; {without:.0%} hold no code")
    if cut > 0.2:
        print(f"warning: {cut:.0%} of the completions are cut at --max-new-tokens {args.max_new_tokens}")
    print(f"{args.out}\n{args.out.with_suffix('.json')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
