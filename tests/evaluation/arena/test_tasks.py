"""CodeUpdateArena files in every form that they come in, and the prompts that are made of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from mini_arena import ADD, METHOD, RENAME, ROWS, TRIM, write_data

from common.errors import InputError
from evaluation.arena.problems import (
    add_update,
    join_tasks,
    load_tasks,
    parse_update,
    split_tests,
    subset,
)

ARENA = Path(os.environ.get("CODE_UPDATE_ARENA", "not set"))  # a folder with the two files of the published snapshot
needs_arena = pytest.mark.skipif(not ARENA.is_dir(), reason="CODE_UPDATE_ARENA is not set to a folder")


HOLDS = "def test_ok():\n    assert 1\n\n"


def test_flat_rows(tmp_path):
    tasks = load_tasks(write_data(tmp_path / "mini.jsonl"))
    assert [task.id for task in tasks] == [row["prog_syn_id"] for row in ROWS]
    assert [(u.name, u.renames, u.new_path) for [u] in (task.updates for task in tasks)] == [
        ("mean", False, "statistics.mean"),
        ("distance", True, "math.distance"),
        ("kebab", False, "string.kebab"),
        ("total", False, "collections.Counter.total"),
        ("urljoin", False, "urllib.parse.urljoin"),
    ]
    assert [test.name for test in tasks[0].tests] == ["test_four", "test_three"]


def test_other_spellings_grouped_rows_and_json_arrays_read_the_same(tmp_path):
    plain = load_tasks(write_data(tmp_path / "mini.jsonl"))
    spelt, grouped = [], []
    for row in ROWS:
        update = {("api_path" if key == "function_path" else key): value for key, value in row["update"].items()}
        rest = {key: value for key, value in row.items() if key not in ("update", "imports")}
        spelt.append({"update": update, "prog_syn_imports": row["imports"], **rest})
        grouped.append({"update": update, "prog_syn_examples": [{"prog_syn_imports": row["imports"], **rest}]})
    assert load_tasks(write_data(tmp_path / "spelt.jsonl", spelt)) == plain
    assert load_tasks(write_data(tmp_path / "grouped.jsonl", grouped)) == plain
    (tmp_path / "array.json").write_text(json.dumps(ROWS, indent=1))
    assert load_tasks(tmp_path / "array.json") == plain


def test_one_object_with_all_fields(tmp_path):
    """The data card's flat columns: `imports` is the update's there, `prog_syn_imports` the problem's."""
    row = {**TRIM["update"], **{key: value for key, value in TRIM.items() if key not in ("update", "imports")}}
    [task] = load_tasks(write_data(tmp_path / "flat.jsonl", [{**row, "prog_syn_imports": "import statistics"}]))
    assert task.imports == "import statistics"
    assert task.updates[0].imports == TRIM["update"]["imports"]


def test_tests_are_split_with_ast():
    source = (
        'import os\n\ndef test_a():\n    text = """one\n\ndef test_no():\n    two"""\n\n    assert text\n\n'
        "LIMIT = 3\n\n@mark\ndef test_b(n=1):\n    assert n < LIMIT\n\ndef helper():\n    return 1\n"
    )
    a, b = split_tests(source)
    assert (a.name, b.name) == ("test_a", "test_b")
    shared = "import os\n\nLIMIT = 3\n\ndef helper():\n    return 1\n\n"
    assert a.source == shared + 'def test_a():\n    text = """one\n\ndef test_no():\n    two"""\n\n    assert text'
    assert b.source == shared + "@mark\ndef test_b(n=1):\n    assert n < LIMIT"


@pytest.mark.parametrize("page", ["\f", "\v", "\x1c", "\x85", "\u2028", "\r", "\r\n"])
def test_tests_are_split_at_the_lines_that_the_parser_counts(page):
    """str.splitlines also splits at a form feed, the parser does not: every later test would lose its first line."""
    a, b = split_tests(
        f'def test_a():\n    text = """one{page}two"""\n    assert text\n\ndef test_b():\n    assert 1\n'
    )
    same = page.replace("\r\n", "\n").replace("\r", "\n")
    assert a.source == f'def test_a():\n    text = """one{same}two"""\n    assert text'
    assert b.source == "def test_b():\n    assert 1"


def test_a_helper_may_yield_or_hold_functions():
    inner = "def test_x():\n    def many():\n        yield 1\n    def test_inner(x): pass\n    assert [*many()]"
    assert split_tests("def helper():\n    yield 1\n\n" + inner)[0].source.endswith(inner)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit_tests": "def test_x(tmp_path):\n    pass"}, "unit_tests: test_x needs arguments"),
        ({"unit_tests": "def test_x(*, tmp_path):\n    pass"}, "unit_tests: test_x needs arguments"),
        ({"unit_tests": "x = 1"}, "unit_tests: no test function"),
        # Forms that would never be run: beside a test that holds, a wrong answer would pass.
        ({"unit_tests": HOLDS + "async def test_x():\n    assert 0"}, "unit_tests: test_x is asynchronous"),
        ({"unit_tests": HOLDS + "def test_x():\n    yield\n    assert 0"}, "unit_tests: test_x is a generator"),
        ({"unit_tests": HOLDS + "class TestX:\n    def test_x(self):\n        assert 0"}, "test_x is in a class or"),
        ({"unit_tests": HOLDS + "if True:\n    def test_x():\n        assert 0"}, "test_x is in a class or a branch"),
        ({"unit_tests": HOLDS + "try:\n  pass\nfinally:\n  async def test_x(): 0"}, "test_x is in a class or a branch"),
        ({"unit_tests": "(" * 10_000}, "unit_tests: "),
        ({"imports": "import"}, "prog_syn_imports or imports: invalid syntax"),
        ({"scenario": "half of an emoji: \ud83d"}, "scenario: not Unicode text"),
        ({"update": {**TRIM["update"], "implementation": "class mean: pass"}}, "mean is not a plain function: line 1"),
        ({"unit_tests": "def test_x(:"}, "unit_tests: "),
        ({"scenario": None}, "scenario: missing, empty or not a text"),
        ({"imports": 3}, "prog_syn_imports or imports: missing"),
        ({"update": {**TRIM["update"], "implementation": "x = 1"}}, "implementation: defines no function"),
        ({"update": {**TRIM["update"], "function_path": "mean"}}, "function_path: 'mean' is not a dotted path"),
        ({"update": {**TRIM["update"], "function_path": "numpy."}}, "function_path: 'numpy.' is not a dotted path"),
        ({"update": {**TRIM["update"], "function_path": 3}}, "function_path or api_path: missing, empty or not a text"),
        ({"update": None}, "update: missing or not a JSON object"),
        ({"update": [TRIM["update"]]}, "update: missing or not a JSON object"),
        ({"prog_syn_examples": 3}, "prog_syn_examples: missing or not a list of JSON objects"),
        ({"prog_syn_examples": ["x"]}, "prog_syn_examples: missing or not a list of JSON objects"),
        ({"prog_syn_id": float("nan")}, "prog_syn_id: missing, empty or not a text"),
        ({"prog_syn_id": RENAME["prog_syn_id"]}, "is on an earlier line, too"),
    ],
)
def test_bad_rows_are_named(tmp_path, change, message):
    path = write_data(tmp_path / "bad.jsonl", [RENAME, {**TRIM, **change}])
    with pytest.raises(InputError, match=rf"^{path}:2: ") as error:
        load_tasks(path)
    assert message in str(error.value)
    assert [task.id for task in load_tasks(path, skip_bad=True)] == [RENAME["prog_syn_id"]]


def test_a_line_that_is_not_json_and_an_empty_file(tmp_path):
    (tmp_path / "bad.jsonl").write_text(json.dumps(TRIM) + "\n{\n")
    with pytest.raises(InputError, match=r"bad\.jsonl:2: "):
        load_tasks(tmp_path / "bad.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InputError, match="contains no problem"):
        load_tasks(tmp_path / "empty.jsonl")


def test_subsets_are_nested_and_independent_of_the_order(tmp_path):
    tasks = load_tasks(write_data(tmp_path / "mini.jsonl"))
    assert subset(tasks, None) == tasks
    assert subset(tasks, 2) == subset(tasks[::-1], 4)[:2]
    assert len(subset(tasks, 99)) == 5


def test_the_prompts(tmp_path):
    task = load_tasks(write_data(tmp_path / "mini.jsonl"))[0]
    system, user, begun = task.messages()
    assert begun == {"role": "assistant", "content": "Let me solve this step by step.\n<think>"}
    for part in ("statistics.mean: An update", "statistics.mean(data, trim=0)", "drop at each end", "panel(marks"):
        assert part in user["content"]
    assert "test_four" not in user["content"]
    assert "trim" not in task.messages(docs=False)[1]["content"]
    one_shot = task.messages("one-shot")
    assert [message["role"] for message in one_shot] == ["system", "user"]
    assert "best_seller" in one_shot[1]["content"]
    assert "def test_four():" in one_shot[1]["content"]  # the benchmark shows one test, the paper's prompt none
    assert "def test_three():" not in one_shot[1]["content"]
    assert "trim" not in task.messages("one-shot", docs=False)[1]["content"].replace("[1, 5, 7, 90]", "")
    assert system["content"] != one_shot[0]["content"]


def test_multi_update_questions(tmp_path):
    _, rename, _, method, _ = load_tasks(write_data(tmp_path / "mini.jsonl"))
    joint = join_tasks("joint-0", rename, method)
    user = joint.messages()[1]["content"]
    assert user.count("Update Note:") == 2
    assert "(1) def far" in user
    assert "(2) def popular" in user
    assert [test.name for test in joint.tests] == ["1.test_far", "2.test_popular"]
    natural = add_update("natural-0", rename, parse_update(ADD["update"]))
    assert [update.name for update in natural.updates] == ["distance", "kebab"]
    rows = [
        {"multi_id": "joint-0", "kind": "joint", "problems": [RENAME, METHOD]},
        {"multi_id": "natural-0", "kind": "natural", "problems": [RENAME], "second_update": ADD["update"]},
    ]
    assert load_tasks(write_data(tmp_path / "multi.jsonl", rows), "multi") == [joint, natural]
    with pytest.raises(InputError, match="update"):
        load_tasks(tmp_path / "multi.jsonl", "arena")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "both"}, "kind: 'both' with 2 problems: expected joint with two, or natural with one"),
        ({"kind": ["joint"]}, "kind: ['joint'] with 2 problems"),
        ({"kind": "natural"}, "kind: 'natural' with 2 problems"),
        ({"problems": [RENAME]}, "kind: 'joint' with 1 problems"),
        ({"problems": {}}, "problems: missing or not a list of JSON objects"),
        ({"problems": [RENAME, {**METHOD, "update": None}]}, "update: missing or not a JSON object"),
        ({"multi_id": 3}, "multi_id: missing, empty or not a text"),
        ({"kind": "natural", "problems": [RENAME]}, "second_update: missing or not a JSON object"),
    ],
)
def test_multi_update_questions_that_cannot_be_used(tmp_path, change, message):
    row = {"multi_id": "joint-0", "kind": "joint", "problems": [RENAME, METHOD]}
    path = write_data(tmp_path / "multi.jsonl", [{**row, **change}])
    with pytest.raises(InputError) as error:
        load_tasks(path, "multi")
    assert str(error.value).startswith(f"{path}:1: {message}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"null", ":1: row: not a JSON object"),
        (b"[" * 100_000, ":1: row: "),
        (b'{"prog_syn_id": ' + b"9" * 5000 + b"}", ":1: row: Exceeds the limit (4300 digits)"),
        (b'{"prog_syn_id": "\xe9"}', ": not UTF-8: "),
    ],
)
def test_lines_that_are_not_rows(tmp_path, line, message):
    (tmp_path / "bad.jsonl").write_bytes(line + b"\n")
    with pytest.raises(InputError) as error:
        load_tasks(tmp_path / "bad.jsonl")
    assert str(error.value).startswith(f"{tmp_path / 'bad.jsonl'}{message}")


def test_a_key_that_is_given_twice_and_many_problems(tmp_path):
    twice = json.dumps(TRIM).replace('"docstring"', '"docstring": "x", "docstring"')
    (tmp_path / "bad.jsonl").write_text("\n".join([twice, *["{}"] * 30]))
    with pytest.raises(InputError) as error:
        load_tasks(tmp_path / "bad.jsonl")
    first, *_, last = str(error.value).split("\n")
    assert first == f"{tmp_path / 'bad.jsonl'}:1: update.docstring: given more than once"
    assert (len(str(error.value).split("\n")), last) == (11, "… and 21 more problems")


@needs_arena
def test_the_published_snapshot():
    """387 rows over 98 updates ; the grouped file holds three updates."""
    tasks = load_tasks(ARENA / "arena-ungrouped.jsonl")
    assert len(tasks) == 387
    assert len({task.updates[0].id for task in tasks}) == 98
    grouped = load_tasks(ARENA / "arena-grouped-sample.jsonl")
    flat = {task.id: task for task in tasks}
    assert len({task.updates[0].id for task in grouped}) == 3
    assert all(flat[task.id] == task for task in grouped if task.id in flat)
