"""Back ends that complete prompts: transformers (any machine), vLLM (a GPU), a chat server, the reference solutions.

Each takes requests and yields (request, Completion) as they are done; src/generate.py writes them down. Sampling is the
same everywhere: temperature and top-p as given, no top-k, no repetition penalty, whatever the model's own generation
configuration says; temperature 0 is greedy. Seeds are derived from the run's seed, the task and the sample, so a run
that was killed and goes on draws what it would have drawn.

    transformers   in batches that are fixed beforehand (one sample id, prompts of similar length), each with its own
                   seed: the numbers depend on the batch size, not on where a run was interrupted
    vllm           one seed per request. Run with vLLM 0.27.1's build for processors, not on a GPU. vLLM loads no DoRA,
                   so an adapter is merged into a temporary copy
    endpoint       src/common/endpoint.py
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common.completion import Completion, NoAnswer, finished
from common.endpoint import Endpoint, in_parallel

VLLM_CHUNK = 512  # requests between two writes to the samples file


@dataclass(frozen=True, eq=False)
class Request:
    """One sample to draw. `prompt` is the rendered text, `messages` what it was rendered from."""

    task_id: str
    sample_id: int
    prompt: str
    messages: tuple[dict[str, str], ...]


Drawn = Iterator[list[tuple[Request, Completion]]]  # what a back end yields


def derived_seed(seed: int, *parts: object) -> int:
    """A seed of 31 bits from the run's seed and what the draw is for."""
    text = "\0".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def plan_batches(requests: Sequence[Request], size: int) -> list[list[Request]]:
    """Batches of one sample id each, by length of the prompt. More samples per task add batches and change none."""
    by_sample: dict[int, list[Request]] = {}
    for request in requests:
        by_sample.setdefault(request.sample_id, []).append(request)
    batches = []
    for sample_id in sorted(by_sample):
        mine = sorted(by_sample[sample_id], key=lambda request: (-len(request.prompt), request.task_id))
        batches += [mine[at : at + size] for at in range(0, len(mine), size)]
    return batches


def with_transformers(
    batches: Sequence[Sequence[Request]], tokenizer: Any, model: Any, sampling: dict[str, Any], seed: int
) -> Drawn:
    """Whole batches with their completions."""
    import torch

    stops = model.generation_config.eos_token_id
    stops = {*(stops if isinstance(stops, list) else [stops]), tokenizer.eos_token_id} - {None}
    how: dict[str, Any] = {"do_sample": sampling["temperature"] > 0, "repetition_penalty": 1.0}
    if how["do_sample"]:
        how |= {"temperature": sampling["temperature"], "top_p": sampling["top_p"], "top_k": 0}
    texts = sampling.get("stop", [])
    if texts:
        how |= {"stop_strings": texts, "tokenizer": tokenizer}
    ends = stops | ({tokenizer.pad_token_id} if texts else set())  # what follows a stop string is padding
    for batch in batches:
        inputs = tokenizer([request.prompt for request in batch], return_tensors="pt", padding=True).to(model.device)
        torch.manual_seed(derived_seed(seed, batch[0].sample_id, *(request.task_id for request in batch)))
        with torch.no_grad():
            out = model.generate(
                **inputs,
                **how,
                max_new_tokens=sampling["max_new_tokens"],
                eos_token_id=sorted(stops),
                pad_token_id=tokenizer.pad_token_id,
            )
        drawn = []
        for request, mask, ids in zip(
            batch, inputs["attention_mask"], out[:, inputs["input_ids"].shape[1] :].tolist(), strict=True
        ):
            end = next((i for i, token in enumerate(ids) if token in ends), None)
            text = tokenizer.decode(ids[:end], skip_special_tokens=True)
            count = len(ids) if end is None else end + (ids[end] in stops)
            cut = end is None and not any(stop in text for stop in texts)
            drawn.append((request, Completion(text, int(mask.sum()), count, "length" if cut else "stop")))
        yield drawn


def with_vllm(requests: Sequence[Request], tokenizer: Any, model: str, args: Any, sampling: dict[str, Any]) -> Drawn:
    """Chunks of requests with their completions. Not run on a GPU (module docstring).

    Raises NoAnswer after a chunk in which the engine dropped requests; the others of that chunk are yielded first.
    """
    # FlashInfer's sampler is compiled at the first use, which ends the engine of a MoE model on a machine without nvcc.
    # vLLM's own sampler needs no compiler. Read when vLLM is imported; a value that the user has set is kept.
    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    from vllm import LLM, SamplingParams, TokensPrompt

    # The ids of the text as transformers sees them: one BOS, whatever the engine would add.
    ids = {prompt: tokenizer(prompt)["input_ids"] for prompt in {request.prompt for request in requests}}
    longest = max(map(len, ids.values())) + sampling["max_new_tokens"]
    engine = LLM(
        model=model,
        tokenizer=args.model,
        revision=args.revision if model == args.model else None,
        tokenizer_revision=args.revision,
        dtype=args.dtype,
        seed=args.seed,
        max_model_len=longest,
        tensor_parallel_size=args.tensor_parallel_size,
        gpu_memory_utilization=args.gpu_memory_utilization,
    )
    for at in range(0, len(requests), VLLM_CHUNK):
        chunk = requests[at : at + VLLM_CHUNK]
        settings = [
            SamplingParams(
                n=1,
                temperature=sampling["temperature"],
                top_p=sampling["top_p"],
                top_k=0,
                min_p=0.0,
                repetition_penalty=1.0,
                max_tokens=sampling["max_new_tokens"],
                stop=sampling.get("stop"),
                include_stop_str_in_output=True,
                seed=derived_seed(args.seed, request.task_id, request.sample_id),
            )
            for request in chunk
        ]
        prompts = [TokensPrompt(prompt_token_ids=ids[request.prompt]) for request in chunk]
        outputs = engine.generate(prompts, settings, use_tqdm=False)
        drawn, dropped = [], []
        for request, output in zip(chunk, outputs, strict=True):
            [answer] = output.outputs
            tokens = len(output.prompt_token_ids), len(answer.token_ids)
            if reason := finished(answer.finish_reason):
                drawn.append((request, Completion(answer.text, *tokens, reason)))
            else:  # error, abort: not the model's answer
                dropped.append(answer.finish_reason)
        yield drawn
        if dropped:
            raise NoAnswer(f"vLLM dropped {len(dropped)} requests with finish_reason {dropped[0]}")


def with_endpoint(
    requests: Sequence[Request], endpoint: Endpoint, sampling: dict[str, Any], seed: int, concurrency: int
) -> Drawn:
    """Single requests with their completions, in the order of their arrival. Raises EndpointError."""
    work = {
        request: partial(
            endpoint.complete, request.messages, sampling, derived_seed(seed, request.task_id, request.sample_id)
        )
        for request in requests
    }
    for request, completion in in_parallel(work, concurrency):
        yield [(request, completion)]


def merged_folder(args: Any, near: Path) -> tempfile.TemporaryDirectory:
    """Base and adapter merged into a temporary folder beside the samples, with the base's tokenizer."""
    from transformers import AutoTokenizer

    from adapters import load_merged

    folder = tempfile.TemporaryDirectory(prefix="merged-", dir=near)
    load_merged(args.model, args.adapter, dtype=args.dtype, revision=args.revision).save_pretrained(folder.name)
    AutoTokenizer.from_pretrained(args.model, revision=args.revision).save_pretrained(folder.name)
    return folder
