"""Chat formats: the structures of public model families, trl's templates, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from chat_templates import CHATML, FAMILIES, IM, Family, make_family

from common.chat import chat_of, load_tokenizer
from common.errors import InputError

CONVERSATION = [
    {"role": "system", "content": "rules"},
    {"role": "user", "content": "what does <think> </think> mean?"},
    {"role": "assistant", "content": "Let me see.\n<think>"},
]
MERGED = "rules\n\nwhat does <think> </think> mean?"
ASKED = "what does <think> </think> mean?"
DATED = "the chat template writes today's date: every prompt has 26 July 2024 instead"
REFUSES = "the chat template refuses a system turn: its text starts the user's turn"
IGNORES = "the chat template ignores a system turn: its text starts the user's turn"
IM_TEXT = f"<|im_start|>system\nrules<|im_end|>\n<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n"
LLAMA_TEXT = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday: {}\n\nrules<|eot_id|>"
    f"<|start_header_id|>user<|end_header_id|>\n\n{ASKED}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
EXPECTED = {  # family -> the prompt before the open turn's text, the end of a turn, notes
    "chatml": (IM_TEXT, "<|im_end|>", ()),
    "gemma-2": (
        f"<bos><start_of_turn>user\n{MERGED}<end_of_turn>\n<start_of_turn>model\n",
        "<end_of_turn>",
        (REFUSES,),
    ),
    "gemma-3": (
        f"<bos><start_of_turn>user\n{MERGED}<end_of_turn>\n<start_of_turn>model\n",
        "<end_of_turn>",
        ("a turn ends with <end_of_turn>, not with the tokenizer's eos token <eos>",),
    ),
    "mistral-0.1": (f"<s>[INST] {MERGED} [/INST] ", "</s>", (REFUSES,)),
    "mistral-0.3": (f"<s>[INST] {MERGED}[/INST] ", "</s>", (IGNORES,)),
    "qwen-3": (IM_TEXT, "<|im_end|>", ()),
    "qwen-3-thinking": (IM_TEXT, "<|im_end|>", ()),
    "deepseek-r1": (f"<｜begin▁of▁sentence｜>rules<｜User｜>{ASKED}<｜Assistant｜>", "<｜end▁of▁sentence｜>", ()),
    "llama-3.2": (LLAMA_TEXT.format("26 Jul 2024"), "<|eot_id|>", (DATED,)),
    "seconds": (LLAMA_TEXT.format("00:00:00.000000"), "<|eot_id|>", (DATED,)),
    "phi-3": (
        f"<|system|>\nrules<|end|>\n<|user|>\n{ASKED}<|end|>\n<|assistant|>\n",
        "<|end|>",
        ("a turn ends with <|end|>, not with the tokenizer's eos token <|endoftext|>",),
    ),
    "glm-4": (
        f"[gMASK]<sop><|system|>\nrules<|user|>\n{ASKED}<|assistant|>\n",
        "<|user|>",
        ("a turn ends with <|user|>, not with the tokenizer's eos token <|endoftext|>",),
    ),
    "gpt-oss": (
        "<|start|>system<|message|>Current date: 2024-07-26<|end|><|start|>developer<|message|>rules<|end|>"
        f"<|start|>user<|message|>{ASKED}<|end|><|start|>assistant<|channel|>final<|message|>",
        "<|return|>",
        (DATED,),
    ),
    "command-r": (IM_TEXT, "<|im_end|>", ()),
    "no-system": (f"<|user|>\n{MERGED}<|end|>\n<|assistant|>\n", "<|end|>", (IGNORES,)),
    "next-turn-ends": (
        IM_TEXT,
        "<|im_end|>",
        ("a turn ends with <|im_end|>, not with the tokenizer's eos token <|endoftext|>",),
    ),
    "leading-newline": (f"\n{IM_TEXT}", "<|im_end|>", ()),
    "blanks-at-the-end": (IM_TEXT, "<|im_end|>", ()),
    "indented": (IM_TEXT, "<|im_end|>", ()),
    "generation-tag": (IM_TEXT, "<|im_end|>", ()),
    "macro": (IM_TEXT, "<|im_end|>", ()),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_last_turn_stays_open(name):
    before, end, notes = EXPECTED[name]
    chat = chat_of(make_family(FAMILIES[name]))
    assert chat.render(CONVERSATION) == f"{before}Let me see.\n<think>"
    assert (chat.end_of_turn, chat.notes) == (end, notes)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("adds_bos", [False, True])
def test_trl_and_verl_see_the_same_ids_whatever_the_tokenizer_adds(name, adds_bos):
    family = FAMILIES[name]
    tokenizer = make_family(family, adds_bos=adds_bos and family.bos is not None, adds_eos=True)
    chat = chat_of(tokenizer)
    how = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}  # as verl calls it
    ids = tokenizer.apply_chat_template(CONVERSATION, chat_template=chat.template, **how)["input_ids"]
    assert chat.encode(chat.render(CONVERSATION)) == ids
    assert tokenizer.decode(ids).endswith("Let me see.\n<think>")
    if family.bos:
        assert ids.count(tokenizer.bos_token_id) == chat.template.count("bos_token")
    assert chat.encode_turn("yes")[-1] == tokenizer.convert_tokens_to_ids(chat.end_of_turn)
    assert chat.encode_turn("yes").count(tokenizer.eos_token_id) == (chat.end_of_turn == family.eos)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("seconds", "llama-3.2", "gpt-oss")])
def test_without_an_open_turn_the_model_s_own_template_is_unchanged(name):
    tokenizer = make_family(FAMILIES[name])
    chat = chat_of(tokenizer)
    turns = CONVERSATION[1:2]
    closed = [*turns, {"role": "assistant", "content": "there"}]
    for messages, generation in ((turns, True), (turns, False), (closed, False)):
        own = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
        how = {"add_generation_prompt": generation, "chat_template": chat.template}
        assert tokenizer.apply_chat_template(messages, tokenize=False, **how) == own


PARTS = CHATML.replace("{{ turn.content }}", "{% for part in turn.content %}{{ part.text }}{% endfor %}")
REFUSED = {  # template -> the one line
    "broken": ("{% for turn in messages %}{{ turn.content }", "the chat template rejects these messages: "),
    "unknown-filter": (CHATML.replace("turn.content", "turn.content|nope"), "No filter named 'nope'"),
    "type-error": (CHATML + "{{ 1 + 'a' }}", "unsupported operand"),
    "division": (CHATML + "{{ 1 // 0 }}", "the chat template rejects these messages: "),
    "endless": (CHATML + "{% for i in range(10 ** 9) %}{% endfor %}", "Range too big"),
    "attribute": (CHATML + "{{ messages.nope.nope }}", "has no attribute"),
    "unsafe": (CHATML + "{{ ''.__class__.__mro__ }}", "the chat template rejects these messages: "),
    "no-assistant": ("{% for turn in messages %}{{ raise_exception('nobody') }}{% endfor %}", "nobody"),
    "parts": (PARTS, "does not write the text of the turns as it is"),
    "escapes": (CHATML.replace("turn.content", "turn.content|e"), "does not write the text of the turns as it is"),
    "upper": (CHATML.replace("turn.content", "turn.content|upper"), "does not write the text of the turns as it is"),
    "quotes": (CHATML.replace("turn.content", "turn.content|tojson"), "does not write the text of the turns as it is"),
    "wraps": (CHATML.replace("turn.content", "turn.content|wordwrap(80)"), "does not write the text"),
    "cuts": (CHATML.replace("turn.content", "turn.content|truncate(255)"), "does not write the text"),
    "indents": (CHATML.replace("turn.content", "turn.content|indent(4)"), "does not write the text"),
    "first-line": (CHATML.replace("turn.content", "turn.content.split('\n')[0]"), "does not write the text"),
    "changes-fences": (CHATML.replace("turn.content", "turn.content.replace('```', '~~~')"), "does not write the text"),
    "only-the-last": ("{{ messages[-1].content }}", "does not write the text of the turns as it is"),
    "twice": (CHATML + CHATML, "does not write the text of the turns as it is"),
    "empty": ("", "does not write the text of the turns as it is"),
    "surrogate": (CHATML + "\udfff", "half of a surrogate pair"),
    "none": (None, "no chat template: use an instruct model"),
    "no-default": ({"tool_use": CHATML, "rag": CHATML}, "no default"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_that_cannot_be_used_is_refused_in_one_line(name):
    template, message = REFUSED[name]
    with pytest.raises(InputError) as error:
        chat_of(make_family(Family(template, IM, "<|im_end|>")))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_without_any_end_of_turn_is_refused():
    tokenizer = make_family(Family("{% for t in messages %}{{ t.content }}\n{% endfor %}", IM, "<|im_end|>"))
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="eos_token"):
        chat_of(tokenizer)


def trl_templates() -> list[Path]:
    """The chat templates that the installed trl ships, without its training variants of the same."""
    import trl

    found = sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
    return [path for path in found if not path.stem.endswith("_training")]


PARTS_ONLY = {"idefics3", "llava_next", "smolvlm"}  # vision-language: the text of a turn is a list of parts
TRL_ENDS = {  # by the beginning of the name, the longest first; the others end with <|im_end|>
    "cohere2": "<|END_RESPONSE|>",
    "cohere": "<|END_OF_TURN_TOKEN|>",
    "deepseek": "<｜end▁of▁sentence｜>",
    "diffusion_gemma": "<turn|>",
    "gemma4": "<turn|>",
    "gemma": "<end_of_turn>",
    "glm4moe": "<|user|>",
    "gptoss": "<|return|>",
    "llama3": "<|eot_id|>",
    "muse_glimmer": "<|eot|>",
    "phi3": "<|end|>",
}


@pytest.mark.parametrize("path", trl_templates(), ids=lambda path: path.stem)
def test_trl_s_templates(path):
    """Each one ends in our open think part, with its own end of turn, or is one of the vision-language templates."""
    text = path.read_text("utf-8")
    tokens = sorted(set(re.findall(r"<\|[\w ]+\|>|<｜[^｜]+｜>|<\w+_of_turn>|<turn\|>|<\|turn>|</s>", text)))
    eos = "<｜end▁of▁sentence｜>" if "deepseek" in path.stem else "<eos>"
    tokenizer = make_family(Family(text, (*tokens, "<bos>", eos), eos, "<bos>"))
    if path.stem in PARTS_ONLY:
        with pytest.raises(InputError, match="chat template"):
            chat_of(tokenizer)
        return
    chat = chat_of(tokenizer)
    prompt = chat.render(CONVERSATION)
    assert prompt.endswith("Let me see.\n<think>")
    assert "rules" in prompt
    assert "think>" not in prompt.partition(ASKED)[2].removesuffix("<think>")
    expected = next((end for name, end in TRL_ENDS.items() if path.stem.startswith(name)), "<|im_end|>")
    assert chat.end_of_turn == expected


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no such folder"),
        ({"config.json": "{}"}, "the tokenizer cannot be loaded"),
        ({"tokenizer.json": "{", "config.json": '{"model_type": "llama"}'}, "the tokenizer cannot be loaded"),
        ({"tokenizer.json": "[]", "tokenizer_config.json": "[]"}, "the tokenizer cannot be loaded"),
        ({"tokenizer_config.json": '{"tokenizer_class": "Nope"}'}, "the tokenizer cannot be loaded"),
        (
            {"tokenizer.json": "{}", "config.json": '{"model_type": "llama"}'},
            "the tokenizer cannot be loaded: no key 'added_tokens'",
        ),
    ],
)
def test_a_tokenizer_that_cannot_be_loaded_is_one_line(tmp_path, files, message):
    folder = tmp_path / "model"
    for name, content in files.items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    with pytest.raises(InputError, match=message) as error:
        load_tokenizer(str(folder))
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


TABLE = Path(__file__).parent.parent.parent / "docs" / "models.md"
ROWS = [line.strip("|").split("|") for line in TABLE.read_text("utf-8").splitlines() if line.startswith("| ")][1:]


def tokenizer_of(name: str) -> Any:
    """The tokenizer of a name in the last column of the table in docs/models.md."""
    if name in FAMILIES:
        return make_family(FAMILIES[name])
    [path] = [path for path in trl_templates() if path.stem == name]
    return make_family(Family(path.read_text("utf-8"), ("<bos>", "<eos>"), "<eos>", "<bos>"))


def test_the_table_of_families_names_every_template_of_trl():
    named = [name for row in ROWS for name in re.findall(r"`(.+?)`", row[3])]
    assert {path.stem for path in trl_templates()} <= set(named)
    assert len(named) == len(set(named))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip())
def test_the_table_of_families_is_true(row):
    kind, _, how, names = map(str.strip, row)
    for name in re.findall(r"`(.+?)`", names):
        if how.startswith("refused"):
            with pytest.raises(InputError):
                chat_of(tokenizer_of(name))
            continue
        chat = chat_of(tokenizer_of(name))
        adapted = [note for note in chat.notes if not note.startswith("a turn ends")]
        expected = {"no system turn (refused)": REFUSES, "no system turn (ignored)": IGNORES, "today's date": DATED}
        assert adapted == ([expected[kind]] if kind in expected else []), name
        assert ("|length - 0]" not in chat.template) == kind.startswith("a closed think part"), name


def test_think_tags_of_the_template_in_the_user_s_turn_stay():
    """Only a think part just before the answer is cut off, not the header with it."""
    asks = "{{ turn.content }}{% if turn.role == 'user' %} Use <think></think>.{% endif %}"
    tokenizer = make_family(Family(CHATML.replace("{{ turn.content }}", asks), IM, "<|im_end|>"))
    prompt = chat_of(tokenizer).render(CONVERSATION)
    assert prompt.endswith("Use <think></think>.<|im_end|>\n<|im_start|>assistant\nLet me see.\n<think>")


def test_a_date_by_the_parameter_s_name():
    text = "{{ strftime_now(format='%Y') }}" + CHATML
    assert chat_of(make_family(Family(text, IM, "<|im_end|>"))).render(CONVERSATION).startswith("2024<|im_start|>")
