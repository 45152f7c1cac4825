"""Sampling in which the completions of a prompt share its keys and values.

A prompt runs through the model once, and its keys and values are stored once: the queries of all its completions meet
them in one matrix product. Each completion adds its own to a buffer that is allocated once. Completions that have ended
are dropped. Greedy decoding gives the tokens of transformers' `generate`, sampling the same distribution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from math import gcd, inf
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor
from transformers import AttentionInterface, LogitsProcessorList
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache
from transformers.masking_utils import AttentionMaskInterface

# Families whose attention takes keys and values from the cache as they are, and whose layers follow the mask and the
# positions that they are given (each is a test).
FAMILIES = ("gemma", "granite", "llama", "mistral", "olmo2", "qwen2", "qwen3", "smollm3")
NAME = "shared_prompt"  # among transformers' attention implementations


def obstacle(config: Any) -> str | None:
    """Why completions cannot share a prompt in a model with this configuration; None if they can."""
    if config.model_type not in FAMILIES:
        return f"models of type {config.model_type} have not been checked"
    is_windowed = config.model_type == "mistral" and config.sliding_window
    if is_windowed or "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return "its attention has a sliding window"
    if (getattr(config, "rope_parameters", None) or {}).get("rope_type") in ("dynamic", "longrope"):
        return "its rotary embedding depends on the longest row"
    return None


@dataclass(frozen=True)
class Decoding:
    """How a token is chosen. Temperature 0: the most probable one."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    min_p: float = 0.0

    def warpers(self) -> LogitsProcessorList:
        """transformers' processors of the logits, in its order; none for greedy decoding, where the best word wins."""
        found: list[Any] = []
        if self.temperature == 0:
            return LogitsProcessorList(found)
        if self.temperature != 1:
            found.append(transformers.TemperatureLogitsWarper(self.temperature))
        if self.top_k:
            found.append(transformers.TopKLogitsWarper(self.top_k))
        if self.top_p < 1:
            found.append(transformers.TopPLogitsWarper(self.top_p))
        if self.min_p:
            found.append(transformers.MinPLogitsWarper(self.min_p))
        return LogitsProcessorList(found)


class Shared(NamedTuple):
    """The keys, or the values, that the queries of a step meet."""

    prompt: Tensor  # [prompts, heads, prompt tokens, head size]
    own: Tensor  # [completions, heads, completion tokens, head size]; a prompt's completions are neighbours
    padding: Tensor  # [prompts, 1, 1, prompt tokens]: 0, minus infinity at the padding of a prompt


class SharedLayer(CacheLayerMixin):
    """The cache of one layer: the prompts' part does not change, the completions' part grows."""

    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor, padding: Tensor, completions: int, tokens: int) -> None:
        super().__init__()
        self.prompt_keys, self.prompt_values, self.padding = keys, values, padding
        shape = (completions, keys.shape[1], tokens, keys.shape[3])
        self.keys, self.values = keys.new_empty(shape), values.new_empty(shape)
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Everything is allocated already."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        assert self.keys is not None and self.values is not None
        self.keys[:, :, self.length : self.length + 1] = key_states
        self.values[:, :, self.length : self.length + 1] = value_states
        self.length += 1
        return (
            Shared(self.prompt_keys, self.keys[:, :, : self.length], self.padding),
            Shared(self.prompt_values, self.values[:, :, : self.length], self.padding),
        )

    def keep(self, prompts: Tensor, completions: Tensor) -> None:
        """Drop all other prompts and completions."""
        assert self.keys is not None and self.values is not None
        if len(prompts) < len(self.prompt_keys):
            self.prompt_keys, self.prompt_values = self.prompt_keys[prompts], self.prompt_values[prompts]
            self.padding = self.padding[prompts]
        self.keys, self.values = self.keys[completions], self.values[completions]

    def get_seq_length(self) -> int:
        return self.prompt_keys.shape[2] + self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_cache_shape(self) -> int:
        return -1


def attend(
    module: Any, query: Tensor, key: Shared, value: Shared, attention_mask: None, scaling: float, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attention of one new token of each completion. `query`: [completions, query heads, 1, head size]."""
    prompts, heads, length, size = key.prompt.shape
    own = query.reshape(len(query), heads, -1, size) * scaling  # [completions, heads, query heads a head, head size]
    repeat = own.shape[2]

    def by_prompt(x: Tensor) -> Tensor:  # [completions, heads, repeat, n] -> [prompts, heads, completions * repeat, n]
        parts = x.reshape(prompts, -1, heads, repeat, x.shape[-1]).transpose(1, 2)
        return parts.reshape(prompts, heads, -1, x.shape[-1])

    def by_completion(x: Tensor) -> Tensor:  # and back
        parts = x.reshape(prompts, heads, -1, repeat, x.shape[-1]).transpose(1, 2)
        return parts.reshape(-1, heads, repeat, x.shape[-1])

    on_prompt = by_completion(by_prompt(own) @ key.prompt.mT + key.padding)
    weights = torch.cat((on_prompt, own @ key.own.mT), dim=-1).softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    out = by_completion(by_prompt(weights[..., :length]) @ value.prompt) + weights[..., length:] @ value.own
    return out.reshape(len(query), 1, heads * repeat, size), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)


@contextmanager
def shared_attention(model: Any) -> Iterator[None]:
    """Within the context, `model` attends to a cache of SharedLayers."""
    before = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before


@contextmanager
def in_eval_mode(model: Any) -> Iterator[None]:
    """Within the context there is no dropout, and no checkpointing of gradients, which takes the cache away."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def prefill(model: Any, prompts: Sequence[Sequence[int]], completions: int, tokens: int) -> Cache:
    """A cache that holds all but the last token of each prompt, with room for `tokens` of each completion."""
    longest = max(2, *map(len, prompts))  # a model needs a column, if only of padding
    ids = torch.tensor([[0] * (longest - len(prompt)) + [*prompt[:-1]] for prompt in prompts], device=model.device)
    sizes = torch.tensor([len(prompt) - 1 for prompt in prompts], device=model.device)
    mask = torch.arange(longest - 1, 0, -1, device=model.device) <= sizes[:, None]
    filled = DynamicCache(config=model.config)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    model(input_ids=ids, attention_mask=mask.int(), position_ids=positions, past_key_values=filled, logits_to_keep=1)
    padding = torch.zeros_like(mask, dtype=filled.layers[0].keys.dtype).masked_fill(~mask, -inf)[:, None, None]
    rows = len(prompts) * completions
    return Cache(layers=[SharedLayer(layer.keys, layer.values, padding, rows, tokens) for layer in filled.layers])


def pick(logits: Tensor, uniform: Tensor) -> Tensor:
    """The tokens at which the cumulated probabilities exceed `uniform`, a number from [0, 1) for each row."""
    cumulated = logits.softmax(-1).cumsum(-1, dtype=torch.float64)
    if cumulated[:, -1].isnan().any():  # the search would take the last word of the vocabulary
        raise ValueError("the model's logits are not finite")
    found = torch.searchsorted(cumulated, uniform[:, None] * cumulated[:, -1:], right=True)
    return found.clamp(max=logits.shape[-1] - 1)


def remaining(alive: Tensor, completions: int) -> tuple[Tensor, Tensor]:
    """The prompts that have a completion left, and as many completions of each as that with the most has.

    Fewer left are made up by some that have ended: the rows stay a rectangle of prompts and completions.
    """
    by_prompt = alive.view(-1, completions)
    prompts = by_prompt.any(dim=1).nonzero()[:, 0]
    most = int(by_prompt.sum(dim=1).max())
    first = by_prompt[prompts].int().argsort(dim=1, descending=True, stable=True)[:, :most]
    return prompts, (prompts[:, None] * completions + first).flatten()


def complete(
    model: Any, prompts: Sequence[Sequence[int]], uniforms: Tensor, stops: Sequence[int], decoding: Decoding
) -> list[list[int]]:
    """Token ids of the completions, each with the stop token that ends it, by a model without an `obstacle`.

    `prompts`: token ids of each row. `uniforms`: [rows, most new tokens], from [0, 1): what each token is drawn with.
    """
    with torch.no_grad(), in_eval_mode(model):
        return decode(model, prompts, uniforms, stops, decoding)


def decode(
    model: Any, prompts: Sequence[Sequence[int]], uniforms: Tensor, stops: Sequence[int], decoding: Decoding
) -> list[list[int]]:
    """What `complete` returns, by a model in eval mode."""
    lengths = [len(list(rows)) for _, rows in groupby(prompts)]
    completions = gcd(*lengths)
    most, device = uniforms.shape[1], model.device
    cache = prefill(model, prompts[::completions], completions, most)
    warpers, stop = decoding.warpers(), torch.tensor(list(stops), device=device)
    tokens = torch.tensor([prompt[-1] for prompt in prompts], device=device)
    positions = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)
    uniforms, rows = uniforms.to(device, torch.float64), torch.arange(len(prompts), device=device)
    found = torch.full(uniforms.shape, -1, device=device)
    alive = torch.ones_like(rows, dtype=torch.bool)
    with shared_attention(model):
        for step in range(most):
            inputs = {"input_ids": tokens[:, None], "position_ids": positions[:, None] + step}
            logits = model(**inputs, past_key_values=cache).logits[:, -1].float()
            scores = warpers(tokens[:, None], logits)
            tokens = pick(scores, uniforms[rows, step]) if decoding.temperature else scores.argmax(-1, keepdim=True)
            tokens = tokens[:, 0]
            found[rows[alive], step] = tokens[alive]
            alive &= ~torch.isin(tokens, stop)
            if not alive.any():
                break
            left, kept = remaining(alive, completions)
            if len(kept) < len(rows):
                completions = len(kept) // len(left)
                for layer in cache.layers:
                    layer.keep(left, kept)
                tokens, positions, rows, alive = tokens[kept], positions[kept], rows[kept], alive[kept]
    return [[token for token in row if token >= 0] for row in found.tolist()]
