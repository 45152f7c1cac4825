"""The benchmarks' prompts: CodeUpdateArena (the paper's and its own), HumanEval+ and MBPP+ (ours and evalplus's).

The migration benchmark uses the training prompt. That one, and how messages become text, is in src/prompts.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from common.chat import Message
from prompts import OUTPUT_RULE, fenced, with_prefill

if TYPE_CHECKING:
    from evaluation.arena.problems import ApiUpdate

PROBLEM_SYSTEM = (
    "You are a helpful code assistant. You solve a problem from a real-world scenario in Python. First think about the "
    "problem, then give the solution."
)
FUNCTION_SYSTEM = (
    "You are a helpful code assistant. You write Python functions. First think about the problem, then give the "
    "solution."
)
# evalplus's protocol for chat models: run_codegen of evalplus/codegen.py and make_raw_chat_prompt of
# evalplus/provider/utility.py, 0.3.1 (Apache-2.0). The texts are local variables there and cannot be imported; a test
# compares the result with make_raw_chat_prompt's.
EVALPLUS_INSTRUCTION = (
    "Please provide a self-contained Python script that solves the following problem in a markdown code block:"
)
EVALPLUS_RESPONSE = (
    "Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:"
)
# What ends an answer in evalplus: EOS of evalplus/provider/utility.py, and the fence, as for every chat model.
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


def problem_messages(
    updates: Sequence[ApiUpdate], scenario: str, problem: str, signature: str, *, docs: bool = True
) -> list[Message]:
    """The CodeUpdateArena prompt (paper App. C.2); several updates make a multi-update question (App. G.2).

    `docs=False` withholds the updates, as a control. Unit tests are never shown.
    """
    notes = "".join(
        f"Update Note: {update.path}: {update.description.strip()}\n"
        f"The new signature is {update.signature.strip()}\n"
        f"<doc>\n{update.docstring.strip()}\n</doc>\n\n"
        for update in updates
    )
    user = (
        f"{notes if docs else ''}Scenario: {scenario.strip()}\n\nProblem: {problem.strip()}\n\n"
        f"Solution Signature: {signature.strip()}\n\n{OUTPUT_RULE}"
    )
    return with_prefill(PROBLEM_SYSTEM, user)


def one_shot_messages(
    updates: Sequence[ApiUpdate], scenario: str, problem: str, signature: str, test: str, *, docs: bool = True
) -> list[Message]:
    """A prompt with the parts of CodeUpdateArena's own: the update, a worked example, the problem with a unit test.

    No thinking and no prefill; the answer is expected between [PYTHON] and [/PYTHON]. The wording is ours, and so is
    the example, because the benchmark's is not in its data file. Unlike the paper's prompt it shows a unit test.
    """
    notes = "".join(
        f"[UPDATE]\nThe function {update.path} has changed. {update.description.strip()}\n"
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
    """A HumanEval+ or MBPP+ problem in the format of training: think, answer, fence. The wording is ours."""
    user = (
        f"Write the Python function `{name}` that is described here:\n{fenced(text.strip())}\n"
        f"The final code is self-contained: the whole function, its imports, and every other function that it calls.\n"
        f"{OUTPUT_RULE}"
    )
    return with_prefill(FUNCTION_SYSTEM, user)


def evalplus_messages(text: str) -> list[Message]:
    """The same problem as evalplus gives it to chat models: no system message, the answer's fence already open."""
    return [
        {"role": "user", "content": f"{EVALPLUS_INSTRUCTION}\n```\n{text.strip()}\n```\n"},
        {"role": "assistant", "content": f"{EVALPLUS_RESPONSE}\n```python\n"},
    ]
