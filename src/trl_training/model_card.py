"""This project's model card in place of trl's and peft's, in every folder that a trl run saves weights to.

peft writes or changes a card wherever an adapter is saved; all saving, checkpoints too, goes through `_save`. An upload
during training copies a checkpoint's weights to output_dir (`_push_from_checkpoint`). trl 1.16 writes its card to
output_dir before each checkpoint, and transformers 5.10 before an upload, just after `_save` (`create_model_card`).
These are private methods: this file belongs to the pinned versions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.card_files import write_card

if TYPE_CHECKING:
    from transformers import Trainer
else:
    Trainer = object


class WithModelCard(Trainer):
    """A base class to put before one of trl's trainers."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Leave the card that is there: it describes the weights beside it."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)  # on the main process alone
        folder = Path(output_dir or str(self.args.output_dir))
        self._write_card(folder, folder)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self.is_world_process_zero():
            self._write_card(Path(checkpoint_folder), Path(str(self.args.output_dir)))
        super()._push_from_checkpoint(checkpoint_folder)

    def _write_card(self, weights: Path, folder: Path) -> None:
        write_card(weights, folder, run=Path(str(self.args.output_dir)), step=self.state.global_step)
