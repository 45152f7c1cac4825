"""Draw samples: problems of a benchmark -> samples.jsonl, which src/score.py scores.

    python src/generate.py --benchmark arena --data FILE --model runs/grpo --out runs/eval/arena.jsonl
    python src/generate.py --config configs/eval.yaml --model Qwen/Qwen2.5-Coder-7B-Instruct --backend vllm --out FILE
    python src/generate.py --data FILE --backend endpoint --url http://localhost:8000/v1 \\
        --model Qwen/Qwen2.5-Coder-32B-Instruct --out FILE             # the key: $OPENAI_API_KEY
    python src/generate.py --data FILE --reference --out reference.jsonl
    python src/generate.py --benchmark multi --data FILE --model MODEL --out multi.jsonl   # builds its questions
    python src/generate.py --benchmark humaneval --prompt evalplus --temperature 0 --samples 1 \\
        --max-new-tokens 768 --model MODEL --out FILE                  # as evalplus asks chat models by default
    python src/generate.py --benchmark migration --data data/heldout.jsonl --model MODEL --out FILE    # or --copy

--model takes a base model, a merged one, or an adapter folder (its base is then read from it); --adapter puts an
adapter on a model. What is written: src/evaluation/samples.py. The same command resumes after an interruption, and
with a larger --samples it adds samples; another model, prompt, data or sampling is refused.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import sandbox
from adapters import check_local
from common.chat import Chat
from common.cli import program
from common.completion import Completion, NoAnswer
from common.endpoint import Endpoint, connect
from common.errors import InputError
from common.files import append_jsonl, require_writable
from common.models import load_config, refuse_overflow
from common.provenance import describe, prompt_hash, sha256
from common.rows import resolve
from common.signals import exit_on_sigterm
from evaluation import backends
from evaluation.arena.problems import fingerprint, subset
from evaluation.benchmarks import Problem
from evaluation.flags import LOCAL, Drawing, parse_arguments
from evaluation.samples import Identity, Sample, code_of, complete_ids, keep_whole, write_note
from prompts import load_chat, reference_completion


def weights_of(model: backends.LocalModel) -> dict[str, Any]:
    """What an Identity needs beyond a model's name: the hashes of local weights, the commit of a hub's."""
    adapter = sha256(Path(model.adapter) / "adapter_model.safetensors") if model.adapter else None
    if Path(model.name).is_dir():
        files = sorted(f for f in Path(model.name).iterdir() if f.suffix in (".safetensors", ".bin", ".gguf"))
        return {"adapter_sha256": adapter, "model_sha256": {f.name: sha256(f) for f in files}}
    return {"adapter_sha256": adapter, "model_commit": load_config(model.name, model.revision)._commit_hash}


def choose(problems: Sequence[Problem], drawing: Drawing, chat: Chat | None) -> Sequence[Problem]:
    """The fixed subset that is asked. With a limit on the reference's tokens: by id, the first of the short ones."""
    if drawing.max_target_tokens is None:
        return subset(problems, drawing.limit)

    assert chat  # src/evaluation/flags.py
    longest = drawing.max_target_tokens
    short = [problem for problem in problems if len(chat.encode(problem.reference)) <= longest]
    if not short:
        raise InputError(f"--max-target-tokens {longest}: no reference is that short")
    return sorted(short, key=lambda problem: problem.id)[: drawing.limit]


def render_all(problems: Sequence[Problem], chat: Chat | None, drawing: Drawing) -> dict[str, backends.Request]:
    """Problem id -> the request for its sample 0."""
    found = {}
    for problem in problems:
        messages = tuple(problem.messages(drawing.prompt, docs=drawing.docs))
        text = chat.render(messages) if chat else json.dumps(messages, ensure_ascii=False)
        found[problem.id] = backends.Request(problem.id, 0, text, messages)
    return found


def check_fit(prompts: dict[str, backends.Request], chat: Chat, model: backends.LocalModel, new: int) -> None:
    """Raise InputError if prompts and `new` tokens exceed the model's context, as far as its configuration has it."""
    longest = max(len(chat.encode(request.prompt)) for request in prompts.values())
    what = f"the longest prompt ({longest} tokens) and {new} new ones"
    refuse_overflow(load_config(model.name, model.revision), longest + new, what)


def identity_of(drawing: Drawing, data: str, path: Path, problems: Sequence[Problem]) -> Identity:
    """What the samples depend on."""
    model = drawing.model
    made: dict[str, Any] = {"model": "old code" if drawing.backend == "copy" else "reference solutions"}
    if model:
        made = {
            "model": model.name,
            "adapter": model.adapter,
            **(weights_of(model) if drawing.backend != "endpoint" else {}),
            "dialect": drawing.dialect if drawing.backend == "endpoint" else None,
            "sampling": {**drawing.sampling.recorded(), "seed": drawing.seed},
            "dtype": model.dtype if drawing.backend in LOCAL else None,
            "batch_size": drawing.batch_size if drawing.backend == "transformers" else None,
        }
    return Identity(
        benchmark=drawing.benchmark.name,
        data=data,
        data_sha256=sha256(path),
        limit=drawing.limit,
        max_target_tokens=drawing.max_target_tokens,
        skip_bad_tasks=drawing.skip_bad_tasks,
        tasks_sha256=fingerprint(problems),
        backend=drawing.backend,
        prompt=drawing.prompt,
        docs=drawing.docs,
        **made,
    )


def draw(
    batches: Sequence[Sequence[backends.Request]],
    problems: Sequence[Problem],
    chat: Chat | None,
    drawing: Drawing,
    server: Endpoint | None,
) -> backends.Drawn:
    """What the back end yields; without a model the code of each problem, as if a model had written it."""
    requests = [request for batch in batches for request in batch]
    model, benchmark, how = drawing.model, drawing.benchmark, (drawing.sampling, drawing.seed)
    if model is None:
        by_id = {problem.id: problem for problem in problems}
        for request in requests:
            problem = by_id[request.task_id]
            code = benchmark.copy(problem) if drawing.backend == "copy" and benchmark.copy else problem.reference
            yield [(request, Completion(reference_completion(code, *benchmark.thought), None, None, "stop"))]
    elif server:
        yield from backends.with_endpoint(requests, server, *how, drawing.concurrency)
    elif drawing.backend == "vllm":
        assert chat
        with backends.merged_folder(model, drawing.out.parent) as folder:
            yield from backends.with_vllm(requests, chat.tokenizer, folder, model, *how)
    else:
        import torch

        from adapters import load_merged

        assert chat
        device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded = load_merged(model.name, model.adapter, dtype=model.dtype, revision=model.revision).to(device).eval()
        yield from backends.with_transformers(batches, chat.tokenizer, loaded, *how)


def write_samples(drawn: backends.Drawn, drawing: Drawing, done: int, total: int) -> None:
    """Append what a back end yields to the samples file, with a progress bar; then print what was drawn."""
    from tqdm import tqdm

    started, tokens, rows = time.monotonic(), 0, list[Sample]()
    with tqdm(total=total, initial=done, desc="samples", unit="sample") as bar:
        for batch in drawn:
            new = [
                Sample(
                    task_id=request.task_id,
                    sample_id=request.sample_id,
                    completion=completion.text,
                    code=code_of(completion.text, drawing.prompt),
                    prompt_sha256=prompt_hash(request.prompt),
                    prompt_tokens=completion.prompt_tokens,
                    completion_tokens=completion.completion_tokens,
                    finish_reason=completion.finish_reason,
                )
                for request, completion in batch
            ]
            append_jsonl(drawing.out, *(row.model_dump() for row in new))
            rows += new
            tokens += sum(row.completion_tokens or 0 for row in new)
            bar.set_postfix_str(f"{tokens / (time.monotonic() - started):.0f} tokens/s", refresh=False)
            bar.update(len(new))
    without = sum(row.code is None for row in rows) / len(rows)
    seconds = time.monotonic() - started
    print(f"{len(rows)} samples, {tokens} tokens in {seconds:.0f} s; {without:.0%} contain no code")
    cut = sum(row.finish_reason == "length" for row in rows) / len(rows)
    if cut > 0.2:
        print(f"warning: {cut:.0%} of the completions are cut at --max-new-tokens {drawing.sampling.max_new_tokens}")


def check_inputs(data: str | None, drawing: Drawing) -> None:
    """Raise InputError if the output cannot be written, the data file is not there, or the model is damaged."""
    require_writable(drawing.out, drawing.out.with_suffix(".json"))
    if data:
        resolve(data)
    model = drawing.model
    if model and drawing.backend in LOCAL:
        check_local(model.name, model.adapter, model.revision)


@program(sandbox.InfrastructureError)
def main() -> int:
    exit_on_sigterm()
    args, drawing = parse_arguments(description=__doc__)
    model, out = drawing.model, drawing.out
    if args.check != "flags":
        check_inputs(args.data, drawing)
    if args.check:
        print("requirements/vllm.txt" if drawing.backend == "vllm" else "")
        return 0
    data = drawing.benchmark.source(args)
    path = resolve(data)
    problems = drawing.benchmark.load(path, drawing.skip_bad_tasks)
    chat = None
    if model and drawing.backend in LOCAL:
        chat = load_chat(model.name, revision=model.revision, padding_side="left")
        print(*chat.notes, sep="\n", end="\n" if chat.notes else "", file=sys.stderr)
    problems = choose(problems, drawing, chat)
    prompts = render_all(problems, chat, drawing)
    if model and chat:
        check_fit(prompts, chat, model, drawing.sampling.max_new_tokens)
    drawn = complete_ids(out, [problem.id for problem in problems])  # by an earlier run with fewer samples
    requests = [replace(prompts[p.id], sample_id=i) for i in range(drawing.samples) if i not in drawn for p in problems]
    total = drawing.samples * len(problems)
    batches = [[request] for request in requests]
    if drawing.backend == "transformers":
        batches = backends.plan_batches(requests, drawing.batch_size)
    identity = identity_of(drawing, data, path, problems)
    settings = {key: str(value) for key, value in vars(args).items() if value is not None}
    description = describe(settings, {data: path}, drawing.seed)
    if chat:
        description["chat_template"] = list(chat.notes)
    write_note(out, identity, [problem.id for problem in problems], description)
    hashes = {identity: prompt_hash(request.prompt) for identity, request in prompts.items()}
    there = keep_whole(out, hashes, [[(r.task_id, r.sample_id) for r in batch] for batch in batches])
    left = [batch for batch in batches if (batch[0].task_id, batch[0].sample_id) not in there]
    if not left:
        print(f"{out}: all {total} samples are there")
        return 0
    print(f"first prompt:\n{left[0][0].prompt}\n", file=sys.stderr)
    server = connect(args) if drawing.backend == "endpoint" else None
    try:
        write_samples(draw(left, problems, chat, drawing, server), drawing, len(there), total)
    except NoAnswer as error:
        raise NoAnswer(f"{error}; the same command resumes from here") from None
    print(f"{out}\n{out.with_suffix('.json')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
