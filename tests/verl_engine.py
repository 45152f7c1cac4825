"""verl's own FSDP2 engine on gloo, for test_dapo_engine.py, which starts this under torchrun.

    verl_engine.py WHAT MODEL FOLDER [WHAT MODEL FOLDER ...]

merge      change a DoRA adapter (FOLDER/adapter_init); write what verl sends to the rollout, and a checkpoint
full       the same with all weights
packing    log-probabilities of the same sequences, packed into one row and padded
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist

IDS = torch.arange(5, 45).unsqueeze(0)


def build(model: str, adapter: str | None, *, packed: bool = True):
    """An initialised engine in float32."""
    from verl.trainer.config import CheckpointConfig
    from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig
    from verl.workers.engine import EngineRegistry

    lora = {"lora_rank": 4, "lora_alpha": 8, "lora_adapter_path": adapter, "lora": {"merge": True}} if adapter else {}
    engine = EngineRegistry.new(
        model_type="language_model",
        backend="fsdp2",
        model_config=HFModelConfig(
            path=model,
            override_config={"attn_implementation": "sdpa"},
            use_remove_padding=packed,
            enable_gradient_checkpointing=False,
            **lora,
        ),
        engine_config=FSDPEngineConfig(
            strategy="fsdp2",
            use_torch_compile=False,
            mixed_precision={"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"},
        ),
        optimizer_config=FSDPOptimizerConfig(lr=1e-3, total_training_steps=10),
        checkpoint_config=CheckpointConfig(
            save_contents=["model", "optimizer", "extra"], load_contents=["model"], save_lora_only=adapter is not None
        ),
    )
    engine.initialize()
    return engine


@torch.no_grad()
def move(engine) -> None:
    """Change the trainable weights as an optimizer step would: the same change on any number of ranks."""
    torch.manual_seed(0)
    rank, world = dist.get_rank(), dist.get_world_size()
    for parameter in engine.module.parameters():
        noise = torch.randn(parameter.shape) * 0.1  # every rank draws the whole tensor and takes its own rows
        if parameter.requires_grad:
            rows = noise.chunk(world)
            if rank < len(rows):
                parameter._local_tensor.add_(rows[rank].reshape(parameter._local_tensor.shape))


def sync(engine, out: Path) -> None:
    from safetensors.torch import save_file

    before = {name: p.full_tensor().clone() for name, p in engine.module.named_parameters()}
    weights, _ = engine.get_per_tensor_param(base_sync_done=True)
    sent = {name: tensor.contiguous().clone() for name, tensor in weights}
    torch.save(engine.module(input_ids=IDS).logits, out / f"logits_{dist.get_rank()}.pt")
    after = {name: p.full_tensor() for name, p in engine.module.named_parameters()}
    assert all(torch.equal(before[name], after[name]) for name in before), "the sync changed the policy"
    engine.save_checkpoint(str(out / "global_step_1" / "actor"), global_step=1)
    if dist.get_rank() == 0:
        save_file(sent, str(out / "sent.safetensors"))


@torch.no_grad()
def packing(model: str, out: Path) -> None:
    from tensordict import TensorDict
    from verl.utils import tensordict_utils as tu

    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(5, 1500, (n,), generator=generator) for n in (40, 7, 23)]

    def nested(tensors):
        return torch.nested.as_nested_tensor(tensors, layout=torch.jagged)

    found = {}
    for packed in (True, False):
        engine = build(model, None, packed=packed)
        data = TensorDict(
            {
                "input_ids": nested(rows),
                "position_ids": nested([torch.arange(len(row)) for row in rows]),
                "loss_mask": nested([torch.ones(len(row), dtype=torch.long) for row in rows]),
            },
            batch_size=3,
        )
        settings = {
            "temperature": 1.0,
            "use_dynamic_bsz": True,
            "max_token_len_per_gpu": 128,
            "use_fused_kernels": False,
        }
        tu.assign_non_tensor(data, use_remove_padding=packed, calculate_entropy=False, **settings)
        with engine.eval_mode():
            output = engine.infer_batch(data, loss_function=None)
        found[packed] = [row[:-1] for row in output["model_output"]["log_probs"].unbind()]
    torch.save({"rows": rows, "packed": found[True], "padded": found[False]}, out / "packing.pt")


def main(arguments: list[str]) -> None:
    dist.init_process_group("gloo")
    for what, model, folder in zip(*[iter(arguments)] * 3, strict=True):
        if what == "packing":
            packing(model, Path(folder))
        else:
            engine = build(model, f"{folder}/adapter_init" if what == "merge" else None)
            move(engine)
            sync(engine, Path(folder))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1:])
