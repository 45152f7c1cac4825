"""The training prompt, and how messages become text. The benchmarks' prompts are in src/evaluation/prompts.py.

A prompt has three messages: system, user, and an assistant turn that is left open (the prefill), so that the completion
starts inside <think> (paper App. C.1; the wording is ours). trl and verl must send the same token ids:

    trl, evaluation   render(tokenizer, messages) -> text, tokenised by the trainer
    verl              custom_chat_template = open_chat_template(tokenizer), applied to the same messages

`open_chat_template` wraps the tokenizer's own template, whatever its family, so that the last assistant turn stays
open. The tokenizer itself is never changed: saved models keep their own template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from common.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from records import Record

Message = dict[str, str]

PREFILL = "Let me solve this step by step.\n<think>"

MIGRATION_SYSTEM = (
    "You are a helpful coding assistant. You rewrite old code for the version of a library that you are told, "
    "following the update information. First think about the change, then give the solution."
)
OUTPUT_RULE = (
    "Think inside <think> </think> tags. Then give the final code inside <answer> </answer> tags, in a code block:\n"
    "<answer>\n```python\n# the code\n```\n</answer>"
)


def fenced(code: str) -> str:
    """Code in a python block, under a fence longer than any line of backticks in it, so that no line closes it."""
    lines = [line.strip() for line in code.replace("\r", "\n").split("\n")]
    longest = max((len(line) for line in lines if set(line) == {"`"}), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}python\n{code}\n{marks}"


def with_prefill(system: str, user: str) -> list[Message]:
    """The messages of a prompt whose completion starts inside <think>."""
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": user},
        {"role": "assistant", "content": PREFILL},
    ]


def migration_messages(record: Record, *, docs: bool = True) -> list[Message]:
    """The training prompt (paper App. C.1). It shows neither the record's description nor its new code.

    `docs=False` withholds the update, to measure what the model knows without it.
    """
    update = f" This is the update:\n<doc>\n{record.update_info.strip()}\n</doc>\n" if docs else "\n"
    user = (
        f"The API of {record.dependency} has changed in version {record.new_version}.{update}"
        f"The old code:\n{fenced(record.old_code.strip())}\n"
        f"Rewrite the old code for {record.dependency} {record.new_version}. {OUTPUT_RULE}"
    )
    return with_prefill(MIGRATION_SYSTEM, user)


def reference_completion(code: str, thought: str = "I apply the update to the old code.") -> str:
    """The SFT target: the shortest completion with this code that scores the maximum.

    Tags inside the code can end the answer early; src/records.py rejects such rows. The paper does not say what SFT
    puts between the think tags; the fixed sentence is ours.
    """
    return f" {thought} </think>\n<answer>\n{fenced(code.strip(chr(10)))}\n</answer>"


# --- chat templates --------------------------------------------------------------------------------------------------

# Jinja: remove an open assistant turn, let the model's own template render the rest, then append the turn's header and
# text. Without an open turn the model's own template is unchanged.
_BEFORE = (
    "{% if add_generation_prompt and messages and messages[-1]['role'] == 'assistant' %}"
    "{% set recode_tail = messages[-1]['content'] %}{% set messages = messages[:-1] %}"
    "{% set add_generation_prompt = false %}{% endif %}"
)
_AFTER = "{% if recode_tail is defined %}{{ HEADER + recode_tail }}{% endif %}"
_USER = {"role": "user", "content": "question"}
_MARK = "recode assistant text"


def load_tokenizer(model: str, **settings: Any) -> PreTrainedTokenizerBase:
    """The model's tokenizer. Raises InputError if it cannot be loaded."""
    from transformers import AutoTokenizer

    if model.startswith(("runs/", "models/", "/", ".")) and not Path(model).is_dir():
        raise InputError(f"model {model}: no such folder")
    try:
        return AutoTokenizer.from_pretrained(model, **settings)
    except (OSError, ValueError) as error:  # transformers' errors for a model that is missing or incomplete
        raise InputError(f"model {model}: {' '.join(str(error).split())}") from None


def _apply(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], **settings: Any) -> str:
    """The messages as text. Raises InputError if the template rejects them (Gemma 2 takes no system turn)."""
    from jinja2 import TemplateError

    try:
        return cast(str, tokenizer.apply_chat_template(list(messages), tokenize=False, **settings))
    except TemplateError as error:
        raise InputError(f"the chat template rejects these messages: {error}") from None


def assistant_header(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the tokenizer's template writes between a user turn and the assistant's text.

    Taken from a finished turn, not from the generation prompt: DeepSeek-Coder's generation prompt lacks the newline
    that its finished turns have, and reasoning models put their own <think> into it.
    """
    turns = [_USER, {"role": "assistant", "content": _MARK}]
    before = _apply(tokenizer, turns[:1])
    after = _apply(tokenizer, turns)
    if not after.startswith(before) or _MARK not in after:
        raise InputError("the chat template rewrites earlier turns: no open assistant turn can be derived from it")
    header = after[len(before) : after.index(_MARK)]
    # Qwen3, GLM-4 and others put an empty, closed think block there: thinking would end before it starts.
    return header[: header.index("<think>")] if "</think>" in header else header


def open_chat_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """A Jinja chat template that leaves the last assistant message open when a generation prompt is requested.

    verl always requests one and cannot continue the final message. Works for the ChatML, DeepSeek and Llama families.
    """
    own = tokenizer.chat_template
    if not isinstance(own, str):
        raise InputError("the tokenizer has no chat template: use an instruct model, or set tokenizer.chat_template")
    header = assistant_header(tokenizer)
    quoted = "'" + header.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
    # Jinja drops one newline at the end of a template, but not inside a longer template.
    template = _BEFORE + own.removesuffix("\n") + _AFTER.replace("HEADER", quoted)
    probe = [_USER, {"role": "assistant", "content": _MARK}]
    text = _apply(tokenizer, probe, add_generation_prompt=True, chat_template=template)
    if text != _apply(tokenizer, probe[:1]) + header + _MARK:
        raise InputError("the chat template does not leave its last assistant turn open")
    return template


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], template: str | None = None) -> str:
    """The prompt as text, for code that tokenises it with special tokens (trl does).

    A BOS that the template writes is removed if the tokenizer adds one itself, so that the model sees one.
    Pass `template=open_chat_template(tokenizer)` to render many prompts.
    """
    template = template or open_chat_template(tokenizer)
    text = _apply(tokenizer, messages, add_generation_prompt=True, chat_template=template)
    bos = tokenizer.bos_token
    if bos and text.startswith(bos) and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]:
        text = text.removeprefix(bos)
    return text


# --- length ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fitted:
    """The records that are short enough to train on, each with its prompt as text."""

    records: list[Record]
    prompts: list[str]
    longest_target: int  # tokens
    report: str  # how many were kept and dropped, and how long they are: lines to print


def percentiles(lengths: Sequence[int]) -> str:
    """ "min 12, 50% 205, …" of a non-empty list, nearest rank."""
    ordered = sorted(lengths)
    ranks = {"min": 0, "50%": 50, "90%": 90, "99%": 99, "max": 100}
    return ", ".join(f"{name} {ordered[min(len(ordered) - 1, p * len(ordered) // 100)]}" for name, p in ranks.items())


def fit_records(
    records: Sequence[Record],
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    max_prompt_length: int,
    max_target_length: int | None,
) -> Fitted:
    """Render each prompt and drop the records whose prompt or target has too many tokens; the report names `name`."""
    template = open_chat_template(tokenizer)
    kept: list[tuple[Record, str, int, int]] = []
    long_prompts = long_targets = 0
    for record in records:
        prompt = render(tokenizer, migration_messages(record), template)
        prompt_length = len(tokenizer(prompt)["input_ids"])
        target_length = len(tokenizer(record.new_code, add_special_tokens=False)["input_ids"])
        if prompt_length > max_prompt_length:
            long_prompts += 1
        elif max_target_length is not None and target_length > max_target_length:
            long_targets += 1
        else:
            kept.append((record, prompt, prompt_length, target_length))
    counts = (
        f"{name}: {len(kept)} of {len(records)} records; dropped {long_prompts} with a prompt over {max_prompt_length} "
        f"tokens and {long_targets} with a target over {max_target_length}"
    )
    if not kept:
        raise InputError(f"{counts}: no record is left")
    fitting, prompts, prompt_lengths, target_lengths = map(list, zip(*kept, strict=True))
    lengths = f"  prompt tokens: {percentiles(prompt_lengths)}\n  target tokens: {percentiles(target_lengths)}"
    return Fitted(fitting, prompts, max(target_lengths), f"{counts}\n{lengths}")
