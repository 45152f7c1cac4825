"""DAPO end to end on a CPU: verl's real trainer, Ray, FSDP2, TransferQueue and the real reward, on a tiny warmed
model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY_ROWS, run_script
from verl_runs import OTHER, kill_after, lines, settings

from verl_training import checkpoint as verl_checkpoint
from verl_training import resume as dapo_resume

pytest.importorskip("hydra", reason="requirements/dapo.txt is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
NAME = ("--config-name", "quickstart/dapo")
FLOAT32 = [
    "actor_rollout_ref.rollout.dtype=float32",
    "+actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=fp32",
]


@pytest.fixture(scope="module")
def overrides(tiny_data, tmp_path_factory):
    """A function: overrides for a run in a folder of its own, its data prepared."""
    other = tmp_path_factory.mktemp("other") / "other.jsonl"
    other.write_text(json.dumps(OTHER) + "\n")

    def make(run: Path, model: Path, *more: str) -> list[str]:
        found = settings(tiny_data, run, model, f"recode.val_data={other}", *FLOAT32, *more)
        run_script("data_process.py", *NAME, *found)
        return found

    return make


@pytest.fixture(scope="module")
def killed(warm_model, overrides, tmp_path_factory):
    """(folder, output of the second start) of a run that got SIGKILL in the middle of step 3 and was started again.

    The filter's metric is exact match. Of the four tiny records the warmed model answers about a quarter right, and of
    two more records none, so their groups are flat.
    """
    run = tmp_path_factory.mktemp("dapo") / "run"
    data = tmp_path_factory.mktemp("data") / "six.jsonl"
    unheard = {"update_info": "simps was renamed to simpson.", "new_code": "area = 3 * area"}
    never_right = [{**row, **unheard} for row in TINY_ROWS[:2]]
    data.write_text("".join(json.dumps(row) + "\n" for row in [*TINY_ROWS, *never_right]))
    more = [f"recode.data={data}"]
    more += ["recode.lora_r=4", "recode.lora_alpha=8", "trainer.total_training_steps=4", "trainer.save_freq=1"]
    more += ["algorithm.filter_groups.metric=em", "algorithm.filter_groups.max_num_gen_batches=30"]
    more += ["actor_rollout_ref.rollout.temperature=0.3", "trainer.max_actor_ckpt_to_keep=null"]
    found = overrides(run, warm_model, *more)
    kill_after(2, run, [sys.executable, str(ROOT / "src" / "dapo.py"), *NAME, *found])
    (run / "global_step_3").mkdir(exist_ok=True)  # what a kill while saving leaves
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "cut')  # and while logging
    return run, run_script("dapo.py", *NAME, *found).stdout


def test_a_killed_run_resumes_from_its_last_checkpoint(killed):
    run, said = killed
    assert f"resuming from {run}/global_step_2" in said
    assert [row["step"] for row in lines(run / "metrics.jsonl")] == [1, 2, 3, 4]
    trained = [row["step"] for row in lines(run / "rollouts.jsonl") if row["advantage"] is not None]
    assert trained == [1] * 16 + [2] * 16 + [3] * 16 + [4] * 16
    starts = json.loads((run / "run.json").read_text())["starts"]
    assert [start["resumed_from"] for start in starts] == [None, f"{run}/global_step_2"]
    assert dapo_resume.last_checkpoint(run).name == "global_step_4"
    # The optimizer was resumed too: it has taken two updates in each of four steps.
    optimizer = torch.load(run / "global_step_4" / "actor" / "optim_world_size_1_rank_0.pt", weights_only=False)
    assert {int(state["step"]) for state in optimizer["state"].values()} == {8}


def test_what_a_run_logs(killed):
    run, _ = killed
    rows = lines(run / "metrics.jsonl")
    evicted = sum(row.get("training/filter_groups/evicted_samples", 0) for row in rows)
    assert evicted > 0
    thrown_away = [sample for sample in lines(run / "rollouts.jsonl") if sample["advantage"] is None]
    surplus = sum(row.get("training/filter_groups/discarded_surplus_samples", 0) for row in rows)
    assert len(thrown_away) == 8 * (evicted + surplus)
    for row in rows:
        share = row["groups/zero_variance"] / row["groups/sampled"]
        # Of the score: equal scores are rarer than equal matches, by which this run filters.
        assert row["groups/zero_variance_share"] == pytest.approx(share)
        assert 0 <= row["actor/pg_clipfrac"] <= 1
        assert row["actor/grad_norm"] > 0
        for part in ("score", "format", "correctness", "syntax", "em", "es"):
            assert {f"reward/before_filter/{part}", f"reward/after_filter/{part}"} <= set(row)
        assert 0 < row["reward/after_filter/em"] < 1  # each kept group has right and wrong answers
        # The policy that sampled is the policy that is trained, after updates and after the resume.
        assert row["training/rollout_actor_probs_pearson_corr"] > 0.9999
    for sample in lines(run / "rollouts.jsonl"):
        assert sample["rewards"]["score"] == sample["rewards"]["format"] + sample["rewards"]["correctness"]
    groups: dict = {}
    for sample in lines(run / "rollouts.jsonl"):
        if sample["advantage"] is None:
            continue
        groups.setdefault((sample["step"], sample["group"]), []).append(sample["advantage"])
    assert {len(group) for group in groups.values()} == {8}
    assert all(max(group) > 0 > min(group) for group in groups.values())


def test_the_adapter_has_moved_and_loads(killed, tmp_path):
    from peft.utils import load_peft_weights

    run, _ = killed
    start = load_peft_weights(str(run / "adapter_init"))
    last = verl_checkpoint.read_weights(run / "global_step_4")
    magnitude = "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"
    assert not torch.equal(last[f"{magnitude}.default.weight"], start[magnitude])
    assert all(value.abs().max() > 0 for name, value in last.items() if "lora_B" in name)  # B starts at 0
    assert all(value.dtype == torch.float32 for value in last.values())
    done = run_script("merge_adapter.py", "--checkpoint", run / "global_step_4", "--out", tmp_path / "merged")
    assert str(tmp_path / "merged") in done.stdout
    assert json.loads((tmp_path / "merged" / "merged_from.json").read_text())["prompt"] == "paper"
    assert not (run / "adapter_init" / "README.md").exists()  # peft's empty card
    text = (tmp_path / "merged" / "README.md").read_text()
    assert "with a DoRA adapter merged into it, trained with DAPO." in text
    assert "DAPO, 4 steps." in text


def test_all_weights_with_validation_and_dm_star(warm_model, overrides, tmp_path):
    run = tmp_path / "full"
    where = "reward.custom_reward_function"
    more = ["recode.adapter=full", "trainer.total_training_steps=1", "trainer.save_freq=1", "trainer.test_freq=1"]
    more += ["trainer.val_before_train=true"]
    more += [f"{where}.path=src/diff_match.py", f"{where}.reward_kwargs.reward='format,dm_star'"]
    found = overrides(run, warm_model, *more, "actor_rollout_ref.rollout.temperature=0.7")
    run_script("dapo.py", *NAME, *found)
    before, row = lines(run / "metrics.jsonl")
    assert (before["step"], row["step"]) == (0, 1)
    assert {"val-core/recode/reward/mean@1"} <= set(before) & set(row)
    parts = {name: row[f"reward/before_filter/{name}"] for name in ("score", "format", "dm_star")}
    assert parts["score"] == pytest.approx(parts["format"] + parts["dm_star"])
    run_script("merge_adapter.py", "--checkpoint", run / "global_step_1", "--out", tmp_path / "m", "--dtype", "float32")
    from safetensors.torch import load_file

    before, after = load_file(warm_model / "model.safetensors"), load_file(tmp_path / "m" / "model.safetensors")
    assert set(before) == set(after)
    assert all(not torch.equal(before[name].float(), after[name]) for name in before if "weight" in name)


def test_rewards_without_variance_end_in_one_line(random_model, overrides, tmp_path):
    run = tmp_path / "flat"
    found = overrides(run, random_model, "algorithm.filter_groups.max_num_gen_batches=2", "data.max_response_length=16")
    done = run_script(
        "dapo.py", *NAME, *found, check=False, env={"CUDA_VISIBLE_DEVICES": ""}
    )  # as dapo.sh --cpu has it
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    # Random weights never write the tags: every score is -1 - 2 = -3. The first batch of 2 prompts counts.
    assert last.startswith("dapo: 4 prompts were sampled (algorithm.filter_groups.max_num_gen_batches allows 2 batches")
    assert "4 groups had an equal score (their mean score -3.00)" in last
    assert [row["rewards"]["score"] for row in lines(run / "rollouts.jsonl")] == [
        -3.0
    ] * 4 * 8  # the message names this file
    # The same folder with another adapter: nothing of the first start is kept.
    adapter = json.loads((run / "adapter_init" / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["use_dora"]) == (64, True)
    run_script("dapo.py", *NAME, *found, "recode.lora_r=2", check=False)
    assert json.loads((run / "adapter_init" / "adapter_config.json").read_text())["r"] == 2


def test_gpus_that_ray_does_not_have_end_in_one_line(random_model, overrides, tmp_path):
    """verl would wait forever for the second one."""
    more = ["trainer.n_gpus_per_node=2", "ray_kwargs.ray_init.num_cpus=9"]
    done = run_script("dapo.py", *NAME, *overrides(tmp_path / "run", random_model, *more), check=False)
    message = "dapo: needs 1 node(s) with 2 GPU(s) and 6 CPUs, Ray has 0 of 1: set trainer.nnodes and"
    assert (done.returncode, done.stderr.splitlines()[-1].startswith(message)) == (2, True), done.stderr
