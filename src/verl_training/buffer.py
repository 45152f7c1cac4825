"""verl's replay buffer with a limit on dynamic sampling, and metrics of what it discards. Runs inside Ray.

verl's V1 trainer reads `algorithm.filter_groups.max_num_gen_batches` but only warns: it keeps sampling, forever if all
rewards of a group are equal. It logs rewards only after filtering, when every group has variance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from common.errors import ReCodeError

Parts = Mapping[str, float]  # one completion: score, format, correctness, syntax, em, es, …


class GenerationCapError(ReCodeError):
    """Dynamic sampling reached its limit with too few groups of different rewards."""


def group_of(key: str) -> str:
    """The prompt's uid in a trajectory key `{uid}_{session}_{index}`."""
    return key.split("_")[0]


def read_parts(keys: list[str], partition_id: str) -> dict[str, Parts]:
    """trajectory key -> the parts of its reward that compute_score returned."""
    data = tq.kv_batch_get(keys=keys, partition_id=partition_id, select_fields=["extra_fields"])
    fields = [getattr(value, "data", value) for value in data["extra_fields"]]
    return {key: field.get("reward_extra_info", {}) for key, field in zip(keys, fields, strict=True)}


def means(parts: Iterable[Parts], prefix: str) -> dict[str, float]:
    """The mean of every part, under `prefix`."""
    values: dict[str, list[float]] = defaultdict(list)
    for one in parts:
        for name, value in one.items():
            values[name].append(float(value))
    return {f"{prefix}/{name}": float(np.mean(found)) for name, found in values.items()}


def filter_metrics(discarded: Mapping[str, Parts], selected: Mapping[str, Parts], batch_size: int) -> dict[str, float]:
    """The metrics of one step of dynamic sampling, from the reward parts of all completions by trajectory key.

    A group has zero variance if all its scores are equal: GRPO's advantages are then all 0.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for key, parts in {**discarded, **selected}.items():
        scores[group_of(key)].append(float(parts["score"]))
    flat = sum(1 for found in scores.values() if len(found) > 1 and len(set(found)) == 1)
    return {
        "groups/sampled": len(scores),
        "groups/zero_variance": flat,
        "groups/zero_variance_share": flat / len(scores),
        "groups/generation_batches": len(scores) / batch_size,
        **means([*discarded.values(), *selected.values()], "reward/before_filter"),
        **means(selected.values(), "reward/after_filter"),
    }


class DapoReplayBuffer(ReplayBuffer):
    """Samples at most `max_num_gen_batches` batches of `train_batch_size` prompts in a step, the first one included.

    If too few groups are usable after that, `sample` raises GenerationCapError; 0 means no limit. `on_discard` gets the
    keys of the discarded completions while they can still be read.
    """

    def __init__(
        self,
        *,
        refill_fn: Callable[[int], int],
        train_batch_size: int,
        max_num_gen_batches: int = 0,
        on_discard: Callable[[list[str]], object] = lambda keys: None,
        **kwargs: Any,
    ) -> None:
        super().__init__(refill_fn=self._refill, train_batch_size=train_batch_size, **kwargs)
        self.submit, self.on_discard = refill_fn, on_discard
        self.allowed = f"{max_num_gen_batches} batches of {train_batch_size}"
        self.limit = max_num_gen_batches * train_batch_size or float("inf")
        self.sampled, self.exhausted = 0, False  # prompts of this step; whether a refill was cut
        self.discarded: dict[str, Parts] = {}

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[KVBatchMeta, dict]:
        self.discarded, self.sampled, self.exhausted = {}, batch_size, False  # the trainer has sent the first batch
        batch, metrics = super().sample(global_steps, partition_id, batch_size)
        if partition_id == "train":
            metrics |= filter_metrics(self.discarded, read_parts(batch.keys, partition_id), batch_size)
        return batch, metrics

    def _refill(self, count: int) -> int:
        sent = int(min(count, self.limit - self.sampled))
        self.exhausted |= sent < count
        self.sampled += sent
        return self.submit(sent) if sent else 0

    def _clear_groups(self, partition_id: str, uids: set[str]) -> None:
        # Called for evicted and for surplus groups, and for nothing else.
        keys = [key for key in self.partitions[partition_id] if group_of(key) in uids]
        if keys and partition_id == "train":
            self.discarded.update(read_parts(keys, partition_id))
            self.on_discard(keys)
        super()._clear_groups(partition_id, uids)

    def _wait_for_next_poll(self, partition_id: str, last_debug_time: float) -> float:
        # verl waits here for prompts that are being sampled. If there are none and no refill is left, it waits forever.
        inflight = self.pending_keys[partition_id] | self.running_keys[partition_id]
        if partition_id != "train" or not self.exhausted or inflight:
            return super()._wait_for_next_poll(partition_id, last_debug_time)
        flat = len({group_of(key) for key in self.discarded})
        mean = np.mean([parts["score"] for parts in self.discarded.values()])
        raise GenerationCapError(
            f"{self.sampled} prompts were sampled (algorithm.filter_groups.max_num_gen_batches allows {self.allowed}), "
            f"and {flat} groups had an equal {self.filter_groups_metric} (their mean score {mean:+.2f}): too few are "
            "left for a step. A policy that writes no valid answer, or that already solves the data, gives no signal: "
            "read rollouts.jsonl, or raise the limit"
        )
