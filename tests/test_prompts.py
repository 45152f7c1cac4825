"""The training prompt and its round trip through tokenizers. Chat formats: tests/common/test_chat.py."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from chat_templates import FAMILIES, make_family, make_tokenizer

from common.chat import Chat, chat_of
from common.errors import InputError
from prompts import (
    PREFILL,
    check_round_trip,
    fenced,
    fit_records,
    load_chat,
    migration_messages,
    reference_completion,
    wording_of,
)
from records import Record, load_records
from rewards import extract, score
from sft import tokenised

RECORD = Record(
    "NumPy",
    "2.0.0",
    "Integrate samples.",
    "np.trapz was renamed to np.trapezoid.",
    "import numpy as np\narea = np.trapz(y)",
    "import numpy as np\narea = np.trapezoid(y)",
)


def test_the_migration_prompt_holds_what_the_paper_describes():
    system, user, prefill = migration_messages(RECORD)
    assert [m["role"] for m in (system, user, prefill)] == ["system", "user", "assistant"]
    assert "NumPy" in user["content"]
    assert "2.0.0" in user["content"]
    assert "==" not in user["content"]
    assert "<doc>\nnp.trapz was renamed to np.trapezoid.\n</doc>" in user["content"]
    assert f"```python\n{RECORD.old_code}\n```" in user["content"]
    assert "trapezoid(y)" not in user["content"]  # the target is not shown
    assert RECORD.description not in user["content"]
    assert prefill["content"] == PREFILL == "Let me solve this step by step.\n<think>"


def test_the_reference_completion_scores_the_maximum():
    result = score(reference_completion(RECORD.new_code), RECORD.new_code)
    assert result.format + result.es_star == 3.0


DOCSTRING = 'def f():\n    """Doc.\n\n    ```\n    f()\n    ```\n    """\n    return np.prod(1)'


@pytest.mark.parametrize(
    ("code", "marks"),
    [
        ("x = 1", "```"),
        (DOCSTRING, "````"),  # its two lines of three backticks would close a fence of three
        (DOCSTRING.replace("```", "`````"), "``````"),
        (DOCSTRING.replace("\n", "\r"), "````"),
        ("s = '```'\nt = '``'", "```"),  # no line of backticks alone
        ("``", "```"),
        ("", "```"),
    ],
)
def test_a_fence_is_longer_than_every_line_of_backticks_inside(code, marks):
    assert fenced(code) == f"{marks}python\n{code}\n{marks}"
    record = replace(RECORD, old_code=code, new_code=code)
    assert f"The old code:\n{marks}python\n{code}\n{marks}\nRewrite" in migration_messages(record)[1]["content"]
    assert extract(reference_completion(code)) == code.replace("\r", "\n")


def test_the_reference_with_a_fence_in_its_docstring_scores_the_maximum():
    result = score(reference_completion(DOCSTRING), DOCSTRING)
    assert (result.format, result.es_star, result.code) == (1.0, 2.0, DOCSTRING)


# The training prompts of the paper's two base models, to the byte: results compare only if these never change.
SYSTEM = (
    "You are a helpful coding assistant. You rewrite old code for the version of a library that you are told, "
    "following the update information. First think about the change, then give the solution."
)
USER = """The API of NumPy has changed in version 2.0.0. This is the update:
<doc>
np.trapz was renamed to np.trapezoid.
</doc>
The old code:
```python
import numpy as np
area = np.trapz(y)
```
Rewrite the old code for NumPy 2.0.0. Think inside <think> </think> tags. \
Then give the final code inside <answer> </answer> tags, in a code block:
<answer>
```python
# the code
```
</answer>"""
RENDERED = {  # base model -> the prompt of RECORD, and the sha256 of the prompts of every record of data/
    "Qwen2.5-Coder": (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{USER}<|im_end|>\n"
        "<|im_start|>assistant\nLet me solve this step by step.\n<think>",
        "5bc2b31a7a90454a25b7cba5e4c71f0394b04cdc81b34bec8f6b845eaac15d49",
    ),
    "DeepSeek-Coder": (
        f"{SYSTEM}\n### Instruction:\n{USER}\n### Response:\nLet me solve this step by step.\n<think>",
        "e48ce528c7ea4a0f502c55d80c8790a583590b3f632b7fd56d52691bc9c2c417",
    ),
}
REFERENCES = "00cb86f778914b0ee3a59bebf861a33c093a2d8235a0fd94f0712a5f342805c2"


def base_tokenizer(model: str) -> Any:
    """The tests' own tokenizer with the chat template of one of the paper's base models."""
    if model == "DeepSeek-Coder":
        return make_tokenizer("deepseek")
    tokenizer = make_tokenizer("chatml")
    [trl] = find_spec("trl").submodule_search_locations
    tokenizer.chat_template = (Path(trl) / "chat_templates" / "qwen2_5.jinja").read_text("utf-8")
    return tokenizer


def digest(texts: list[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@pytest.mark.parametrize("model", RENDERED)
def test_training_prompts_are_the_same_bytes_as_ever(model):
    tokenizer = base_tokenizer(model)
    chat = chat_of(tokenizer)
    text, every = RENDERED[model]
    bos = tokenizer.bos_token if model == "DeepSeek-Coder" else ""
    assert chat.render(migration_messages(RECORD)) == bos + text
    data = Path(__file__).parent.parent / "data"
    records = [record for split in ("train", "heldout") for record in load_records(data / f"{split}.jsonl")]
    prompts = [chat.render(migration_messages(record)) for record in records]
    assert digest([prompt.removeprefix(bos) for prompt in prompts]) == every
    assert digest([reference_completion(record.new_code) for record in records]) == REFERENCES


PRECISE = """By version 2.0.0, the API of NumPy has changed. This is the update:
<doc>
np.trapz was renamed to np.trapezoid.
</doc>
The old code:
```python
import numpy as np
area = np.trapz(y)
```
Rewrite the old code for NumPy 2.0.0. The new code must use what the update says to use, and must do what the old code \
did unless the update says otherwise. Think inside <think> </think> tags. \
Then give the final code inside <answer> </answer> tags, in a code block:
<answer>
```python
# the code
```
</answer>"""


def test_the_other_wording_is_true_of_every_record_and_states_the_task():
    system, user, prefill = migration_messages(RECORD, "precise")
    assert (system["content"], user["content"], prefill["content"]) == (SYSTEM, PRECISE, PREFILL)
    assert migration_messages(RECORD, "paper")[1]["content"] == USER


def test_without_the_update_the_other_wording_does_not_refer_to_it():
    user = migration_messages(RECORD, "precise", docs=False)[1]["content"]
    assert user.startswith("By version 2.0.0, the API of NumPy has changed.\nThe old code:\n```python\n")
    assert "Rewrite the old code for NumPy 2.0.0. The new code must do what the old code did. Think inside" in user


def test_braces_in_a_record_are_text():
    user = migration_messages(replace(RECORD, dependency="{version}"), "precise")[1]["content"]
    assert user.startswith("By version 2.0.0, the API of {version} has changed.")


def write_run(folder: Path, config: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"starts": [{"config": config, "resumed_from": None}]}))


def test_weights_are_asked_in_the_wording_that_they_were_trained_with(tmp_path):
    write_run(tmp_path / "grpo", {"prompt": "precise", "num_generations": 8})
    write_run(tmp_path / "dapo", {"recode": {"prompt": "precise"}, "actor_rollout_ref": {}})
    write_run(tmp_path / "early", {"num_generations": 8})  # before the key
    merged = tmp_path / "merged"
    merged.mkdir()
    (merged / "merged_from.json").write_text(json.dumps({"base": "b", "source": "gone", "prompt": "precise"}))
    for folder in ("grpo", "grpo/checkpoint-2", "dapo", "dapo/global_step_2/actor", "merged"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        assert wording_of(tmp_path / folder) == "precise", folder
    assert [wording_of(weights) for weights in (tmp_path / "early", "Qwen/Qwen2.5-Coder-7B-Instruct")] == ["paper"] * 2
    write_run(tmp_path / "later", {"prompt": "terse"})
    with pytest.raises(InputError, match="later: trained with prompt terse: choose from paper, precise with --prompt"):
        wording_of(tmp_path / "later")


def test_the_length_of_a_prompt_is_that_of_its_wording():
    chat = family_chat("chatml")
    [text] = fit_records([RECORD], chat, "data", 2048, None, "precise").prompts
    assert text == chat.render(migration_messages(RECORD, "precise"))
    length = len(chat.encode(chat.render(migration_messages(RECORD))))
    assert fit_records([RECORD], chat, "data", length, None).records == [RECORD]
    with pytest.raises(InputError, match="no record is left"):
        fit_records([RECORD], chat, "data", length, None, "precise")


def family_chat(name: str) -> Chat:
    return chat_of(make_family(FAMILIES[name]))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_reference_answer_scores_the_maximum_for_every_family(name):
    chat = family_chat(name)
    check_round_trip(chat)
    ids = chat.encode_turn(reference_completion(RECORD.new_code))
    found = score(chat.decode(ids), RECORD.new_code)
    assert (found.format, found.es_star) == (1.0, 2.0)


def with_special(*tokens: str) -> Chat:
    family = FAMILIES["chatml"]
    return chat_of(make_family(replace(family, special=(*family.special, *tokens))))


@pytest.mark.parametrize(
    ("tokens", "why"),
    [
        (["</think>"], "scores format -1, EM* +2: decoding removes </think>, as a special token"),
        (["<think>", "</think>"], "decoding removes </think>, as"),
        (["<answer>", "</answer>"], "decoding removes <answer> and </answer>"),
        (["</answer>"], "decoding removes </answer>"),
        (["```python"], "no closed python fence"),
    ],
)
def test_a_tag_that_decoding_removes_is_refused(tokens, why):
    with pytest.raises(InputError) as error:
        check_round_trip(with_special(*tokens))
    assert why in str(error.value)


def test_an_opening_tag_that_is_special_is_no_obstacle():
    """<think> is the prompt's last token, and no completion contains it."""
    check_round_trip(with_special("<think>"))


def changed(**parts: Any) -> Chat:
    """The chat format of a tokenizer whose normalizer, pre-tokenizer or decoder is another one."""
    tokenizer = make_family(FAMILIES["chatml"])
    for name, part in parts.items():
        setattr(tokenizer.backend_tokenizer, name, part)
    return chat_of(tokenizer)


def test_a_tokenizer_that_changes_the_text_is_refused():
    from tokenizers import normalizers

    with pytest.raises(InputError, match="changes the end of the prompt"):
        check_round_trip(changed(normalizer=normalizers.Replace("\n", " ")))
    with pytest.raises(InputError, match="changes the end of the prompt"):
        check_round_trip(changed(normalizer=normalizers.Lowercase()))
    with pytest.raises(InputError, match="similarity"):
        check_round_trip(changed(normalizer=normalizers.Replace("  ", " ")))


def test_records_whose_target_the_tokenizer_changes_are_dropped():
    from tokenizers import normalizers

    chat = changed(normalizer=normalizers.Replace("é", "e"))
    other = replace(RECORD, new_code="s = 'é'")
    fitted = fit_records([RECORD, other], chat, "data", 2048, None)
    assert fitted.records == [RECORD]
    line = "data: 1 of 2 records; dropped 0 with a prompt over 2048 tokens, and 1 whose target the tokenizer changes"
    assert fitted.report.split("\n")[0] == line
    with pytest.raises(InputError, match="no record is left"):
        fit_records([other], chat, "data", 2048, None)


def test_a_target_that_does_not_parse_is_kept_if_the_tokenizer_returns_it():
    """bad_rows keep trains on such targets."""
    bad = replace(RECORD, new_code="area = (")
    assert fit_records([bad], family_chat("chatml"), "data", 2048, None).records == [bad]


@pytest.mark.parametrize("adds", [{}, {"adds_bos": True}, {"adds_eos": True}, {"adds_bos": True, "adds_eos": True}])
@pytest.mark.parametrize("name", ["gemma-3", "mistral-0.3"])
def test_a_loaded_tokenizer_ends_turns_as_its_template_does(tmp_path, name, adds):
    make_family(FAMILIES[name], **adds).save_pretrained(tmp_path)
    chat = load_chat(str(tmp_path))
    assert chat.tokenizer.eos_token == {"gemma-3": "<end_of_turn>", "mistral-0.3": "</s>"}[name]
    [example] = tokenised([{"prompt": chat.render(migration_messages(RECORD)), "target": RECORD.new_code}], chat)
    ids, mask = example["input_ids"], example["completion_mask"]
    assert ids[-1] == chat.tokenizer.eos_token_id
    assert ids[:-1].count(chat.tokenizer.eos_token_id) == (1 if name == "gemma-3" else 0)  # the user's turn ends too
    assert ids.count(chat.tokenizer.bos_token_id) == 1
    prompt = [token for token, on in zip(ids, mask, strict=True) if not on]
    assert chat.tokenizer.decode(prompt).endswith(PREFILL)


def test_load_chat_names_the_model(tmp_path):
    make_family(replace(FAMILIES["chatml"], special=("</think>",))).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=rf"^model {tmp_path}: the reference answer, encoded and decoded, scores"):
        load_chat(str(tmp_path))
