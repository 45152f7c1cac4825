"""Every prompt of the project, and the one place where a prompt becomes text.

A prompt is three messages: system, user, and an assistant turn that is already begun (the prefill), so the completion
starts inside <think> (paper App. C.1 and C.2; the wording is ours). trl and verl must send the same token ids:

    trl, evaluation   render(tokenizer, messages) -> text, tokenised by the trainer
    verl              custom_chat_template = open_chat_template(tokenizer), applied to the same messages

`open_chat_template` wraps the tokenizer's own template, whatever its family, so the last assistant turn stays open. The
tokenizer itself is never changed: saved models keep their own template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from records import Record

Message = dict[str, str]

PREFILL = "Let me solve this step by step.\n<think>"

MIGRATION_SYSTEM = (
    "You are a helpful coding assistant. You rewrite old code for the version of a library that you are told, "
    "following the update information. First think about the change, then give the solution."
)
PROBLEM_SYSTEM = (
    "You are a helpful code assistant. You solve a problem from a real-world scenario in Python. First think about the "
    "problem, then give the solution."
)
OUTPUT_RULE = (
    "Think inside <think> </think> tags. Then give the final code inside <answer> </answer> tags, in a code block:\n"
    "<answer>\n```python\n# the code\n```\n</answer>"
)


FUNCTION_SYSTEM = (
    "You are a helpful code assistant. You write Python functions. First think about the problem, then give the "
    "solution."
)
# evalplus's protocol for chat models: run_codegen of evalplus/codegen.py and make_raw_chat_prompt of
# evalplus/provider/utility.py, 0.3.1 (Apache-2.0). The words are local variables there, so nothing can be imported; a
# test compares the result with make_raw_chat_prompt's.
EVALPLUS_INSTRUCTION = (
    "Please provide a self-contained Python script that solves the following problem in a markdown code block:"
)
EVALPLUS_RESPONSE = (
    "Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:"
)
# Where evalplus ends an answer: EOS of evalplus/provider/utility.py, and the fence, as for every chat model.
EVALPLUS_STOPS = ("<|endoftext|>", "<|endofmask|>", "</s>", "\nif __name__", "\ndef main(", "\nprint(", "\n```\n")

ONE_SHOT_SYSTEM = "You are a helpful code assistant. You solve programming problems in Python."
ONE_SHOT_TASK = (
    "Solve the problem below with one Python function of the given signature that passes the given test. Write the "
    "code between [PYTHON] and [/PYTHON], imports included, without the test and without explanations."
)
ONE_SHOT_EXAMPLE = (  # scenario, problem, signature, unit test: ours
    "A bakery writes down every loaf it sells and wants to know what sold best.",
    "Given the names of the loaves sold in a day, return the name that occurs most often. Of names that occur equally "
    "often, return the one that comes first in the alphabet. Return None when nothing was sold.",
    "def best_seller(sold: list[str]) -> str | None",
    'def test_tie_goes_to_the_alphabet():\n    assert best_seller(["rye", "oat", "rye", "oat"]) == "oat"',
)
ONE_SHOT_SOLUTION = """from collections import Counter

def best_seller(sold: list[str]) -> str | None:
    counts = Counter(sold)
    return min(counts, key=lambda name: (-counts[name], name), default=None)"""


@dataclass(frozen=True)
class Update:
    """One API update of CodeUpdateArena, as a prompt shows it."""

    function: str  # dotted path of the updated function
    description: str
    signature: str
    docstring: str


def fenced(code: str) -> str:
    """Code in a python block, under a fence that no line of the code closes: longer than every line of backticks."""
    lines = [line.strip() for line in code.replace("\r", "\n").split("\n")]
    longest = max((len(line) for line in lines if set(line) == {"`"}), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}python\n{code}\n{marks}"


def _messages(system: str, user: str) -> list[Message]:
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": user},
        {"role": "assistant", "content": PREFILL},
    ]


def migration_messages(record: Record, *, docs: bool = True) -> list[Message]:
    """The training prompt (paper App. C.1). The description is not part of it, and of course not the new code.

    With `docs=False` the update is withheld: what does the model know of it by itself?
    """
    update = f" This is the update:\n<doc>\n{record.update_info.strip()}\n</doc>\n" if docs else "\n"
    user = (
        f"The API of {record.dependency} has changed in version {record.new_version}.{update}"
        f"The old code:\n{fenced(record.old_code.strip())}\n"
        f"Rewrite the old code for {record.dependency} {record.new_version}. {OUTPUT_RULE}"
    )
    return _messages(MIGRATION_SYSTEM, user)


def problem_messages(
    updates: Sequence[Update], scenario: str, problem: str, signature: str, *, docs: bool = True
) -> list[Message]:
    """The CodeUpdateArena prompt (paper App. C.2); several updates make a multi-update question (App. G.2).

    With `docs=False` the updates are withheld: the control that shows what the text in the prompt is worth.
    Unit tests are never shown.
    """
    if not updates:
        raise ValueError("a problem needs at least one update")
    notes = "".join(
        f"Update Note: {update.function}: {update.description.strip()}\n"
        f"The new signature is {update.signature.strip()}\n"
        f"<doc>\n{update.docstring.strip()}\n</doc>\n\n"
        for update in updates
    )
    user = (
        f"{notes if docs else ''}Scenario: {scenario.strip()}\n\nProblem: {problem.strip()}\n\n"
        f"Solution Signature: {signature.strip()}\n\n{OUTPUT_RULE}"
    )
    return _messages(PROBLEM_SYSTEM, user)


def one_shot_messages(
    updates: Sequence[Update], scenario: str, problem: str, signature: str, test: str, *, docs: bool = True
) -> list[Message]:
    """A prompt with the parts of CodeUpdateArena's own: the update, one worked example, the problem with a unit test.

    No thinking and no prefill; the answer stands between [PYTHON] and [/PYTHON]. The wording is ours, and so is the
    example: the benchmark's is not in its data file. Unlike the paper's prompt this one shows a unit test.
    """
    if not updates:
        raise ValueError("a problem needs at least one update")
    notes = "".join(
        f"[UPDATE]\nThe function {update.function} has changed. {update.description.strip()}\n"
        f"New signature: {update.signature.strip()}\n{update.docstring.strip()}\n[/UPDATE]\n\n"
        for update in updates
    )
    questions = (ONE_SHOT_EXAMPLE, (scenario, problem, signature, test))
    asked = [
        f"[SCENARIO]\n{s.strip()}\n[/SCENARIO]\n[PROBLEM]\n{p.strip()}\n[/PROBLEM]\n"
        f"[SIGNATURE]\n{d.strip()}\n[/SIGNATURE]\n[TEST]\n{t.strip()}\n[/TEST]\n"
        for s, p, d, t in questions
    ]
    example = f"{asked[0]}[PYTHON]\n{ONE_SHOT_SOLUTION}\n[/PYTHON]"
    user = f"{notes if docs else ''}{ONE_SHOT_TASK}\n\nAn example:\n{example}\n\nYour turn:\n{asked[1]}"
    return [{"role": "system", "content": ONE_SHOT_SYSTEM}, {"role": "user", "content": user}]


def function_messages(text: str, name: str) -> list[Message]:
    """A HumanEval+ or MBPP+ problem in the form that the model was trained on: think, answer, fence; wording ours."""
    user = (
        f"Write the Python function `{name}` that is described here:\n{fenced(text.strip())}\n"
        f"The final code is self-contained: the whole function, its imports, and every other function that it calls.\n"
        f"{OUTPUT_RULE}"
    )
    return _messages(FUNCTION_SYSTEM, user)


def evalplus_messages(text: str) -> list[Message]:
    """The same problem as evalplus asks chat models: no system message, the answer already begun up to its fence."""
    return [
        {"role": "user", "content": f"{EVALPLUS_INSTRUCTION}\n```\n{text.strip()}\n```\n"},
        {"role": "assistant", "content": f"{EVALPLUS_RESPONSE}\n```python\n"},
    ]


def reference_completion(code: str, thought: str = "I apply the update to the old code.") -> str:
    """The answer that a perfect, terse model gives after the prefill: the SFT target.

    It scores the maximum, or src/records.py reports the row: tags inside the code can end the answer early.

    The paper does not say what SFT put between the think tags; one fixed sentence is ours.
    """
    return f" {thought} </think>\n<answer>\n{fenced(code.strip(chr(10)))}\n</answer>"


# --- chat templates --------------------------------------------------------------------------------------------------

# Jinja: take an open assistant turn off, let the model's own template render the rest, then write the turn's header
# and text. Without an open turn the model's own template works as ever.
_BEFORE = (
    "{% if add_generation_prompt and messages and messages[-1]['role'] == 'assistant' %}"
    "{% set recode_tail = messages[-1]['content'] %}{% set messages = messages[:-1] %}"
    "{% set add_generation_prompt = false %}{% endif %}"
)
_AFTER = "{% if recode_tail is defined %}{{ HEADER + recode_tail }}{% endif %}"
_USER = {"role": "user", "content": "question"}
_MARK = "recode assistant text"


def _apply(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], **settings: Any) -> str:
    """The messages as text. Raises ValueError if the template refuses them (Gemma 2 takes no system turn)."""
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(list(messages), tokenize=False, **settings)
    except TemplateError as error:
        raise ValueError(f"the chat template refuses these messages: {error}") from None


def assistant_header(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the tokenizer's template writes between a user turn and the assistant's text.

    Read off a finished turn rather than off the generation prompt: DeepSeek-Coder's generation prompt lacks the newline
    that its finished turns have, and reasoning models put their own <think> into it.
    """
    turns = [_USER, {"role": "assistant", "content": _MARK}]
    before = _apply(tokenizer, turns[:1])
    after = _apply(tokenizer, turns)
    if not after.startswith(before) or _MARK not in after:
        raise ValueError("the chat template rewrites earlier turns: no open assistant turn can be derived from it")
    header = after[len(before) : after.index(_MARK)]
    # Qwen3, GLM-4 and others put an empty, closed think part there: thinking would be over before it starts.
    return header[: header.index("<think>")] if "</think>" in header else header


def open_chat_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """A Jinja chat template that leaves a last assistant message open when a generation prompt is asked for.

    verl always asks for one, and cannot be told to continue the final message. Works for ChatML, DeepSeek and Llama
    families; raises ValueError where the tokenizer has no template or the turn does not come out open.
    """
    own = tokenizer.chat_template
    if not isinstance(own, str):
        raise ValueError("the tokenizer has no chat template: use an instruct model, or set tokenizer.chat_template")
    header = assistant_header(tokenizer)
    quoted = "'" + header.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
    # Jinja drops one newline at the end of a template; inside a longer template it would stay.
    template = _BEFORE + own.removesuffix("\n") + _AFTER.replace("HEADER", quoted)
    probe = [_USER, {"role": "assistant", "content": _MARK}]
    text = _apply(tokenizer, probe, add_generation_prompt=True, chat_template=template)
    if text != _apply(tokenizer, probe[:1]) + header + _MARK:
        raise ValueError("the chat template does not leave its last assistant turn open")
    return template


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], template: str | None = None) -> str:
    """The prompt as text, for code that tokenises text with special tokens on (trl does).

    A BOS that the template writes is removed where the tokenizer adds one itself, so the model sees one.
    Pass `template=open_chat_template(tokenizer)` when rendering many.
    """
    template = template or open_chat_template(tokenizer)
    text = _apply(tokenizer, messages, add_generation_prompt=True, chat_template=template)
    bos = tokenizer.bos_token
    if bos and text.startswith(bos) and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]:
        text = text.removeprefix(bos)
    return text
