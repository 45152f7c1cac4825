"""The benchmarks' prompts."""

from __future__ import annotations

import hashlib
import json

from evaluation.arena.problems import ApiUpdate
from evaluation.prompts import (
    EVALPLUS_STOPS,
    ONE_SHOT_EXAMPLE,
    ONE_SHOT_SOLUTION,
    evalplus_messages,
    function_messages,
    one_shot_messages,
    problem_messages,
)


def update(path: str, description: str, signature: str, docstring: str) -> ApiUpdate:
    return ApiUpdate("id", path, "kind", "name", "", "", description, signature, docstring)


# Untrimmed on purpose: white space around the fields is removed.
TWO_UPDATES = [
    update("math.sqrt", " takes a base ", "math.sqrt(x, base=2)\n", "The root.\n"),
    update("math.exp", "takes a cap", "math.exp(x, cap=None)", "The power."),
]
PROBLEM = (" At a bank.", "Write f.\n", "def f(x):")
FUNCTION = 'def f():\n    """Doc.\n\n    ```\n    f()\n    ```\n    """\n'
# sha256 of the JSON of the messages: results compare only if these never change.
MESSAGES = {
    "zero-shot": "1c371a95fd31083a1b443ecf22af89575493e6099b05d10e08c3e4b2d2314692",
    "zero-shot without updates": "5202edb62d56f0fd1f0f0762cb2755d0910c5821bf89e1b775146ea337b1701e",
    "one-shot": "d98c47216735696ae5057d329f78d4714fdc4ef3650faac9f40ecbb66c1c6bb0",
    "one-shot without updates": "c41d294ef2c0568e1859bc319a834c3832226ee12ae6b7f5ed7d6fd840f4f175",
    "function": "142621342ee51cb20d07375a4addd02340eebd6c90ed27babcc753c403a4b1c9",
    "evalplus": "8b006f4d831e429271a3d0574abe1bb4695d878469e27ac8611f6cce8f05ee12",
    "evalplus's stops": "5067b0373e3e3fb0688502f66499194fe7e9ee7eb3e194e3f8b24434a0b986c1",
}


def test_the_benchmarks_prompts_are_the_same_bytes_as_ever():
    test = "def test_f(): pass\n"
    found = {
        "zero-shot": problem_messages(TWO_UPDATES, *PROBLEM),
        "zero-shot without updates": problem_messages(TWO_UPDATES, *PROBLEM, docs=False),
        "one-shot": one_shot_messages(TWO_UPDATES, *PROBLEM, test),
        "one-shot without updates": one_shot_messages(TWO_UPDATES, *PROBLEM, test, docs=False),
        "function": function_messages(FUNCTION, "f"),
        "evalplus": evalplus_messages(FUNCTION),
        "evalplus's stops": EVALPLUS_STOPS,
    }
    assert {name: hashlib.sha256(json.dumps(value).encode()).hexdigest() for name, value in found.items()} == MESSAGES


def test_problem_prompts_hold_every_update_and_can_withhold_them():
    one = update("math.sqrt", "takes a base", "math.sqrt(x, base=2)", "The root.")
    two = update("math.exp", "takes a cap", "math.exp(x, cap=None)", "The power.")
    _, user, _ = problem_messages([one, two], "At a bank.", "Write f.", "def f(x):")
    for text in ("math.sqrt", "math.exp(x, cap=None)", "<doc>\nThe root.\n</doc>", "At a bank.", "def f(x):"):
        assert text in user["content"]
    _, control, _ = problem_messages([one], "At a bank.", "Write f.", "def f(x):", docs=False)
    assert "math.sqrt" not in control["content"]
    assert "Write f." in control["content"]


def test_a_fence_inside_a_function_s_docstring_does_not_close_the_prompt_s():
    assert f"here:\n````python\n{FUNCTION.strip()}\n````\nThe" in function_messages(FUNCTION, "f")[1]["content"]


def test_the_one_shot_example_is_right():
    space: dict = {}
    exec(ONE_SHOT_SOLUTION + "\n" + ONE_SHOT_EXAMPLE[3], space)
    space["test_tie_goes_to_the_alphabet"]()
    assert space["best_seller"]([]) is None
