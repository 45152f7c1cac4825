"""Back ends that complete prompts: transformers (any machine), vLLM (a GPU), a chat server.

Each takes requests and yields (request, Completion) pairs as they are done; src/generate.py writes them to a file.
Sampling is the same everywhere: temperature and top-p as given, no top-k and no repetition penalty, whatever the
model's generation configuration sets. Seeds are derived from the run's seed, the task and the sample, so a run that was
killed and resumes draws what it would have drawn.

    transformers   one seed per request, in batches that are planned in advance (the samples of a problem, problems of
                   similar length): rounding depends on the batch, but not on where a run was interrupted
    vllm           one seed per request. Tested with vLLM 0.27.1's CPU build, not on a GPU. vLLM cannot load DoRA, so an
                   adapter is merged into a temporary copy of the model
    endpoint       src/common/endpoint.py
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from common.completion import FINISHED, Completion, NoAnswer, Sampling
from common.endpoint import Endpoint, in_parallel
from common.models import own_sampling

VLLM_CHUNK = 512  # requests between two writes to the samples file; ours


@dataclass(frozen=True, eq=False)
class Request:
    """One sample to draw. `prompt` is the rendered text, `messages` what it was rendered from."""

    task_id: str
    sample_id: int
    prompt: str
    messages: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class LocalModel:
    """A model that is loaded on this machine, with an adapter to merge into it. Both: a folder or a hub name."""

    name: str
    adapter: str | None = None
    revision: str = "main"
    dtype: str = "bfloat16"
    tensor_parallel_size: int = 1  # vllm: GPUs
    gpu_memory_utilization: float = 0.9  # vllm: share of a GPU's memory


Drawn = Iterator[list[tuple[Request, Completion]]]  # what a back end yields


def derived_seed(seed: int, *parts: object) -> int:
    """A seed of 31 bits from the run's seed and the names of what is drawn."""
    text = "\0".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def plan_batches(requests: Sequence[Request], size: int) -> list[list[Request]]:
    """Batches of at most `size` requests, by length of the prompt; the samples of a problem share one if they can."""
    by_task: dict[str, list[Request]] = {}
    for request in requests:
        by_task.setdefault(request.task_id, []).append(request)
    tasks = sorted(by_task.values(), key=lambda mine: (-len(mine[0].prompt), mine[0].task_id))
    batches = []
    for samples, group in groupby(tasks, key=len):
        rows = [request for mine in group for request in mine]
        at_once = size // samples * samples or size
        batches += [rows[at : at + at_once] for at in range(0, len(rows), at_once)]
    return batches


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer: those of the model's generation configuration, and the end of turn."""
    configured = model.generation_config.eos_token_id
    return sorted({*(configured if isinstance(configured, list) else [configured]), tokenizer.eos_token_id} - {None})


def with_transformers(
    batches: Sequence[Sequence[Request]], tokenizer: Any, model: Any, sampling: Sampling, seed: int
) -> Drawn:
    """Whole batches with their completions. The samples of a problem share its prompt if the model and `stop` allow."""
    import torch

    import rollouts

    stops = stop_ids(model, tokenizer)
    ends = {*stops, *([tokenizer.pad_token_id] if sampling.stop else [])}  # padding follows a stop string
    decoding = rollouts.Decoding(sampling.temperature, sampling.top_p)
    shares = rollouts.obstacle(model.config) is None and not sampling.stop

    def completion(prompt_tokens: int, ids: list[int]) -> Completion:
        end = next((i for i, token in enumerate(ids) if token in ends), None)
        text = tokenizer.decode(ids[:end], skip_special_tokens=True)
        count = len(ids) if end is None else end + (ids[end] in stops)
        is_cut = end is None and not any(stop in text for stop in sampling.stop)
        return Completion(text, prompt_tokens, count, "length" if is_cut else "stop")

    for batch in batches:
        prompts = tokenizer([request.prompt for request in batch], add_special_tokens=False)["input_ids"]
        seeds = [derived_seed(seed, request.task_id, request.sample_id) for request in batch]
        if shares:
            answers = rollouts.complete(model, prompts, uniforms(seeds, sampling.max_new_tokens), stops, decoding)
        else:
            torch.manual_seed(derived_seed(seed, *seeds))
            answers = generated(model, tokenizer, prompts, sampling, stops)
        yield list(zip(batch, map(completion, map(len, prompts), answers), strict=True))


def uniforms(seeds: Sequence[int], tokens: int) -> Any:
    """What each completion's tokens are drawn with: a row of its own for each seed."""
    import torch

    rows = [torch.rand(tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds]
    return torch.stack(rows)


def generated(model: Any, tokenizer: Any, prompts: list[list[int]], sampling: Sampling, stops: list[int]) -> Any:
    """Token ids of a completion for each prompt, by transformers' generate."""
    import torch

    how: dict[str, Any] = {"do_sample": sampling.temperature > 0, "repetition_penalty": 1.0}
    if how["do_sample"]:
        how |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    if sampling.stop:
        how |= {"stop_strings": list(sampling.stop), "tokenizer": tokenizer}
    how |= {"max_new_tokens": sampling.max_new_tokens, "eos_token_id": stops, "pad_token_id": tokenizer.pad_token_id}
    inputs = tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(model.device)
    with torch.no_grad(), own_sampling(model):
        return model.generate(**inputs, **how)[:, inputs["input_ids"].shape[1] :].tolist()


@contextmanager
def merged_folder(model: LocalModel, near: Path) -> Iterator[str]:
    """The model's own name; if it has an adapter, a temporary folder in `near` with both merged, and the tokenizer."""
    if model.adapter is None:
        yield model.name
        return
    from transformers import AutoTokenizer

    from adapters import load_merged

    with tempfile.TemporaryDirectory(prefix="merged-", dir=near) as folder:
        merged = load_merged(model.name, model.adapter, dtype=model.dtype, revision=model.revision)
        merged.save_pretrained(folder)
        del merged  # free its memory for the engine
        AutoTokenizer.from_pretrained(model.name, revision=model.revision).save_pretrained(folder)
        yield folder


def with_vllm(
    requests: Sequence[Request], tokenizer: Any, folder: str, model: LocalModel, sampling: Sampling, seed: int
) -> Drawn:
    """Chunks of requests with their completions. `folder`: what `merged_folder` made of the model.

    Raises NoAnswer after a chunk in which the engine dropped requests; the others of that chunk are yielded first.
    """
    # FlashInfer's sampler is compiled at its first use, which ends the engine of a MoE model on a machine without nvcc.
    # vLLM's own sampler needs no compiler. Read when vLLM is imported; a value that the user has set is kept.
    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    from vllm import LLM, SamplingParams, TokensPrompt

    # The rendered text has its special tokens; the engine would add BOS again.
    texts = {request.prompt for request in requests}
    ids = {text: tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts}
    engine = LLM(
        model=folder,
        tokenizer=model.name,
        revision=model.revision if folder == model.name else None,
        tokenizer_revision=model.revision,
        dtype=model.dtype,
        seed=seed,
        max_model_len=max(map(len, ids.values())) + sampling.max_new_tokens,
        tensor_parallel_size=model.tensor_parallel_size,
        gpu_memory_utilization=model.gpu_memory_utilization,
    )
    how: dict[str, Any] = {"n": 1, "temperature": sampling.temperature, "top_p": sampling.top_p}
    how |= {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "max_tokens": sampling.max_new_tokens}
    how |= {"stop_token_ids": [tokenizer.eos_token_id]}  # the end of turn, which the model's configuration may lack
    how |= {"stop": list(sampling.stop) or None, "include_stop_str_in_output": True}
    for at in range(0, len(requests), VLLM_CHUNK):
        chunk = requests[at : at + VLLM_CHUNK]
        seeds = [derived_seed(seed, request.task_id, request.sample_id) for request in chunk]
        settings = [SamplingParams(**how, seed=one) for one in seeds]
        prompts = [TokensPrompt(prompt_token_ids=ids[request.prompt]) for request in chunk]
        yield from _completed(chunk, engine.generate(prompts, settings, use_tqdm=False))


def _completed(chunk: Sequence[Request], outputs: Sequence[Any]) -> Drawn:
    """vLLM's outputs that are the model's answers; then NoAnswer if there are others (error, abort)."""
    drawn, dropped = [], []
    for request, output in zip(chunk, outputs, strict=True):
        [answer] = output.outputs
        if reason := FINISHED.get(str(answer.finish_reason)):
            tokens = len(output.prompt_token_ids), len(answer.token_ids)
            drawn.append((request, Completion(answer.text, *tokens, reason)))
        else:
            dropped.append(answer.finish_reason)
    yield drawn
    if dropped:
        raise NoAnswer(f"vLLM dropped {len(dropped)} requests with finish_reason {dropped[0]}")


def with_endpoint(
    requests: Sequence[Request], endpoint: Endpoint, sampling: Sampling, seed: int, concurrency: int
) -> Drawn:
    """Single requests with their completions, in the order of arrival. Raises NoAnswer."""
    work = {
        request: partial(
            endpoint.complete, request.messages, sampling, derived_seed(seed, request.task_id, request.sample_id)
        )
        for request in requests
    }
    for request, completion in in_parallel(work, concurrency):
        yield [(request, completion)]
