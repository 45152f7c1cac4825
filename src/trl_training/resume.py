"""Where a trl run resumes, and whether it is the same run.

A run writes into its output directory: run.json, metrics.jsonl, samples.jsonl (GRPO), TensorBoard events under runs/,
checkpoint-N/ folders and, at its end, the adapter itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.files import drop_after
from common.provenance import describe, record_start
from common.rows import resolve
from records import Record
from trl_training.arguments import DataArguments


def complete_checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoints that were written whole, oldest first. trainer_state.json is the last file of a checkpoint."""
    found = []
    for state in output_dir.glob("checkpoint-*/trainer_state.json"):
        try:
            found.append((json.loads(state.read_text("utf-8"))["global_step"], state.parent))
        except (ValueError, KeyError):
            continue  # killed while this one was written
    return [folder for _, folder in sorted(found)]


def find_checkpoint(output_dir: Path, wanted: str | None) -> Path | None:
    """The checkpoint to resume from: `wanted` is None, "auto" (the last complete one, if any) or a path.

    Raises ValueError where the path holds no complete checkpoint, and where a fresh run would write over an old one.
    """
    existing = complete_checkpoints(output_dir)
    if wanted is None:
        if existing:
            raise ValueError(
                f"{output_dir} holds {existing[-1].name}: add --resume_from_checkpoint auto to go on from there, "
                "or choose another --output_dir"
            )
        return None
    if wanted == "auto":
        return existing[-1] if existing else None
    path = Path(wanted)
    if not (path / "trainer_state.json").is_file():
        raise ValueError(f"--resume_from_checkpoint {wanted}: no complete checkpoint there")
    return path


def check_same_run(output_dir: Path, now: dict[str, Any]) -> None:
    """Refuse to resume with other data, model, adapter, rewards, batch or seed: the result would be no single run."""
    path = output_dir / "run.json"
    if not path.exists():
        return
    before = json.loads(path.read_text("utf-8"))["starts"][-1]

    def identity(start: dict[str, Any]) -> dict[str, Any]:
        config = start["config"]
        keys = ("model_name_or_path", "model_revision", "reward", "reward_weights", "beta", "num_generations")
        keys += ("prompts_per_step", "seed", "use_peft", "use_dora", "lora_r", "lora_alpha", "lora_target_modules")
        data = [d["sha256"] for d in start["data"].values()]
        return {"data": data, "records": start.get("records"), **{key: config.get(key) for key in keys}}

    old, new = identity(before), identity(json.loads(json.dumps(now, default=str)))
    if old["records"] is None:  # a run of a version that did not record them
        del old["records"]
    for key, value in old.items():
        if new[key] != value:
            raise ValueError(f"{output_dir} was started with {key} = {value}, now it is {new[key]}: not the same run")


def begin(args: Any, *parts: Any, data: DataArguments, records: Sequence[Record]) -> Path | None:
    """Describe the run in args.output_dir and return the checkpoint it resumes from, if any. ValueError: see above."""
    from accelerate import PartialState

    config = {key: value for part in (args, *parts) for key, value in dataclasses.asdict(part).items()}
    folder = Path(args.output_dir)
    checkpoint = find_checkpoint(folder, args.resume_from_checkpoint)
    description = describe(config, {str(data.data): resolve(data.data)}, args.seed)
    ids = hashlib.sha256("\n".join(record.id for record in records).encode()).hexdigest()
    description["records"] = f"{len(records)} with sha256 {ids[:12]}"  # which rows of the file: bad_rows decides
    if checkpoint:
        check_same_run(folder, description)
    if PartialState().is_main_process:
        step = 0  # a run that was killed before its first checkpoint starts over, and so do its logs
        if checkpoint:
            step = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))["global_step"]
            print(f"resuming from {checkpoint} (step {step})", flush=True)
        drop_after(folder / "metrics.jsonl", step)
        drop_after(folder / "samples.jsonl", step)
        record_start(folder, description, str(checkpoint) if checkpoint else None)
    PartialState().wait_for_everyone()
    if checkpoint:
        name_the_cpu_for_torch()
    return checkpoint


def name_the_cpu_for_torch() -> None:
    """Let torch.load know "cpu:0", accelerate's name of the CPU in a launch of several processes.

    transformers loads the optimizer to that device, so without this no such launch resumes.
    """
    import torch

    def load(storage: Any, device: str) -> Any:
        return storage if device == "cpu:0" else None

    torch.serialization.register_package(30, lambda storage: None, load)
