"""Turn an adapter or a verl checkpoint into a folder that vLLM, transformers and evaluation load like any model.

    python src/merge_adapter.py --adapter runs/grpo --out runs/grpo-merged
    python src/merge_adapter.py --adapter runs/grpo/checkpoint-500 --out merged --base Qwen/Qwen2.5-Coder-7B-Instruct
    python src/merge_adapter.py --checkpoint runs/dapo/global_step_500 --out runs/dapo-500

--adapter takes what src/sft.py and src/grpo.py save, --checkpoint what src/dapo.py saves (DoRA or full weights, any
number of GPUs). vLLM loads LoRA adapters but no DoRA, so a DoRA policy reaches it this way; verl's own merger does not
know DoRA either. The merge runs in fp32 on the CPU, whatever --dtype is written: about 4 bytes a parameter of memory
(7B: 30 GB, and 60 GB for a full-weights checkpoint). The tokenizer and its own chat template come along.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from adapters import load_merged
from common.checkpoints import is_adapter
from common.cli import program
from common.files import write_json
from verl_training import checkpoint as verl_checkpoint


def write(model: Any, base: str, revision: str, out: Path, source: Path, dtype: str) -> None:
    """Write `model` and the base's tokenizer to `out`: a temporary folder first, renamed when it is complete."""
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
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--adapter", type=Path, help="folder with adapter_config.json")
    source.add_argument("--checkpoint", type=Path, help="verl's global_step_N folder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must not exist")
    parser.add_argument("--base", help="base model (default: the one that the adapter or the run names)")
    parser.add_argument("--revision", default="main", help="revision of the base model (default: %(default)s)")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"{args.out}: exists already")
    if args.adapter and not is_adapter(args.adapter):
        parser.error(f"{args.adapter}: no adapter_config.json there")
    try:
        if args.adapter:
            named = json.loads((args.adapter / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"]
            base = args.base or named
            model = load_merged(base, args.adapter, dtype=args.dtype, revision=args.revision)
        else:
            import torch

            base = args.base or verl_checkpoint.base_model(args.checkpoint)
            model = verl_checkpoint.load_trained(args.checkpoint, base, args.revision).to(getattr(torch, args.dtype))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(model, base, args.revision, args.out, args.adapter or args.checkpoint, args.dtype)
    print(f"merged {args.adapter or args.checkpoint} with {base}: {args.out} ({args.dtype})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
