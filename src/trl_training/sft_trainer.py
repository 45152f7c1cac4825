"""trl's SFTTrainer with this project's model card, and an order of records that survives a resume."""

from __future__ import annotations

from typing import Any

from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import SFTTrainer

from trl_training.model_card import WithModelCard
from trl_training.samplers import EpochLengthSampler, whole_epochs


class CardSFTTrainer(WithModelCard, SFTTrainer):
    """src/sft.py's trainer."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(train_dataset)
        if not isinstance(sampler, LengthGroupedSampler):
            return sampler  # accelerate seeds a random order anew in each epoch
        return EpochLengthSampler(sampler, self.args.data_seed or self.args.seed, lambda: whole_epochs(self.state))
