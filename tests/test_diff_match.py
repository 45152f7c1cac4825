"""DM* by hand, its properties on generated programs, and its means on the published rows.

The environment variable RECODE_PUBLISHED names a folder with recode-train-data.jsonl; without it that test is skipped.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import CPU, run_script
from hypothesis import given, settings
from hypothesis import strategies as st

from diff_match import REWARDS, compute_score, diff_match, dm_star, token_pairs
from rewards import reward_names

PUBLISHED = Path(os.environ.get("RECODE_PUBLISHED", "absent")) / "recode-train-data.jsonl"
OLD, NEW = "y = f(x)", "y = g(x)"


def test_token_pairs():
    """Six tokens between two marks are seven pairs; comments, layout and quote styles are not tokens."""
    pairs = [(None, "y"), ("y", "="), ("=", "f"), ("f", "("), ("(", "x"), ("x", ")"), (")", None)]
    assert token_pairs(OLD) == dict.fromkeys(pairs, 1)
    assert token_pairs('if a:\n    b("c")  # so') == token_pairs("if a: b('c')")
    assert token_pairs("") == {(None, None): 1}
    assert token_pairs("x = = 1") is None


@pytest.mark.parametrize(
    ("code", "value"),
    [
        # Need+ = {= g, g (}, Need- = {= f, f (}: 4 pairs.
        (NEW, 2.0),  # Did+ = Need+, Did- = Need-: F = 2 (2 + 1 * 2) / (4 + 4) = 1
        ("y = g( x )  # renamed", 2.0),
        ("    y = g(x)", 2.0),  # a uniform indent
        (OLD, -1.5),  # nothing done: F = 0
        # Did+ = {= g, g (, ) print, print (, ( y, y )}, Did- = Need-; the last ) and the end are the old code's pair.
        # F = 2 (2 + 2) / (4 + 6 + 2) = 2/3
        ("y = g(x)\nprint(y)", 3.5 * 2 / 3 - 1.5),
        # Did+ = {= h, h (}, Did- = Need-: ta = 0, so ra = 0 and the two right removals count nothing.
        ("y = h(x)", -1.5),
        # The right call beside the old one. Did+ = {) y, = g, g (, and once more: y =, ( x, x )}, Did- = {}:
        # ta = 2, ra = 1, td = 0: F = 2 * 2 / (4 + 6) = 0.4
        ("y = f(x)\ny = g(x)", 3.5 * 0.4 - 1.5),
        # Did+ = {mark pass, pass mark}, Did- = all seven: ta = 0, F = 0
        ("pass", -1.5),
        ("", -2.0),
        ("# y = g(x)", -2.0),  # no statement
        ("y = g(x", -2.0),
        ("x" * 200_001, -2.0),
        ("y = " + "(" * 5000 + ")" * 5000, -2.0),
        ("y = " + "-" * 5000 + "1", -2.0),  # maybe parses, but is too deep to be written back
        ("y = x" + ".a" * 160, -2.0),  # parses, and would be written back or not, depending on the caller's stack
        ("if a:\n    pass\n" + "elif b:\n    pass\n" * 300, -2.0),
        ("y = 0x" + "f" * 5000, -2.0),  # parses; Python writes no decimal number of that length
        ("y = '\0'", -2.0),
        ("y = '\ud800'", -2.0),
        (None, -2.0),
    ],
)
def test_by_hand(code, value):
    assert diff_match(code, OLD, NEW) == pytest.approx(value)


def test_removals_count_as_far_as_the_additions_are_there():
    """Old `f(a, b)`, target `g(a)`: Need+ = {mark g, g (, a )}, Need- = {mark f, f (, a ",", ", b", b )}.

    `g(a, b)` adds 2 of the 3 (ra = 2/3) and removes 2 of the 5: F = 2 (2 + 2/3 * 2) / (3 + 5 + 2 + 2) = 5/9.
    """
    assert diff_match("g(a, b)", "f(a, b)", "g(a)") == pytest.approx(3.5 * 5 / 9 - 1.5)
    # Old `f(a, a)`, target `f(a)`: nothing to add, so ra = 1; Need- = Did- = {a ",", ", a"}.
    assert diff_match("f(a)", "f(a, a)", "f(a)") == 2.0


def test_the_score_that_verl_gets():
    """The keys of rewards.compute_score and dm_star; an undefined DM* counts 0."""
    answer = f" x </think>\n<answer>\n```python\n{NEW}\n```\n</answer>"
    parts = {"format": 1.0, "syntax": 1.0, "em": 1.0, "es": 1.0}
    found = compute_score("recode", answer, NEW, {"old_code": OLD}, weights=[1.0, 0.5])
    assert found == {"score": 2.0, "correctness": 2.0, "dm_star": 2.0, **parts}  # 1 + 0.5 * 2
    found = compute_score("recode", answer, NEW, {"old_code": NEW})
    assert found == {"score": 1.0, "correctness": 0.0, "dm_star": 0.0, **parts}
    with pytest.raises(ValueError, match="unknown reward 'dm-star'"):
        compute_score("recode", answer, NEW, {"old_code": OLD}, reward="dm-star")


def test_where_it_is_undefined():
    assert diff_match("x", OLD, "y  =  f( x ) # the same") is None
    assert diff_match(None, OLD, OLD) is None
    assert diff_match(NEW, "y = f(x", NEW) is None
    assert diff_match(NEW, OLD, "y = g(x") is None


names = st.sampled_from(["f", "g", "h", "x", "y"])
programs = st.lists(st.tuples(names, names, names), min_size=1, max_size=4).map(
    lambda lines: "\n".join(f"{a} = {b}({c})" for a, b, c in lines)
)


@given(programs, programs, programs)
def test_the_target_is_best_and_the_copy_is_worst(old, target, completion):
    if diff_match(completion, old, target) is None:
        assert token_pairs(old) == token_pairs(target)
        return
    assert diff_match(target, old, target) == 2.0
    assert diff_match(old, old, target) == -1.5
    assert -1.5 <= diff_match(completion, old, target) <= 2.0


@given(st.text(), st.text(), st.text())
@settings(max_examples=200)
def test_it_never_raises(completion, old, target):
    value = diff_match(completion, old, target)
    assert value is None or -2.0 <= value <= 2.0
    [value] = dm_star([completion], [target], [old])
    assert value is None or -2.0 <= value <= 2.0


def test_as_a_reward():
    """The code is the last fence of the answer, as for every other reward."""
    answers = [f"x </think>\n<answer>\n```python\n{code}\n```\n</answer>" for code in (NEW, OLD)]
    assert dm_star([*answers, "no answer"], [NEW] * 3, [OLD] * 3, record_id=["a"] * 3) == [2.0, -1.5, -2.0]
    assert dm_star([[{"role": "assistant", "content": answers[0]}]], [NEW], [OLD]) == [2.0]
    assert reward_names("format,dm_star", REWARDS) == ["format", "dm_star"]
    with pytest.raises(ValueError, match="unknown reward 'dm_star'"):
        reward_names("format,dm_star")  # rewards.py has only the paper's


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="RECODE_PUBLISHED is not set to the folder with it")
def test_the_published_rows():
    """Two values hold for every row. The others are means over the 1,294 of these 1,600 rows that parse and differ:
    `pass` -1.49, the target and a print line 1.28."""
    rows = [json.loads(line) for line in PUBLISHED.read_text("utf-8").splitlines()]
    pairs = [(row["old_code"], row["new_code"]) for row in rows if row["old_code"] and row["new_code"]]
    pairs = [pair for pair in pairs if diff_match(None, *pair) is not None]
    assert len(pairs) == 1294
    assert {diff_match(new, old, new) for old, new in pairs} == {2.0}
    assert {diff_match(old, old, new) for old, new in pairs} == {-1.5}
    empty = [diff_match("pass", old, new) for old, new in pairs]
    more = [diff_match(f"{new}\nprint('done')", old, new) for old, new in pairs]
    assert round(sum(empty) / len(pairs), 2) == -1.49
    assert round(sum(more) / len(pairs), 2) == 1.28


@pytest.mark.slow
def test_grpo_trains_on_it(warm_model, tiny_data, tmp_path):
    """Two steps through trl: DM* is in the metrics and in each logged sample, and follows from the completion."""
    flags = ["--model_name_or_path", warm_model, "--data", tiny_data, "--output_dir", tmp_path / "run", *CPU]
    flags += ["--use_peft", "true", "--use_dora", "true", "--lora_r", 8, "--lora_alpha", 8, "--lora_dropout", 0.0]
    flags += ["--max_steps", 2, "--num_generations", 4, "--per_device_train_batch_size", 8, "--prompts_per_step", 2]
    flags += ["--max_completion_length", 80, "--gradient_checkpointing", "false", "--print_samples", 0]
    run_script("grpo.py", *flags, "--reward", "format,dm_star")
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rollouts = [json.loads(line) for line in (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()]
    assert len(metrics) == 2 and len(rollouts) == 16
    for row in rollouts:
        old = row["target"].replace("trapezoid", "trapz")
        [value] = dm_star([row["completion"]], [row["target"]], [old])
        assert row["rewards"]["dm_star"] == pytest.approx(value)
    mean = sum(row["rewards"]["dm_star"] for row in rollouts[:8]) / 8
    assert metrics[0]["rewards/dm_star/mean"] == pytest.approx(mean, abs=1e-4)
