"""The key `prompt` of the run that trained some weights: what asks the model should use the same wording."""

from __future__ import annotations

from pathlib import Path

from common.card_files import MERGED, MergedFile, find_run, run_starts
from common.files import read_json


def trained_prompt(weights: Path) -> str | None:
    """The run's `prompt`, also that of the adapter in a merged model; None if there is no run or it had no such key."""
    if (weights / MERGED).is_file():
        return read_json(weights / MERGED, MergedFile).prompt
    starts = run_starts(find_run(weights)) if weights.is_dir() else []
    config = starts[-1].config if starts else {}
    own = config.get("recode", config)  # src/dapo.py has its keys there
    found = own.get("prompt") if isinstance(own, dict) else None
    return None if found is None else str(found)
