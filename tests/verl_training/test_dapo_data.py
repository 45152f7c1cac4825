"""src/data_process.py and what verl makes of its files: the same prompt bytes as src/grpo.py, the reward on every
path."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import sys

import pytest
import torch
from chat_templates import TRAINED, make_tokenizer
from conftest import ROOT, TINY_ROWS, run_command, run_script
from verl_runs import OTHER, settings

from common.chat import chat_of
from prompts import PREFILL, migration_messages, reference_completion
from records import load_records
from verl_training import parquet as verl_data
from verl_training.config import compose

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
    why = "max_target_length has changed; writing the files"
    assert why in process(*overrides, "recode.max_target_length=50", flags=("--if-stale",)).stdout
    assert why in process(*overrides, flags=("--if-stale",)).stdout
    assert "is up to date" in process(*overrides, "recode.bad_rows=keep", flags=("--if-stale",)).stdout  # all are good
    (run / "data" / "val.parquet").write_bytes(b"cut")
    assert "val.parquet is not the file that was written" in process(*overrides, flags=("--if-stale",)).stdout
    assert "is up to date" in process(*overrides, flags=("--if-stale",)).stdout


def test_only_code_that_changes_the_rows_makes_the_files_stale(made, tmp_path):
    """A comment or another prompt in src/prompts.py does not; a word of the training prompt does."""
    _run, overrides, _ = made
    for name in ("src", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    prompts = tmp_path / "src" / "prompts.py"

    def stale(text: str) -> str:
        prompts.write_text(text)
        command = [sys.executable, str(tmp_path / "src" / "data_process.py"), "--config-name", "quickstart/dapo"]
        return run_command([*command, "--if-stale", *overrides]).stdout

    text = prompts.read_text()
    assert "is up to date" in stale(text + "\n# a comment\nOTHER_PROMPT = 'Solve it.'\n")
    changed = text.replace("You rewrite old code", "You update old code")
    assert changed != text
    assert "train_rows has changed; writing the files" in stale(changed)
    assert "train_rows has changed; writing the files" in stale(text)


def test_the_files_are_those_of_one_wording(made, tiny_data, other_data, random_model, tmp_path):
    from datasets import Dataset

    run = tmp_path / "run"
    overrides = settings(tiny_data, run, random_model, f"recode.val_data={other_data}")
    paper, precise = (
        verl_data.DataFiles(compose("quickstart/dapo", [*overrides, f"recode.prompt={prompt}"]))
        for prompt in ("paper", "precise")
    )
    precise.make()
    assert (precise.stale(), paper.stale()) == (None, "prompt has changed")
    assert json.loads((run / "data" / "train.json").read_text())["identity"]["prompt"] == "precise"
    written = Dataset.from_parquet(str(precise.files["train"]), cache_dir=str(tmp_path / "cache"))
    messages = [migration_messages(record, "precise") for record in load_records(tiny_data)]
    assert list(written["prompt"]) == messages


@pytest.mark.parametrize("family", TRAINED)
def test_both_trainers_keep_the_same_records(family, tmp_path, capsys):
    from datasets import Dataset

    from trl_training.data import prompt_rows
    from trl_training.own_keys import DataArguments

    data, other = str(ROOT / "data" / "train.jsonl"), str(ROOT / "data" / "heldout.jsonl")
    tokenizer = make_tokenizer(family)
    tokenizer.save_pretrained(tmp_path / "model")
    records = load_records(data)
    chat = chat_of(tokenizer)
    lengths = sorted(len(chat.encode(chat.render(migration_messages(record)))) for record in records)
    targets = sorted(len(chat.encode(record.new_code)) for record in records)
    limit, target_limit = lengths[len(records) // 2], targets[len(records) // 2]  # each drops about half
    rows = prompt_rows(records, chat, DataArguments(data, "stop", limit, target_limit))
    overrides = [f"recode.val_data={other}", "recode.bad_rows=stop", f"data.max_prompt_length={limit}"]
    overrides += [f"recode.max_target_length={target_limit}", "data.train_batch_size=1"]
    files = verl_data.DataFiles(compose("dapo", settings(data, tmp_path, tmp_path / "model", *overrides)))
    files.make()
    written = Dataset.from_parquet(str(files.files["train"]), cache_dir=str(tmp_path / "cache"))
    assert [row["record_id"] for row in rows] == [info["record_id"] for info in written["extra_info"]]
    assert [row["target"] for row in rows] == [one["ground_truth"] for one in written["reward_model"]]
    assert [row["old_code"] for row in rows] == [info["old_code"] for info in written["extra_info"]]
    assert 0 < len(rows) < len(records)
    printed = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines() if "records; dropped" in line]
    assert printed[0] == printed[1]  # the same counts


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
        (
            settings(tiny_data, run, random_model, val, "data.max_prompt_length=10"),
            "tokens and 0 with a target over 60: no record is left",
        ),
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
    assert json.loads((tmp_path / "run" / "data" / "train.json").read_text())["bad_rows"] == "keep"


def test_a_split_takes_whole_updates():
    records = load_records(ROOT / "data" / "train.jsonl")
    train, val = verl_data.split_by_update(records, 20)
    assert len(train) + len(val) == len(records)
    assert 20 <= len(val) <= 20 + 12  # at most one update (12 records) more
    assert not {verl_data.update_of(r) for r in train} & {verl_data.update_of(r) for r in val}
    assert verl_data.split_by_update(list(reversed(records)), 20)[1] == list(reversed(val))
    assert verl_data.split_by_update(records, 0) == (records, [])


@pytest.mark.parametrize("family", TRAINED)
def test_verl_sends_the_very_tokens_that_trl_sends(verl, family):
    """From the same record: for trl the rendered text is encoded; verl's agent loop applies the open template."""
    from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

    record = load_records(ROOT / "data" / "train.jsonl")[0]
    tokenizer = make_tokenizer(family)
    chat = chat_of(tokenizer)
    trl_ids = chat.encode(chat.render(migration_messages(record)))
    opened = make_tokenizer(family)
    opened.chat_template = chat.template
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
    tokenizer.chat_template = chat_of(tokenizer).template
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


PARTS = {"score", "format", "correctness", "syntax", "em", "es"}


def scored(config, completion: str, target: str, extra_info: dict) -> tuple[dict, int]:
    """(what verl's reward manager returns for a completion, its tokens)."""
    from tensordict import TensorDict
    from verl import DataProto
    from verl.experimental.reward_loop.reward_manager.dapo import DAPORewardManager
    from verl.trainer.ppo.reward import get_custom_reward_fn

    tokenizer = make_tokenizer("chatml")
    ids = tokenizer(completion + tokenizer.eos_token)["input_ids"]
    tensors = {"responses": torch.tensor([ids]), "attention_mask": torch.ones(1, 5 + len(ids), dtype=torch.long)}
    others = {
        "data_source": ["recode"],
        "reward_model": [{"style": "rule", "ground_truth": target}],
        "extra_info": [extra_info],
    }
    data = DataProto(
        batch=TensorDict(tensors, 1), non_tensor_batch=DataProto.from_dict(non_tensors=others).non_tensor_batch
    )

    async def run() -> dict:
        return await DAPORewardManager(config, tokenizer, get_custom_reward_fn(config)).run_single(data)

    return asyncio.run(run()), len(ids)


@pytest.mark.parametrize("overlong", [False, True])
def test_verl_s_reward_manager_gives_every_key_on_every_path(verl, overlong):
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
    for completion, (total, form, syntax, em) in COMPLETIONS.items():
        result, length = scored(config, completion, "area = 1", {})
        info = result["reward_extra_info"]
        assert set(info) == PARTS | ({"overlong_reward", "overlong"} if overlong else set())
        assert (info["score"], info["format"], info["syntax"], info["em"]) == (total, form, syntax, em)
        # DAPO eq. 13: nothing up to 64 - 32 tokens, then -1 over the next 32.
        penalty = min(0.0, -(length - 32) / 32) if overlong else 0.0
        assert float(result["reward_score"]) == pytest.approx(total + penalty)


@pytest.mark.parametrize(
    ("completion", "old", "reward", "weights", "score", "dm"),
    [
        (reference_completion("y = g(x)"), "y = f(x)", "format,dm_star", "null", 3.0, 2.0),
        (reference_completion("y = f(x)"), "y = f(x)", "format,dm_star", "null", -0.5, -1.5),  # +1 - 1.5
        (reference_completion("y = f(x)"), "y = f(x)", "format,dm_star", "[2.0,0.5]", 1.25, -1.5),  # 2 - 0.75
        ("no tags at all", "y = f(x)", "format,dm_star", "null", -3.0, -2.0),  # -1 - 2
        (reference_completion("y = g(x)"), "y  =  g(x)", "format,dm_star", "null", 1.0, 0.0),  # undefined: format alone
        (reference_completion("y = g(x)"), "y = f(x)", "dm_star,em_star", "null", 4.0, 2.0),
        (reference_completion("y = g(x)"), "y = f(x)", "format,es_star", "null", 3.0, 2.0),  # DM* is only logged
    ],
)
def test_dm_star_is_a_reward_for_verl(verl, completion, old, reward, weights, score, dm):
    """Loaded by its path, as rewards.py; the record's old code comes with the row."""
    from verl_training import checks
    from verl_training import config as verl_config

    where = "reward.custom_reward_function"
    overrides = [f"{where}.path={ROOT / 'src' / 'diff_match.py'}", f"{where}.reward_kwargs.reward='{reward}'"]
    config = verl_config.compose("dapo", [*overrides, f"+{where}.reward_kwargs.weights={weights}"])
    checks.check(config)
    record = dataclasses.replace(load_records(ROOT / "data" / "train.jsonl")[0], old_code=old, new_code="y = g(x)")
    row = verl_data.row(record, 0, "train")
    result, _ = scored(config, completion, row["reward_model"]["ground_truth"], row["extra_info"])
    info = result["reward_extra_info"]
    assert set(info) == PARTS | {"dm_star"}
    assert all(type(value) is float for value in info.values())
    assert (info["score"], info["dm_star"], float(result["reward_score"])) == (score, dm, score)
    assert info["correctness"] == pytest.approx(
        sum({"dm_star": dm, "em_star": 2.0, "es_star": 2.0, "format": 0}[name] for name in reward.split(","))
    )
