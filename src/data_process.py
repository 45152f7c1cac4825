"""Records -> verl's parquet files, with the very prompt that src/grpo.py trains on.

    python src/data_process.py                                  # what configs/dapo.yaml names
    python src/data_process.py --config-name quickstart/dapo    # another configuration
    python src/data_process.py recode.data=my.jsonl run=mine    # Hydra overrides, as for src/dapo.py

It prints how long prompts and targets are, what was dropped and why, and the hash of what it wrote. Rows with errors
(src/records.py; one is a reference answer below the reward's maximum) get one line each, and nothing is written;
`recode.bad_rows=drop` leaves them out, `keep` keeps what has a prompt and a target. `bash scripts/dapo.sh` calls it
with --if-stale.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from tqdm import tqdm

from common.cli import program
from common.errors import InputError
from common.files import replacing, write_json
from common.provenance import sha256
from prompts import PREFILL, migration_messages, open_chat_template
from records import Record, load_records
from verl_training import checks as dapo_checks
from verl_training import config as verl_config
from verl_training import parquet as verl_data

PERCENTILES = (0, 50, 90, 99, 100)


def percentiles(lengths: Sequence[int]) -> str:
    """ "min 12, 50% 205, …" of a non-empty list, nearest rank."""
    ordered = sorted(lengths)
    names = {0: "min", 100: "max"}
    return ", ".join(
        f"{names.get(p, f'{p}%')} {ordered[min(len(ordered) - 1, p * len(ordered) // 100)]}" for p in PERCENTILES
    )


def keep_short(records: Sequence[Record], tokenizer: Any, config: DictConfig, split: str) -> list[Record]:
    """The records whose prompt and target fit; prints what was dropped. Raises InputError where none is left."""
    template = open_chat_template(tokenizer)
    limit, target_limit = config.data.max_prompt_length, config.recode.max_target_length
    kept, prompts, targets, long_prompts, long_targets = [], [], [], 0, 0
    for record in tqdm(records, desc=f"{split}: tokenising", unit="row"):
        messages = migration_messages(record)
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, chat_template=template
        )
        if not text.endswith(PREFILL):
            raise InputError(f"record {record.id}: its prompt does not end in the open prefill {PREFILL!r}")
        prompt = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        target = len(tokenizer(record.new_code, add_special_tokens=False)["input_ids"])
        if prompt > limit:
            long_prompts += 1
        elif target_limit is not None and target > target_limit:
            long_targets += 1
        else:
            kept.append(record)
            prompts.append(prompt)
            targets.append(target)
    print(
        f"{split}: {len(kept)} of {len(records)} records; dropped {long_prompts} with a prompt over {limit} tokens and "
        f"{long_targets} with a target over {target_limit}"
    )
    if not kept:
        raise InputError(f"{split}: no record is left")
    print(f"  prompt tokens: {percentiles(prompts)}\n  target tokens: {percentiles(targets)}")
    if max(targets) * 1.5 > config.data.max_response_length:
        print(f"  warning: the longest target leaves little room to think in {config.data.max_response_length} tokens")
    return kept


def write(records: Sequence[Record], path: Path, split: str) -> dict[str, Any]:
    """Write one parquet file, whole or not at all."""
    from datasets import Dataset

    path.parent.mkdir(parents=True, exist_ok=True)
    rows = Dataset.from_list([verl_data.row(record, i, split) for i, record in enumerate(records)])
    with replacing(path) as part:
        rows.to_parquet(str(part))
    return {"file": str(path), "rows": len(records), "sha256": sha256(path)}


def process(config: DictConfig) -> dict[str, Any]:
    """Make both files and their manifest. Raises InputError before anything is written."""
    from transformers import AutoTokenizer

    model = config.actor_rollout_ref.model.path
    if model.startswith(("runs/", "models/", "/", ".")) and not Path(model).is_dir():
        raise InputError(f"actor_rollout_ref.model.path={model}: no such folder")
    recode = config.recode
    records = load_records(recode.data, recode.bad_rows)
    if recode.val_data is None:
        train, val = verl_data.split_by_update(records, recode.val_size)
    else:
        train, val = records, load_records(recode.val_data, recode.bad_rows)
        shared = {verl_data.update_of(record) for record in train} & {verl_data.update_of(record) for record in val}
        if shared:
            raise InputError(f"{recode.val_data}: {len(shared)} of its updates are in {recode.data} too")
    tokenizer = AutoTokenizer.from_pretrained(config.actor_rollout_ref.model.path)
    splits = {"train": keep_short(train, tokenizer, config, "train"), "val": keep_short(val, tokenizer, config, "val")}
    if len(splits["train"]) < config.data.train_batch_size:
        raise InputError(
            f"{recode.data}: {len(splits['train'])} records for data.train_batch_size={config.data.train_batch_size}"
        )

    manifest = verl_data.manifest_path(config)
    manifest.unlink(missing_ok=True)  # a crash between the two files must not leave a manifest of the old pair
    made = {split: write(splits[split], path, split) for split, path in verl_data.files(config).items()}
    write_json(manifest, {"identity": verl_data.identity(config), **made})
    for split in made.values():
        print(f"wrote {split['file']}  {split['rows']} rows  sha256 {split['sha256'][:16]}")
    return made


@program()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-name", default="dapo", help="a file of configs/ (default: %(default)s)")
    parser.add_argument(
        "--if-stale", action="store_true", help="do nothing where the files are what the config asks for"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="Hydra overrides")
    args = parser.parse_args()
    try:
        config = verl_config.compose(args.config_name, args.overrides)
        dapo_checks.check(config)
        if args.if_stale:
            why = verl_data.stale(config)
            if why is None:
                print(f"data: {config.data.train_files} is up to date")
                return 0
            print(f"data: {why}; making it")
        process(config)
    except (InputError, OSError, ValueError) as error:
        print(f"data_process: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
