"""Merge an adapter or a verl checkpoint into a folder that vLLM, transformers and evaluation load like any model.

    python src/merge_adapter.py --adapter runs/grpo --out runs/grpo-merged
    python src/merge_adapter.py --adapter runs/grpo/checkpoint-500 --out merged --base Qwen/Qwen2.5-Coder-7B-Instruct
    python src/merge_adapter.py --checkpoint runs/dapo/global_step_500 --out runs/dapo-500

--adapter takes what src/sft.py and src/grpo.py save, --checkpoint what src/dapo.py saves (DoRA or full weights, any
number of GPUs). vLLM loads LoRA adapters but not DoRA, and verl's own merger does not support DoRA either, so a DoRA
policy has to be merged. The merge runs in fp32 on the CPU, whatever the --dtype of the result: about 4 bytes of memory
per parameter (7B: 30 GB, and 60 GB for a full-weights checkpoint). The tokenizer is copied with its own chat template.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from adapters import AdapterConfig, find_adapter, load_merged
from common.checkpoints import shard_files
from common.cli import program
from common.errors import InputError
from common.files import read_json, write_json
from verl_training import checkpoint as verl_checkpoint


def merged(adapter: Path, base: str | None, revision: str, dtype: str) -> tuple[Any, str]:
    """(the merged model, its base): the base that is given, or the one that the adapter names."""
    found = find_adapter(adapter)
    if found is None:
        raise InputError(f"{adapter}: no adapter_config.json there")
    base = base or read_json(found / "adapter_config.json", AdapterConfig).base_model_name_or_path
    if base is None:
        raise InputError(f"{found}: adapter_config.json names no base model: add --base")
    return load_merged(base, found, dtype=dtype, revision=revision), base


def merged_checkpoint(checkpoint: Path, base: str | None, revision: str, dtype: str) -> tuple[Any, str]:
    """(the trained model, its base): the base that is given, or the one that the run names."""
    import torch

    shard_files(checkpoint)  # before the base loads: are they complete?
    base = base or verl_checkpoint.base_model(checkpoint)
    return verl_checkpoint.load_trained(checkpoint, base, revision).to(getattr(torch, dtype)), base


def write(model: Any, base: str, revision: str, out: Path, source: Path, dtype: str) -> None:
    """Write `model` and the base's tokenizer to `out`, by way of a temporary folder that is renamed when complete."""
    from transformers import AutoTokenizer

    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    AutoTokenizer.from_pretrained(base, revision=revision).save_pretrained(part)
    write_json(part / "merged_from.json", {"base": base, "revision": revision, "source": str(source), "dtype": dtype})
    part.rename(out)


@program()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--adapter", type=Path, help="folder with adapter_config.json")
    which.add_argument("--checkpoint", type=Path, help="verl's global_step_N folder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must not exist")
    parser.add_argument("--base", help="base model (default: the one named by the adapter or the run)")
    parser.add_argument("--revision", default="main", help="revision of the base model (default: %(default)s)")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"{args.out}: exists already")
    source, merge = (args.adapter, merged) if args.adapter else (args.checkpoint, merged_checkpoint)
    model, base = merge(source, args.base, args.revision, args.dtype)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(model, base, args.revision, args.out, source, args.dtype)
    print(f"merged {source} with {base}: {args.out} ({args.dtype})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
