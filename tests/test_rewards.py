"""Whole completions in, literal values out. The arithmetic of every expected value is next to it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rewards
from rewards import (
    REWARDS,
    clean,
    compute_score,
    compute_score_with,
    dedent,
    em,
    em_star,
    es,
    es_star,
    extract,
    format_reward,
    normalise,
    reward_names,
    score,
    similarity,
    syntax_tree,
)

TARGET = "import numpy as np\narea = np.trapezoid(y, x)"
OLD = "import numpy as np\narea = np.trapz(y, x)"


def answer(code: str, think: str = "The name changed.", fence: str = "```python") -> str:
    """A well-formed completion: it starts inside <think>, as the prefill leaves it."""
    return f"{think}\n</think>\n<answer>\n{fence}\n{code}\n```\n</answer>"


# --- the constants of paper §3.3 -------------------------------------------------------------------------------------


def test_the_right_code_scores_the_maximum():
    result = score(answer(TARGET), TARGET)
    assert (result.format, result.em_star, result.es_star) == (1.0, 2.0, 2.0)
    assert (result.em, result.es) == (2.0, 2.0)
    assert result.reason == "equals the target"


def test_the_old_code_unchanged():
    # Both sides normalise to themselves. The target has 18 + 1 + 25 = 44 characters, the old code 40; the distance is
    # 4 (insert "e", "o", "i", "d": trapz -> trapezoid). ES = 1 - 4/44 = 40/44 = 0.9091; ES* = 3.5 * 40/44 - 1.5.
    assert (len(TARGET), len(OLD)) == (44, 40)
    result = score(answer(OLD), TARGET)
    assert result.similarity == pytest.approx(40 / 44)
    assert result.es_star == pytest.approx(
        3.5 * 40 / 44 - 1.5
    )  # 1.6818: copying the old code nearly scores the maximum
    assert result.em_star == -1.5


def test_a_worked_similarity():
    # kitten -> sitting: 3 edits over max(6, 7) = 7 characters.
    assert similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)
    assert similarity("", "abcd") == 0.0
    assert similarity("", "") == 1.0


def test_nothing_alike_is_the_floor_of_es_star():
    # "zz" against "x = 1": no character in common, 5 edits over 5: ES = 0, ES* = 3.5 * 0 - 1.5.
    assert score(answer("zz"), "x = 1").es_star == -1.5


def test_code_that_does_not_parse():
    # "x = = 1" -> "x = 1" removes "= ": 2 edits over 7 characters, so ES keeps 1 - 2/7 where ES* gives -2.
    result = score(answer("x = = 1"), "x = 1")
    assert (result.em_star, result.es_star) == (-2.0, -2.0)
    assert result.em == -1.5
    assert result.es == pytest.approx(3.5 * (1 - 2 / 7) - 1.5)  # 1.0
    assert result.reason == "the code does not parse"


def test_no_code_is_minus_two_for_every_correctness_reward():
    result = score("</think><answer>np.trapezoid</answer>", TARGET)
    assert (result.em, result.es, result.em_star, result.es_star) == (-2.0, -2.0, -2.0, -2.0)
    assert result.format == 1.0  # the tags are right; the code is what is missing


def test_every_reference_answer_scores_the_maximum():
    data = Path(__file__).parent.parent / "data"
    lines = [line for name in ("train", "heldout") for line in (data / f"{name}.jsonl").open()]
    targets = [json.loads(line)["new_code"] for line in lines]
    scores = [score(answer(target), target) for target in targets]
    assert len(scores) > 500
    assert {(one.format, one.em_star, one.es_star) for one in scores} == {(1.0, 2.0, 2.0)}


# --- format ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("a</think><answer>b</answer>", 1.0),
        ("</think><answer></answer>", 1.0),  # empty parts are well formed
        ("a</think>\n\n <answer>b</answer>\n", 1.0),  # white space alone between and after
        ("a</think><answer>b</answer><|im_end|>", 1.0),  # an end-of-turn token is white space
        ("a</think><answer>b</answer><｜end▁of▁sentence｜>\n", 1.0),
        ("a</think><answer>b</answer><|EOT|>", 1.0),
        ("a</think><answer>b</answer></s>", 1.0),
        ("I write <answer> later</think><answer>b</answer>", 1.0),  # <answer> inside think is harmless
        ("a</think><answer>b</answer> done", -1.0),
        ("a</think> so <answer>b</answer>", -1.0),
        ("<think>a</think><answer>b</answer>", -1.0),  # doubled: the prefill has opened think already
        ("a</think>b</think><answer>c</answer>", -1.0),
        ("a</think><answer>b</answer><answer>c</answer>", -1.0),
        ("a</think><answer>print('</answer>')</answer>", -1.0),  # ends inside the string
        ("a</think><answer>b", -1.0),
        ("a<answer>b</answer>", -1.0),
        ("a</Think><Answer>b</Answer>", -1.0),  # case-sensitive
        ("<answer>b</answer></think>", -1.0),
        ("", -1.0),
    ],
)
def test_format(completion, expected):
    assert format_reward([completion]) == [expected]


@pytest.mark.parametrize(
    ("completion", "fault"),
    [
        ("a </think> <answer>b</answer>", None),
        ("a </think> <answer>b</answer><|im_end|>", None),
        ("<answer>b</answer>", "no </think>"),
        ("<think>a</think><answer>b</answer>", "more than one think part"),
        ("a</think></think><answer>b</answer>", "more than one think part"),
        ("a</think> b", "no <answer>"),
        ("a</think><answer>b", "no </answer>"),
        ("a</think><answer>b</answer><answer>c</answer>", "more than one <answer>"),
        ("a</think><answer>b</answer></answer>", "more than one </answer>"),
        ("a</think> b <answer>c</answer>", "text between </think> and <answer>"),
        ("a</think><answer>b</answer> c", "text after </answer>"),
    ],
)
def test_the_fault_of_a_format(completion, fault):
    assert rewards.format_fault(completion) == fault
    assert rewards.is_well_formed(completion) == (fault is None)


# --- which code is scored --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("completion", "code"),
    [
        (answer("x = 1"), "x = 1"),
        (answer("x = 1", fence="```py"), "x = 1"),
        (answer("x = 1", fence="```Python  "), "x = 1"),
        (answer("x = 1", fence="```"), "x = 1"),
        ("a</think><answer>  ```python\n  x = 1\n  ```</answer>", "  x = 1"),
        ("a</think><answer>\r\n```python\r\nx = 1\r\n```\r\n</answer>", "x = 1"),
        ("a</think><answer>```python\nx = 1\n```\nor\n```python\nx = 2\n```</answer>", "x = 2"),  # the last block
        ("a</think><answer>```python\nx = 1\n```\n```bash\nls\n```</answer>", "x = 1"),  # the last *python* block
        ("a</think><answer>```python\n1\n```</answer><answer>```\n2\n```</answer>", "2"),  # the last answer
        ("```python\nwrong\n```</think><answer>```python\nx = 1\n```</answer>", "x = 1"),  # think is not scored
        ("<answer>```python\nx = 1\n```</answer>", "x = 1"),  # no </think>: the whole completion is searched
        ("a</think><answer>```python\nx = 1\n```", "x = 1"),  # no </answer>
        ("a</think><answer>````python\nx = '```'\n````</answer>", "x = '```'"),
        ("a</think><answer>````python\nx = 1\n```\ny = 2\n````</answer>", "x = 1\n```\ny = 2"),  # three close no four
        ("a</think><answer>```python\nx = 1\n`````</answer>", "x = 1"),  # five close three
        ("a</think><answer>```python\nx = 1\n```\nOutput:\n```\n[1]\n```</answer>", "x = 1"),  # tagged before untagged
        ("a</think><answer>```\nx = 1\n```\n```py\nx = 2\n```\n```\n2\n```</answer>", "x = 2"),
        ("a</think><answer>```\nx = 1\n```\n```\nx = 2\n```\n```bash\nls\n```</answer>", "x = 2"),  # none is tagged
        ("a</think><answer>```\nx = 1\n```\n```python\nx = 2</answer>", "x = 1"),  # the tagged one is not closed
        (answer("x = 1", fence="```python3"), "x = 1"),
        (answer("x = 1", fence="```PY3"), "x = 1"),
        (answer("x = 1", fence="```PyThOn3"), "x = 1"),
        (answer("x = 1", fence="```python2"), None),
        ("a</think>```python\nx = 1\n```", None),  # no <answer>
        ("a</think><answer>x = 1</answer>", None),  # no fence
        ("a</think><answer>```python\nx = 1</answer>", None),  # unclosed
        ("a</think><answer>```python\nx = 1```</answer>", None),  # closed on a code line
        ("a</think><answer>```bash\nls\n```</answer>", None),  # another language
        ("a</think><answer>```python\nprint('</answer>')\n```</answer>", None),  # the tag ends the answer
        ("```python\nx = 1\n```</think><answer>junk</answer>", None),
        ("", None),
    ],
)
def test_extract(completion, code):
    assert extract(completion) == code


# --- normalise -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = 1  # c", "x = 1"),
        ("# don't\nx = 1\n# it's", "x = 1"),  # apostrophes in comments do not open a string
        ("x = '#'  # c", "x = '#'"),
        ("x = 'it\\'s # no'  # c", "x = 'it\\'s # no'"),
        ("x = 1   \n\n\ny = 2\n", "x = 1\ny = 2"),
        ('"""doc  \n\n# text\n"""\nx = 1', '"""doc  \n\n# text\n"""\nx = 1'),  # docstrings stay, to the letter
        ("def f():\n    # why\n    return 1", "def f():\n    return 1"),
        ("x = [\n    1,  # one\n\n    2,\n]", "x = [\n    1,\n    2,\n]"),
        ("s = 'a\\\n\\\n  b'  # c", "s = 'a\\\n\\\n  b'"),
        ("s = f'{x}#{y}'  # c", "s = f'{x}#{y}'"),
        ("s = f'''{x}\n\n# in\n'''  # c", "s = f'''{x}\n\n# in\n'''"),
    ],
)
def test_normalise(code, expected):
    assert normalise(code, is_python=True) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("\\\n#", ""),  # nothing is left to continue onto
        ("\\\n\\\n\n", ""),
        ("x = 1 \\\n\ny = 2", "x = 1\ny = 2"),  # kept, the backslash would join the two statements
        ("x = 1 \\\n# c\ny = 2", "x = 1\ny = 2"),
        ("x = 1, \\\n# c\n(2)", "x = 1,\n(2)"),  # joined, x = 1, (2) would be another value
        ("f(1, \\\n\n  2)", "f(1,\n  2)"),
        ("if x:\n  y = 1\n  \\\n\n  z = 2", "if x:\n  y = 1\n  z = 2"),
        ("x = 1 + \\\n  2  # c", "x = 1 + \\\n  2"),  # an ordinary continuation stays
        ("s = 'a\\\n'\n\ny = 2", "s = 'a\\\n'\ny = 2"),
        ("x = 1  # c \\\n\ny = 2", "x = 1\ny = 2"),
        ("#\n\x0cx = 1", "x = 1"),  # a form feed restarts the indent: not even with the comment, but without it
    ],
)
def test_removing_a_line_does_not_change_the_code(code, expected):
    assert clean(code) == (expected, True)
    assert ast.dump(ast.parse(expected)) == ast.dump(ast.parse(code))
    assert score(answer(code), expected).em_star == 2.0


def test_a_backslash_stays_in_code_that_does_not_parse():
    assert clean("x = = 1 \\\n\ny = 2") == ("x = = 1 \\\ny = 2", False)


def test_both_sides_are_normalised_alike():
    assert score(answer("# new\nx = 1\n\n"), "x = 1  # c").em_star == 2.0
    assert score(answer("    x = 1\n    y = 2"), "x = 1\ny = 2").em_star == 2.0  # a uniform indent goes
    assert score(answer("x = 1\r\ny = 2"), "x = 1\ny = 2").em_star == 2.0
    assert score(answer("x = 'e\u0301'"), "x = '\u00e9'").em_star == -1.5  # no Unicode normalisation


# --- the defects of the authors' released reward ---------------------------------------------------------------------


def test_defect_right_code_in_think_and_junk_in_the_answer():
    result = score(f"```python\n{TARGET}\n```</think><answer>```python\njunk\n```</answer>", TARGET)
    assert result.code == "junk"
    assert result.es_star < 0


def test_defect_wrong_code_in_think_and_the_right_answer():
    assert score(answer(TARGET, think="not this:\n```python\nimport os\n```"), TARGET).es_star == 2.0


def test_defect_apostrophes_in_comments():
    code = "# don't lose\nx = load()\n# it's here\ny = x"
    assert score(answer(code), code).em_star == 2.0
    assert score(answer("y = x"), code).em_star == -1.5  # the line between the comments counts


def test_defect_eleven_string_literals():
    code = "names = [" + ", ".join(f"'name{i}'" for i in range(12)) + "]"
    assert score(answer(code), code).es_star == 2.0


def test_defect_escaped_quote_and_hash_in_one_string():
    code = "x = 'it\\'s #1'\ny = 2"
    assert score(answer(code), code).em_star == 2.0
    assert score(answer("x = 'it\\'s #2'\ny = 2"), code).em_star == -1.5


def test_defect_trailing_blanks():
    assert score(answer("x = 1  # c"), "x = 1").em_star == 2.0


def test_defect_both_sides_empty():
    assert score(answer("# nothing"), "").es_star == 2.0  # similarity of two empty texts is 1


def test_defect_py_fence():
    assert score(answer(TARGET, fence="```py"), TARGET).es_star == 2.0


def test_defect_end_of_turn_token():
    assert format_reward([answer(TARGET) + "<|im_end|>"]) == [1.0]


@pytest.mark.parametrize("code", ["x = 1\0", "(" * 5000, "-" * 50_000 + "1", "x = '\ud800'", "a" + ".b" * 50_000])
def test_defect_the_parser_gives_up(code):
    assert score(answer(code), TARGET).es_star == -2.0


def test_defect_long_code_is_scored_in_c():
    code = "\n".join(f"value_{i} = compute({i})" for i in range(200))
    assert len(code) > 4000
    assert score(answer(code), code).es_star == 2.0


def test_code_beyond_the_limit_scores_as_no_code():
    result = score(answer("x = 1\n" * 40_000), "x = 1")
    assert (result.es_star, result.es, result.format) == (-2.0, -2.0, 1.0)


# --- robustness ------------------------------------------------------------------------------------------------------


class Hostile:
    """Everything that Python may call on it raises."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Text(str):
    """A text that cannot be hashed, split or searched."""

    __slots__ = ()
    __hash__ = None

    def __str__(self) -> str:
        raise RuntimeError("no text")

    partition = find = __contains__ = __str__


def deep(levels: int) -> list:
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


def cyclic() -> list:
    value: list = [" x "]
    value += [value, value]
    return value


@pytest.mark.parametrize(
    "completion",
    [
        *(None, 3, b"x", [], {}, [{"role": "assistant", "content": None}], [None], float("nan"), 10**5000, True),
        *(Hostile(), [Hostile()], {"content": Hostile()}, [{"content": [{"text": Hostile()}]}], object, {1, 2}),
        *(deep(100_000), cyclic(), "\ud83d", b"\xff\xfe", {"role": "assistant"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_is_a_completion(completion):
    assert score(completion, TARGET).es_star == -2.0
    assert score(answer(TARGET), completion).em_star == -1.5
    assert compute_score("recode", completion, TARGET)["score"] == -3.0


def test_a_subclass_of_str_and_bytes_are_texts():
    for completion in (Text(answer(TARGET)), answer(TARGET).encode(), [{"content": Text(answer(TARGET))}]):
        assert score(completion, Text(TARGET)).em_star == 2.0


def test_chat_lists():
    chat = [{"role": "assistant", "content": answer(TARGET)}]
    assert es_star([chat], [TARGET]) == [2.0]
    assert format_reward([chat]) == [1.0]


def test_a_warning_is_not_a_syntax_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert score(answer(r"x = '\d'"), r"x = '\d'").em_star == 2.0
        assert score(answer("x is 1"), "x is 1").em_star == 2.0


def test_scoring_in_threads_leaves_the_warning_filters_alone():
    before = list(warnings.filters)
    results: list[float] = []

    def work() -> None:
        results.extend(score(answer(rf"x = '\d{i}'"), rf"x = '\d{i}'").em_star for i in range(200))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [2.0] * 1600
    assert warnings.filters == before


TAGS = ["<think>", "</think>", "<answer>", "</answer>", "```", "```python\n", "\n```\n", "<|im_end|>"]
CODE = ["x = 1", "'", '"""', "#", "\\\n", "    ", "def f():", "f'{x}'", "(", ")", "\r\n", "\t"]
ODD = ["\0", "é", "\ud800", "\x0c", "\u2028"]
PIECES = st.sampled_from([*TAGS, *CODE, *ODD])
TEXTS = st.lists(PIECES | st.text(max_size=20), max_size=30).map("".join)


@settings(max_examples=400, deadline=None)
@given(completion=TEXTS, target=TEXTS)
def test_never_raises_and_stays_in_range(completion, target):
    for text in (completion, answer(completion)):
        result = score(text, target)
        assert result.format in (-1.0, 1.0)
        assert result.em_star in (-2.0, -1.5, 2.0)
        assert result.em in (-2.0, -1.5, 2.0)
        assert result.es_star == -2.0 or -1.5 <= result.es_star <= 2.0
        assert result.es == -2.0 or -1.5 <= result.es <= 2.0
        assert 0.0 <= result.similarity <= 1.0


@settings(max_examples=300, deadline=None)
@given(code=TEXTS)
def test_normalising_is_symmetric_and_idempotent_and_keeps_the_meaning(code):
    once, parsed = clean(code)
    if parsed:
        assert clean(once) == (once, True)
        before = syntax_tree(dedent(code.replace("\r\n", "\n").replace("\r", "\n")))
        assert ast.dump(syntax_tree(once)) == ast.dump(before)
    assert similarity(once, code) == similarity(code, once)


# --- the entries of the two trainers ---------------------------------------------------------------------------------


def test_trl_functions_score_each_completion_against_its_own_target():
    completions, targets = [answer("x = 1"), answer("x = 2"), "nothing"], ["x = 1", "x = 1", "x = 1"]
    # "x = 2" against "x = 1": one edit over 5 characters, 3.5 * 4/5 - 1.5 = 1.3.
    assert es_star(completions, targets, record_id=["a", "b", "c"]) == [2.0, pytest.approx(1.3), -2.0]
    assert em_star(completions, targets) == [2.0, -1.5, -2.0]
    assert es(completions, targets) == [2.0, pytest.approx(1.3), -2.0]
    assert em(completions, targets) == [2.0, -1.5, -2.0]
    assert set(REWARDS) == {"format", "em", "es", "em_star", "es_star"}


def test_a_reward_of_another_file_is_one_more_name_and_runs_once():
    calls = []

    def half(completions, target, old_code, alternatives):
        calls.append((completions, target, old_code, alternatives))
        return [0.5]

    about = {"old_code": "x = 1", "alternatives": ["y = 1"]}
    columns = {"old_code": ["x = 1"]}
    found = compute_score_with({"half": half}, answer(TARGET), TARGET, about, columns, "format,half", [1, 4])
    assert calls == [([answer(TARGET)], [TARGET], ["x = 1"], [["y = 1"]])]
    assert (found["score"], found["correctness"], found["half"]) == (3.0, 0.5, 0.5)  # 1 + 4 * 0.5
    with pytest.raises(ValueError, match=r"^2 rewards \(format, half\) but 1 weights$"):
        compute_score_with({"half": half}, answer(TARGET), TARGET, about, columns, "format,half", [1])


def test_compute_score_is_the_sum_with_fixed_keys():
    keys = {"score", "format", "correctness", "syntax", "em", "es"}
    good = compute_score("recode", answer(TARGET), TARGET, {"index": 1})
    assert good == {"score": 3.0, "format": 1.0, "correctness": 2.0, "syntax": 1.0, "em": 1.0, "es": 1.0}
    for completion in ("", answer("x = = 1"), answer("x = 1"), "<answer>", answer("(" * 9000)):
        result = compute_score("recode", completion, TARGET)
        assert set(result) == keys
        assert all(type(value) is float for value in result.values())
        assert result["score"] == result["format"] + result["correctness"]


def test_compute_score_chooses_rewards_and_weights():
    # "x = 2" against "x = 1": EM* -1.5, format +1: 0.5 * 1 + 2 * -1.5 = -2.5.
    result = compute_score("", answer("x = 2"), "x = 1", reward="format,em_star", weights=[0.5, 2.0])
    assert (result["score"], result["correctness"]) == (-2.5, -1.5)
    assert compute_score("", "", "x = 1", reward="format")["score"] == -1.0
    with pytest.raises(ValueError, match=r"2 rewards .* but 1 weights"):
        compute_score("", "", "", weights=[1.0])


@pytest.mark.parametrize("names", ["", "es-star", "format,format", "format,,es"])
def test_wrong_reward_names_are_named(names):
    with pytest.raises(ValueError, match="reward"):
        reward_names(names)


def test_the_command_line_explains_a_completion(tmp_path: Path):
    (tmp_path / "t.py").write_text("x = 1\n")
    (tmp_path / "c.txt").write_text(answer("x = 2"))
    src = Path(__file__).parent.parent / "src" / "rewards.py"
    command = [sys.executable, str(src), "--target", str(tmp_path / "t.py"), str(tmp_path / "c.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "similarity 0.8" in done.stdout
    assert "total      +2.3000" in done.stdout  # 1 + 1.3
    missing = subprocess.run([*command[:-1], "absent"], capture_output=True, text=True, check=False)
    assert missing.returncode == 2
    assert missing.stderr == "rewards: absent: No such file or directory\n"


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        (b"\x80\x81", [], "{c}: not UTF-8: invalid start byte at byte 0"),
        (None, [], "{c}: Is a directory"),
        (b"", ["--tar", "x"], "unrecognized arguments: --tar x"),
        (b"", ["--target=--"], "argument --target: expected one argument"),
        (b"", ["--target", ""], "argument --target: expected a file, got an empty name"),
        (b"", ["a\nb"], r"unrecognized arguments: a\nb"),
    ],
)
def test_the_command_line_rejects_in_one_line(monkeypatch, capsys, tmp_path, content, flags, message):
    path = tmp_path / "c.txt"
    path.mkdir() if content is None else path.write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["rewards.py", "--target", str(path), str(path), *flags])
    with pytest.raises(SystemExit) as stopped:
        rewards.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"rewards: {message.format(c=path)}\n"


def test_the_command_line_rounds_and_escapes(monkeypatch, capsys, tmp_path):
    (tmp_path / "t.py").write_text(f"x = '{'a' * 14}b'\n")
    (tmp_path / "c.txt").write_text("\ufeff" + answer(f"x = '{'a' * 14}\x1b[2J'"))
    monkeypatch.setattr(sys, "argv", ["rewards.py", "--target", str(tmp_path / "t.py"), str(tmp_path / "c.txt")])
    rewards.main()
    out = capsys.readouterr().out
    assert f"\nx = '{'a' * 14}\\x1b[2J'\n" in out
    assert "\nsimilarity 0.8333\n" in out  # 4 edits, over 24 characters
    assert "\nes_star    1.4167\n" in out


def test_rewards_need_nothing_but_the_standard_library_and_levenshtein():
    code = (
        "import sys, rewards; third = {m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names);"
        "print(sorted(m for m in third if not m.startswith('_')))"
    )
    src = Path(__file__).parent.parent / "src"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=src)
    assert {"Levenshtein", "rewards"} <= set(eval(done.stdout))
    assert not {"torch", "transformers", "trl", "records"} & set(eval(done.stdout))


def test_without_levenshtein_the_program_ends_in_one_line():
    rewards_py = Path(__file__).parent.parent / "src" / "rewards.py"
    code = (
        "import runpy, sys; sys.modules['Levenshtein'] = None; sys.argv[1:] = ['--help'];"
        f"runpy.run_path({str(rewards_py)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected = "rewards: Levenshtein is not installed: pip install -r requirements.txt\n"
    assert (done.returncode, done.stderr) == (2, expected)
