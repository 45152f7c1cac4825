"""Prompts: three template families, and the same token ids on trl's path and on verl's."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from families import FAMILIES, make_tokenizer

from prompts import (
    PREFILL,
    fenced,
    migration_messages,
    open_chat_template,
    reference_completion,
    render,
)
from records import Record, load_records
from rewards import extract, score

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
        "2c8f906e97cca027333e4599eae66eef9002d9ec738045a4b58a14256a83e142",
    ),
    "DeepSeek-Coder": (
        f"{SYSTEM}\n### Instruction:\n{USER}\n### Response:\nLet me solve this step by step.\n<think>",
        "db21ea6c40717b2490d3c15cb7adfb2d84910b8c75e60a8c84e1edb77a13a76e",
    ),
}
REFERENCES = "cecbe90a9f43bba2a8efc12bd5708db40cea2193567a0d4c1cbe0ffc9d5e117f"


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
    template = open_chat_template(tokenizer)
    text, every = RENDERED[model]
    assert render(tokenizer, migration_messages(RECORD), template) == text
    data = Path(__file__).parent.parent / "data"
    records = [record for split in ("train", "heldout") for record in load_records(data / f"{split}.jsonl")]
    assert digest([render(tokenizer, migration_messages(record), template) for record in records]) == every
    assert digest([reference_completion(record.new_code) for record in records]) == REFERENCES


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_turn_stays_open_and_both_paths_agree(family):
    tokenizer = make_tokenizer(family)
    messages = migration_messages(RECORD)
    template = open_chat_template(tokenizer)
    # verl: the template is set on its tokenizer, a generation prompt is always asked for
    verl = tokenizer.apply_chat_template(
        messages, chat_template=template, add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    # trl: text, tokenised with special tokens on
    text = render(tokenizer, messages)
    trl = tokenizer(text)["input_ids"]
    assert trl == verl
    assert text.endswith(FAMILIES[family]["header"] + PREFILL)
    bos = tokenizer.bos_token_id
    assert trl.count(bos) == (1 if FAMILIES[family]["writes_bos"] else 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_an_open_turn_the_model_s_own_template_is_untouched(family):
    tokenizer = make_tokenizer(family)
    own, template = tokenizer.chat_template, open_chat_template(tokenizer)
    assert tokenizer.chat_template == own
    turns = [{"role": "user", "content": "hi"}]
    closed = [*turns, {"role": "assistant", "content": "there"}]
    for messages, generation in ((turns, True), (turns, False), (closed, False)):
        expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
        actual = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=generation, chat_template=template
        )
        assert actual == expected


def test_a_base_model_without_a_template_is_refused():
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        open_chat_template(tokenizer)


def trl_templates() -> list[Path]:
    """The chat templates that the installed trl ships, without its training variants of the same."""
    import trl

    return sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))


@pytest.mark.parametrize("path", trl_templates(), ids=lambda path: path.stem)
def test_trl_s_templates_end_in_our_open_think_part_or_are_refused(path):
    """Qwen3's and GLM's finished turns hold an empty, closed think part: it must not come before ours."""
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = path.read_text("utf-8")
    messages = [
        {"role": "system", "content": "rules"},
        {"role": "user", "content": "question"},
        {"role": "assistant", "content": PREFILL},
    ]
    try:
        text = render(tokenizer, messages)
    except ValueError as error:
        assert "chat template" in str(error)
        assert not path.stem.startswith(("qwen2_5", "qwen3", "llama3", "glm4moe", "deepseekv3"))
        return
    assert text.endswith(PREFILL)
    assert "</think>" not in text.split("question")[1]
    if path.stem == "qwen3":
        assert text.endswith(f"question<|im_end|>\n<|im_start|>assistant\n{PREFILL}")
