"""Supervised fine-tuning on the same records with the same adapter, with trl's SFTTrainer.

This is the paper's baseline (Table 1), and the format warm-up that a small model needs before GRPO. The loss is on the
completion only: `prompts.reference_completion`, then the end-of-turn token.

    python src/sft.py --config configs/quickstart/sft.yaml
    accelerate launch --config_file configs/accelerate/ddp.yaml src/sft.py --config configs/sft.yaml
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from common.cli import fail, program
from trl_training import arguments
from trl_training.own_keys import SftArguments

if TYPE_CHECKING:
    from common.chat import Chat


def derive(values: Mapping[str, Any]) -> dict[str, int]:
    """trl's batch size and accumulation, from examples_per_step."""
    if values["examples_per_step"] is None:
        return {}
    return arguments.batch_of(values, values["examples_per_step"])


def tokenised(rows: Sequence[Mapping[str, str]], chat: Chat) -> list[dict[str, list[int]]]:
    """Rows {input_ids, completion_mask}: the prompt's tokens, then the completion's, then the end of turn.

    The two are tokenised separately, as they are when the model generates: joined as text, `>` and a newline can merge
    into one token that generation never sees.
    """
    from prompts import reference_completion

    out = []
    for row in rows:
        prompt, answer = chat.encode(row["prompt"]), chat.encode_turn(reference_completion(row["target"]))
        out.append({"input_ids": prompt + answer, "completion_mask": [0] * len(prompt) + [1] * len(answer)})
    return out


def parse_arguments(argv: list[str] | None = None) -> tuple[SftArguments, Any, Any]:
    """(script, SFT, model) arguments, checked."""
    from trl import ModelConfig, SFTConfig

    script, args, model = arguments.parse((SftArguments, SFTConfig, ModelConfig), argv, derive)
    arguments.require_layers(script, args)
    if args.completion_only_loss is False:
        fail("completion_only_loss false: not supported: the loss is on the completion only")
    return script, args, model


def train(script: SftArguments, args: Any, model: Any) -> None:
    """Run SFT into args.output_dir."""
    from trl_training.callbacks import say
    from trl_training.checks import check_model
    from trl_training.data import prepare
    from trl_training.run import run_trainer
    from trl_training.sft_trainer import CardSFTTrainer
    from trl_training.techniques import norm_of_dora

    empty = check_model(args, model)
    norm = norm_of_dora(script, args, model)
    rows, chat, checkpoint = prepare(script, args, model, empty.config, {"dora_norm": norm})
    examples = tokenised(rows, chat)
    answer = [t for t, on in zip(examples[0]["input_ids"], examples[0]["completion_mask"], strict=True) if on]
    say(f"first completion:\n{rows[0]['prompt'][-40:]}⟨here⟩{chat.tokenizer.decode(answer)}\n")
    args.completion_only_loss = True
    run_trainer(CardSFTTrainer, args, model, examples, chat.tokenizer, checkpoint, norm)


@program()
def main() -> None:
    arguments.run(__doc__, SftArguments, parse_arguments, train)


if __name__ == "__main__":
    main()
