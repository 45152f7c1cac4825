"""Multi-update questions out of the miniature benchmark: which pairs there are, which of them hold, in what order."""

from __future__ import annotations

import json

import pytest
from conftest import run_script
from mini_arena import METHOD, RENAME, ROWS, SUBMODULE, TRIM, write_data, write_samples

import sandbox
from evaluation.arena.multi import is_kept, joint_pairs, natural_pairs
from evaluation.arena.problems import load_tasks

# math.hypot gets a second update of the package of RENAME; `far` is also the name that RENAME's problem asks for.
HYPOT = {
    **TRIM,
    "update": {
        **TRIM["update"],
        "function_path": "math.hypot",
        "update_id": "[math.hypot]:[add-argument]:[update-0]",
        "imports": "import math\nold_hypot = math.hypot\nsetattr(math, 'old_hypot', old_hypot)",
        "implementation": "def hypot(*sides, scale=1):\n    return scale * old_hypot(*sides)\n",
    },
    "imports": "import math\nold_hypot = math.hypot\nsetattr(math, 'old_hypot', old_hypot)",
    "prog_syn_id": "[math.hypot]:[0]",
    "solution_signature": "def screen(w, h)",
    "unit_tests": "def test_screen():\n    assert screen(3, 4) == 10\n",
    "ref_solution": "import math\ndef screen(w, h):\n    return math.hypot(w, h, scale=2)\n",
}
# A problem of hypot whose reference calls dist too: it cannot pass when dist has been renamed.
OLD_CALL = {
    **HYPOT,
    "prog_syn_id": "[math.hypot]:[1]",
    "ref_solution": "import math\ndef screen(w, h):\n    return math.hypot(math.dist((0,), (w,)), h, scale=2)\n",
}
# … and one that calls the function by its new name: it needs both updates.
NEW_CALL = {**OLD_CALL, "prog_syn_id": "[math.hypot]:[2]"}
NEW_CALL["ref_solution"] = OLD_CALL["ref_solution"].replace("math.dist", "math.distance")


def tasks(tmp_path, rows):
    return load_tasks(write_data(tmp_path / "data.jsonl", rows))


def test_pairs_are_of_one_package_and_different_functions(tmp_path):
    again = {
        **RENAME,
        "update": {**RENAME["update"], "update_id": "[math.dist]:[x]:[update-1]"},
        "prog_syn_id": "[math.dist]:[x]",
    }
    pairs = joint_pairs(tasks(tmp_path, [*ROWS, again, HYPOT]))
    assert sorted((a.id, b.id) for a, b in pairs) == [
        (RENAME["prog_syn_id"], HYPOT["prog_syn_id"]),
        (again["prog_syn_id"], HYPOT["prog_syn_id"]),
    ]
    assert pairs == joint_pairs(tasks(tmp_path, [HYPOT, again, *ROWS[::-1]]))  # whatever the order of the file
    same_name = {**HYPOT, "solution_signature": "far(w, h)"}
    assert joint_pairs(tasks(tmp_path, [RENAME, same_name])) == []


def test_natural_pairs(tmp_path):
    found = natural_pairs(tasks(tmp_path, [RENAME, HYPOT, OLD_CALL, NEW_CALL, SUBMODULE]))
    assert [(task.id, update.path) for task, update in found] == [
        ("[math.hypot]:[1]", "math.dist"),
        ("[math.hypot]:[2]", "math.dist"),
    ]


@pytest.mark.parametrize(
    ("held", "joint", "natural"),
    [
        ({"both": True, "first": False, "second": False, "none": False}, True, True),
        ({"both": True, "first": True, "second": False, "none": False}, False, True),
        ({"both": True, "first": False, "second": True, "none": False}, False, False),
        ({"both": True, "first": False, "second": False, "none": True}, False, False),
        ({"both": False}, False, False),
    ],
)
def test_what_is_kept(held, joint, natural):
    assert (is_kept(held, "joint"), is_kept(held, "natural")) == (joint, natural)


@pytest.fixture
def working_sandbox():
    try:
        sandbox.check_ready()
    except sandbox.InfrastructureError as error:
        pytest.skip(f"no sandbox here: {error}")


def questions(*flags: object, check: bool = True):
    return run_script("generate.py", "--benchmark", "multi", "--reference", *flags, check=check)


@pytest.mark.usefixtures("working_sandbox")
def test_a_joint_question_from_data_to_score(tmp_path):
    data = write_data(tmp_path / "data.jsonl", [*ROWS, HYPOT])
    flags = ["--data", data, "--out", tmp_path / "multi.jsonl"]
    done = questions(*flags)
    assert "pairs: 1, tried: 1, kept: 1" in done.stdout
    assert "warning: 1 questions, not 20" in done.stdout
    built = tmp_path / "multi-questions.jsonl"
    first = built.read_bytes()
    [row] = [json.loads(line) for line in first.splitlines()]
    assert [part["prog_syn_id"] for part in row["problems"]] == [RENAME["prog_syn_id"], HYPOT["prog_syn_id"]]
    assert json.loads((tmp_path / "multi.json").read_text())["identity"]["data"] == str(built)

    # The same questions are reused, other ones refused; built again they are the same bytes.
    assert "pairs" not in questions(*flags).stdout
    for more, key in ((["--questions", 3], "--questions"), (["--kind", "natural"], "--kind, --questions")):
        refused = questions(*flags, *more, check=False)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert f"multi-questions.jsonl holds questions with another {key}: choose another --out" in refused.stderr
    questions("--data", data, "--out", tmp_path / "again.jsonl")
    assert (tmp_path / "again-questions.jsonl").read_bytes() == first
    # A file of questions is taken as it is.
    questions("--data", built, "--out", tmp_path / "ready.jsonl")
    assert (tmp_path / "ready.jsonl").read_bytes() == (tmp_path / "multi.jsonl").read_bytes()
    refused = questions("--data", built, "--out", tmp_path / "x.jsonl", "--kind", "joint", check=False)
    assert "--questions, --kind: " in refused.stderr

    # Scored: both references pass; one of the two functions from before the update fails the question.
    right = RENAME["ref_solution"] + HYPOT["ref_solution"]
    stale = right.replace("math.distance", "math.dist")
    half = RENAME["ref_solution"]
    samples = [
        {"task_id": "joint-0", "sample_id": i, "completion": "", "code": code, "finish_reason": "stop"}
        for i, code in enumerate((right, stale, half))
    ]
    write_samples(tmp_path / "multi.jsonl", samples)  # its note names the questions
    run_script("score.py", "--samples", tmp_path / "multi.jsonl", "--out", tmp_path / "out", "--k", 1)
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["tasks"] == {"joint-0": {"n": 3, "passed": 1, "upassed": 1}}
    verdicts = [json.loads(line) for line in (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()]
    assert [(row["status"], row["test"]) for row in verdicts] == [
        ("pass", ""),
        ("error", "1.test_far"),
        ("error", "2.test_screen"),
    ]
    assert [row["calls_update"] for row in verdicts] == [True, False, False]


@pytest.mark.usefixtures("working_sandbox")
def test_natural_questions(tmp_path):
    data = write_data(tmp_path / "data.jsonl", [RENAME, METHOD, HYPOT, OLD_CALL, NEW_CALL])
    done = questions("--data", data, "--kind", "natural", "--out", tmp_path / "natural.jsonl")
    assert "pairs: 2, kept: 1, need the second update too: 1" in done.stdout
    [task] = load_tasks(tmp_path / "natural-questions.jsonl", "multi")
    assert (task.kind, task.problem, len(task.updates)) == ("natural", HYPOT["problem"], 2)
    assert task.messages()[1]["content"].count("Update Note:") == 2


def test_mistakes_in_the_command(tmp_path):
    data = write_data(tmp_path / "data.jsonl")
    for flags, message in (
        (["--questions", 0], "argument --questions: 0 is not above 0"),
        (["--kind", "other"], "argument --kind: invalid choice: 'other'"),
        (["--errata", "x"], "unrecognized arguments: --errata"),
    ):
        done = questions("--data", data, "--out", tmp_path / "x.jsonl", *flags, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert message in done.stderr
