"""What is executed for a sample: every kind of patch, the order, the seeds; which answers pass. In the real sandbox."""

from __future__ import annotations

import pytest
from mini_arena import ANSWERS, ROWS, TRIM, write_data

import sandbox
from evaluation.arena.problems import Task, load_tasks, parse_task, parse_update
from evaluation.arena.programs import LIBRARIES, Outcome, broken_updates, called_functions, calls, judge, preload

OPTIONS = {"progress": False, "workers": 1, "limits": sandbox.Limits(seconds=20)}


@pytest.fixture(scope="module", autouse=True)
def working_sandbox():
    try:
        sandbox.check_ready()
    except sandbox.InfrastructureError as error:
        pytest.skip(f"no sandbox here: {error}")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> dict[str, Task]:
    path = write_data(tmp_path_factory.mktemp("mini") / "mini.jsonl")
    return {task.id: task for task in load_tasks(path)}


def variant(**changes: str) -> Task:
    """The first problem with other fields."""
    update = {**TRIM["update"], **{key: changes.pop(key) for key in ("implementation",) if key in changes}}
    return parse_task({**TRIM, **changes}, parse_update(update))


def outcome(task: Task, code: str) -> Outcome:
    return judge([(task, code)], **OPTIONS)[0]


def test_references_pass_with_the_update_and_fail_without(tasks):
    pairs = [(task, task.reference) for task in tasks.values()]
    assert [result.status for result in judge(pairs, **OPTIONS)] == ["pass"] * 5
    assert not any(result.passed for result in judge(pairs, in_force=(), **OPTIONS))


def test_every_answer_gets_its_outcome(tasks):
    named = [(tasks[task], kind, code) for task, answers in ANSWERS.items() for kind, code in answers]
    results = judge([(task, code) for task, _, code in named], **OPTIONS)
    for (task, kind, code), result in zip(named, results, strict=True):
        expected = {"right": "pass", "own way": "pass", "none": "no code", "syntax": "syntax"}.get(kind)
        assert (result.status == expected) if expected else not result.passed, (task.id, code, result)
    by_kind = {
        (task.id.partition("]")[0], kind): result for (task, kind, _), result in zip(named, results, strict=True)
    }
    # The old name is gone; the message is the library's.
    assert by_kind["[math.dist", "stale"].status == "error"
    assert "cannot import name 'dist'" in by_kind["[math.dist", "stale"].detail
    assert by_kind["[statistics.mean", "wrong"].test == "test_four"


def test_imports_run_once_and_before_the_patch():
    """Run again after the patch, `old_mean = statistics.mean` would call itself endlessly."""
    task = variant(imports=TRIM["imports"] + "\nimport statistics as after")
    assert outcome(task, task.reference).passed


def test_the_generators_are_seeded_for_every_test():
    # The first number after random.seed(0); a test that starts anew sees it again.
    same = "def test_{0}():\n    import random\n    assert panel([0]) == 0.8444218515250481\n"
    task = variant(unit_tests=same.format("a") + "\n" + same.format("b"))
    assert outcome(task, "import random\ndef panel(marks):\n    return random.random()").passed


def test_a_sample_fails_by_one_test_and_reports_which():
    task = variant(
        unit_tests="def test_a():\n    assert panel([]) == 1\n\ndef test_b():\n    assert panel([]) == 2, 'two'\n"
    )
    result = outcome(task, "def panel(marks):\n    return 1")
    assert (result.status, result.test) == ("assertion", "test_b")
    assert result.detail.endswith("AssertionError: two")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import sys\nsys.exit(0)", "exit"),
        ("def panel(marks):\n    return marks.missing", "error"),
        ("return 1", "error"),  # the parser takes it, the compiler does not
        ("x = 1\0", "syntax"),
        ("", "no code"),
    ],
)
def test_other_endings(code, status):
    assert outcome(variant(), code).status == status


def test_a_demonstration_at_the_end_does_not_run_and_dataclasses_work():
    code = (
        "from __future__ import annotations\nimport statistics\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Marks:\n    all: list\n"
        "def panel(marks):\n    return statistics.mean(Marks(marks).all, trim=1)\n"
        "if __name__ == '__main__':\n    raise SystemExit(panel(input()))\n"
    )
    assert outcome(variant(), code).passed


def test_equal_samples_run_once_and_order_is_kept(tasks):
    task, other = list(tasks.values())[:2]
    codes = [task.reference, "pass", task.reference]
    results = judge([*((task, code) for code in codes), (other, other.reference)], **OPTIONS)
    assert [result.passed for result in results] == [True, False, True, True]


def test_updates_that_cannot_be_put_in_force(tasks):
    assert broken_updates(list(tasks.values()), **OPTIONS) == {}
    task = variant(implementation="import no_such_library\ndef mean(data, trim=0):\n    return 1")
    assert "No module named 'no_such_library'" in broken_updates([task], **OPTIONS)[task.id]


def test_the_whole_standard_library_needs_no_preloading(tasks):
    assert preload(tasks.values()) == ()
    without_pandas = ("numpy", "torch", "torch._dynamo", "scipy.special", "sympy", "pytest")
    assert preload([variant(imports="import numpy as np")]) == without_pandas
    assert preload([variant(imports="from pandas import DataFrame")]) == LIBRARIES


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import statistics\nstatistics.mean([1])", True),
        ("import statistics as s\ns.mean([1])", True),
        ("from statistics import mean as m\nm([1])", True),
        ("from statistics import *\nmean([1])", True),  # by the bare name
        ("import statistics\nstatistics.median([1])", False),
        ("x.mean([1])", False),
        ("def f(:", False),
        (None, False),
    ],
)
def test_calls_of_the_updated_function(code, expected):
    assert calls(code, parse_update(TRIM["update"])) == expected


def test_calls_of_methods_and_renamed_functions():
    update = {row["update"]["function_path"]: parse_update(row["update"]) for row in ROWS}
    assert calls("Counter(x).total(2)", update["collections.Counter.total"])
    assert not calls("Counter(x).most_common(2)", update["collections.Counter.total"])
    assert calls("import math\nmath.distance(p, q)", update["math.dist"])
    assert not calls("import math\nmath.dist(p, q)", update["math.dist"])
    assert called_functions("import a.b\na.b.c()\nd().e()") >= {"a.b.c", "d", ".e"}
