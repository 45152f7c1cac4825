"""Test a model on held-out migration records with the training rewards: format rate, ES*, EM, with standard errors.

    python src/heldout.py --model models/SmolLM2-135M-Instruct --data data/heldout.jsonl --out results/base
    python src/heldout.py --model runs/sft-merged --adapter runs/grpo --data data/heldout.jsonl --out results/grpo

The same records, sampling settings and seed for every model; beside each sits the baseline that returns the old code
unchanged. Standard errors are over records: the samples of one record are averaged first. Writes OUT/samples.jsonl and
OUT/result.json; a second call with the same arguments finds them and does nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from common.cli import fail, program
from common.errors import InputError
from common.estimates import mean_and_error
from common.files import write_json, write_jsonl
from common.provenance import describe, sha256
from common.rows import resolve
from prompts import migration_messages, open_chat_template, reference_completion, render
from records import Record, load_records
from rewards import Score, score

PARTS = ("format_rate", "es_star", "em", "reward", "is_old_code")


def parts(result: Score, record: Record) -> dict[str, float]:
    """What is reported of one completion; `em` is 1 on an exact match, `reward` = format + ES*."""
    old = score(reference_completion(record.old_code), result.code or "")
    return {
        "format_rate": float(result.format > 0),
        "es_star": result.es_star,
        "em": float(result.exact and result.parses),
        "reward": result.format + result.es_star,
        "is_old_code": float(result.code is not None and old.exact),
    }


def choose(records: list[Record], tokenizer: Any, args: argparse.Namespace) -> list[Record]:
    """The fixed test records: by id, the first `--limit` whose target has at most `--max-target-tokens`."""

    def size(record: Record) -> int:
        return len(tokenizer(record.new_code, add_special_tokens=False)["input_ids"])

    short = [record for record in records if size(record) <= args.max_target_tokens]
    if len(short) < 2:
        fail(f"{args.data}: {len(short)} record(s) with targets up to {args.max_target_tokens} tokens: too few")
    return sorted(short, key=lambda record: record.id)[: args.limit]


def sample(model: Any, tokenizer: Any, prompts: list[str], args: argparse.Namespace) -> list[tuple[str, int]]:
    """(completion, tokens) for each prompt, prompt-major, `--samples` of each, in batches of similar length."""
    import torch
    from tqdm import tqdm

    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    out: dict[int, list[tuple[str, int]]] = {}
    per_batch = max(1, args.batch_size // args.samples)
    stops = model.generation_config.eos_token_id
    stops = set(stops if isinstance(stops, list) else [stops]) | {tokenizer.eos_token_id}
    torch.manual_seed(args.seed)
    for start in tqdm(range(0, len(order), per_batch), desc="generate", unit="batch"):
        chosen = order[start : start + per_batch]
        inputs = tokenizer([prompts[i] for i in chosen], return_tensors="pt", padding=True).to(model.device)
        with torch.no_grad():
            ids = model.generate(
                **inputs,
                do_sample=True,
                temperature=args.temperature,
                top_k=0,
                top_p=1.0,
                repetition_penalty=1.0,  # as trl's rollouts; a model's own generation_config may set another
                num_return_sequences=args.samples,
                max_new_tokens=args.max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
            )[:, inputs["input_ids"].shape[1] :].tolist()
        for row, i in enumerate(i for i in chosen for _ in range(args.samples)):
            length = next((at + 1 for at, token in enumerate(ids[row]) if token in stops), len(ids[row]))
            text = tokenizer.decode(ids[row][:length], skip_special_tokens=True)
            out.setdefault(i, []).append((text, length))
    return [answer for i in range(len(prompts)) for answer in out[i]]


@program()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or hub name of the model")
    parser.add_argument("--adapter", help="folder of a peft adapter, merged before sampling")
    parser.add_argument("--data", required=True, help="file of held-out records")
    parser.add_argument("--out", type=Path, required=True, help="folder for samples.jsonl and result.json")
    parser.add_argument("--limit", type=int, default=24, help="records (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=4, help="samples per record (default: %(default)s)")
    parser.add_argument(
        "--max-target-tokens", type=int, default=60, help="longest target tested (default: %(default)s)"
    )
    parser.add_argument("--max-new-tokens", type=int, default=96, help="default: %(default)s")
    parser.add_argument("--temperature", type=float, default=1.0, help="as in the rollouts (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=16, help="completions at once (default: %(default)s)")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    try:
        records = load_records(args.data)
    except InputError as error:
        fail(error)
    settings = {key: value for key, value in vars(args).items() if key != "out"}
    settings["data_sha256"] = sha256(resolve(args.data))
    weights = Path(args.adapter or "") / "adapter_model.safetensors"
    settings["adapter_sha256"] = sha256(weights) if args.adapter and weights.is_file() else None
    done = args.out / "result.json"
    if done.exists():
        if json.loads(done.read_text("utf-8"))["settings"] != settings:
            fail(f"{args.out} holds a result of other settings, data or adapter: remove it or choose another --out")
        print(f"{args.out}: done before")
        return 0

    import torch
    from transformers import AutoTokenizer

    from adapters import load_merged

    started = time.time()
    tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    records = choose(records, tokenizer, args)
    template = open_chat_template(tokenizer)
    prompts = [render(tokenizer, migration_messages(record), template) for record in records]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_merged(args.model, args.adapter, dtype=args.dtype).to(device).eval()
    answers = sample(model, tokenizer, prompts, args)

    args.out.mkdir(parents=True, exist_ok=True)
    rows, table, copies = [], [], []
    for at, record in enumerate(records):
        mine = answers[at * args.samples : (at + 1) * args.samples]
        scored = [parts(score(text, record.new_code), record) for text, _ in mine]
        for (text, tokens), values in zip(mine, scored, strict=True):
            rows.append({"record_id": record.id, "completion": text, "tokens": tokens, **values})
        table.append({name: sum(values[name] for values in scored) / len(scored) for name in PARTS})
        copies.append(parts(score(reference_completion(record.old_code), record.new_code), record))
    write_jsonl(args.out / "samples.jsonl", rows)
    result = {
        "model": {name: mean_and_error([row[name] for row in table]) for name in PARTS},
        "copy_baseline": {name: mean_and_error([row[name] for row in copies]) for name in PARTS},
        "records": {record.id: row for record, row in zip(records, table, strict=True)},
        "mean_tokens": sum(row["tokens"] for row in rows) / len(rows),
        "clipped": sum(row["tokens"] >= args.max_new_tokens for row in rows) / len(rows),
        "seconds": round(time.time() - started, 1),
        "settings": settings,
        **describe(settings, {args.data: resolve(args.data)}, args.seed),
    }
    write_json(done, result)
    shown = "  ".join(f"{k} {v['mean']:.3f} +- {v['standard_error']:.3f}" for k, v in result["model"].items())
    print(f"{args.out}: {len(records)} records x {args.samples} samples: {shown}")
    if result["clipped"] > 0.2:
        print(f"warning: {result['clipped']:.0%} of completions are cut at --max-new-tokens {args.max_new_tokens}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
