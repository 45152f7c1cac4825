"""A resumed SFT run trains on the records that an uninterrupted one would train on."""

from __future__ import annotations

import pytest
from datasets import Dataset
from transformers import AutoTokenizer
from trl import SFTConfig

from adapters import adapter_config
from trl_training.sft_trainer import CardSFTTrainer


def records_of(model, out, strategy: str, checkpoint: str | None = None) -> list[list[int]]:
    """The records of each step: 12 of different lengths, two a step, so that an epoch has six steps."""
    lengths = [4 + 3 * (i % 7) for i in range(12)]
    rows = [{"input_ids": [10 + i] * n, "completion_mask": [0] + [1] * (n - 1)} for i, n in enumerate(lengths)]
    args = SFTConfig(
        str(out),
        train_sampling_strategy=strategy,
        per_device_train_batch_size=2,
        completion_only_loss=True,
        **{"max_steps": 10, "save_steps": 4, "use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True},
    )
    trainer = CardSFTTrainer(
        model=str(model),
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=adapter_config(4, 4, 0.1),
    )
    found, step = [], trainer.training_step

    def noted(model, inputs, *rest):
        found.append(sorted(inputs["input_ids"][:, 0].tolist()))
        return step(model, inputs, *rest)

    trainer.training_step = noted
    trainer.train(resume_from_checkpoint=checkpoint)
    return found


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_a_resume_continues_the_order_of_its_epoch(strategy, random_model, tmp_path):
    whole = records_of(random_model, tmp_path, strategy)
    first, second = ([record for step in steps for record in step] for steps in (whole[:6], whole[6:]))
    assert sorted(first) == list(range(10, 22))
    assert len(set(second)) == 8
    assert second != first[:8]
    for done in (4, 8):  # within the first epoch, within the second
        assert records_of(random_model, tmp_path, strategy, str(tmp_path / f"checkpoint-{done}")) == whole[done:]
