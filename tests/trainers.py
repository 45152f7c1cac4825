"""src/grpo.py's trainer on a tiny model, in this process."""

from __future__ import annotations

from pathlib import Path


def build(model: Path, out: Path, **keys):
    """On two prompts, with a reward that differs within every group."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig

    from adapters import adapter_config
    from trl_training.grpo_trainer import DoraGRPOTrainer

    settings = {"per_device_train_batch_size": 4, "num_generations": 4, "max_completion_length": 8, "report_to": "none"}
    use_dora, dropout = keys.pop("use_dora", True), keys.pop("dropout", 0.01)
    args = GRPOConfig(str(out), use_cpu=True, bf16=False, save_strategy="no", disable_tqdm=True, **settings | keys)
    rows = [{"prompt": text, "target": "x = 1", "record_id": text} for text in ("import numpy", "area = np")]
    return DoraGRPOTrainer(
        model=str(model),
        reward_funcs=[lambda completions, **_: [float(i) for i in range(len(completions))]],
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(model, padding_side="left"),
        peft_config=adapter_config(8, 8, dropout, use_dora=use_dora),
    )
