"""trl's GRPOTrainer with additions: fast DoRA rollouts, a log of rollouts, a guard for vLLM's weight sync, an order of
prompts that survives a resume, seeds that vLLM does not reset, no embedding hooks that pile up at every step, and this
project's model card.

The algorithm is trl's. This file overrides private methods, so it belongs to the pinned trl version.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import mul
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from trl import GRPOConfig, GRPOTrainer

from adapters import base_weights_kept, rollout_policy
from common.models import own_sampling
from common.run_logs import Rollout, frame, write_rollouts
from rollouts import Decoding, complete
from trl_training.model_card import WithModelCard
from trl_training.samplers import EpochSampler, whole_epochs
from trl_training.shared_prompt import SharesPrompts


def rank_seed(seed: int, process: int, tensor_parallel: int) -> int:
    """The seed of a process; the ranks of a tensor-parallel group share one."""
    return seed + process // tensor_parallel


def share_of_flat(totals: Sequence[float], group: int) -> float:
    """The share of groups with equal rewards, which give no gradient.

    trl compares the standard deviation with 0 in float32, where that of eight equal rewards is often 1e-7.
    """
    groups = [totals[start : start + group] for start in range(0, len(totals), group)]
    return sum(len(set(one)) == 1 for one in groups) / len(groups)


class DoraGRPOTrainer(SharesPrompts, WithModelCard, GRPOTrainer):
    """`generation`: merge, cache or stock (src/adapters.py). `rollouts`, `shared_prompt`: trl_training/techniques.py.
    `print_samples`: rollouts printed per logged step."""

    args: GRPOConfig

    def __init__(
        self,
        *args: Any,
        generation: str = "merge",
        rollouts: str = "transformers",
        shared_prompt: bool = False,
        print_samples: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.generation = generation
        self.rollouts = rollouts
        self.share_prompts(shared_prompt)
        self._copies: dict[int, torch.Tensor] | None = None
        if rollouts == "compiled":  # transformers keeps the static cache, and compiles what decodes with it
            self._copies = {}
            self.generation_config.disable_compile = False
            self.generation_config.cache_implementation = "static"
        self.print_samples = print_samples
        self._unlogged_rollouts = False
        if self.use_vllm and self.vllm_mode == "colocate":
            # The engine has just reset this process's generators to a seed that ignores args.seed. As in trl, ranks
            # differ, except within a tensor-parallel group, whose ranks must sample the same tokens. A server has
            # processes of its own, and leaves these generators alone.
            set_seed(rank_seed(self.args.seed, self.accelerator.process_index, self.args.vllm_tensor_parallel_size))
        model: Any = self.model
        if hasattr(model, "peft_config"):
            # trl has already added the embedding hook that checkpointing needs. transformers would add another each
            # time trl switches checkpointing back on, twice per step, and each hook slows every generated token.
            model.get_base_model().enable_input_require_grads = lambda: None
            if self.use_vllm and self.vllm_mode == "server":
                self._describe_weights(model)

    def _describe_weights(self, model: Any) -> None:
        """Names, dtypes and shapes of the weights, which trl announces to the server before it sends them.

        trl would collect them in the first sync, by a merge and a subtraction of its own: in bf16 the weights that it
        then sends would start from a base that these have already changed.
        """
        generation = self.vllm_generation
        with base_weights_kept(model):
            generation._weight_metadata = [
                (name, str(weight.dtype).removeprefix("torch."), list(weight.shape))
                for name, weight in generation._iter_named_params()
            ]

    def _get_train_sampler(self, dataset: Any = None) -> EpochSampler:
        sampler: Any = super()._get_train_sampler(dataset)
        return EpochSampler(sampler, lambda: whole_epochs(self.state))

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        tokenizer: Any = self.processing_class
        # A rendered prompt has its special tokens already (src/common/chat.py); trl would add BOS, and eos if the
        # tokenizer adds one.
        return tokenizer(text=prompts, add_special_tokens=False)["input_ids"], None, {}

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
        model: Any = self.accelerator.unwrap_model(self.model)
        has_adapter = hasattr(model, "peft_config")
        context: AbstractContextManager[None]
        if not has_adapter:
            context = nullcontext()
        elif self.use_vllm:
            context = base_weights_kept(model)
        else:
            context = rollout_policy(model, self.generation, self._copies)
        with context, own_sampling(model.get_base_model() if has_adapter else model):
            if self.rollouts == "shared":
                return self._complete(model, prompt_ids), None
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)

    def _complete(self, model: Any, prompts: list[list[int]]) -> list[list[int]]:
        args = self.args
        decoding = Decoding(args.temperature, args.top_p, args.top_k or 0, args.min_p or 0.0)
        uniforms = torch.rand(len(prompts), args.max_completion_length, dtype=torch.float64)
        return complete(model, prompts, uniforms, self.eos_token_ids, decoding)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        for column in ("record_id", "target"):  # trl logs prompts and rewards; rollouts need these too
            self._log_completion_extra(column, [row[column] for row in inputs])
        self._unlogged_rollouts = True
        scored = super()._generate_and_score_completions(inputs)
        rewards = zip(*self._logs["rewards"].values(), strict=True)
        totals = [sum(map(mul, self.reward_weights.tolist(), values)) for values in rewards]
        assert self.num_generations is not None
        mode = "train" if self.model.training else "eval"
        self._metrics[mode]["frac_reward_zero_std"][-1] = share_of_flat(totals, self.num_generations)
        return scored

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(logs, start_time)
        # With several updates on a batch of rollouts, the batch is logged at the first of them.
        if self.accelerator.is_main_process and self._unlogged_rollouts:
            self._unlogged_rollouts = False
            self._log_rollouts()

    def _log_rollouts(self) -> None:
        """Write the last batch of completions to rollouts.jsonl, and print the best."""
        logged: dict[str, Any] = self._logs
        extra, rewards = logged["extra"], logged["rewards"]
        columns = (extra["record_id"], extra["target"], logged["completion"], logged["advantages"])
        assert self.num_generations is not None
        reasons = next((extra[f"{name} reason"] for name in rewards if f"{name} reason" in extra), None)
        rollouts = [
            Rollout(
                step=self.state.global_step,
                record_id=record_id,
                group=i // self.num_generations,
                completion=completion,
                target=target,
                rewards={name: values[i] for name, values in rewards.items()},
                advantage=advantage,
                reason=reasons[i] if reasons else "",
            )
            for i, (record_id, target, completion, advantage) in enumerate(zip(*columns, strict=True))
        ]
        write_rollouts(Path(str(self.args.output_dir)), rollouts)
        for rollout in sorted(rollouts, key=lambda r: -sum(r.rewards.values()))[: self.print_samples]:
            print(frame(rollout), flush=True)
