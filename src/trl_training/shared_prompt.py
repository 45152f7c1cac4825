"""GRPO's log-probabilities with each prompt run through the model once for all of its completions.

trl gives the model a row for each completion, prompt included. Here everything is one row, in which the completions of
a prompt follow it, without padding:

    token      p0 p1 p2 | p3 a0 a1 | p3 b0 b1 b2        the last token of the prompt starts each completion,
    position    0  1  2 |  3  4  5 |  3  4  5  6        because it predicts the first token of each
    predicts            | a0 a1 a2 | b0 b1 b2 b3

Only attention needs the rows of trl: it gathers their queries, keys and values, prompt first, which makes it causal. So
log-probabilities and gradients are trl's, up to rounding, and any kernel for causal attention computes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from trl import GRPOTrainer
from trl.trainer.utils import split_tensor_dict

import rollouts
from trl_training.arguments import has_local_loss

NAME = "sdpa_over_packed_rows"  # among transformers' attention implementations


def obstacle(config: Any) -> str | None:
    """Why prompts cannot be shared in the updates of a model with this configuration; None if they can."""
    if config._attn_implementation != "sdpa":
        return f"attn_implementation {config._attn_implementation}; it needs sdpa"
    return rollouts.obstacle(config)


@dataclass(frozen=True)
class Packed:
    """All prompts and completions of a micro-batch as one row of T tokens."""

    ids: Tensor  # [T]
    positions: Tensor  # [T]
    labels: Tensor  # [T]: the token that each predicts, -100 for none
    rows: Tensor  # [completions, longest]: the tokens of each completion's row, its prompt first; 0 after its end
    back: Tensor  # [T]: where each token is in `rows`, flattened; a prompt's are in its first completion's row
    order: list[int]  # the completions in the order in which they are packed


def group(ids: Tensor, mask: Tensor, completion: int) -> dict[tuple[int, ...], list[int]]:
    """Prompt -> the rows that begin with it. `completion`: the tokens at the end of a row that are no prompt."""
    found: dict[tuple[int, ...], list[int]] = {}
    prompts = [row[: len(row) - completion] for row in ids.tolist()]
    lengths = mask[:, : mask.shape[1] - completion].sum(dim=1).tolist()
    for index, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        found.setdefault(tuple(prompt[len(prompt) - length :]), []).append(index)
    return found


def pack(groups: dict[tuple[int, ...], list[int]], ids: Tensor, mask: Tensor, completion: int) -> Packed:
    """`ids`, `mask`: [completions, tokens], prompts padded on the left, completions on the right."""
    tokens: list[int] = []
    positions: list[int] = []
    labels: list[int] = []
    rows: list[list[int]] = []
    places: list[tuple[int, int]] = []  # (row, column) of each token
    for prompt, members in groups.items():
        start = range(len(tokens), len(tokens) + len(prompt) - 1)
        tokens += prompt[:-1]
        positions += range(len(prompt) - 1)
        labels += [-100] * len(start)
        places += [(len(rows), column) for column in range(len(start))]
        for member in members:
            own = ids[member, -completion:][mask[member, -completion:] == 1].tolist()
            places += [(len(rows), len(start) + i) for i in range(len(own))]
            rows.append([*start, *range(len(tokens), len(tokens) + len(own))])
            tokens += [prompt[-1], *own[:-1]][: len(own)]
            positions += range(len(prompt) - 1, len(prompt) - 1 + len(own))
            labels += own
    table = pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True)
    back = [row * table.shape[1] + column for row, column in places]
    one = [torch.tensor(values, device=ids.device) for values in (tokens, positions, labels, back)]
    order = [index for members in groups.values() for index in members]
    return Packed(one[0], one[1], one[2], table.to(ids.device), one[3], order)


def unpack(values: Tensor, packed: Packed, mask: Tensor) -> Tensor:
    """[completions, tokens] of `values` [T]; 0 outside `mask`, that of the completions."""
    ordered = mask[packed.order].bool()
    rows = values.new_zeros(ordered.shape).masked_scatter(ordered, values[packed.labels != -100])
    return rows[torch.tensor(packed.order, device=rows.device).argsort()]


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    packed: Packed | None = None,
    **how: Any,
) -> tuple[Tensor, None]:
    """transformers' sdpa attention. With `packed`, over the rows of its completions: [1, heads, T, size] each."""
    if packed is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **how)

    def in_rows(x: Tensor) -> Tensor:  # [1, heads, T, size] -> [completions, heads, longest, size]
        _, heads, _, size = x.shape
        flat = x[0].transpose(0, 1).reshape(-1, heads * size).index_select(0, packed.rows.flatten())
        return flat.view(*packed.rows.shape, heads, size).transpose(1, 2)

    out, _ = sdpa_attention_forward(module, in_rows(query), in_rows(key), in_rows(value), None, is_causal=True, **how)
    flat = out.reshape(-1, out.shape[2] * out.shape[3]).index_select(0, packed.back)
    return flat.view(1, -1, out.shape[2], out.shape[3]), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def log_probabilities(model: Any, ids: Tensor, mask: Tensor, completion: int) -> tuple[Tensor, Tensor | None] | None:
    """Log-probabilities and entropies of the completions' tokens; None if no two rows have the same prompt, or if all
    completions are masked out.

    `model` attends with the implementation NAME.
    """
    groups = group(ids, mask, completion)
    if len(groups) == len(ids) or not mask[:, -completion:].any():
        return None
    packed = pack(groups, ids, mask, completion)
    out = model(
        input_ids=packed.ids[None],
        attention_mask=mask.new_empty(
            (1, 1, 1, 1)
        ),  # not read: transformers makes no mask if it is given one of 4 axes
        position_ids=packed.positions[None],
        shift_labels=packed.labels[None],
        fused_lm_head=True,
        packed=packed,
    )
    own = mask[:, -completion:]
    entropy = None if out.entropy is None else unpack(out.entropy[0], packed, own)
    return unpack(out.log_probs[0], packed, own), entropy


def window(args: Any) -> int:
    """Consecutive micro-batches that may exchange completions without a change of an optimizer step's gradient."""
    if has_local_loss(vars(args)):
        return 1
    return gcd(args.gradient_accumulation_steps, args.steps_per_generation)  # a batch may be for 1.5 steps


def by_prompt(batches: Sequence[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    """Micro-batches in which rows of the same prompt are neighbours: only the order within each `step` of them changes.

    trl shuffles the completions of all optimizer steps that a batch of rollouts is for.
    """
    found = []
    for at in range(0, len(batches), step):
        window = batches[at : at + step]
        prompts = [tuple(row) for batch in window for row in batch["prompt_ids"].tolist()]
        order = sorted(range(len(prompts)), key=lambda i: prompts.index(prompts[i]))
        joined = {
            key: torch.cat([batch[key] for batch in window])[order]
            if isinstance(value, Tensor) and value.dim()
            else value
            for key, value in window[0].items()
        }
        found += split_tensor_dict(joined, len(window))
    return found


class SharesPrompts(GRPOTrainer):
    """GRPOTrainer with log-probabilities as above, if `shared_prompt` is set. It overrides private methods of trl."""

    shared_prompt: bool
    _buffered_inputs: Any

    def share_prompts(self, shared_prompt: bool) -> None:
        """Whether updates share prompts, from now on."""
        self.shared_prompt = shared_prompt
        if shared_prompt:
            for model in (self.model, self.ref_model):
                if model is not None:
                    model.config._attn_implementation = NAME

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        stock = super()._get_per_token_logps_and_entropies
        if self.accelerator.unwrap_model(model).config._attn_implementation != NAME:
            return stock(model, input_ids, attention_mask, logits_to_keep, *args, **kwargs)
        size = kwargs.get("batch_size") or len(input_ids)
        found: list[Any] = []
        for ids, mask in zip(input_ids.split(size), attention_mask.split(size), strict=True):
            with self.accelerator.autocast():
                shared = log_probabilities(model, ids, mask, logits_to_keep)
            found.append(shared or stock(model, ids, mask, logits_to_keep, compute_entropy=True)[:2])
        logps, entropies = zip(*found, strict=True)
        return torch.cat(logps), None if entropies[0] is None else torch.cat(entropies), None

    def _prepare_inputs(self, generation_batch: dict[str, Any]) -> dict[str, Any]:
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if not self.shared_prompt or self._buffered_inputs is before:
            return inputs
        self._buffered_inputs = by_prompt(self._buffered_inputs, window(self.args))
        return self._buffered_inputs[self._step % self.args.steps_per_generation]
