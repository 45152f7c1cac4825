"""Orders of records that depend only on the seed and the epoch, so that a resumed run continues the one it had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl.trainer.utils import RepeatSampler


def whole_epochs(state: Any) -> int:
    """The epochs that are over. state.epoch counts fractions, in a resumed run too; rounding makes 3 of 2.9999999."""
    return int(round(state.epoch or 0, 6))


class EpochSampler(RepeatSampler):
    """trl's sampler, which draws every epoch's order from one generator, which a resumed run starts from scratch.

    Its second epoch would repeat the order of the first, and a resume within it would skip other prompts than those
    already trained on.
    """

    def __init__(self, base: RepeatSampler, epoch: Callable[[], int]) -> None:
        super().__init__(
            base.data_source, base.mini_repeat_count, base.batch_size, base.repeat_count, base.shuffle, base.seed
        )
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.shuffle and self.seed is not None:
            self.generator.manual_seed(self.seed + self.epoch())
        return super().__iter__()


class EpochLengthSampler(LengthGroupedSampler):
    """transformers' sampler of group_by_length, which draws from torch's generator, that of dropout too.

    A resumed run has it at that place only in the first epoch, whose order stays transformers' own.
    """

    def __init__(self, base: LengthGroupedSampler, seed: int, epoch: Callable[[], int]) -> None:
        super().__init__(base.batch_size, lengths=base.lengths)
        self.seed, self.epoch = seed, epoch

    def __iter__(self) -> Iterator[int]:
        if epoch := self.epoch():
            self.generator = torch.Generator().manual_seed(self.seed + epoch)
        return super().__iter__()
