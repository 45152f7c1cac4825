"""Which folders of a run are complete checkpoints, and which can be resumed."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.checkpoints import find_checkpoints, read_checkpoint, shard_files
from common.errors import InputError
from trl_training.resume import find_checkpoint


def saved(run: Path, step: int, *files: str, state: str | None = None) -> Path:
    folder = run / f"checkpoint-{step}"
    folder.mkdir()
    for name in files:
        (folder / name).write_text("{}")
    (folder / "trainer_state.json").write_text(state or f'{{"global_step": {step}}}')
    return folder


def test_what_a_trl_run_resumes_from(tmp_path):
    assert find_checkpoint(tmp_path, None) is find_checkpoint(tmp_path, "auto") is None
    whole = saved(tmp_path, 9, "adapter_config.json", "optimizer.pt")
    saved(tmp_path, 10, "config.json", "latest")  # DeepSpeed
    saved(tmp_path, 11, "optimizer.bin")  # FSDP: no weights that load by themselves
    saved(tmp_path, 12, "config.json", "optimizer.pt", state='{"global_st')  # killed while it was written
    assert [(c.step, c.kind) for c in find_checkpoints(tmp_path)] == [(9, "adapter"), (10, "model")]
    assert find_checkpoint(tmp_path, "auto").step == 11
    assert find_checkpoint(tmp_path, str(whole)).step == 9
    with pytest.raises(InputError, match="holds checkpoint-11: add --resume_from_checkpoint auto to resume, or choose"):
        find_checkpoint(tmp_path, None)
    with pytest.raises(InputError, match=r"checkpoint-12/trainer_state.json: not JSON: "):
        find_checkpoint(tmp_path, str(tmp_path / "checkpoint-12"))
    with pytest.raises(InputError, match=r"absent: not a complete checkpoint \(trainer_state.json is missing\)$"):
        find_checkpoint(tmp_path, str(tmp_path / "absent"))


def test_a_checkpoint_without_its_optimizer_is_not_resumed(tmp_path):
    """transformers would silently resume with a new optimizer."""
    saved(tmp_path, 9, "adapter_config.json")
    with pytest.raises(InputError, match=r"saved without the optimizer's state \(save_only_model\): not resumable"):
        find_checkpoint(tmp_path, "auto")


def test_a_verl_checkpoint_needs_every_shard(tmp_path):
    import torch

    folder = tmp_path / "global_step_5"
    (folder / "actor").mkdir(parents=True)
    config, shard = folder / "actor" / "fsdp_config.json", folder / "actor" / "model_world_size_1_rank_0.pt"
    with pytest.raises(InputError, match="no verl checkpoint there"):
        read_checkpoint(folder)
    config.write_text('{"world_size": 0}')
    with pytest.raises(InputError, match=r"fsdp_config\.json: world_size: input should be greater than 0"):
        read_checkpoint(folder)
    config.write_text('{"world_size": 1}')
    with pytest.raises(InputError, match=r"rank_0\.pt is missing"):
        shard_files(folder)
    shard.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match=r"rank_0\.pt is cut short"):
        shard_files(folder)
    torch.save({}, shard)
    assert (read_checkpoint(folder).kind, read_checkpoint(folder).resumable) == ("verl", False)
    for kind in ("optim", "extra_state"):
        torch.save({}, folder / "actor" / f"{kind}_world_size_1_rank_0.pt")
    torch.save({}, folder / "data.pt")
    assert read_checkpoint(folder).resumable
    assert find_checkpoint(tmp_path, None) is None  # a folder of a DAPO run holds nothing that GRPO could resume
    with pytest.raises(InputError, match=r"global_step_5: a checkpoint of src/dapo\.py: only that resumes it$"):
        find_checkpoint(tmp_path, str(folder))
