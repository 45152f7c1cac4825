"""Which checkpoint a trl run resumes from, and whether it is the same run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.checkpoints import Checkpoint, choose, find_checkpoints, read_checkpoint
from common.errors import InputError
from common.provenance import describe, read_starts, record_start, sha256
from common.rows import resolve
from common.run_logs import cut_logs
from common.same_run import check_same_run
from trl_training.arguments import has_local_loss
from trl_training.own_keys import DataArguments
from trl_training.reward_functions import reward_files
from trl_training.saved_state import check_saved

HARMLESS = (  # keys of trl's configurations and of this project's that do not change the trained weights
    *("data", "bad_rows"),  # compared by content: the files' hashes and the rows used
    *("output_dir", "resume_from_checkpoint", "check", "print_samples"),
    *("logging_*", "log_level*", "log_on_each_node", "log_completions*", "log_multimodal", "log_unique_prompts"),
    *("num_completions_to_print", "include_num_input_tokens_seen", "skip_memory_metrics"),
    *("disable_tqdm", "report_to", "run_name", "project", "trackio_*"),
    *("save_strategy", "save_steps", "save_total_limit", "save_on_each_node", "save_only_model"),
    *("enable_jit_checkpoint", "push_to_hub", "hub_*"),
    # evaluation: the trainers here get no evaluation data
    *("do_train", "do_eval", "do_predict", "eval_*", "per_device_eval_batch_size", "num_generations_eval"),
    *("prediction_loss_only", "batch_eval_metrics", "include_for_metrics", "bf16_full_eval", "fp16_full_eval"),
    # the machine: workers, memory, communication
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor"),
    *("dataset_num_proc", "gradient_checkpointing*", "activation_offloading", "torch_empty_cache_steps"),
    *("ddp_*", "local_rank", "debug", "vllm_gpu_memory_utilization", "vllm_enable_sleep_mode", "vllm_server_*"),
    "vllm_group_port",
)
# How the sequences of a step are divided among processes; harmless if their number is fixed.
LAYOUT = ("processes", "per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation")
LENGTH = ("max_steps", "num_train_epochs")


def harmless_keys(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys in which a resumed run may differ.

    The layout counts if the loss has parts of each process's own batch, and if DeepSpeed sharded the optimizer.
    """
    fixed = config.get("prompts_per_step") or config.get("examples_per_step")
    own = has_local_loss(config) or config.get("deepspeed")
    return (*HARMLESS, *LAYOUT) if fixed and not own else HARMLESS


def length_keys(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys that may grow: none if the learning rate depends on the length of the run."""
    return LENGTH if config["lr_scheduler_type"] == "constant" else ()


def find_checkpoint(output_dir: Path, wanted: str | None) -> tuple[Checkpoint | None, list[str]]:
    """(the checkpoint to resume from, why others are passed over). `wanted`: None, "auto" (the last one) or a path."""
    if wanted is not None and wanted.lower() in ("true", "yes", "last"):
        raise InputError(
            f"resume_from_checkpoint {wanted}: expected auto (the last checkpoint) or a checkpoint's folder"
        )
    if wanted not in (None, "auto"):
        checkpoint = read_checkpoint(Path(wanted))
        if checkpoint.kind == "verl":
            raise InputError(f"{checkpoint.folder}: a checkpoint of src/dapo.py: only that resumes it")
        if checkpoint.lacks:
            raise InputError(f"{checkpoint.folder}: {checkpoint.lacks}: not resumable")
        return checkpoint, []
    existing = [found for found in find_checkpoints(output_dir, sharded=True) if found.kind != "verl"]
    if wanted == "auto":
        last, passed_over = choose(output_dir, verl=False)
        if existing and last is None:  # starting from scratch would overwrite them
            raise InputError(f"{existing[-1].folder}: {existing[-1].lacks}: not resumable")
        return last, passed_over
    if existing:
        raise InputError(
            f"{output_dir} holds checkpoint-{existing[-1].step}: add --resume_from_checkpoint auto to resume, "
            "or choose another --output_dir"
        )
    return None, []


def begin(args: Any, script: DataArguments, model: Any, prompts: Mapping[str, Any]) -> Path | None:
    """Describe the run in args.output_dir and return the folder of the checkpoint that it resumes from, if any.

    `prompts` describes what it trains on (trl_training/data.py).
    """
    from accelerate import PartialState

    config = {**asdict(args), **asdict(script), **asdict(model), "processes": args.world_size}
    folder = Path(args.output_dir)
    checkpoint, passed_over = find_checkpoint(folder, args.resume_from_checkpoint)
    source, step = (checkpoint.folder, checkpoint.step) if checkpoint else (None, 0)
    description = describe(config, {script.data: resolve(script.data)}, args.seed)
    description |= prompts
    if files := reward_files(getattr(script, "reward", "")):  # SFT has none
        description["reward_files"] = {name: sha256(path) for name, path in files.items()}
    if args.resume_from_checkpoint:  # a checkpoint may be of another folder: its logs and this one's are of one run
        folders = [source.parent, folder] if source else [folder]
        check_same_run(folders, description, harmless_keys(config), length_keys(config))
    if checkpoint:
        check_saved(checkpoint)
    if PartialState().is_main_process:
        if args.resume_from_checkpoint:
            for why in passed_over:
                print(f"passed over: {why}")
            print(
                f"resuming from {source} (step {step})" if source else "no checkpoint: starting from scratch",
                flush=True,
            )
        if (folder / "run.json").exists():
            read_starts(folder)  # before the logs are cut: is it the folder of a run?
        cut_logs(folder, step)  # step 0: a run that was killed before its first checkpoint starts from scratch
        record_start(folder, description, str(source) if source else None)
    PartialState().wait_for_everyone()
    if source:
        register_cpu_device()
    return source


def is_finished(args: Any, checkpoint: Path | None) -> bool:
    """Whether `checkpoint` is the end of the run. transformers would still train one more step from it."""
    return checkpoint is not None and 0 < args.max_steps <= read_checkpoint(checkpoint).step


def publish(checkpoint: Path, output_dir: Path) -> None:
    """Copy the weights and the tokenizer of the last checkpoint to the run's folder, as a finished run saves them."""
    if read_checkpoint(checkpoint).kind == "sharded":
        raise InputError(f"{checkpoint}: the run is finished: nothing is left to train")
    resume_only = ("optimizer", "scheduler", "rng_state", "scaler", "trainer_state")
    for path in checkpoint.iterdir():
        if path.is_file() and not path.name.startswith(resume_only):
            shutil.copy(path, output_dir / path.name)


def register_cpu_device() -> None:
    """Teach torch.load the device "cpu:0", accelerate's name of the CPU in a launch of several processes.

    transformers loads the optimizer to that device, so that without this no such launch could resume.
    """
    import torch

    def load(storage: Any, device: str) -> Any:
        return storage if device == "cpu:0" else None

    torch.serialization.register_package(30, lambda storage: None, load)
