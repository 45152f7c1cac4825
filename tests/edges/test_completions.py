"""Completions of models: rewards and extraction never raise, and stay in their ranges."""

from __future__ import annotations

import json
import math

from edges.adversarial import ODD, STRINGS, VALUES, as_file, damaged_text
from edges.checker import check_ended, count, effort, run_main, scratch
from hypothesis import given
from hypothesis import strategies as st

import diff_match
import rewards
from evaluation.samples import code_of
from prompts import reference_completion

OLD = "import numpy as np\narea = np.trapz(y, x)  # integrate"
TARGET = "import numpy as np\narea = np.trapezoid(y, x)"
CODES = [
    *(TARGET, OLD, "", "pass", "def f(:\n", "x = 1\\", "'''", "\tx = 1\n        y", "match x:\n case {**r}: pass"),
    *("x = " + "+".join("1" * 600), "x = " + "(" * 300 + ")" * 300, "x = 0x" + "f" * 9000, "if 1:\n  x\n\t y"),
    *(
        "async def f():\n    yield",
        "f'{x!r:{w}}'",
        "x = '\\N{DASH}'",
        "# -*- coding: rot13 -*-\nx",
        "print(1)\x0cx = 2",
    ),
]


@st.composite
def completions(draw: st.DrawFn) -> str:
    """A completion in the asked form with a few faults."""
    text = reference_completion(draw(st.sampled_from(CODES) | damaged_text(TARGET)))
    for _ in range(draw(st.integers(0, 3))):
        text = draw(damaged_text(text))
    return text + draw(st.sampled_from(["", "", "<|im_end|>", text, *ODD]))


TARGETS = st.sampled_from(CODES) | damaged_text(TARGET) | STRINGS


@effort(200, 50_000)
@given(completions() | VALUES | st.lists(st.fixed_dictionaries({"role": STRINGS, "content": VALUES})), TARGETS, TARGETS)
def test_rewards_never_raise_and_stay_in_their_ranges(completion, target, old):
    count("completions")
    found = rewards.score(completion, target)
    assert found.format in (-1.0, 1.0)
    assert 0 <= found.similarity <= 1
    assert found.em in (-2.0, -1.5, 2.0)
    assert found.em_star in (-2.0, -1.5, 2.0)
    assert -2 <= found.es_star <= found.es <= 2
    assert (found.es_star == -2) == (not found.parses)
    assert (found.em == -2) == (found.code is None or len(found.code) > rewards.MAX_CODE)
    text = rewards.text_of(completion)
    assert rewards.score(text, target) == found
    for module in (rewards, diff_match):
        values = module.compute_score("recode", text, target, {"old_code": old})
        assert all(isinstance(value, float) and math.isfinite(value) for value in values.values())
        json.dumps(values, allow_nan=False)
    value = diff_match.diff_match(rewards.extract(text), old, target)
    assert value is None or value == -2 or -1.5 <= value <= 2
    for prompt in ("zero-shot", "one-shot", "evalplus"):
        assert isinstance(code_of(text, prompt), str | None)


@effort(60, 5_000)
@given(completions().flatmap(as_file), TARGETS.flatmap(as_file))
def test_the_command_line_of_the_rewards(completion, target):
    with scratch({"completion.txt": completion, "target.py": target}):
        ended = run_main(rewards.main, "rewards", "--target", "target.py", "completion.txt")
        check_ended(ended, "rewards")
