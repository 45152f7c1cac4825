"""What the two trl scripts, SFT and GRPO, do the same way: data, tokenizer, resume, logging.

A run writes into its output directory: run.json, metrics.jsonl, samples.jsonl (GRPO), TensorBoard events under runs/,
checkpoint-N/ folders and, at its end, the adapter itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_callback import ProgressCallback

from adapters import DECAYS_MAGNITUDES, adapter_config
from common import toolchain
from common.files import append_jsonl, drop_after
from common.provenance import describe, record_start
from common.rows import resolve
from prompts import migration_messages, open_chat_template, render
from records import Record, RecordError, load_records
from trl_training.arguments import DataArguments, fail
from trl_training.batch import world_size

SHOWN = {  # logged key -> the short name in the progress line
    "loss": "loss",
    "reward": "reward",
    "rewards/format_reward/mean": "format",
    "rewards/em/mean": "EM",
    "rewards/es/mean": "ES",
    "rewards/em_star/mean": "EM*",
    "rewards/es_star/mean": "ES*",
    "rewards/dm_star/mean": "DM*",
    "completions/mean_length": "length",
    "completions/clipped_ratio": "clipped",
    "frac_reward_zero_std": "zero-variance",
    "mean_token_accuracy": "accuracy",
    "step_time": "seconds",
}
CLIPPED_LIMIT = 0.2  # share of completions cut at max_completion_length above which the run warns
ZERO_VARIANCE_LIMIT = 0.5  # share of groups without a gradient above which the run warns


def say(message: str = "") -> None:
    """Print on the main process only."""
    from accelerate import PartialState

    if PartialState().is_main_process:
        print(message, flush=True)


def load_tokenizer(model: Any, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """The base model's tokenizer, its chat template untouched, padding on the left as generation needs."""
    tokenizer = AutoTokenizer.from_pretrained(
        model.model_name_or_path,
        revision=model.model_revision,
        trust_remote_code=trust_remote_code,
        padding_side="left",
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def model_kwargs(model: Any) -> dict[str, Any]:
    """What trl passes to from_pretrained, from ModelConfig."""
    kwargs = {"revision": model.model_revision, "dtype": model.dtype, "attn_implementation": model.attn_implementation}
    return {key: value for key, value in kwargs.items() if value is not None}


def peft_config(model: Any) -> Any:
    """The adapter that ModelConfig asks for, or None for full fine-tuning."""
    if not model.use_peft:
        return None
    return adapter_config(
        model.lora_r, model.lora_alpha, model.lora_dropout, model.lora_target_modules, use_dora=model.use_dora
    )


def uses_fsdp(args: Any) -> bool:
    """Whether FSDP runs: by trl's own key, or by an accelerate configuration, which sets only the environment."""
    from accelerate.utils import parse_flag_from_env

    return bool(args.fsdp) or bool(parse_flag_from_env("ACCELERATE_USE_FSDP"))


def shards_weights(args: Any) -> bool:
    """Whether each process holds only its share of the weights: FSDP or ZeRO-3."""
    plugin = args.deepspeed_plugin
    return uses_fsdp(args) or (plugin is not None and plugin.zero_stage == 3)


def refuse_lost_updates(args: Any, model: Any) -> None:
    """Exit if all weights are trained in half precision: most updates are below half a unit in the last place.

    In mixed precision DeepSpeed and FSDP keep float32 copies of what they train; DDP and one process do not.
    """
    has_copies = (args.bf16 or args.fp16) and (args.deepspeed_plugin is not None or uses_fsdp(args))
    if not model.use_peft and model.dtype not in (None, "float32") and not has_copies:
        fail(
            f"use_peft false with dtype {model.dtype}: most updates would round to nothing. Add --dtype float32 (with "
            "bf16 true it still computes in bf16), or use DeepSpeed, which keeps float32 copies: ACCELERATE=zero2 with "
            "the launch script; a 7B model then needs 4 or more GPUs of 80 GB"
        )


def prompt_rows(
    records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, args: DataArguments
) -> list[dict[str, str]]:
    """Rows {prompt, target, old_code, record_id}: each prompt rendered once, too long ones dropped with a count."""
    template = open_chat_template(tokenizer)
    rows, long_prompts, long_targets = [], 0, 0
    lengths = []
    for record in records:
        prompt = render(tokenizer, migration_messages(record), template)
        length = len(tokenizer(prompt)["input_ids"])
        target = len(tokenizer(record.new_code, add_special_tokens=False)["input_ids"])
        if length > args.max_prompt_length:
            long_prompts += 1
        elif args.max_target_length is not None and target > args.max_target_length:
            long_targets += 1
        else:
            columns = {"target": record.new_code, "old_code": record.old_code, "record_id": record.id}
            rows.append({"prompt": prompt, **columns})
            lengths.append(length)
    say(
        f"data: {len(rows)} of {len(records)} records; dropped {long_prompts} with a prompt over "
        f"{args.max_prompt_length} tokens and {long_targets} with a target over {args.max_target_length}"
    )
    if not rows:
        raise RecordError(f"{args.data}: no record is left")
    say(f"prompt tokens: median {sorted(lengths)[len(lengths) // 2]}, longest {max(lengths)}")
    return rows


# --- resume ----------------------------------------------------------------------------------------------------------


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


def refuse_missing_compiler(args: Any) -> None:
    """Exit if Triton, which trl's log-probabilities use on a GPU, cannot compile here."""
    if args.device.type == "cuda" and (lacks := toolchain.missing()):
        fail(lacks)


def refuse_several_cards(args: Any) -> None:
    """Exit if one process sees several GPUs: trl would spread the model over all of them, layer by layer."""
    import torch

    if args.device.type == "cuda" and world_size() == 1 and (count := torch.cuda.device_count()) > 1:
        fail(f"one process sees {count} GPUs: set CUDA_VISIBLE_DEVICES=0, or start it with the script in scripts/")


def warn_of_decay(args: Any, model: Any) -> None:
    """Say that weight decay acts on DoRA's magnitudes too."""
    if model.use_peft and model.use_dora and args.weight_decay > 0:
        say(f"warning: weight_decay {args.weight_decay} {DECAYS_MAGNITUDES}")


def prepare(
    script: DataArguments, args: Any, model: Any
) -> tuple[list[dict[str, str]], PreTrainedTokenizerBase, Path | None]:
    """(prompt rows, tokenizer, checkpoint to resume from); any mistake ends here, before the model loads."""
    refuse_missing_compiler(args)
    refuse_several_cards(args)
    warn_of_decay(args, model)
    try:
        records = load_records(script.data, script.bad_rows)
        checkpoint = begin(args, script, model, data=script, records=records)
        tokenizer = load_tokenizer(model, args.trust_remote_code)
        return prompt_rows(records, tokenizer, script), tokenizer, checkpoint
    except (RecordError, ValueError, OSError) as error:
        fail(error)


# --- callbacks -------------------------------------------------------------------------------------------------------


class MetricsLog(TrainerCallback):
    """Write every logged step to metrics.jsonl, and warn where training has little to learn from."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.jsonl"
        self.warned: dict[str, int] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or not logs or "train_runtime" in logs:
            return
        append_jsonl(self.path, {"step": state.global_step, "time": round(time.time(), 1), **logs})
        clipped, flat = logs.get("completions/clipped_ratio"), logs.get("frac_reward_zero_std")
        if clipped is not None and clipped > CLIPPED_LIMIT:
            self.warn("clipped", state.global_step, f"{clipped:.0%} of completions are cut at max_completion_length")
        if flat is not None and flat > ZERO_VARIANCE_LIMIT:
            self.warn("flat", state.global_step, f"{flat:.0%} of groups have equal rewards: they give no gradient")

    def warn(self, kind: str, step: int, message: str) -> None:
        """Print a warning of one kind at most every 50 steps; metrics.jsonl has every value."""
        if step - self.warned.get(kind, -50) >= 50:
            self.warned[kind] = step
            print(f"warning: step {step}: {message}", file=sys.stderr, flush=True)


class ProgressLine(ProgressCallback):
    """transformers' progress bar with one readable line per logged step in place of the whole dictionary."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and self.training_bar is not None and logs and "train_runtime" not in logs:
            shown = [f"{name} {float(logs[key]):.3g}" for key, name in SHOWN.items() if logs.get(key) is not None]
            self.training_bar.write(f"step {state.global_step}  " + "  ".join(shown))


def add_callbacks(trainer: Any) -> None:
    """Put this project's progress line and metrics log in the place of the trainer's own printing."""
    from transformers.trainer_callback import PrinterCallback

    folder = Path(trainer.args.output_dir)
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    if not trainer.args.disable_tqdm:
        trainer.add_callback(ProgressLine())
    trainer.add_callback(MetricsLog(folder))


def finish(trainer: Any, tokenizer: PreTrainedTokenizerBase, started: float) -> None:
    """Save the adapter (or model) and say where everything is."""
    folder = Path(trainer.args.output_dir)
    trainer.save_model(str(folder))
    if trainer.accelerator.is_main_process:
        tokenizer.save_pretrained(folder)
    minutes = (time.time() - started) / 60
    say(f"\ndone: {trainer.state.global_step} steps, {minutes:.1f} minutes in this start")
    names = {"adapter_model.safetensors": "the adapter", "metrics.jsonl": "metrics, a line per logged step"}
    names |= {"samples.jsonl": "scored completions", "run.json": "what ran: configuration, commit, data, hardware"}
    names |= {"runs": "TensorBoard: tensorboard --logdir " + str(folder / "runs")}
    for name, meaning in names.items():
        if (folder / name).exists():
            say(f"  {folder / name}  {meaning}")
