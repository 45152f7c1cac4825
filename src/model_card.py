"""Write the model card (README.md) of trained weights again, such as after they were scored.

    python src/score.py --samples samples.jsonl --out runs/grpo/arena
    python src/model_card.py runs/grpo                             # now with the scores in runs/grpo/arena

A folder is what src/sft.py, src/grpo.py or src/merge_adapter.py saved, or a checkpoint-N in it. These write a card
themselves. Scores are those of each results.json in the folder, or one folder below, whose samples its weights drew.
"""

from __future__ import annotations

from pathlib import Path

from common.card_files import write_card
from common.cli import Parser, program


@program()
def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="+", help="folder of an adapter or a model")
    for folder in parser.parse_args().folder:
        write_card(folder, with_scores=True)
        print(folder / "README.md")


if __name__ == "__main__":
    main()
