"""The card of a run is ours in what the pinned transformers uploads, during training and at its end."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace


class Hub:
    """Takes the place of the hub's client; keeps the cards that are uploaded."""

    def __init__(self) -> None:
        self.repositories: list[tuple[str, bool | None]] = []
        self.cards: list[tuple[str, str]] = []  # (commit message, the card)

    def create_repo(self, name, *, private=None, **settings):
        self.repositories.append((name, private))
        return SimpleNamespace(repo_id=name)

    def upload_folder(self, *, folder_path, commit_message, **settings):
        self.cards.append((commit_message, (Path(folder_path) / "README.md").read_text()))
        return SimpleNamespace(done=lambda: True, is_done=lambda: True, result=lambda: None)


def test_every_upload_has_our_card(random_model, tmp_path, monkeypatch):
    import transformers.trainer
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig

    from adapters import adapter_config
    from trl_training.sft_trainer import CardSFTTrainer

    hub = Hub()
    monkeypatch.setattr(transformers.trainer, "hf_api", lambda: hub)
    start = {"command": "python src/sft.py", "config": {"model_name_or_path": str(random_model)}, "resumed_from": None}
    (tmp_path / "run.json").write_text(json.dumps({"starts": [start]}))
    args = SFTConfig(
        **{"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True},
        **{"max_steps": 2, "save_steps": 1, "save_strategy": "steps", "hub_always_push": True},
        **{"push_to_hub": True, "hub_model_id": "someone/mine", "hub_private_repo": True},
    )
    trainer = CardSFTTrainer(
        model=str(random_model),
        args=args,
        train_dataset=Dataset.from_list([{"input_ids": [5, 6, 7], "completion_mask": [0, 1, 1]}] * 2),
        processing_class=AutoTokenizer.from_pretrained(random_model),
        peft_config=adapter_config(4, 4, 0.0),
    )
    trainer.train()
    trainer.save_model(str(tmp_path))
    assert hub.repositories == [("someone/mine", True)]
    assert [message for message, _ in hub.cards] == [
        *(f"Training in progress, step {step}" for step in (1, 2)),
        "Model save",
    ]
    for (_, text), step in zip(hub.cards, (1, 2, 2), strict=True):
        assert text.startswith("---\n")
        assert f"# `{tmp_path.name}`\n" in text
        assert f"SFT, {step} step" in text
    assert "SFT, 1 step." in (tmp_path / "checkpoint-1" / "README.md").read_text()
