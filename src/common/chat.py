"""How messages become a prompt for one tokenizer: its own chat template, with the last assistant turn left open.

`chat_of` derives everything from the tokenizer and its template, whatever the model's family:

    template       Jinja: the model's own template inside one that cuts the assistant's turn where its text begins and
                   puts the open text there. A closed think part, which Qwen3 and GLM write there, is cut off too
    system turn    if the template refuses or ignores it (Gemma 2, Mistral 0.1), its text starts the user's turn
    date           if the template writes today's date (Llama 3.2, gpt-oss), every prompt has DATE instead, so that a
                   run that is resumed or repeated on another day has the same prompts
    end of turn    the special token that follows an assistant's text, which need not be the tokenizer's eos (Gemma 3)

The rendered text is complete: it holds BOS if the model expects one, so `encode` adds no special tokens. trl and the
evaluation send `encode(render(messages))`; verl applies `template` to the same messages. The ids are the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from common.errors import InputError, message_of
from common.models import refuse_absent

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]

DATE = datetime(2024, 7, 26)  # what Llama 3's templates write if they are given no date
THINKING = re.compile(r"(<think>\s*|</think>\s*|<think>\s*</think>\s*)\Z")  # just before the assistant's text
# Marks in a probe conversation, as long as real ones: a template that escapes, cuts, wraps or drops text loses them.
ASSISTANT = "recode <assistant> text"
SYSTEM = f"recode <system> text\n{'and more of it, ' * 20}until here"
USER = f"""recode <user> text & {"more of it, " * 60}then code:
```python
def f(x="a", *, y='b'):

    return {{"x": [x], 'y': y}}  # \\n
```
until here"""
PROBE = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]
ANSWER = {"role": "assistant", "content": ASSISTANT}


@dataclass(frozen=True)
class Chat:
    """A tokenizer, and how to write a conversation for its model."""

    tokenizer: PreTrainedTokenizerBase
    template: str
    end_of_turn: str
    notes: tuple[str, ...]  # lines for the user: what was adapted

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt as text; if the last turn is the assistant's, it ends with that turn's text."""
        return _apply(self.tokenizer, messages, self.template, add_generation_prompt=True)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def encode_turn(self, text: str) -> list[int]:
        """The tokens of an assistant's text and of the end of its turn."""
        return [*self.encode(text), cast(int, self.tokenizer.convert_tokens_to_ids(self.end_of_turn))]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a completion as trl, verl and the evaluation read it: without special tokens."""
        return cast(str, self.tokenizer.decode(ids, skip_special_tokens=True))


def load_tokenizer(model: str, **settings: Any) -> PreTrainedTokenizerBase:
    """The model's tokenizer as it is. Raises InputError if it cannot be loaded."""
    from transformers import AutoTokenizer

    refuse_absent(model)
    try:
        return AutoTokenizer.from_pretrained(model, **settings)
    except Exception as error:  # the files are the user's, and libraries report broken ones with any exception
        raise InputError(f"model {model}: the tokenizer cannot be loaded: {message_of(error)}") from None


def chat_of(tokenizer: PreTrainedTokenizerBase) -> Chat:
    """What a conversation of this tokenizer's model looks like. The tokenizer is not changed. Raises InputError."""
    own = _own_template(tokenizer)
    formats = date_formats(tokenizer, own)
    notes = [f"the chat template writes today's date: every prompt has {DATE:%d %B %Y} instead"] if formats else []
    merge_system, why = False, "ignores"
    try:
        text = _apply(tokenizer, [*PROBE, ANSWER], _wrapped(own, formats))
        merge_system = SYSTEM not in text
    except InputError as error:
        merge_system, why, refused = True, "refuses", error
    if merge_system:
        notes.append(f"the chat template {why} a system turn: its text starts the user's turn")
        try:
            text = _apply(tokenizer, [*PROBE, ANSWER], _wrapped(own, formats, merge_system=True))
        except InputError as error:
            raise (refused if why == "refuses" else error) from None
    if SYSTEM not in text or USER not in text or text.count(ASSISTANT) != 1:
        raise InputError(
            "the chat template does not write the text of the turns as it is: templates that take it in parts "
            "(vision-language models), escape it or leave turns out are not supported"
        )
    before = text.partition(ASSISTANT)[0]
    thinking = THINKING.search(before[before.rindex(USER) + len(USER) :])
    cut = len(thinking.group()) if thinking else 0
    template = _wrapped(own, formats, merge_system=merge_system, cut=cut)
    end = end_of_turn(tokenizer, template)
    if end != tokenizer.eos_token:
        notes.append(f"a turn ends with {end}, not with the tokenizer's eos token {tokenizer.eos_token}")
    return Chat(tokenizer, template, end, tuple(notes))


def _own_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's chat template; of several named ones, "default"."""
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:
        if isinstance(tokenizer.chat_template, dict):
            raise InputError(message_of(error)) from None
    raise InputError("the tokenizer has no chat template: use an instruct model, or set tokenizer.chat_template")


def date_formats(tokenizer: PreTrainedTokenizerBase, template: str) -> tuple[str, ...]:
    """The formats in which a template asks for the current time."""
    asked: dict[str, None] = {}

    def record(format: str) -> str:  # the parameter's name in transformers
        asked[str(format)] = None
        return DATE.strftime(str(format))

    for messages in ([*PROBE, ANSWER], PROBE[1:]):
        try:
            _apply(tokenizer, messages, template, strftime_now=record)
        except InputError:  # chat_of reports it
            continue
    return tuple(asked)


def end_of_turn(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """The special token after an assistant's text: after the last turn, else before the next one, else eos."""
    for following in ([], [{"role": "user", "content": "next"}]):
        try:
            text = _apply(tokenizer, [*PROBE, ANSWER, *following], template)
        except InputError:  # a template that accepts no second question
            continue
        ids = tokenizer(text.rpartition(ASSISTANT)[2], add_special_tokens=False)["input_ids"]
        for token in ids:
            added = tokenizer.added_tokens_decoder.get(token)
            if added is not None and added.content.strip():
                return added.content
    if tokenizer.eos_token is None:
        raise InputError("neither the chat template nor the tokenizer (eos_token) has a token that ends a turn")
    return cast(str, tokenizer.eos_token)


def _apply(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], template: str, **settings: Any) -> str:
    """The messages as text. Raises InputError if the template rejects them."""
    try:
        text = tokenizer.apply_chat_template(list(messages), chat_template=template, tokenize=False, **settings)
    except Exception as error:  # a template is a program of the model's authors: it can raise anything
        raise InputError(f"the chat template rejects these messages: {message_of(error)}") from None
    if re.search(r"[\ud800-\udfff]", cast(str, text)):  # no tokenizer takes it
        raise InputError("the chat template or these messages have half of a surrogate pair: not Unicode text")
    return cast(str, text)


# --- the template around the model's own ------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    """A Jinja string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def _wrapped(own: str, formats: Sequence[str], *, merge_system: bool = False, cut: int = 0) -> str:
    """A Jinja template that leaves the last assistant turn open if a generation prompt is requested.

    verl always requests one and cannot continue a turn. Otherwise it writes what the model's own template writes.
    """
    dates = ", ".join(f"{_quoted(form)}: {_quoted(DATE.strftime(form))}" for form in formats)
    macro = f"{{% macro strftime_now(format) %}}{{{{ {{{dates}}}[format] }}}}{{% endmacro %}}" if formats else ""
    merge = (
        "{% if messages|length > 1 and messages[0]['role'] == 'system' %}{% set messages = [{'role': "
        "messages[1]['role'], 'content': messages[0]['content'] + '\\n\\n' + messages[1]['content']}] + messages[2:] %}"
        "{% endif %}"
    )
    mark = _quoted(ASSISTANT)
    return (
        f"{macro}{merge if merge_system else ''}"
        "{% set recode_open = add_generation_prompt and messages and messages[-1]['role'] == 'assistant' %}"
        "{% if recode_open %}{% set recode_tail = messages[-1]['content'] %}"
        f"{{% set messages = messages[:-1] + [{{'role': 'assistant', 'content': {mark}}}] %}}"
        "{% set add_generation_prompt = false %}{% endif %}"
        # Blanks at the ends of the model's own template are kept: Jinja drops the newline after a block tag, the
        # blanks before one, and one newline at the end of a template.
        f"{{% set recode_text %}}\n{own.removesuffix(chr(10))}{{{{ '' }}}}{{% endset %}}"
        f"{{% if recode_open %}}{{% set recode_text = recode_text.split({mark})[0] %}}"
        f"{{{{ recode_text[:recode_text|length - {cut}] + recode_tail }}}}"
        "{% else %}{{ recode_text }}{% endif %}"
    )
