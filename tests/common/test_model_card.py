"""Model cards: the whole text of a small run, other people's names, and whose scores are in it."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, run_script
from huggingface_hub import ModelCard
from huggingface_hub.utils import validate_repo_id

from common.card_files import read_facts, write_card
from common.errors import InputError
from common.model_card import card, changed, code

TAGS = ["recode", "grpo", "dora"]
HOSTILE = "```\nx`</code>|<script>\n---\nlicense: apache-2.0\n```\u202e"


def start(**changes) -> dict:
    config = yaml.safe_load((ROOT / "configs" / "grpo.yaml").read_text())
    config |= {"learning_rate": 0.0003, "max_steps": 10, "output_dir": "runs/x", "per_device_train_batch_size": 1}
    found = {
        "command": "python src/grpo.py --config configs/grpo.yaml --max_steps 10",
        **{"commit": "0123abc", "dirty": True, "seed": 7, "prompts": "4 with sha256 0a1b2c3d4e5f"},
        "data": {"hf://datasets/zjunlp/ReCode-Train-Data@main/rows.jsonl": {"sha256": "ab12", "bytes": 9}},
        "versions": {"python": "3.11.7", "torch": "2.13.0", "trl": "1.16.0", "vllm": None},
        "hardware": {"cpu": "Xeon", "cores": 8, "memory_gb": 64.0, "gpus": [{"name": "H100", "memory_gb": 85.0}] * 2},
        **{"config": config, "resumed_from": None},
    }
    return found | changes


def run_of(folder: Path, *starts: dict, base: str = "Qwen/Qwen2.5-Coder-7B-Instruct") -> Path:
    """A run with a DoRA adapter."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"starts": starts}))
    settings = {"base_model_name_or_path": base, "use_dora": True}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


EXPECTED = """\
---
base_model: Qwen/Qwen2.5-Coder-7B-Instruct
datasets:
- zjunlp/ReCode-Train-Data
library_name: peft
license: mit
pipeline_tag: text-generation
tags:
- recode
- grpo
- dora
base_model_relation: adapter
---

# `mine`

A DoRA adapter for `Qwen/Qwen2.5-Coder-7B-Instruct`, trained with GRPO. From an open reproduction of \
[ReCode](https://arxiv.org/abs/2506.20495): the model learns to follow the API updates in its prompt.

## Use

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "path/to/this/folder"
base = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-Coder-7B-Instruct", dtype="bfloat16")
model = PeftModel.from_pretrained(base, folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
```

vLLM does not load DoRA adapters: merge this one first, with `src/merge_adapter.py`.

Prompts must be rendered as in training (`src/prompts.py`): they end inside an open `<think>`, which the model's \
answer closes.

## Training

GRPO, 10 steps.

- Command: `python src/grpo.py --config configs/grpo.yaml --max_steps 10`
- Commit: `0123abc`, with uncommitted changes
- Seed: `7`
- Hardware: `2 x H100, 8 cores of Xeon, 64.0 GB of memory`
- Installed: `python 3.11.7, torch 2.13.0, trl 1.16.0`

Data:

| file | sha256 |
| --- | --- |
| `hf://datasets/zjunlp/ReCode-Train-Data@main/rows.jsonl` | `ab12` |

Prompts: `4 with sha256 0a1b2c3d4e5f`.

Settings that differ from `configs/grpo.yaml` (the paper's run):

| key | here | there |
| --- | --- | --- |
| `max_steps` | `10` | `5000` |
| `learning_rate` | `0.0003` | `5e-5` |

## Results

When this card was written, no scores of these weights were beside them.

## Licence

The adapter, and the code that trained it, are under the MIT licence. The base model has its own: see the base model.
"""


def test_the_card_of_a_small_run(tmp_path):
    run = run_of(tmp_path / "mine", start())
    write_card(run, step=10)
    assert (run / "README.md").read_text() == EXPECTED


def check_valid(text: str) -> ModelCard:
    """What the hub checks of the metadata, as far as its library does it without a network."""
    found = ModelCard(text)
    data = found.data.to_dict()
    assert yaml.safe_load(text.split("---\n")[1]) == data  # nothing was lost or repaired
    for name in ([data["base_model"]] if "base_model" in data else []) + data.get("datasets", []):
        validate_repo_id(name)
    assert data.get("license") in ("mit", "other", None)
    assert ("license_name" in data) == (data.get("license") == "other")
    assert data["library_name"] in ("peft", "transformers")
    assert data["pipeline_tag"] == "text-generation"
    [python] = re.findall(r"^```python\n(.*?)^```$", text, flags=re.S | re.M)
    ast.parse(python)
    return found


def test_names_of_others_stay_text(tmp_path):
    config = start()["config"] | {"reward": HOSTILE, "dtype": HOSTILE, "model_name_or_path": HOSTILE}
    names = {"command": HOSTILE, "commit": HOSTILE, "prompts": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    machine = {"cpu": HOSTILE, "cores": 1, "memory_gb": 1.0, "gpus": [{"name": HOSTILE}]}
    data = {HOSTILE: {"sha256": HOSTILE}, f"hf://datasets/{HOSTILE}/y": {"sha256": "1"}}
    run = run_of(tmp_path / "a`b|c", start(config=config, hardware=machine, data=data, **names), base=HOSTILE)
    write_card(run)
    text = (run / "README.md").read_text()
    found = check_valid(text)
    assert found.data.license == "mit"
    assert "base_model" not in found.data.to_dict()
    assert "datasets" not in found.data.to_dict()
    assert "\u202e" not in text
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", re.sub(r"^```.*?^```$", "", found.text, flags=re.S | re.M))
    assert "script" not in outside and "apache" not in outside
    for line in found.text.splitlines():
        if line.startswith("| `"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (3, 4), line  # two or three cells


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", "`a`"), ("a`b", "``a`b``"), ("`a``", "``` `a`` ```"), ("a\nb", "`a\\nb`"), ("", "` `"), (None, "`None`")],
)
def test_any_text_as_code(text, expected):
    assert code(text) == expected


def test_a_checkpoint_s_card_has_its_step_and_its_run(tmp_path):
    run = run_of(tmp_path / "run", start(), start(resumed_from="checkpoint-3", seed=8))
    checkpoint = run_of(run / "checkpoint-5", start())
    (checkpoint / "run.json").unlink()
    text = card(read_facts(checkpoint))
    assert "GRPO, 5 steps. The run was resumed 1 time(s); this is its last start." in text
    assert "- Seed: `8`" in text


def test_a_merged_model_has_the_licence_of_its_base(tmp_path):
    run = run_of(tmp_path / "run", start())
    merged = tmp_path / "merged.part"
    merged.mkdir()
    note = {"base": "Qwen/Qwen2.5-Coder-7B-Instruct", "revision": "main", "source": str(run), "dtype": "float16"}
    (merged / "merged_from.json").write_text(json.dumps(note))
    write_card(merged)
    text = (merged / "README.md").read_text()
    data = check_valid(text).data
    assert (data.license, data.license_name) == ("other", "see-the-base-model")
    assert data.license_link == "https://huggingface.co/Qwen/Qwen2.5-Coder-7B-Instruct"
    assert (data.library_name, data.base_model_relation, data.tags) == ("transformers", "finetune", TAGS)
    assert "# `merged`\n" in text
    assert "`Qwen/Qwen2.5-Coder-7B-Instruct` with a DoRA adapter merged into it, trained with GRPO." in text
    assert 'from_pretrained(folder, dtype="float16")' in text
    (run / "adapter_config.json").unlink()
    (run / "run.json").unlink()
    assert "Not recorded: there is no `run.json`" in card(read_facts(merged))
    note["source"] = str(tmp_path / "gone")
    (merged / "merged_from.json").write_text(json.dumps(note))
    with pytest.raises(InputError, match=r"merged_from.json: source .*gone: no such folder"):
        read_facts(merged)


def test_a_run_json_above_that_is_not_of_the_weights_is_not_used(tmp_path):
    adapter = run_of(run_of(tmp_path / "run", start()) / "downloaded", start())
    (adapter / "run.json").unlink()
    assert read_facts(adapter).starts == []


def test_an_adapter_of_others_claims_no_licence_of_ours(tmp_path):
    folder = run_of(tmp_path / "adapter", start())
    (folder / "run.json").unlink()
    text = card(read_facts(folder))
    assert "license" not in check_valid(text).data.to_dict()
    assert "Not recorded: there is no `run.json`" in text


def result(weights: bytes | None, **more) -> str:
    made = {"model": "x", "adapter_sha256": weights and hashlib.sha256(weights).hexdigest()}
    found = {"benchmark": "arena", "problems": 670, "samples_per_problem": 5, "samples": {"sha256": "0", "made": made}}
    return json.dumps(found | more)


def test_only_scores_of_these_weights_are_reported(tmp_path):
    run = run_of(tmp_path / "run", start())
    for name, weights in (("arena", b"weights"), ("other", b"others"), ("none", None)):
        (run / name).mkdir()
        scores = {"pass@1": {"mean": 0.7461, "low": 0.71, "high": 0.78}, "pass@5": {"mean": None}}
        (run / name / "results.json").write_text(result(weights, scores=scores))
    rewards = {"reward": {"mean": 2.0906, "standard_error": 0.1774}}
    done = run_script("model_card.py", run)
    assert done.stdout == f"{run}/README.md\n"
    section = (run / "README.md").read_text().split("## Results\n\n")[1].split("\n\n##")[0]
    assert section == (
        "| benchmark | samples | measure | value | file |\n| --- | --- | --- | --- | --- |\n"
        "| `arena` | `670 problems x 5` | `pass@1` | `74.6 % [71.0, 78.0]` | `arena/results.json` |\n"
        "| `arena` | `670 problems x 5` | `pass@5` | `none` | `arena/results.json` |"
    )
    (run / "results.json").write_text(result(b"weights", rewards=rewards))
    write_card(run, with_scores=True)
    assert "| `reward` | `2.091 ± 0.177` | `results.json` |" in (run / "README.md").read_text()


def test_a_folder_without_weights(tmp_path):
    done = run_script("model_card.py", tmp_path, check=False)
    expected = "expected adapter_config.json or merged_from.json or config.json"
    assert (done.returncode, done.stderr) == (2, f"model_card: {tmp_path}: no weights there: {expected}\n")


@pytest.mark.parametrize("name", ["grpo", "sft"])
def test_the_paper_s_run_differs_in_nothing(name, tmp_path):
    """With the values that trl's parser makes of the file."""
    from dataclasses import asdict

    module = pytest.importorskip(name)
    flags = ["--config", str(ROOT / "configs" / f"{name}.yaml"), "--use_cpu", "true", "--output_dir", str(tmp_path)]
    script, args, model = module.parse_arguments(flags)
    config = json.loads(json.dumps({**asdict(args), **asdict(script), **asdict(model)}, default=str))
    paper = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
    assert changed(config, paper) == []
    assert changed(config | {"learning_rate": 1e-6}, paper) == [("learning_rate", 1e-6, "5e-5")]
    assert changed(config | {"optim": "sgd"}, paper) == [("optim", "sgd", "adamw_torch_fused")]  # not in the file
    if name == "grpo":
        assert changed(config | {"overlong_buffer": 9}, paper) == [("overlong_buffer", 9, None)]


def test_dapo_s_run_is_compared_with_its_own_file(tmp_path, verl):
    from verl_training.config import compose, finalise, plain

    paper = yaml.safe_load((ROOT / "configs" / "dapo.yaml").read_text())
    config = plain(finalise(compose("dapo", [f"trainer.default_local_dir={tmp_path}"]), None))
    assert changed(json.loads(json.dumps(config, default=str)), paper) == []
    config = plain(finalise(compose("dapo", ["actor_rollout_ref.actor.clip_ratio_high=0.3"]), None))
    assert changed(config, paper) == [("actor_rollout_ref.actor.clip_ratio_high", 0.3, 0.28)]
    run = tmp_path / "run"
    (run / "global_step_4").mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"starts": [start(config=config)]}, default=str))
    merged = tmp_path / "merged"
    merged.mkdir()
    note = {"base": "Qwen/Qwen2.5-Coder-7B-Instruct", "source": str(run / "global_step_4")}
    (merged / "merged_from.json").write_text(json.dumps(note))
    text = card(read_facts(merged))
    assert "with a DoRA adapter merged into it, trained with DAPO." in text
    assert "DAPO, 4 steps." in text
    assert check_valid(text).data.tags == ["recode", "dapo", "dora"]
