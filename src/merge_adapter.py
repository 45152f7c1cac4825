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

import shutil
from pathlib import Path
from typing import Any

from adapters import AdapterConfig, find_adapter, load_merged
from common.chat import load_tokenizer
from common.checkpoints import base_of, run_start, shard_files
from common.cli import Parser, program
from common.errors import InputError
from common.files import read_json, write_json
from verl_training.checkpoint import load_trained, run_folder


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
    base = base or base_of(run_start(run_folder(checkpoint)))[0]
    return load_trained(checkpoint, base, revision).to(getattr(torch, dtype)), base


@program()
def main() -> None:
    parser = Parser(description=__doc__)
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
    args.out.parent.mkdir(parents=True, exist_ok=True)
    source, merge = (args.adapter, merged) if args.adapter else (args.checkpoint, merged_checkpoint)
    model, base = merge(source, args.base, args.revision, args.dtype)
    part = args.out.with_name(args.out.name + ".part")  # renamed when it is complete
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    load_tokenizer(base, revision=args.revision).save_pretrained(part)
    merged_from = {"base": base, "revision": args.revision, "source": str(source), "dtype": args.dtype}
    write_json(part / "merged_from.json", merged_from)
    part.rename(args.out)
    print(f"merged {source} with {base}: {args.out} ({args.dtype})")


if __name__ == "__main__":
    main()
