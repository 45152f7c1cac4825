"""Dynamic sampling: verl's real replay buffer over TransferQueue, on groups with given rewards."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("hydra", reason="requirements/dapo.txt is not installed")


@pytest.fixture(scope="module")
def queue(verl):
    """A running TransferQueue in a local Ray."""
    import ray
    import transfer_queue as tq

    from verl_training import config as verl_config

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    config = verl_config.compose("quickstart/dapo").transfer_queue
    config.enable = True
    tq.init(config)
    yield tq
    tq.close()
    ray.shutdown()


def put_group(tq, uid: str, scores: list[float]) -> None:
    """A finished group as verl's agent loop leaves it: one trajectory per score."""
    from verl.utils.tensordict_utils import list_of_dict_to_tensordict

    rows = [
        {
            "rm_scores": torch.tensor([0.0, score]),
            "extra_fields": {"reward_extra_info": {"score": score, "format": 1.0 if score > 0 else -1.0}},
        }
        for score in scores
    ]
    tq.kv_batch_put(
        keys=[f"{uid}_{i}_0" for i in range(len(scores))],
        fields=list_of_dict_to_tensordict(rows),
        tags=[{"status": "success", "global_steps": 1} for _ in scores],
        partition_id="train",
    )
    tq.kv_batch_put(
        keys=[uid], partition_id="train", tags=[{"is_prompt": True, "status": "finished", "global_steps": 1}]
    )


def make_buffer(refill, metric: str = "score", cap: int = 0, on_discard=lambda keys: None):
    from verl_training.buffer import DapoReplayBuffer

    return DapoReplayBuffer(
        trainer_mode="sync",
        trainer_config={},
        max_off_policy_threshold=8,
        max_off_policy_strategy="drop",
        sampler_kwargs={},
        poll_interval=0.05,
        refill_fn=refill,
        max_num_gen_batches=cap,
        on_discard=on_discard,
        filter_groups_metric=metric,
        train_batch_size=2,
        gen_batch_size=1,
        max_inflight_gen_batches=1,
    )


def test_flat_groups_are_evicted_refilled_and_counted(queue):
    # b and d are flat. One eviction gives two refills (verl's over-sampling), and only two slots are free at a time.
    waiting = {"c": [-1.0, 2.0], "d": [-1.0, -1.0], "e": [0.0, 1.0]}
    asked = []

    def refill(count: int) -> int:
        asked.append(count)
        for _ in range(count):
            uid = next(iter(waiting))
            put_group(queue, uid, waiting.pop(uid))
        return count

    put_group(queue, "a", [3.0, 1.0])
    put_group(queue, "b", [2.0, 2.0])
    discarded = []
    batch, metrics = make_buffer(refill, on_discard=discarded.extend).sample(1, "train", 2)
    assert sorted(discarded) == ["b_0_0", "b_1_0", "d_0_0", "d_1_0"]
    assert asked == [2]  # c and d came for b; a and c are enough, so d is evicted and e stays in `waiting`
    assert sorted(batch.keys) == ["a_0_0", "a_1_0", "c_0_0", "c_1_0"]
    assert list(waiting) == ["e"]
    assert (metrics["groups/sampled"], metrics["groups/zero_variance"]) == (4, 2)
    assert metrics["groups/zero_variance_share"] == 2 / 4
    assert metrics["groups/generation_batches"] == 4 / 2
    assert metrics["training/filter_groups/evicted_samples"] == 2
    # before: a 3, 1; b 2, 2; c -1, 2; d -1, -1 = 7 / 8. After: a and c: 5 / 4.
    assert metrics["reward/before_filter/score"] == pytest.approx(7 / 8)
    assert metrics["reward/after_filter/score"] == pytest.approx(5 / 4)
    # format is +1 where the score is above 0: before 5 of 8 (5 - 3 = 2), after 3 of 4 (3 - 1 = 2).
    assert metrics["reward/before_filter/format"] == pytest.approx(2 / 8)
    assert metrics["reward/after_filter/format"] == pytest.approx(2 / 4)
    queue.kv_clear(keys=batch.keys, partition_id="train")


def test_surplus_groups_count_as_sampled_and_not_as_flat(queue):
    for uid, scores in {"k": [0.0, 1.0], "l": [0.0, 2.0], "m": [0.0, 3.0]}.items():
        put_group(queue, uid, scores)
    batch, metrics = make_buffer(lambda count: pytest.fail("nothing to refill")).sample(1, "train", 2)
    assert len(batch.keys) == 4
    assert (metrics["groups/sampled"], metrics["groups/zero_variance"]) == (3, 0)
    assert metrics["training/filter_groups/discarded_surplus_samples"] == 1
    assert metrics["reward/before_filter/score"] == pytest.approx(6 / 6)
    queue.kv_clear(keys=batch.keys, partition_id="train")


def test_the_cap_allows_its_last_prompt(queue):
    """2 batches of 2 prompts: the first batch counts, and of the two refills that verl wants for p one may be sent."""
    waiting = [("q", [1.0, 1.0]), ("r", [0.0, 3.0]), ("s", [0.0, 4.0])]
    asked = []

    def refill(count: int) -> int:
        asked.append(count)
        for uid, scores in waiting[:count]:
            put_group(queue, uid, scores)
        del waiting[:count]
        return count

    put_group(queue, "o", [0.0, 1.0])
    put_group(queue, "p", [2.0, 2.0])
    batch, metrics = make_buffer(refill, cap=2).sample(1, "train", 2)
    assert asked == [2]  # 2 + 2 = 4 prompts; q is flat again, but r completes the step
    assert sorted(batch.keys) == ["o_0_0", "o_1_0", "r_0_0", "r_1_0"]
    assert metrics["groups/sampled"] == 4
    queue.kv_clear(keys=batch.keys, partition_id="train")


def test_the_cap_ends_a_step_that_cannot_be_filled(queue):
    from verl_training.buffer import GenerationCapError

    asked = []

    def refill(count: int) -> int:
        asked.append(count)
        for i in range(count):
            put_group(queue, f"flat{len(asked)}x{i}", [1.0, 1.0])
        return count

    put_group(queue, "t", [0.0, 1.0])
    put_group(queue, "u", [2.0, 2.0])
    with pytest.raises(GenerationCapError) as stopped:
        make_buffer(refill, cap=2).sample(1, "train", 2)
    assert sum(asked) == 2  # never more than 4 prompts
    # u and two refills were flat: (2 + 2 + 1 + 1 + 1 + 1) / 6 = 1.33
    assert "4 prompts were sampled (algorithm.filter_groups.max_num_gen_batches allows 2 batches of 2)" in str(
        stopped.value
    )
    assert "3 groups had an equal score (their mean score +1.33)" in str(stopped.value)
    queue.kv_clear(keys=["t", "t_0_0", "t_1_0"], partition_id="train")


def test_a_metric_that_the_reward_lacks_is_an_error(queue):
    put_group(queue, "x", [1.0, 2.0])
    put_group(queue, "y", [1.0, 2.0])
    with pytest.raises(RuntimeError, match="missing DAPO metric 'acc'"):
        make_buffer(lambda count: count, metric="acc").sample(1, "train", 2)
    queue.kv_clear(keys=["x", "y", *(f"{uid}_{i}_0" for uid in "xy" for i in (0, 1))], partition_id="train")
