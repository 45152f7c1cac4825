"""src/data_process.py and what verl makes of its files: the same prompt bytes as src/grpo.py, the reward on every
path."""

from __future__ import annotations

import asyncio
import json

import pytest
import torch
from conftest import ROOT, TINY_ROWS, run_script
from families import FAMILIES, make_tokenizer
from verl_runs import OTHER, settings

from prompts import PREFILL, migration_messages, open_chat_template, reference_completion, render
from records import load_records
from verl_training import parquet as verl_data

pytest.importorskip("hydra", reason="requirements/dapo.txt is not installed")


def process(*overrides: str, check: bool = True, flags: tuple[str, ...] = ()):
    return run_script("data_process.py", "--config-name", "quickstart/dapo", *flags, *overrides, check=check)


@pytest.fixture(scope="module")
def other_data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "other.jsonl"
    path.write_text(json.dumps(OTHER) + "\n")
    return path


@pytest.fixture(scope="module")
def made(tiny_data, other_data, random_model, tmp_path_factory):
    """(overrides, output) of one run of data_process.py on the four tiny records."""
    run = tmp_path_factory.mktemp("run")
    overrides = settings(tiny_data, run, random_model, f"recode.val_data={other_data}")
    return run, overrides, process(*overrides).stdout


def test_what_it_prints_and_writes(made, random_model):
    run, _overrides, said = made
    assert "train: 4 of 4 records; dropped 0 with a prompt over 512 tokens and 0 with a target over 60" in said
    assert "prompt tokens: min " in said
    manifest = json.loads((run / "data" / "train.json").read_text())
    assert (manifest["train"]["rows"], manifest["val"]["rows"]) == (4, 1)
    assert manifest["train"]["sha256"][:16] in said
    assert sorted(path.name for path in (run / "data").iterdir()) == ["train.json", "train.parquet", "val.parquet"]


def test_it_runs_again_only_where_something_has_changed(made, tiny_data, tmp_path):
    run, overrides, _ = made
    assert "is up to date" in process(*overrides, flags=("--if-stale",)).stdout
    assert (
        "max_target_length has changed; making it"
        in process(*overrides, "recode.max_target_length=50", flags=("--if-stale",)).stdout
    )
    assert "max_target_length has changed; making it" in process(*overrides, flags=("--if-stale",)).stdout
    (run / "data" / "val.parquet").write_bytes(b"cut")
    assert "val.parquet is not the file that was written" in process(*overrides, flags=("--if-stale",)).stdout
    assert "is up to date" in process(*overrides, flags=("--if-stale",)).stdout


@pytest.mark.slow  # seven starts of the script
def test_bad_input_is_named_and_nothing_is_written(tiny_data, other_data, random_model, tmp_path):
    bad = tmp_path / "bad.jsonl"
    rows = [dict(TINY_ROWS[0]), {**TINY_ROWS[1], "new_code": "def ("}, {**TINY_ROWS[2], "update_info": None}]
    bad.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = tmp_path / "run"
    val = f"recode.val_data={other_data}"
    done = process(*settings(bad, run, random_model, val, "recode.bad_rows=stop"), check=False)
    assert done.returncode == 2
    assert f"{bad}:2: new_code: " in done.stderr
    assert f"{bad}:3: update_info: " in done.stderr
    for overrides, message in [
        (settings(tiny_data, run, random_model, val, "data.max_prompt_length=10"), "train: no record is left"),
        (
            settings(tiny_data, run, random_model, val, "data.train_batch_size=5"),
            "4 records for data.train_batch_size=5",
        ),
        (settings(tiny_data, run, random_model, f"recode.val_data={tiny_data}"), "1 of its updates are in"),
        (settings(tiny_data, run, random_model, "recode.val_data=null"), "that takes 4 of 4 records"),
        (settings(tmp_path / "absent.jsonl", run, random_model, val), "absent.jsonl: no such file"),
        (settings(tiny_data, run, random_model, val, "recode.dat=x"), "recode.dat"),
    ]:
        done = process(*overrides, check=False)
        assert (done.returncode, message in done.stderr.splitlines()[-1]) == (2, True), done.stderr
    assert not run.exists()


def test_a_reference_that_cannot_reach_the_maximum_stops_it(tiny_data, other_data, random_model, tmp_path):
    data = tmp_path / "fence.jsonl"  # a target that ends the answer early: its own answer is not well formed
    data.write_text(
        "".join(json.dumps({**row, "new_code": row["new_code"] + "\ns = '</answer>'"}) + "\n" for row in TINY_ROWS)
    )
    done = process(*settings(data, tmp_path / "run", random_model, f"recode.val_data={other_data}"), check=False)
    assert done.returncode == 2
    assert f"{data}:1: new_code: the reference answer does not score the maximum" in done.stderr


def test_keep_makes_files_of_every_row_that_has_a_prompt_and_a_target(other_data, random_model, tmp_path):
    bad = tmp_path / "bad.jsonl"
    changes = [{}, {"new_code": "def ("}, {"new_code": TINY_ROWS[3]["old_code"]}, {"update_info": None}]
    changes[2]["old_code"] = changes[2]["new_code"]  # a no-op
    rows = [{**row, **change} for row, change in zip(TINY_ROWS, changes, strict=True)]
    bad.write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = (f"recode.val_data={other_data}", "recode.bad_rows=keep")
    done = process(*settings(bad, tmp_path / "run", random_model, *more))
    assert "bad_rows: keep: 3 of 4 rows are used\n4 rows, 1 good, 3 with errors, 2 of them kept\n" in done.stderr
    assert "train: 3 of 3 records" in done.stdout
    assert json.loads((tmp_path / "run" / "data" / "train.json").read_text())["identity"]["bad_rows"] == "keep"


def test_a_split_takes_whole_updates():
    records = load_records(ROOT / "data" / "train.jsonl")
    train, val = verl_data.split_by_update(records, 20)
    assert len(train) + len(val) == len(records)
    assert 20 <= len(val) <= 20 + 12  # at most one update (12 records) more
    assert not {verl_data.update_of(r) for r in train} & {verl_data.update_of(r) for r in val}
    assert verl_data.split_by_update(list(reversed(records)), 20)[1] == list(reversed(val))
    assert verl_data.split_by_update(records, 0) == (records, [])


@pytest.mark.parametrize("family", FAMILIES)
def test_verl_sends_the_very_tokens_that_trl_sends(verl, family):
    """From the same record: trl tokenises the rendered text; verl's agent loop applies the open template."""
    from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

    record = load_records(ROOT / "data" / "train.jsonl")[0]
    tokenizer = make_tokenizer(family)
    trl_ids = tokenizer(render(tokenizer, migration_messages(record)))["input_ids"]
    opened = make_tokenizer(family)
    opened.chat_template = open_chat_template(tokenizer)
    kind = {"chatml": "qwen2", "deepseek": "llama", "llama": "llama"}[family]  # what decides verl's builder
    builder = create_continuous_token_builder(opened, hf_model_type=kind)
    verl_ids = builder.build_initial_tokens(verl_data.row(record, 0, "train")["prompt"])
    assert verl_ids == trl_ids
    assert tokenizer.decode(verl_ids).endswith(PREFILL)


def test_verl_s_data_set_reads_the_file(verl, made, random_model):
    from verl.utils.dataset.rl_dataset import RLHFDataset

    from verl_training import config as verl_config

    _run, overrides, _ = made
    config = verl_config.compose("quickstart/dapo", overrides)
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = open_chat_template(tokenizer)
    rows = RLHFDataset(config.data.train_files, tokenizer, config.data)
    records = list(load_records(config.recode.data))
    assert [row["extra_info"]["record_id"] for row in rows] == [record.id for record in records]
    assert rows[0]["raw_prompt"] == migration_messages(records[0])
    assert rows[0]["reward_model"]["ground_truth"] == records[0].new_code
    assert [rows[i]["index"] for i in range(4)] == [0, 1, 2, 3]


COMPLETIONS = {  # completion -> score, format, syntax, em against "area = 1"
    reference_completion("area = 1"): (3.0, 1.0, 1.0, 1.0),
    " </think>\n<answer>\n```python\narea = (\n```\n</answer>": (-1.0, 1.0, 0.0, 0.0),  # +1 format, -2 does not parse
    "no tags at all": (-3.0, -1.0, 0.0, 0.0),  # -1 format, -2 no code
    "": (-3.0, -1.0, 0.0, 0.0),
    " </think>\n<answer>\n```python\narea = 2\n```\n</answer>": (2.5625, 1.0, 1.0, 0.0),  # 3.5 * 7/8 - 1.5 = 1.5625
}


@pytest.mark.parametrize("overlong", [False, True])
def test_verl_s_reward_manager_gives_every_key_on_every_path(verl, overlong):
    from tensordict import TensorDict
    from verl import DataProto
    from verl.experimental.reward_loop.reward_manager.dapo import DAPORewardManager
    from verl.trainer.ppo.reward import get_custom_reward_fn

    from verl_training import config as verl_config

    config = verl_config.compose(
        "quickstart/dapo",
        [
            f"reward.custom_reward_function.path={ROOT / 'src' / 'rewards.py'}",
            "data.max_response_length=64",
            f"reward.reward_kwargs.overlong_buffer_cfg.enable={overlong}",
            "reward.reward_kwargs.overlong_buffer_cfg.len=32",
        ],
    )
    tokenizer = make_tokenizer("chatml")

    async def run(completion: str) -> tuple[dict, int]:
        manager = DAPORewardManager(config, tokenizer, get_custom_reward_fn(config))
        ids = tokenizer(completion + tokenizer.eos_token)["input_ids"]
        data = DataProto(
            batch=TensorDict(
                {"responses": torch.tensor([ids]), "attention_mask": torch.ones(1, 5 + len(ids), dtype=torch.long)}, 1
            ),
            non_tensor_batch=DataProto.from_dict(
                non_tensors={
                    "data_source": ["recode"],
                    "reward_model": [{"style": "rule", "ground_truth": "area = 1"}],
                    "extra_info": [{}],
                }
            ).non_tensor_batch,
        )
        return await manager.run_single(data), len(ids)

    for completion, (total, form, syntax, em) in COMPLETIONS.items():
        result, length = asyncio.run(run(completion))
        info = result["reward_extra_info"]
        parts = {"score", "format", "correctness", "syntax", "em", "es"}
        assert set(info) == parts | ({"overlong_reward", "overlong"} if overlong else set())
        assert (info["score"], info["format"], info["syntax"], info["em"]) == (total, form, syntax, em)
        # DAPO eq. 13: nothing up to 64 - 32 tokens, then -1 over the next 32.
        penalty = min(0.0, -(length - 32) / 32) if overlong else 0.0
        assert float(result["reward_score"]) == pytest.approx(total + penalty)
