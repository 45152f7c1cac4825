"""Chat templates: an adapted prompt that ends in the open turn, or one line. Templates are programs of other people."""

from __future__ import annotations

import re
from typing import Any

import pytest
from chat_templates import FAMILIES, make_family
from edges.adversarial import ODD, damaged_text
from edges.checker import check_message, count, effort
from hypothesis import given
from hypothesis import strategies as st

from common.chat import Chat, chat_of
from common.errors import InputError

CONVERSATION = [
    {"role": "system", "content": "rules"},
    {"role": "user", "content": "what {{ does }} <think> mean?"},
    {"role": "assistant", "content": "Let me see.\n<think>"},
]
TEXTS = {name: family.template for name, family in FAMILIES.items() if isinstance(family.template, str)}
STATEMENTS = [
    *("{{ messages[0].content }}", "{{ messages }}", "{{ 1 / 0 }}", "{{ x.y.z }}", "{% raw %}{{ x }}{% endraw %}"),
    *("{{ raise_exception('a\nb\x1b[31m') }}", "{% set messages = messages[1:] %}", "{{ strftime_now('%Y\n') }}"),
    *(
        "{{ strftime_now(messages) }}",
        "{% set add_generation_prompt = true %}",
        "{{ eos_token * 3 }}",
        "{{ '\ud800' }}",
    ),
    *("{% for turn in messages %}", "{% endfor %}", "{% if messages|length > 1 %}", "{% endif %}", "{% break %}"),
    *("{{ messages[-1].content | upper }}", "{{ messages[-1]['content'] | tojson }}", "{% include 'x' %}", "{# x #}"),
    *("{% macro strftime_now(x) %}{{ x }}{% endmacro %}", "{{ range(3) | list }}", "{% set recode_open = true %}"),
    *("{{ ().__class__.__mro__ }}", "{% generation %}", "{% endgeneration %}", "<think>", "</think>\n\n", "'", "\\n"),
]
SWAPS = ["'user'", "'assistant'", "'system'", "turn.content", "turn.role", "messages", "loop.last", "==", "trim", "eos"]


@st.composite
def templates(draw: st.DrawFn) -> tuple[str, str]:
    """(the family, its template with some faults)."""
    name = draw(st.sampled_from(sorted(TEXTS)))
    text = TEXTS[name]
    for _ in range(draw(st.integers(0, 3))):
        match draw(st.integers(0, 3)):
            case 0:  # between two tags
                ends = [found.end() for found in re.finditer(r"[%}#]}|^", text)]
                at = draw(st.sampled_from(ends))
                text = text[:at] + draw(st.sampled_from(STATEMENTS + ODD)) + text[at:]
            case 1:
                text = text.replace(draw(st.sampled_from(SWAPS)), draw(st.sampled_from(SWAPS)), 1)
            case 2:  # a tag less
                tags = [found.span() for found in re.finditer(r"{[%{].*?[%}]}", text, re.S)]
                start, end = draw(st.sampled_from(tags or [(0, 0)]))
                text = text[:start] + text[end:]
            case _:
                text = draw(damaged_text(text))
    return name, text


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    return {name: make_family(FAMILIES[name]) for name in TEXTS}


@effort(60, 10_000)
@given(templates())
def test_a_template_is_adapted_or_refused_in_one_line(tokenizers, template):
    count("chat templates")
    name, text = template
    tokenizer = tokenizers[name]
    tokenizer.chat_template = text
    try:
        chat = chat_of(tokenizer)
    except InputError as error:
        check_message(error)
        return
    assert isinstance(chat, Chat)
    assert not any("\n" in note for note in chat.notes)
    try:
        prompt = chat.render(CONVERSATION)
    except InputError as error:  # a template can refuse some texts only
        check_message(error)
        return
    assert prompt.endswith("Let me see.\n<think>")
    ids = chat.encode_turn("x")
    assert all(type(token) is int for token in ids), chat.end_of_turn
