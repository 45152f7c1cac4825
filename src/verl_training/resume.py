"""Which checkpoint a DAPO run resumes from, and whether it is the same run.

verl notes the last step in a file that a kill can leave wrong, so the checkpoints themselves are examined here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from common import same_run
from common.checkpoints import choose, read_checkpoint, world_size
from common.errors import InputError

HARMLESS = (  # keys that do not change the trained weights
    # compared by content: the hashes of the record files and of the parquet files
    *("data.train_files", "data.val_files", "recode.data", "recode.val_data", "recode.bad_rows"),
    *("run", "trainer.default_local_dir", "trainer.default_hdfs_dir", "trainer.resume_*", "trainer.del_local_*"),
    "actor_rollout_ref.model.lora_adapter_path",  # the untrained adapter, in the run's folder
    *("trainer.project_name", "trainer.experiment_name", "trainer.logger", "trainer.log_val_generations"),
    *("trainer.rollout_data_dir", "trainer.validation_data_dir", "trainer.save_freq", "trainer.esi_redundant_time"),
    *("trainer.max_*_ckpt_to_keep", "trainer.test_freq", "trainer.val_before_train", "trainer.val_only"),
    *("data.val_batch_size", "data.val_max_samples", "actor_rollout_ref.rollout.val_kwargs*"),
    *("trainer.nnodes", "trainer.n_gpus_per_node"),  # choose_resume compares their product
    # the machine: workers, memory, timeouts, profiling
    *("data.filter_overlong_prompts_workers", "reward.num_workers"),  # the data loader's are in its saved state
    *("actor_rollout_ref.rollout.agent.num_workers", "actor_rollout_ref.rollout.gpu_memory_utilization"),
    *("*.param_offload", "*.optimizer_offload", "*.enable_gradient_checkpointing", "*.nccl_timeout"),
    *("trainer.ray_wait_register_center_timeout", "ray_kwargs*", "transfer_queue*"),
    *("global_profiler*", "*.profiler*", "*.disable_log_stats"),
)
# Keys that may grow if the learning rate does not depend on the length of the run.
LENGTH = ("trainer.total_training_steps", "trainer.total_epochs")


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a run that can be resumed; one that a kill cut short is skipped."""
    last = choose(folder, verl=True)[0]
    return last.folder if last else None


def passed_over(folder: Path, chosen: Path | None) -> list[str]:
    """Why checkpoints of the run that are later than the chosen one, or incomplete, are not used; one line each."""
    return choose(folder, verl=True)[1] if last_checkpoint(folder) == chosen else []


def choose_resume(config: DictConfig) -> Path | None:
    """The checkpoint to resume from, also written into the configuration."""
    trainer, folder = config.trainer, Path(config.trainer.default_local_dir)
    path: Path | None
    if trainer.resume_mode == "resume_path":
        if not trainer.resume_from_path:
            raise InputError("trainer.resume_mode=resume_path: trainer.resume_from_path must name a checkpoint")
        path = Path(trainer.resume_from_path).resolve()
        checkpoint = read_checkpoint(path)
        if checkpoint.kind != "verl" or checkpoint.lacks:
            what = checkpoint.lacks or "not a checkpoint of src/dapo.py"
            raise InputError(f"trainer.resume_from_path={path}: {what}: not resumable")
    else:
        path = last_checkpoint(folder)
        if path and trainer.resume_mode != "auto":
            raise InputError(f"{folder} holds checkpoints: trainer.resume_mode=auto resumes, or choose another run=")
    if path and world_size(path) != (processes := trainer.n_gpus_per_node * trainer.nnodes):
        raise InputError(f"{path} was saved by {world_size(path)} processes, now there are {processes}: not resumable")
    trainer.resume_mode = "resume_path" if path else "disable"
    trainer.resume_from_path = str(path) if path else None
    return path


def check_same_run(folders: Collection[Path], description: Mapping[str, Any]) -> None:
    """Raise InputError if the configuration or the data would change what the run in one of the folders trains."""
    optim = description["config"]["actor_rollout_ref"]["actor"]["optim"]
    constant = optim["lr_scheduler_type"] == "constant" and not optim["lr_warmup_steps_ratio"]
    same_run.check_same_run(folders, description, HARMLESS, LENGTH if constant else ())
