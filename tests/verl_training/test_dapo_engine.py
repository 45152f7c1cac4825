"""verl's engine under our adapters: what reaches the rollout is the policy, and checkpoints come back."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import run_script
from safetensors.torch import load_file
from verl_runs import run_engine

from verl_training import checkpoint as verl_checkpoint

pytest.importorskip("hydra", reason="requirements/dapo.txt is not installed")


@pytest.fixture(scope="module")
def untied_model(random_model, tmp_path_factory):
    """The tiny model with an output layer of its own, as 7B models have: verl builds those on the meta device."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("models") / "untied"
    config = AutoConfig.from_pretrained(random_model, tie_word_embeddings=False)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(random_model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engines(verl, random_model, untied_model, tmp_path_factory):
    """(what, ranks, model's name) -> (folder, model): one start for each number of ranks, because it takes seconds."""
    models = {"random_model": random_model, "untied_model": untied_model}
    wanted = {
        1: [("merge", "random_model"), ("packing", "random_model")],
        2: [(what, name) for what in ("merge", "full") for name in models],
    }
    found = {}
    for ranks, jobs in wanted.items():
        folder = tmp_path_factory.mktemp(f"engine-{ranks}")
        run_engine(ranks, [(what, models[name], folder / f"{what}-{name}") for what, name in jobs])
        found |= {(what, ranks, name): (folder / f"{what}-{name}", models[name]) for what, name in jobs}
    return found


@pytest.fixture(scope="module", params=[(1, "random_model"), (2, "random_model"), (2, "untied_model")], ids=str)
def dora(request, engines):
    """(folder, model) of a DoRA policy that has changed, on one or two ranks."""
    return engines["merge", *request.param]


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.arange(5, 45).unsqueeze(0)).logits


def test_the_weights_that_reach_the_rollout_are_peft_s_own_merge(dora):
    from transformers import AutoModelForCausalLM

    dora, random_model = dora
    sent = load_file(dora / "sent.safetensors")
    weights = verl_checkpoint.read_weights(dora / "global_step_1")
    policy = verl_checkpoint.trained_adapter(dora / "global_step_1", weights, str(random_model))
    assert policy.peft_config["default"].use_dora
    unmerged = logits(policy)
    merged = policy.merge_and_unload(safe_merge=True)
    base = AutoModelForCausalLM.from_pretrained(random_model, dtype=torch.float32)
    assert set(sent) == set(merged.state_dict())
    for name, weight in merged.state_dict().items():
        assert torch.allclose(sent[name], weight, atol=1e-6), name
    moved = [name for name, weight in base.state_dict().items() if not torch.allclose(sent[name], weight, atol=1e-3)]
    assert len(moved) == 3 * 7  # every linear layer of three blocks: verl's own code sends none of them
    base.load_state_dict(sent)
    assert torch.allclose(logits(base), unmerged, atol=1e-4)
    for trained in dora.glob("logits_*.pt"):  # of the engine, with sharded weights and factored norms, on each rank
        assert torch.allclose(torch.load(trained), unmerged, atol=1e-4)


def test_a_dora_checkpoint_becomes_a_folder_with_the_same_logits(dora, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dora, random_model = dora
    out = tmp_path / "merged"
    run_script("merge_adapter.py", "--checkpoint", dora / "global_step_1", "--out", out, "--dtype", "float32")
    merged = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    weights = verl_checkpoint.read_weights(dora / "global_step_1")
    policy = verl_checkpoint.trained_adapter(dora / "global_step_1", weights, str(random_model))
    assert torch.allclose(logits(merged), logits(policy), atol=1e-4)
    assert json.loads((out / "merged_from.json").read_text())["base"] == str(random_model)
    assert AutoTokenizer.from_pretrained(out).chat_template == AutoTokenizer.from_pretrained(random_model).chat_template


@pytest.fixture(scope="module", params=["random_model", "untied_model"])
def full(request, engines):
    """(folder, model) of a model whose weights have all changed, on two ranks."""
    return engines["full", 2, request.param]


def test_a_full_checkpoint_of_two_ranks_becomes_a_folder_with_the_same_logits(full, tmp_path):
    from transformers import AutoModelForCausalLM

    full, random_model = full
    out = tmp_path / "full"
    run_script("merge_adapter.py", "--checkpoint", full / "global_step_1", "--out", out, "--dtype", "float32")
    found = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    expected = AutoModelForCausalLM.from_pretrained(random_model, dtype=torch.float32)
    before = logits(expected)
    expected.load_state_dict(load_file(full / "sent.safetensors"))
    assert torch.equal(logits(found), logits(expected))
    assert not torch.allclose(logits(found), before, atol=1e-1)


def test_damaged_checkpoints_are_named(full, tmp_path):
    done = run_script("merge_adapter.py", "--checkpoint", tmp_path, "--out", tmp_path / "x", check=False)
    assert done.returncode == 2
    assert "no verl checkpoint there" in done.stderr
    full, _ = full
    (full / "global_step_1" / "actor" / "model_world_size_2_rank_1.pt").rename(full / "moved.pt")
    with pytest.raises(ValueError, match=r"model_world_size_2_rank_1\.pt is missing"):
        verl_checkpoint.read_weights(full / "global_step_1")
    (full / "moved.pt").rename(full / "global_step_1" / "actor" / "model_world_size_2_rank_1.pt")


def test_packed_and_padded_log_probabilities_agree(engines, random_model):
    """sdpa takes packed sequences apart by their positions: each row's log-probabilities are as if it stood alone."""
    from transformers import AutoModelForCausalLM

    out, _ = engines["packing", 1, "random_model"]
    found = torch.load(out / "packing.pt")
    model = AutoModelForCausalLM.from_pretrained(random_model, dtype=torch.float32).eval()
    for row, packed, padded in zip(found["rows"], found["packed"], found["padded"], strict=True):
        with torch.no_grad():
            alone = torch.log_softmax(model(row[None]).logits[0, :-1], -1).gather(-1, row[1:, None])[:, 0]
        assert torch.allclose(packed, padded, atol=1e-5)
        assert torch.allclose(packed, alone, atol=1e-5)


def test_clip_higher_by_hand(verl):
    """Four tokens with ratios 1.5, 1.25, 0.5 and 20; advantages +1, +1, -1, -1; clip [0.8, 1.28], dual clip at 10."""
    from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla
    from verl.utils.config import omega_conf_to_dataclass

    from verl_training import config as verl_config

    actor = omega_conf_to_dataclass(verl_config.compose("dapo").actor_rollout_ref.actor)
    ratios = torch.tensor([[1.5, 1.25], [0.5, 20.0]])
    advantages = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    mask = torch.ones(2, 2)
    loss, metrics = compute_policy_loss_vanilla(
        torch.zeros(2, 2), ratios.log(), advantages, mask, actor.loss_agg_mode, actor
    )
    # 1.5 -> -min(1.5, 1.28) = -1.28   1.25 -> -1.25 (clip-higher: a symmetric 0.2 would cut it to 1.2)
    # 0.5 -> -min(-0.5, -0.8) = 0.8    20 -> min(20, 10) = 10   token mean: (-1.28 - 1.25 + 0.8 + 10) / 4 = 2.0675
    assert loss.item() == pytest.approx(2.0675, abs=1e-6)
    assert metrics["actor/pg_clipfrac"] == pytest.approx(2 / 4)  # 1.5 and 0.5
    assert metrics["actor/pg_clipfrac_lower"] == pytest.approx(1 / 4)  # 20
    # Token mean, not the mean of sequences: with one token masked, three tokens count alike.
    mask[1, 1] = 0
    loss, _ = compute_policy_loss_vanilla(torch.zeros(2, 2), ratios.log(), advantages, mask, actor.loss_agg_mode, actor)
    assert loss.item() == pytest.approx((-1.28 - 1.25 + 0.8) / 3, abs=1e-6)
