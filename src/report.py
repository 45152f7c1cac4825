"""The quickstart's closing summary: base, SFT and SFT + GRPO on the same held-out records, and what RL changed.

    python src/report.py runs/quickstart

Reads FOLDER/heldout-{base,sft,grpo}/result.json, prints a table with standard errors over records beside the baseline
that copies the old code, and the paired difference that GRPO made; writes FOLDER/summary.md.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from common.cli import program
from common.estimates import mean_and_error
from common.files import write_text

STAGES = {"base": "as it is", "sft": "+ SFT", "grpo": "+ SFT + GRPO"}
COLUMNS = {"reward": "reward", "format_rate": "format rate", "es_star": "ES*", "em": "EM", "is_old_code": "copies old"}


def cell(value: dict[str, float]) -> str:
    return f"{value['mean']:.2f} ± {value['standard_error']:.2f}"


def table(results: dict[str, dict[str, Any]]) -> str:
    """A Markdown table: a row per stage, then the copy baseline."""
    rows = [("SmolLM2-135M", *COLUMNS.values()), ("---",) * (len(COLUMNS) + 1)]
    rows += [(STAGES[s], *(cell(r["model"][c]) for c in COLUMNS)) for s, r in results.items()]
    copy = results["base"]["copy_baseline"]
    rows.append(("copy the old code", *(cell(copy[c]) for c in COLUMNS)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS) + 1)]
    return "\n".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in rows
    )


def paired(before: dict[str, Any], after: dict[str, Any], column: str) -> dict[str, float]:
    """Mean and standard error over records of after - before, on the same records."""
    if before["records"].keys() != after["records"].keys():
        raise ValueError("the two results are of different records")
    return mean_and_error([after["records"][key][column] - before["records"][key][column] for key in before["records"]])


def verdict(gain: dict[str, float]) -> str:
    """What the change in held-out reward says, in plain words."""
    error = gain["standard_error"]
    ratio = gain["mean"] / error if error else math.copysign(math.inf, gain["mean"]) if gain["mean"] else 0.0
    if ratio > 2:
        return f"GRPO raised the held-out reward by {cell(gain)}: {ratio:.1f} standard errors."
    if ratio < -2:
        return f"GRPO LOWERED the held-out reward by {cell(gain)}: {ratio:.1f} standard errors."
    return (
        f"GRPO changed the held-out reward by {cell(gain)}: within two standard errors, so this run does NOT show that "
        "it learned. More steps (bash scripts/quickstart.sh --max_steps 64, after rm -r runs/quickstart/grpo "
        "runs/quickstart/heldout-grpo) may."
    )


@program()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/quickstart"))
    folder = parser.parse_args().folder
    results = {}
    for stage in STAGES:
        path = folder / f"heldout-{stage}" / "result.json"
        if not path.is_file():
            parser.error(f"{path}: not there")
        results[stage] = json.loads(path.read_text("utf-8"))
    settings = results["base"]["settings"]
    parts = {column: paired(results["sft"], results["grpo"], column) for column in ("format_rate", "es_star")}
    text = "\n".join(
        [
            f"{len(results['base']['records'])} held-out records x {settings['samples']} samples, temperature "
            f"{settings['temperature']}, seed {settings['seed']}; ± is the standard error over records.",
            "",
            table(results),
            "",
            verdict(paired(results["sft"], results["grpo"], "reward")),
            f"Its parts: format rate {cell(parts['format_rate'])}, ES* {cell(parts['es_star'])}.",
            "Copying the old code earns most of ES*: read the EM and the copies column before believing a reward.",
            "",
            "The weights are SmolLM2's 4-bit GGUF, dequantised. reward = format (±1) + ES*.",
        ]
    )
    write_text(folder / "summary.md", text + "\n")
    print(text)
    print("\nwhere things are:")
    for name, meaning in {
        "summary.md": "this summary",
        "reward.png": "the reward curve",
        "grpo": "the GRPO run: adapter, metrics.jsonl, rollouts.jsonl, run.json",
        "sft-merged": "the model that GRPO started from (the adapter's base)",
        "heldout-grpo/samples.jsonl": "what the trained model answered, with scores",
    }.items():
        if (folder / name).exists():
            print(f"  {folder / name}  {meaning}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
