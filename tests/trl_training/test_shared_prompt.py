"""Updates that run a prompt once: the log-probabilities, entropies and gradients of trl."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
import trl.trainer.utils
from small_models import REAL_SIZES, real_layer, small_model
from trl.trainer.utils import add_fused_lm_head

import rollouts
from trl_training.run import use_triton_or_cpu
from trl_training.shared_prompt import NAME, by_prompt, group, log_probabilities, obstacle, pack, unpack, window

# Two prompts, three completions: prompts are padded on the left, completions on the right.
IDS = torch.tensor([[3, 4, 5, 6, 7, 8], [0, 9, 5, 10, 0, 0], [3, 4, 5, 11, 12, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]])


def test_rows_by_hand():
    groups = group(IDS, MASK, 3)
    assert groups == {(3, 4, 5): [0, 2], (9, 5): [1]}
    packed = pack(groups, IDS, MASK, 3)
    #   token             0  1  2  3  4  5   6   7  8
    #   of                prompt, first, second, prompt, third completion
    assert packed.ids.tolist() == [3, 4, 5, 6, 7, 5, 11, 9, 5]
    assert packed.positions.tolist() == [0, 1, 2, 3, 4, 2, 3, 0, 1]
    assert packed.labels.tolist() == [-100, -100, 6, 7, 8, 11, 12, -100, 10]
    assert packed.rows.tolist() == [[0, 1, 2, 3, 4], [0, 1, 5, 6, 0], [7, 8, 0, 0, 0]]
    assert packed.back.tolist() == [0, 1, 2, 3, 4, 7, 8, 10, 11]
    assert packed.order == [0, 2, 1]
    values = torch.tensor([0, 0, 1, 2, 3, 4, 5, 0, 6])
    assert unpack(values, packed, MASK[:, 3:]).tolist() == [[1, 2, 3], [6, 0, 0], [4, 5, 0]]


def test_a_completion_that_is_masked_out():
    """mask_truncated_completions clears the whole row."""
    mask = MASK.clone()
    mask[0, 3:] = 0
    packed = pack(group(IDS, mask, 3), IDS, mask, 3)
    assert packed.ids.tolist() == [3, 4, 5, 11, 9, 5]
    assert packed.labels.tolist() == [-100, -100, 11, 12, -100, 10]
    assert packed.rows.tolist() == [[0, 1, 0, 0], [0, 1, 2, 3], [4, 5, 0, 0]]


def test_a_completion_that_is_masked_out_after_a_prompt_of_one_token():
    """Its row has no token at all."""
    ids, mask = torch.tensor([[5, 6, 7], [5, 8, 9]]), torch.tensor([[1, 0, 0], [1, 1, 1]])
    packed = pack(group(ids, mask, 2), ids, mask, 2)
    assert (packed.ids.tolist(), packed.rows.tolist(), packed.back.tolist()) == ([5, 8], [[0, 0], [0, 1]], [2, 3])


def test_without_a_completion_that_counts_there_is_nothing_to_share():
    ids, mask = torch.tensor([[5, 6, 7], [5, 8, 9]]), torch.tensor([[1, 0, 0], [1, 0, 0]])
    assert log_probabilities(None, ids, mask, 2) is None


def rows(count: int = 6, tokens: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Completions of different lengths after two prompts, mixed."""
    generator = torch.Generator().manual_seed(1)
    ids, mask = torch.zeros(count, 7 + tokens, dtype=torch.long), torch.zeros(count, 7 + tokens, dtype=torch.long)
    for row in range(count):
        prompt = torch.tensor([[11, 12, 13, 14, 15, 16, 17], [0, 0, 0, 31, 32, 33, 34]][row % 2])
        length = tokens - row
        ids[row, :7], mask[row, :7] = prompt, (prompt > 0).long()
        ids[row, 7 : 7 + length] = torch.randint(3, 97, (length,), generator=generator)
        mask[row, 7 : 7 + length] = 1
    return ids, mask


def stock(model, ids, mask, tokens):
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :-tokens] = -100
    out = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True)
    return out.log_probs[:, -tokens:], out.entropy[:, -tokens:]


def gradients(model, values: torch.Tensor) -> dict[str, torch.Tensor]:
    weights = torch.linspace(-1, 1, values.numel()).view_as(values)
    model.zero_grad()
    (values * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture
def on_completions(monkeypatch):
    monkeypatch.setattr(trl.trainer.utils, "_use_triton", use_triton_or_cpu)


def with_head(model):
    assert obstacle(model.config) is None
    add_fused_lm_head(model, temperature=0.7, outputs=("log_probs", "entropy"))
    model.config._attn_implementation = NAME
    return model


@pytest.mark.parametrize("family", rollouts.FAMILIES)
def test_values_and_gradients_are_trl_s(family, on_completions):
    model, (ids, mask) = with_head(small_model(family)), rows()
    theirs, mine = stock(model, ids, mask, 9), log_probabilities(model, ids, mask, 9)
    for found, expected in zip(mine, theirs, strict=True):
        assert torch.allclose(found, expected, atol=1e-5)
        assert torch.equal(found == 0, mask[:, 7:] == 0)
    expected = gradients(model, stock(model, ids, mask, 9)[0])
    found = gradients(model, log_probabilities(model, ids, mask, 9)[0])
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert (gradient - expected[name]).abs().max() <= 1e-4 * expected[name].abs().max(), name


def test_with_gradient_checkpointing(on_completions):
    model, (ids, mask) = with_head(small_model("qwen2")).train(), rows()
    expected = gradients(model, log_probabilities(model, ids, mask, 9)[0])
    model.gradient_checkpointing_enable({"use_reentrant": False})
    found = gradients(model, log_probabilities(model, ids, mask, 9)[0])
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_in_bf16_the_error_is_bf16_s(on_completions):
    """Against float32: the rows that share prompts are not further off than trl's."""
    exact, (ids, mask) = with_head(small_model("llama")), rows()
    rough = with_head(copy.deepcopy(small_model("llama")).bfloat16())
    truth = stock(exact, ids, mask, 9)[0]
    theirs = (stock(rough, ids, mask, 9)[0] - truth).abs().mean()
    assert (log_probabilities(rough, ids, mask, 9)[0] - truth).abs().mean() <= 1.5 * theirs


@pytest.mark.parametrize("size", REAL_SIZES)
def test_a_layer_of_real_size(size, on_completions):
    model, (ids, mask) = with_head(real_layer(size)), rows()
    theirs = stock(model, ids, mask, 9)[0]
    mine = log_probabilities(model, ids, mask, 9)[0]
    assert torch.allclose(mine, theirs, atol=1e-4)
    expected, found = gradients(model, theirs), gradients(model, mine)
    for name, gradient in found.items():
        assert (gradient - expected[name]).norm() <= 1e-3 * expected[name].norm(), name


def test_a_prompt_runs_once(on_completions):
    model, (ids, mask) = with_head(small_model("llama")), rows()
    shapes = []
    model.model.embed_tokens.register_forward_hook(lambda module, args, out: shapes.append(tuple(args[0].shape)))
    log_probabilities(model, ids, mask, 9)
    assert shapes == [(1, 6 + 3 + 9 + 8 + 7 + 6 + 5 + 4)]  # the prompts without their last token, the completions


def test_other_passes_of_the_model_are_sdpa_s(on_completions):
    """generate, and rows that share no prompt, use the same attention without packed rows."""
    model, (ids, mask) = small_model("llama"), rows()
    expected = model(input_ids=ids, attention_mask=mask).logits
    model.config._attn_implementation = NAME
    assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, expected)


def test_without_a_shared_prompt_there_is_nothing_to_gain():
    ids, mask = rows(2)
    assert log_probabilities(None, ids, mask, 9) is None


@pytest.mark.parametrize(
    ("accumulation", "batches", "own", "expected"),
    [
        (2, 2, {}, 2),
        (2, 8, {}, 2),
        (4, 2, {}, 2),  # a step has two batches of rollouts
        (2, 3, {}, 1),  # the second of two steps begins in the first batch of rollouts and ends in the next
        (2, 2, {"loss_type": "bnpo"}, 1),  # a mean over the tokens of a micro-batch
        (2, 2, {"top_entropy_quantile": 0.2}, 1),
        (2, 2, {"entropy_coef": 0.01}, 1),
    ],
    ids=str,
)
def test_which_micro_batches_exchange_completions(accumulation, batches, own, expected):
    args = SimpleNamespace(gradient_accumulation_steps=accumulation, steps_per_generation=batches, **own)
    assert window(args) == expected


def test_only_the_order_within_an_optimizer_step_changes():
    a, b = [1, 1], [2, 2]
    batches = [  # four micro-batches of two rows, two to an optimizer step
        {"prompt_ids": torch.tensor([a, b]), "advantages": torch.tensor([0.0, 1.0]), "total": torch.tensor(9)},
        {"prompt_ids": torch.tensor([a, b]), "advantages": torch.tensor([2.0, 3.0]), "total": torch.tensor(9)},
        {"prompt_ids": torch.tensor([b, b]), "advantages": torch.tensor([4.0, 5.0]), "total": torch.tensor(9)},
        {"prompt_ids": torch.tensor([a, a]), "advantages": torch.tensor([6.0, 7.0]), "total": torch.tensor(9)},
    ]
    found = by_prompt(batches, 2)
    assert [batch["advantages"].tolist() for batch in found] == [[0.0, 2.0], [1.0, 3.0], [4.0, 5.0], [6.0, 7.0]]
    assert [batch["prompt_ids"].tolist() for batch in found] == [[a, a], [b, b], [b, b], [a, a]]
    assert [batch["total"].tolist() for batch in found] == [9, 9, 9, 9]


def test_attention_that_takes_no_such_mask():
    assert obstacle(small_model("llama", attn_implementation="eager").config) == (
        "attn_implementation eager; it needs sdpa"
    )
