"""Merge an adapter or a verl checkpoint into a folder that vLLM, transformers and evaluation load like any model.

    python src/merge_adapter.py --adapter runs/grpo --out runs/grpo-merged
    python src/merge_adapter.py --adapter runs/grpo/checkpoint-500 --out merged --base Qwen/Qwen2.5-Coder-7B-Instruct
    python src/merge_adapter.py --checkpoint runs/dapo/global_step_500 --out runs/dapo-500
    python src/merge_adapter.py --checkpoint runs/dapo --out runs/dapo-last        # the last complete checkpoint

--adapter takes what src/sft.py and src/grpo.py save, --checkpoint what src/dapo.py saves (DoRA or full weights, any
number of GPUs). vLLM loads LoRA adapters but not DoRA, and verl's own merger does not support DoRA either, so a DoRA
policy has to be merged. The merge runs in fp32 on the CPU, whatever the --dtype of the result: about 4 bytes of memory
per parameter (7B: 30 GB, and 60 GB for a full-weights checkpoint). The tokenizer is copied with its own chat template,
and README.md is a model card of the result.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from adapters import adapter_base, load_merged, named_adapter
from common.card_files import find_run, run_starts, write_card
from common.chat import load_tokenizer
from common.checkpoints import base_of, choose, run_start, shard_files
from common.cli import Parser, program
from common.files import write_json
from common.trained_prompt import trained_prompt
from verl_training.checkpoint import load_trained, run_folder


@program()
def main() -> None:
    parser = Parser(description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--adapter", type=Path, help="folder with adapter_config.json")
    which.add_argument("--checkpoint", type=Path, help="verl's global_step_N folder, or the run's")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must not exist")
    parser.add_argument("--base", help="base model (default: the one named by the adapter or the run)")
    parser.add_argument("--revision", default="main", help="revision of the base model (default: %(default)s)")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"{args.out}: exists already")
    import torch

    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.checkpoint and (last := choose(args.checkpoint, verl=True)[0]):  # the folder of a run
        args.checkpoint = last.folder
    source = args.adapter or args.checkpoint
    run_starts(find_run(source))  # for the model card: if there is a run.json, it must be readable
    adapter = named_adapter(args.adapter) if args.adapter else None
    if adapter:
        base = args.base or adapter_base(adapter)
    else:
        shard_files(args.checkpoint)  # are they complete?
        base = args.base or base_of(run_start(run_folder(args.checkpoint)))[0]
    tokenizer = load_tokenizer(base, revision=args.revision)
    if adapter:
        model = load_merged(base, adapter, dtype=args.dtype, revision=args.revision)
    else:
        model = load_trained(args.checkpoint, base, args.revision).to(getattr(torch, args.dtype))
    part = args.out.with_name(args.out.name + ".part")  # renamed when it is complete
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    merged_from = {"base": base, "revision": args.revision, "source": str(source), "dtype": args.dtype}
    merged_from["prompt"] = trained_prompt(source)
    write_json(part / "merged_from.json", merged_from)
    write_card(part)
    part.rename(args.out)
    print(f"merged {source} with {base}: {args.out} ({args.dtype})")


if __name__ == "__main__":
    main()
