"""trl's GRPOTrainer with what it lacks: fast DoRA rollouts, a sample log, a guard for vLLM's weight sync, an order of
prompts that survives a resume, seeds that vLLM does not reset, one hook on the embedding instead of two more a step.

The algorithm is trl's. This file overrides methods that trl keeps private, so it belongs to the pinned trl version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed
from trl import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from adapters import base_weights_kept, rollout_policy
from common.run_logs import Sample, frame, write_samples
from rewards import score


class EpochSampler(RepeatSampler):
    """trl's sampler with an order that follows from the seed and the epoch alone.

    trl's own draws each epoch's order from one generator that starts afresh in a resumed run: there the second epoch
    repeats the order of the first, and a resume within it skips prompts of another order than the one trained on.
    """

    def __init__(self, base: RepeatSampler, epoch: Callable[[], int]) -> None:
        super().__init__(
            base.data_source, base.mini_repeat_count, base.batch_size, base.repeat_count, base.shuffle, base.seed
        )
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            self.generator.manual_seed(self.seed + self.epoch())
        return super().__iter__()


def rank_seed(seed: int, process: int, tensor_parallel: int) -> int:
    """The seed of a process: its own, but one for the ranks of a tensor-parallel group."""
    return seed + process // tensor_parallel


class DoraGRPOTrainer(GRPOTrainer):
    """`generation`: merge, cache or stock (src/adapters.py). `print_samples`: framed samples shown per logged step."""

    def __init__(self, *args: Any, generation: str = "merge", print_samples: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.generation = generation
        self.print_samples = print_samples
        self._unlogged_rollouts = False
        if self.use_vllm and self.vllm_mode == "colocate":
            # The engine has just reset this process's generators to a seed that ignores args.seed. As in trl, ranks
            # differ, except within a tensor-parallel group, whose ranks must sample the same tokens.
            set_seed(rank_seed(self.args.seed, self.accelerator.process_index, self.args.vllm_tensor_parallel_size))
        if hasattr(self.model, "peft_config"):
            # trl has put the hook on the embedding that checkpointing needs. transformers would add another one every
            # time trl switches checkpointing back on, twice a step, and each slows every generated token down.
            self.model.get_base_model().enable_input_require_grads = lambda: None

    def _get_train_sampler(self, dataset: Any = None) -> EpochSampler:
        # state.epoch counts fractions of an epoch, in a resumed run too; rounding mends 2.9999999.
        return EpochSampler(super()._get_train_sampler(dataset), lambda: int(round(self.state.epoch or 0, 6)))

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        model = self.accelerator.unwrap_model(self.model)
        if not hasattr(model, "peft_config"):
            context = nullcontext()
        elif self.use_vllm:
            context = base_weights_kept(model)
        else:
            context = rollout_policy(model, self.generation)
        with context:
            return super()._generate_single_turn(*args, **kwargs)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        for column in ("record_id", "target"):  # trl keeps prompts and rewards of a batch, the sample log needs these
            self._log_completion_extra(column, [row[column] for row in inputs])
        self._unlogged_rollouts = True
        return super()._generate_and_score_completions(inputs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(logs, start_time)
        # With several updates on a batch of rollouts, the batch is logged at the first of them.
        if self.accelerator.is_main_process and self._unlogged_rollouts:
            self._unlogged_rollouts = False
            self._log_samples()

    def _log_samples(self) -> None:
        """Write the last batch of completions to samples.jsonl, best first on the screen."""
        logged = self._logs
        names = list(logged["rewards"])
        columns = (logged["extra"]["record_id"], logged["extra"]["target"], logged["completion"], logged["advantages"])
        samples = [
            Sample(
                step=self.state.global_step,
                record_id=record_id,
                completion=completion,
                target=target,
                rewards={name: logged["rewards"][name][i] for name in names},
                advantage=advantage,
                reason=score(completion, target).reason,
            )
            for i, (record_id, target, completion, advantage) in enumerate(zip(*columns, strict=True))
        ]
        write_samples(Path(self.args.output_dir) / "samples.jsonl", samples)
        for sample in sorted(samples, key=lambda s: -sum(s.rewards.values()))[: self.print_samples]:
            print(frame(sample), flush=True)
