"""Which folders of a run are complete checkpoints, which can be resumed, and what a run says about the others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from common.checkpoints import choose, find_checkpoints, read_checkpoint, shard_files
from common.errors import InputError
from common.models import tensor_names
from trl_training.resume import find_checkpoint, is_finished, publish

KINDS = {"adapter": ("adapter_config.json", "adapter_model.safetensors"), "model": ("config.json", "model.safetensors")}


def saved(run: Path, step: int, kind: str = "adapter", *, without: tuple[str, ...] = ()) -> Path:
    """A checkpoint as transformers saves it."""
    folder = run / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    config, weights = KINDS[kind]
    (folder / config).write_text("{}")
    save_file({"x": torch.zeros(2, 3)}, folder / weights)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        torch.save({}, folder / name)
    (folder / "trainer_state.json").write_text(f'{{"global_step": {step}}}')
    for name in without:
        (folder / name).unlink()
    return folder


def test_what_a_trl_run_resumes_from(tmp_path):
    assert find_checkpoint(tmp_path, None) == find_checkpoint(tmp_path, "auto") == (None, [])
    whole = saved(tmp_path, 9)
    deepspeed = saved(tmp_path, 10, "model", without=("optimizer.pt",))
    (deepspeed / "latest").write_text("global_step10")
    (deepspeed / "global_step10").mkdir()
    torch.save({}, deepspeed / "global_step10" / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    fsdp = saved(tmp_path, 11, without=("optimizer.pt", *KINDS["adapter"]))  # weights that only a resume loads
    (fsdp / "pytorch_model_fsdp_0").mkdir()
    (fsdp / "optimizer_0").mkdir()
    (saved(tmp_path, 12) / "trainer_state.json").write_text('{"global_st')  # killed while it was written
    assert [(c.step, c.kind) for c in find_checkpoints(tmp_path)] == [(9, "adapter"), (10, "model")]
    found, passed_over = find_checkpoint(tmp_path, "auto")
    [line] = passed_over
    assert found.step == 11
    assert line.startswith(f"{tmp_path}/checkpoint-12/trainer_state.json: not JSON: ")
    assert find_checkpoint(tmp_path, str(whole))[0].step == 9
    shutil.rmtree(fsdp)
    assert find_checkpoint(tmp_path, "auto")[0].step == 10
    with pytest.raises(InputError, match="holds checkpoint-10: add --resume_from_checkpoint auto to resume, or choose"):
        find_checkpoint(tmp_path, None)
    with pytest.raises(InputError, match=r"checkpoint-12/trainer_state.json: not JSON: "):
        find_checkpoint(tmp_path, str(tmp_path / "checkpoint-12"))
    with pytest.raises(InputError, match=r"absent: not a complete checkpoint \(trainer_state.json is missing\)$"):
        find_checkpoint(tmp_path, str(tmp_path / "absent"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "damage", "why"),
    [
        (
            "trainer_state.json",
            lambda path: path.write_text("null"),
            "trainer_state.json: input should be a valid dict",
        ),
        ("trainer_state.json", lambda path: path.write_text("{}"), "trainer_state.json: global_step: field required"),
        ("trainer_state.json", empty, "trainer_state.json: the file is empty"),
        ("trainer_state.json", Path.unlink, "not a complete checkpoint (trainer_state.json is missing)"),
        (
            "trainer_state.json",
            lambda path: path.write_text('{"global_step": 3}'),
            "its trainer_state.json is of step 3",
        ),
        ("adapter_model.safetensors", Path.unlink, "adapter_model.safetensors: no such file"),
        ("adapter_model.safetensors", empty, "adapter_model.safetensors: damaged or cut short: "),
        ("adapter_model.safetensors", cut, "adapter_model.safetensors: damaged or cut short: "),
        ("adapter_config.json", Path.unlink, "not a complete checkpoint (it holds no weights)"),
        ("optimizer.pt", Path.unlink, "saved without the optimizer's state (save_only_model)"),
        ("optimizer.pt", empty, "optimizer.pt is cut short"),
        ("optimizer.pt", cut, "optimizer.pt is cut short"),
        ("scheduler.pt", Path.unlink, "scheduler.pt is missing"),
        ("scheduler.pt", empty, "scheduler.pt is cut short"),
        ("rng_state.pth", Path.unlink, "rng_state.pth is missing"),
        ("rng_state.pth", cut, "rng_state.pth is cut short"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(tmp_path, name, damage, why):
    """transformers resumes from each of them with a new optimizer, scheduler or generator, or with a traceback."""
    saved(tmp_path, 4)
    damage(saved(tmp_path, 8) / name)
    found, passed_over = find_checkpoint(tmp_path, "auto")
    assert found.step == 4
    [line] = passed_over
    assert line.startswith(f"{tmp_path}/checkpoint-8") and why in line
    with pytest.raises(InputError) as stopped:
        find_checkpoint(tmp_path, str(tmp_path / "checkpoint-8"))
    assert why in str(stopped.value)


def test_what_is_not_a_checkpoint_of_the_run_is_not_looked_at(tmp_path):
    saved(tmp_path, 4)
    for name in ("checkpoint-8 (copy)", "checkpoint-final", "checkpoint-²", "checkpoint-"):
        shutil.copytree(tmp_path / "checkpoint-4", tmp_path / name)
    (tmp_path / "checkpoint-9").write_text("a file")
    assert [c.step for c in find_checkpoints(tmp_path)] == [4]
    assert find_checkpoint(tmp_path, "auto")[0].step == 4
    assert find_checkpoint(tmp_path, str(tmp_path / "checkpoint-8 (copy)"))[0].step == 4  # named by the user


def test_without_a_usable_checkpoint(tmp_path):
    """One that a kill cut short is nothing yet; complete weights without an optimizer must not be overwritten."""
    saved(tmp_path / "killed", 4, without=("trainer_state.json",))
    found, passed_over = find_checkpoint(tmp_path / "killed", "auto")
    assert (found, len(passed_over)) == (None, 1)
    saved(tmp_path / "only", 4, without=("optimizer.pt",))
    with pytest.raises(InputError, match=r"checkpoint-4: saved without the optimizer's state .*: not resumable$"):
        find_checkpoint(tmp_path / "only", "auto")


INDEX = '{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}, "metadata": {}}'


def test_sharded_weights_count_only_if_every_file_is_there(tmp_path):
    folder = saved(tmp_path, 4, "model", without=("model.safetensors",))
    (folder / "model.safetensors.index.json").write_text(INDEX)
    save_file({"x": torch.zeros(1)}, folder / "a.safetensors")
    with pytest.raises(InputError, match=r"b\.safetensors: no such file"):
        read_checkpoint(folder)
    save_file({"y": torch.zeros(1)}, folder / "b.safetensors")
    assert read_checkpoint(folder).kind == "model"


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 8, b"junk junk junk", b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{}x"]
)
def test_what_is_not_a_whole_safetensors_file(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.safetensors: damaged or cut short: "):
        tensor_names(tmp_path / "x.safetensors")


def test_the_end_of_a_run_is_not_trained_past(tmp_path):
    """transformers trains one more step if it resumes from the last one."""
    from types import SimpleNamespace

    last = saved(tmp_path, 8)
    assert [is_finished(SimpleNamespace(max_steps=steps), last) for steps in (8, 7, 9, -1)] == [
        True,
        True,
        False,
        False,
    ]
    assert not is_finished(SimpleNamespace(max_steps=8), None)
    publish(last, tmp_path)
    files = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert files == {"adapter_config.json", "adapter_model.safetensors", "training_args.bin"}


def test_a_verl_checkpoint_needs_every_shard(tmp_path):
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
    assert (read_checkpoint(folder).kind, read_checkpoint(folder).lacks) == (
        "verl",
        "optim_world_size_1_rank_0.pt is missing",
    )
    assert choose(tmp_path, verl=True) == (None, [f"{folder}: optim_world_size_1_rank_0.pt is missing"])
    for kind in ("optim", "extra_state"):
        torch.save({}, folder / "actor" / f"{kind}_world_size_1_rank_0.pt")
    torch.save({}, folder / "data.pt")
    assert read_checkpoint(folder).lacks == ""
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("junk")  # verl's note is not read
    assert choose(tmp_path, verl=True)[0].step == 5
    assert find_checkpoint(tmp_path, None) == (None, [])  # a folder of a DAPO run holds nothing that GRPO could resume
    with pytest.raises(InputError, match=r"global_step_5: a checkpoint of src/dapo\.py: only that resumes it$"):
        find_checkpoint(tmp_path, str(folder))
