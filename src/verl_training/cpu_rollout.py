"""verl's rollout with transformers' generate, for machines without vLLM. A Ray worker imports this file before verl, so
it cannot be part of cpu_platform.py, which verl imports.

    HFServer          a Ray actor that holds the sampling model; concurrent requests run as one batch
    HFReplica         starts the server, as verl's replica starts a vLLM server
    HFServerAdapter   sends it the policy's weights after every step, from the training worker

Sampling follows verl's parameters (temperature, top_p, top_k); log-probabilities are those of the sampled distribution.
Which requests share a batch depends on timing, so runs are not reproducible bit for bit.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from typing import Any

import ray
import torch
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, TokenOutput

from common.models import own_sampling

GATHER_SECONDS = 0.1  # how long a batch waits for more requests
Request = tuple[list[int], dict[str, Any], asyncio.Future]


def sample(
    model: Any, prompts: list[list[int]], params: dict[str, Any], max_new_tokens: int, pad: int
) -> list[tuple[list[int], list[float]]]:
    """(token ids, log-probabilities) of one completion per prompt, each including its end-of-turn token."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    temperature = params.get("temperature", 1.0)
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        top_k = params.get("top_k", -1)
        sampling = {"do_sample": True, "temperature": temperature, "top_p": params.get("top_p", 1.0)}
        sampling["top_k"] = 0 if top_k < 0 else top_k
    with torch.no_grad(), own_sampling(model):
        out = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            pad_token_id=pad,
            return_dict_in_generate=True,
            output_logits=True,
            **sampling,
        )
    ends = model.generation_config.eos_token_id
    ends = set(ends) if isinstance(ends, list) else {ends}
    tokens = out.sequences[:, longest:].tolist()
    lengths = [next((i + 1 for i, token in enumerate(row) if token in ends), len(row)) for row in tokens]
    logps = []
    for position, logits in enumerate(out.logits):  # one (batch, vocabulary) tensor a position
        scaled = logits.float() / (temperature if temperature > 0 else 1.0)
        logps.append(torch.log_softmax(scaled, -1).gather(-1, out.sequences[:, longest + position, None])[:, 0])
    columns = torch.stack(logps, dim=1).tolist()
    return [(row[:n], column[:n]) for row, column, n in zip(tokens, columns, lengths, strict=True)]


class HFServer:
    """The sampling model behind verl's server interface."""

    def __init__(self, config: Any, model_config: Any) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(os.cpu_count() or 1)  # training and sampling take turns
        torch.manual_seed(config.seed)
        self.config = config
        dtype = getattr(torch, config.dtype)
        self.model = AutoModelForCausalLM.from_pretrained(model_config.path, dtype=dtype).eval()
        tokenizer = AutoTokenizer.from_pretrained(model_config.path)
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.step: int | None = None
        self.waiting: list[Request] = []
        self.drain: asyncio.Task | None = None

    async def load_weights(self, named: dict[str, torch.Tensor], global_steps: int | None) -> None:
        """Copy the policy's weights into the model. Raises KeyError for a name that the model does not have."""
        own = self.model.state_dict()
        unknown = sorted(set(named) - set(own))
        if unknown:
            raise KeyError(f"the rollout model has no {unknown[0]} ({len(unknown)} unknown names)")
        for name, tensor in named.items():
            own[name].copy_(tensor)
        self.step = global_steps

    async def generate(
        self, prompt_ids: list[int], sampling_params: dict[str, Any], request_id: str, **unused: Any
    ) -> TokenOutput:
        """One completion, sampled in one batch with the other waiting requests."""
        future: asyncio.Future = asyncio.get_running_loop().create_future()
        self.waiting.append((list(prompt_ids), dict(sampling_params), future))
        if self.drain is None or self.drain.done():
            self.drain = asyncio.create_task(self._drain())
        tokens, logps = await future
        fields = {"global_steps": self.step}
        return TokenOutput(token_ids=tokens, log_probs=logps, stop_reason="completed", extra_fields=fields)

    async def _drain(self) -> None:
        while self.waiting:
            await asyncio.sleep(GATHER_SECONDS)
            params = self.waiting[0][1]
            batch = [request for request in self.waiting if request[1] == params][: self.config.max_num_seqs]
            self.waiting = [request for request in self.waiting if all(request is not taken for taken in batch)]
            prompts, limit = [request[0] for request in batch], params.get("max_tokens") or self.config.response_length
            try:
                found = await asyncio.to_thread(sample, self.model, prompts, params, limit, self.pad)
            except Exception as error:  # verl marks these groups as failed and reports the reason
                for _, _, future in batch:
                    future.set_exception(error)
                continue
            for (_, _, future), result in zip(batch, found, strict=True):
                future.set_result(result)

    async def _nothing(self, *args: Any, **kwargs: Any) -> None:
        """Memory and profiling calls that have no meaning on a CPU."""

    wake_up = sleep = clear_kv_cache = release_kv_cache = resume_kv_cache = _nothing
    abort_all_requests = resume_generation = start_profile = stop_profile = _nothing


class HFReplica(RolloutReplica):
    """One server per replica."""

    async def launch_servers(self) -> None:
        name = f"hf_server_{self.replica_rank}"
        options = {"name": name, "max_concurrency": self.max_concurrency, "num_cpus": 0}
        server: Any = ray.remote(HFServer).options(**options).remote(self.config, self.model_config)
        await server.wake_up.remote()  # raises here if the model does not load
        self.servers, self._server_handle, self._server_address = [server], server, name


class HFServerAdapter(BaseRollout):
    """The training worker's side: sends whole weights, merged if the policy is an adapter."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, replica_rank: int = -1) -> None:
        super().__init__(config, model_config, device_mesh)
        self.rank = int(os.environ["RANK"]) if replica_rank == -1 else replica_rank

    async def resume(self, tags: list[str]) -> None: ...

    async def release(self) -> None: ...

    async def update_weights(
        self,
        weights: Generator[tuple[str, torch.Tensor], None, None],
        wire_format: str = "named_tensors",
        global_steps: int | None = None,
        **unused: Any,
    ) -> None:
        dtype = getattr(torch, self.config.dtype)
        named = {name: tensor.detach().to("cpu", dtype, copy=True) for name, tensor in weights}
        await ray.get_actor(f"hf_server_{self.rank}").load_weights.remote(named, global_steps)
