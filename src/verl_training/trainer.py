"""verl's V1 sync trainer with our own buffer (src/verl_training/buffer.py) and logs. The algorithm is verl's.

metrics.jsonl has one row per step (row 0: validation before training). rollouts.jsonl has every completion: those
trained on with their advantage, those that dynamic sampling discarded without. Both are written before the step's
checkpoint, and a resume cuts them back to its checkpoint.

This file overrides private methods, so it belongs to the pinned verl version. It runs inside Ray.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import ray
import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer import main_ppo
from verl.trainer.ppo.v1 import trainer_base
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from common.files import append_jsonl, drop_after
from common.run_logs import METRICS, Rollout, cut_logs, frame, write_rollouts
from rewards import score
from verl_training.buffer import DapoReplayBuffer, group_of
from verl_training.machine import check_cluster

AGREEMENT = 0.99  # bf16 alone gives 0.998 and more (results/dapo.md), a rollout with stale weights 0.98
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


def scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among the metrics."""
    return {k: float(v) for k, v in metrics.items() if np.ndim(v) == 0 and not isinstance(v, (dict, str))}


class DapoTrainer(PPOTrainerSync):
    """PPOTrainerSync with the additions of the module docstring."""

    def __init__(self, config: Any) -> None:
        self.folder = Path(config.trainer.default_local_dir)
        self._row: tuple[int, Mapping[str, Any]] = (0, {})  # the current step's metrics, not complete yet
        self._groups: dict[str, int] = {}  # a prompt's uid -> number of its group within the current step
        super().__init__(config)

    def _build_replay_buffer(self) -> DapoReplayBuffer:
        sampler = self.config.trainer.v1.sampler
        groups = self.config.algorithm.filter_groups
        return DapoReplayBuffer(
            refill_fn=self._add_prompts_to_generate,
            max_num_gen_batches=groups.max_num_gen_batches,
            on_discard=lambda keys: self._write_rollouts(keys, trained=False),
            trainer_mode=self.trainer_mode,
            trainer_config=self.config.trainer.v1.sync,
            max_off_policy_threshold=sampler.max_off_policy_threshold,
            max_off_policy_strategy=sampler.max_off_policy_strategy,
            sampler_kwargs=sampler.sampler_kwargs,
            filter_groups_metric=self._resolve_filter_groups_metric(),
            train_batch_size=self.config.data.train_batch_size,
            gen_batch_size=1,
            max_inflight_gen_batches=groups.max_inflight_gen_batches,
            sync_refill_failed_groups=sampler.sync_refill_failed_groups,
        )

    def step(self, metrics: dict, timing_raw: dict) -> KVBatchMeta:
        self._groups = {}
        batch = super().step(metrics, timing_raw)
        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        rollouts = self._write_rollouts(keys, trained=True)
        print(frame(max(rollouts, key=lambda rollout: rollout.rewards["score"])))
        self._row = (self.global_steps, metrics)
        return batch

    def _save_checkpoint(self) -> None:
        # The full row follows after verl's validation; a kill in between must not lose the metrics known so far.
        self._write_row(*self._row)
        super()._save_checkpoint()

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        cut_logs(self.folder, self.global_steps)

    def _validate(self) -> dict[str, float]:
        metrics = super()._validate()
        if self.global_steps == 0:
            self._write_row(0, metrics)
        return metrics

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict, timing_raw: dict, global_steps: int, epoch: int
    ) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        if "save_checkpoint" in timing_raw:  # replace the row that _save_checkpoint wrote
            drop_after(self.folder / METRICS, global_steps - 1)
        self._write_row(global_steps, metrics)
        values = scalars(metrics)
        shown = [f"{name} {values[key]:.3g}" for key, name in SHOWN.items() if key in values]
        print(f"step {global_steps}/{self.total_training_steps}  " + "  ".join(shown), flush=True)
        agreement = values.get("training/rollout_actor_probs_pearson_corr", 1.0)
        if agreement < AGREEMENT:
            print(
                f"warning: step {global_steps}: the rollout's probabilities and the policy's correlate at "
                f"{agreement:.4f}: the rollout may not have the policy's weights",
                flush=True,
            )

    def _write_row(self, step: int, metrics: Mapping[str, Any]) -> None:
        append_jsonl(self.folder / METRICS, {"step": step, "time": round(time.time(), 1), **scalars(metrics)})

    def _write_rollouts(self, keys: list[str], *, trained: bool) -> list[Rollout]:
        """Log completions by trajectory key; only those that were trained on have an advantage."""
        objects = ["extra_fields", "reward_model", "extra_info"]
        fields = ["responses", *objects, *(["advantages"] if trained else [])]
        data = tq.kv_batch_get(keys=keys, partition_id="train", select_fields=fields)
        plain = {name: [getattr(value, "data", value) for value in data[name]] for name in objects}
        rollouts = []
        for i, response in enumerate(data["responses"]):
            completion = self.tokenizer.decode(response, skip_special_tokens=True)
            target = plain["reward_model"][i]["ground_truth"]
            parts = plain["extra_fields"][i]["reward_extra_info"]
            rollouts.append(
                Rollout(
                    step=self.global_steps,
                    record_id=plain["extra_info"][i]["record_id"],
                    group=self._groups.setdefault(group_of(keys[i]), len(self._groups)),
                    completion=completion,
                    target=target,
                    rewards={name: float(value) for name, value in parts.items()},
                    advantage=float(data["advantages"][i][0]) if trained else None,
                    reason=score(completion, target).reason,
                )
            )
        write_rollouts(self.folder, rollouts)
        return rollouts


@ray.remote(num_cpus=1)
class DapoRunner(main_ppo.TaskRunnerV1.__ray_metadata__.modified_class):  # type: ignore[name-defined]  # Ray's wrapper
    """verl's task runner with DapoTrainer under the name "sync": any other name selects the asynchronous buffer."""

    def run(self, config: Any) -> None:
        check_cluster(config, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        trainer_base.TRAINER_REGISTRY["sync"] = DapoTrainer
        main_ppo.pprint = lambda *args: None  # 600 lines of configuration, which run.json holds
        super().run(config)
