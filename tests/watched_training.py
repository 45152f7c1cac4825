"""Run src/grpo.py or src/sft.py as its users do, and note what the trainer holds: NOTES SCRIPT ARGUMENTS.

Nothing of the run is replaced; transformers' Trainer.train gets a callback before it and a look at the model after it.
NOTES-RANK.jsonl gets a line per optimizer step, and a last line with what is compared only once.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, Trainer, TrainerCallback

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))


class Watch(TrainerCallback):
    def __init__(self, notes: Path) -> None:
        self.notes = notes

    def write(self, **values: Any) -> None:
        with self.notes.open("a") as file:
            file.write(json.dumps(values) + "\n")

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.write(
            step=state.global_step,
            hooks=len(model.get_input_embeddings()._forward_hooks),
            trained=sorted({str(parameter.dtype) for parameter in trained}),
            checkpointing=model.is_gradient_checkpointing,
        )


def load_base(trainer: Trainer) -> PreTrainedModel:
    """The model's folder, loaded again as the trainer loaded it."""
    return AutoModelForCausalLM.from_pretrained(trainer.model.name_or_path, dtype=trainer.model.dtype)


def log_probs(trainer: Trainer, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Of each token of the completions, as the trainer computes them for its reference."""
    with torch.no_grad():
        found, _, _ = trainer._get_per_token_logps_and_entropies(
            model.eval(),
            torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
            torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
            batch["completion_ids"].size(1),
            batch_size=trainer.args.per_device_train_batch_size,
        )
    return found


def compare_with_base(trainer: Trainer, batch: dict[str, torch.Tensor]) -> dict[str, bool]:
    """Whether the reference and the policy give the last rollouts the base model's probabilities.

    Bit for bit in a pass over the same batch; the run's own pass had other completions beside a prompt, and rounds
    otherwise.
    """
    from trl.trainer.utils import add_fused_lm_head

    base = load_base(trainer)
    base.config._attn_implementation = trainer.model.config._attn_implementation  # which may share prompts
    add_fused_lm_head(base, temperature=trainer.temperature, outputs=("log_probs", "entropy"))
    expected = log_probs(trainer, trainer.accelerator.prepare_model(base, evaluation_mode=True), batch)
    with trainer.accelerator.unwrap_model(trainer.model).disable_adapter():
        reference = log_probs(trainer, trainer.model, batch)
    return {
        "reference_is_base": torch.equal(reference, expected)
        and torch.allclose(batch["ref_per_token_logps"], expected, atol=0.05),
        "policy_is_base": torch.equal(log_probs(trainer, trainer.model, batch), expected),
    }


def base_is_intact(trainer: Trainer) -> bool:
    """Whether every weight that is not trained is still that of the model's folder."""
    expected = dict(load_base(trainer).named_parameters())
    kept = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): parameter
        for name, parameter in trainer.model.named_parameters()
        if not parameter.requires_grad
    }
    return kept.keys() == expected.keys() and all(torch.equal(kept[name], expected[name]) for name in kept)


def main() -> None:
    notes, script, *arguments = sys.argv[1:]
    watch = Watch(Path(f"{notes}-{os.environ.get('RANK', '0')}.jsonl"))
    train = Trainer.train

    def watched(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        batches: list[dict[str, torch.Tensor]] = []
        if hasattr(self, "_generate_and_score_completions"):
            score = self._generate_and_score_completions
            self._generate_and_score_completions = lambda inputs: batches.append(score(inputs)) or batches[-1]
        self.add_callback(watch)
        result = train(self, *args, **kwargs)
        with_reference = batches and "ref_per_token_logps" in batches[-1]
        watch.write(
            **(compare_with_base(self, batches[-1]) if with_reference else {}),
            base_is_intact=base_is_intact(self),
            dropout=sorted({m.p for name, m in self.model.named_modules() if "lora_dropout.default" in name}),
            searches_the_graph=getattr(self.model_wrapped, "find_unused_parameters", None),
            bf16=self.args.bf16,
        )
        return result

    Trainer.train = watched
    sys.argv = [script, *arguments]
    importlib.import_module(Path(script).stem).main()


if __name__ == "__main__":
    main()
