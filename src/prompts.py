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
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

# Jinja: remove an open assistant turn, let the model's own template render the rest, then write the turn's header and
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
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, **settings)
    except TemplateError as error:
        raise InputError(f"the chat template refuses these messages: {error}") from None
    assert isinstance(text, str)  # tokenize=False
    return text


def assistant_header(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the tokenizer's template writes between a user turn and the assistant's text.

    Read off a finished turn rather than off the generation prompt: DeepSeek-Coder's generation prompt lacks the newline
    that its finished turns have, and reasoning models put their own <think> into it. Raises InputError if the template
    has no such header.
    """
    turns = [_USER, {"role": "assistant", "content": _MARK}]
    before = _apply(tokenizer, turns[:1])
    after = _apply(tokenizer, turns)
    if not after.startswith(before) or _MARK not in after:
        raise InputError("the chat template rewrites earlier turns: no open assistant turn can be derived from it")
    header = after[len(before) : after.index(_MARK)]
    # Qwen3, GLM-4 and others write an empty, closed think part there; the model would not think at all.
    return header[: header.index("<think>")] if "</think>" in header else header


def open_chat_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """A Jinja chat template that leaves the last assistant message open if a generation prompt is requested.

    verl always requests one and cannot continue the final message. Works for the ChatML, DeepSeek and Llama families;
    raises InputError if the tokenizer has no template or the turn is closed after all.
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

    If the template writes a BOS and the tokenizer adds one, the first is removed: the model must see only one.
    Pass `template=open_chat_template(tokenizer)` when rendering many.
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
    """Render each prompt and drop the records whose prompt or target has too many tokens. Both trainers use this.

    `name` is what the report calls the records. Raises InputError if none is left.
    """
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
