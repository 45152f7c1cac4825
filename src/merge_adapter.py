"""Merge an adapter into its base model: a folder that vLLM, transformers and evaluation load like any model.

    python src/merge_adapter.py --adapter runs/grpo --out runs/grpo-merged
    python src/merge_adapter.py --adapter runs/grpo/checkpoint-500 --out merged --base Qwen/Qwen2.5-Coder-7B-Instruct

The merge runs in fp32 on the CPU, whatever --dtype is written: about 4 bytes a parameter of memory (7B: 30 GB). vLLM
loads LoRA adapters but no DoRA, so a DoRA policy reaches it this way. The tokenizer and its own template come along.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from adapters import is_adapter, load_merged
from run_context import write_json


def merge(base: str, adapter: Path, out: Path, dtype: str, revision: str = "main") -> None:
    """Write base + adapter to `out`: a temporary folder first, renamed when it is complete."""
    from transformers import AutoTokenizer

    model = load_merged(base, adapter, dtype=dtype, revision=revision)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    AutoTokenizer.from_pretrained(base, revision=revision).save_pretrained(part)
    write_json(part / "merged_from.json", {"base": base, "revision": revision, "adapter": str(adapter), "dtype": dtype})
    part.rename(out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", type=Path, required=True, help="folder with adapter_config.json")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must not exist")
    parser.add_argument("--base", help="base model (default: the one that the adapter names)")
    parser.add_argument("--revision", default="main", help="revision of the base model (default: %(default)s)")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    args = parser.parse_args()
    if not is_adapter(args.adapter):
        parser.error(f"{args.adapter}: no adapter_config.json there")
    if args.out.exists():
        parser.error(f"{args.out}: exists already")
    config = json.loads((args.adapter / "adapter_config.json").read_text("utf-8"))
    base = args.base or config["base_model_name_or_path"]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    merge(base, args.adapter, args.out, args.dtype, args.revision)
    kind = "DoRA" if config.get("use_dora") else "LoRA"
    print(f"merged the {kind} adapter {args.adapter} into {base}: {args.out} ({args.dtype})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
