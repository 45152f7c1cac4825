"""check_data.py leakage: the measures by hand, what each finds, and that the split of data/ has none.

The environment variable RECODE_PUBLISHED names a folder with the published data sets, which are not in this repository:
arena-ungrouped.jsonl (CodeUpdateArena) and recode-train-data.jsonl. Tests that need them are skipped without it.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from conftest import ROOT, run_script
from mini_arena import TRIM, write_data
from published_data import published

from common.api_uses import uses
from curation.similarity import containment, grams, spread

ARENA = published("arena-ungrouped.jsonl")
DATA = [ROOT / "data" / "train.jsonl", ROOT / "data" / "heldout.jsonl"]
ROW = {
    "dependency": "toylib",
    "new_version": "==2.0",
    "description": "Shout.",
    "update_info": "toylib.shout lost its argument loud; every call is loud now.",
    "old_code": "import toylib\n\nwords = ['a', 'b']\nprint(toylib.shout(words, loud=True))",
    "new_code": "import toylib\n\nwords = ['a', 'b']\nprint(toylib.shout(words))",
}
OTHER = {
    "dependency": "toylib",
    "new_version": "==2.0",
    "description": "Count.",
    "update_info": "The function toylib.tally has the name toylib.count in this release and takes the same arguments.",
    "old_code": "from toylib import tally\n\nwith open('f') as file:\n    lines = tally(file)",
    "new_code": "from toylib import count\n\nwith open('f') as file:\n    lines = count(file)",
}


def write(path: Path, *rows: dict, updates: tuple[str, ...] = ()) -> Path:
    """A file of records and, where `updates` names theirs, the evidence beside it."""
    from records import check_rows

    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ids = [record.id for record in check_rows(list(enumerate(rows, 1)), "x").records]
    named = zip(ids, updates, strict=True) if updates else ()
    fixed = {"kind": "rename", "old_env": ["toylib==1.0"], "new_env": ["toylib==2.0"]}
    text = "".join(json.dumps({"id": i, "update": update, **fixed}) + "\n" for i, update in named)
    if text:
        path.with_name("evidence.jsonl").write_text(text)
    return path


def test_grams_and_their_containment_by_hand():
    # tokens: a = f ( 1 ) + b . c: ten, so three runs of eight
    assert grams("a = f(1) + B.c") == {
        ("a", "=", "f", "(", "1", ")", "+", "b"),
        ("=", "f", "(", "1", ")", "+", "b", "."),
        ("f", "(", "1", ")", "+", "b", ".", "c"),
    }
    assert grams("x = 1") == {("x", "=", "1")}  # shorter than eight: the whole
    assert grams(" \n") == set()
    training = [grams("a = f(1) + b"), grams("z = f(1) + b.c"), grams("q")]
    # the first run is in row 0, the second (f ( 1 ) + b . c begins at its third token) and third in row 1
    [(share, row)] = containment([grams("a = f(1) + b.c")], training)
    assert (share, row) == (1.0, 1)
    # of y = f ( 1 ) + b . c the last two of three runs are in row 1
    assert containment([grams("y = f(1) + b.c"), grams("nothing of it")], training) == [(2 / 3, 1), (0.0, None)]


def test_no_percentile_exceeds_the_maximum():
    assert spread([0.1, 0.9]) == "median 0.50, 90th percentile 0.82, highest 0.90"
    assert spread([0.3]) == "median 0.30, 90th percentile 0.30, highest 0.30"


def test_uses_follow_imports():
    code = "import numpy as np\nfrom scipy import stats\nx = np.linalg.norm(a, ord=2)\nx.sort(0)\nstats.t\nf(1)"
    assert uses(ast.parse(code)) == {
        ("scipy.stats",): 1,  # the import
        ("numpy.linalg.norm", 1, ("ord",)): 1,
        ("numpy.linalg.norm",): 1,
        ("numpy.linalg",): 1,
        (".sort", 1, ()): 1,
        (".sort",): 1,
        ("scipy.stats.t",): 1,
    }


def renamed(row: dict) -> dict:
    """A clone: other variable names, other layout."""
    return {key: text.replace("words", "w").replace("lines", "n").replace("\n\n", "\n") for key, text in row.items()}


@pytest.mark.parametrize(
    ("training", "test", "found"),
    [
        # the same update on both sides, with code that is not alike
        ((ROW, ("u1",)), (OTHER, ("u1",)), ["update: "]),
        # a clone in other variable names; its prose is the same, too
        ((ROW, ("u1",)), (renamed(ROW), ("u2",)), ["clone: ", "prose: "]),
        # the code word for word inside a longer program
        (
            ({**ROW, "old_code": "\n".join(f"x{i} = {i}" for i in range(30)) + "\n" + ROW["old_code"]}, ("u1",)),
            ({**ROW, "update_info": OTHER["update_info"]}, ("u2",)),
            ["code: "],
        ),
        # another function, other words
        ((ROW, ("u1",)), (OTHER, ("u2",)), []),
    ],
)
def test_each_kind_of_leak_is_found(tmp_path, training, test, found):
    train = write(tmp_path / "a" / "train.jsonl", training[0], updates=training[1])
    tested = write(tmp_path / "b" / "test.jsonl", test[0], updates=test[1])
    done = run_script("check_data.py", "leakage", train, "--test", tested, check=False)
    leaks = [line for line in done.stdout.splitlines() if line.startswith("  LEAK ")]
    assert [line.removeprefix("  LEAK ").partition(": ")[0] + ": " for line in leaks] == found, done.stdout
    assert done.returncode == bool(found), done.stderr
    assert all(f"{tested}:1" in line and f"{train}:1" in line for line in leaks)


def test_a_record_about_the_function_of_a_problem_leaks(tmp_path):
    """The problem updates statistics.mean; a record whose note changes calls of that function is about it."""
    arena = write_data(tmp_path / "arena.jsonl", [TRIM])
    record = {
        **ROW,
        "update_info": "statistics.mean took a second argument.",
        "old_code": "import statistics\nm = statistics.mean(x)",
        "new_code": "import statistics\nm = statistics.mean(x, 1)",
    }
    about = write(tmp_path / "about.jsonl", record)
    done = run_script("check_data.py", "leakage", about, "--test", arena, check=False)
    assert "1 test items share theirs with 1 training records" in done.stdout
    assert done.returncode == 1
    # the text names another function; the calls of mean differ by the way only: counted, no leak
    passing = write(tmp_path / "passing.jsonl", {**record, "update_info": "statistics.stdev is new."})
    done = run_script("check_data.py", "leakage", passing, "--test", arena)
    assert "0 test items share theirs" in done.stdout
    assert "1 change the uses of a name" in done.stdout
    assert done.stdout.endswith("no leakage\n")


def test_files_that_cannot_be_read(tmp_path):
    good = write(tmp_path / "good.jsonl", ROW)
    for bad, said in ((tmp_path / "absent.jsonl", "no such file"), (write(tmp_path / "empty.jsonl"), "contains no")):
        done = run_script("check_data.py", "leakage", good, "--test", bad, check=False)
        assert (done.returncode, done.stderr.count("\n"), said in done.stderr) == (2, 1, True), done.stderr
    evidence = tmp_path / "evidence.jsonl"
    for text, said in (
        ('{"update": "u"}', "id: field required"),
        ("[]", "not a JSON object"),
    ):
        evidence.write_text(f"{text}\n")
        done = run_script("check_data.py", "leakage", good, "--test", good, check=False)
        assert (done.returncode, done.stderr) == (2, f"check_data: {evidence}:1: {said}\n")


def test_the_held_out_split_does_not_leak_into_the_training_split():
    done = run_script("check_data.py", "leakage", DATA[0], "--test", DATA[1])
    assert "319 test items against 830 training records\n  update      0 test items" in done.stdout
    assert "  clone       0 above 0.9" in done.stdout
    assert done.stdout.count("0 with 70% of their 8-grams in training") == 2


@pytest.mark.skipif(not ARENA, reason="RECODE_PUBLISHED has no arena-ungrouped.jsonl")
def test_code_update_arena_does_not_leak_into_our_records():
    done = run_script("check_data.py", "leakage", *DATA, "--test", ARENA)
    assert "387 test items against 1149 training records\n  update      0 test items" in done.stdout
    assert done.stdout.count("0 with 70% of their 8-grams in training") == 2
