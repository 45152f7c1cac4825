"""verl's V1 sync trainer with what DAPO still needs there. The algorithm is verl's; this file adds

1. the cap on dynamic sampling: `algorithm.filter_groups.max_num_gen_batches` x `data.train_batch_size` prompts a step,
   the first batch counted. verl's trainer reads the key, warns and samples on, for ever where every reward is the same;
2. each part of the reward before and after filtering, and the share of groups whose rewards are all equal. verl logs
   what is left after filtering, which always has variance;
3. metrics.jsonl and samples.jsonl in the run's folder, as src/grpo.py writes them, cut back to the checkpoint on a
   resume.

It overrides methods that verl keeps private, so it belongs to the pinned verl version. Runs inside Ray.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import ray
import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer import main_ppo
from verl.trainer.ppo.v1 import trainer_base
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from rewards import score
from run_context import append_jsonl, drop_after
from samples import Sample, frame, write_samples

Parts = Mapping[str, float]  # one completion: score, format, correctness, syntax, em, es, …
AGREEMENT = 0.99  # bf16 alone keeps the correlation above 0.999; the rollout on stale weights had 0.98
SHOWN = {  # logged key -> the short name in the progress line
    "reward/before_filter/score": "reward",
    "reward/after_filter/score": "kept",
    "reward/before_filter/format": "format",
    "reward/before_filter/es": "similarity",
    "reward/before_filter/em": "EM",
    "groups/zero_variance_share": "zero-variance",
    "groups/sampled": "groups",
    "response_length/mean": "length",
    "response_length/clip_ratio": "clipped",
    "actor/pg_clipfrac": "clip fraction",
    "actor/grad_norm": "gradient",
    "timing_s/step": "seconds",
}


def group_of(key: str) -> str:
    """The prompt's uid in a trajectory key `{uid}_{session}_{index}`."""
    return key.split("_")[0]


def read_parts(keys: Iterable[str], partition_id: str) -> dict[str, Parts]:
    """trajectory key -> the parts of its reward, as compute_score returned them."""
    keys = list(keys)
    if not keys:
        return {}
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
    """What dynamic sampling did in one step, from every completion by trajectory key.

    A group has zero variance where all its scores are equal: GRPO's advantages are then all 0.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for key, parts in {**discarded, **selected}.items():
        scores[group_of(key)].append(float(parts["score"]))
    flat = sum(1 for found in scores.values() if len(set(found)) == 1)
    return {
        "groups/sampled": len(scores),
        "groups/zero_variance": flat,
        "groups/zero_variance_share": flat / len(scores),
        "groups/generation_batches": len(scores) / batch_size,
        **means([*discarded.values(), *selected.values()], "reward/before_filter"),
        **means(selected.values(), "reward/after_filter"),
    }


class DapoReplayBuffer(ReplayBuffer):
    """verl's buffer; it remembers the rewards of the groups that it throws away."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.discarded: dict[str, Parts] = {}

    def _clear_groups(self, partition_id: str, uids: set[str]) -> None:
        # Evicted groups and surplus ones both leave through here, and nothing else does.
        keys = [key for key in self.partitions[partition_id] if group_of(key) in uids]
        self.discarded.update(read_parts(keys, partition_id))
        super()._clear_groups(partition_id, uids)

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[KVBatchMeta, dict]:
        self.discarded = {}
        batch, metrics = super().sample(global_steps, partition_id, batch_size)
        if partition_id == "train":
            selected = read_parts(batch.keys, partition_id)
            metrics |= filter_metrics(self.discarded, selected, batch_size)
        return batch, metrics


class GenerationCapError(RuntimeError):
    """Dynamic sampling found too few groups with different rewards."""


class DapoTrainer(PPOTrainerSync):
    """PPOTrainerSync with the additions of the module docstring."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.folder = Path(config.trainer.default_local_dir)
        self.prompts_sampled = 0

    def _build_replay_buffer(self) -> ReplayBuffer:
        groups, sampler = self.config.algorithm.filter_groups, self.config.trainer.v1.sampler
        return DapoReplayBuffer(
            trainer_mode=self.trainer_mode,
            trainer_config=self.config.trainer.v1.get(self.trainer_mode, {}),
            max_off_policy_threshold=sampler.max_off_policy_threshold,
            max_off_policy_strategy=sampler.max_off_policy_strategy,
            sampler_kwargs=sampler.sampler_kwargs,
            refill_fn=self._add_prompts_to_generate,
            filter_groups_metric=str(groups.metric) if groups.enable else None,
            train_batch_size=self.config.data.train_batch_size,
            gen_batch_size=1,
            max_inflight_gen_batches=groups.max_inflight_gen_batches,
            sync_refill_failed_groups=sampler.sync_refill_failed_groups,
        )

    # --- the cap ------------------------------------------------------------------------------------------------------

    def prepare_step(self) -> dict:
        self.prompts_sampled = 0
        return super().prepare_step()

    def _submit_batch_to_rollout(self, batch: Any) -> int:
        # The step's first batch and every refill come through here.
        groups, batch_size = self.config.algorithm.filter_groups, self.config.data.train_batch_size
        limit = groups.max_num_gen_batches * batch_size
        if groups.enable and self.prompts_sampled + len(batch) > limit:
            raise GenerationCapError(self._cap_message(limit))
        self.prompts_sampled += len(batch)
        return super()._submit_batch_to_rollout(batch)

    def _cap_message(self, limit: int) -> str:
        discarded = self.replay_buffer.discarded
        flat = len({group_of(key) for key in discarded})
        mean = np.mean([parts["score"] for parts in discarded.values()]) if discarded else float("nan")
        return (
            f"step {self.global_steps}: dynamic sampling wants more than {limit} prompts "
            f"({self.config.algorithm.filter_groups.max_num_gen_batches} generation batches of "
            f"{self.config.data.train_batch_size}); {self.prompts_sampled} were sampled, and {flat} groups had equal "
            f"rewards (mean score {mean:+.2f}). A policy that writes no valid answer, or data that it has mastered, "
            "gives no signal: look at samples.jsonl, or raise algorithm.filter_groups.max_num_gen_batches"
        )

    # --- the logs -----------------------------------------------------------------------------------------------------

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        for name in ("metrics.jsonl", "samples.jsonl"):
            drop_after(self.folder / name, self.global_steps)

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict, timing_raw: dict, global_steps: int, epoch: int
    ) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        values = {
            key: float(value) for key, value in metrics.items() if np.ndim(value) == 0 and not isinstance(value, dict)
        }
        append_jsonl(self.folder / "metrics.jsonl", {"step": global_steps, "time": round(time.time(), 1), **values})
        samples = self._samples(batch, global_steps)
        write_samples(self.folder / "samples.jsonl", samples)
        print(frame(max(samples, key=lambda sample: sample.rewards["score"])))
        shown = [f"{name} {values[key]:.3g}" for key, name in SHOWN.items() if key in values]
        print(f"step {global_steps}/{self.total_training_steps}  " + "  ".join(shown), flush=True)
        agreement = values.get("training/rollout_actor_probs_pearson_corr", 1.0)
        if agreement < AGREEMENT:
            print(
                f"warning: step {global_steps}: the rollout's probabilities and the policy's correlate at "
                f"{agreement:.4f}: the rollout may not have the policy's weights",
                flush=True,
            )

    def _samples(self, batch: KVBatchMeta, step: int) -> list[Sample]:
        """Every completion that the step trained on."""
        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        fields = ["responses", "advantages", "extra_fields", "reward_model", "extra_info"]
        data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=fields)
        plain = {name: [getattr(value, "data", value) for value in data[name]] for name in fields[2:]}
        samples = []
        for i, (response, advantage) in enumerate(zip(data["responses"], data["advantages"], strict=True)):
            completion = self.tokenizer.decode(response, skip_special_tokens=True)
            target = plain["reward_model"][i]["ground_truth"]
            samples.append(
                Sample(
                    step=step,
                    record_id=plain["extra_info"][i]["record_id"],
                    completion=completion,
                    target=target,
                    rewards={key: float(value) for key, value in plain["extra_fields"][i]["reward_extra_info"].items()},
                    advantage=float(advantage[0]),
                    reason=score(completion, target).reason,
                )
            )
        return samples


@ray.remote(num_cpus=1)
class DapoRunner(main_ppo.TaskRunnerV1.__ray_metadata__.modified_class):
    """verl's task runner with our trainer in the place of "sync" (another name would select the asynchronous
    buffer)."""

    def run(self, config: Any) -> None:
        trainer_base.TRAINER_REGISTRY["sync"] = DapoTrainer
        main_ppo.pprint = lambda *args: None  # 600 lines of configuration, which run.json holds
        super().run(config)
