"""check_data.py published: rows without evidence run on the version that they name, or on a later one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import run_script

from common.libraries import release
from common.provenance import sha256
from curation.check_published import ENVIRONMENTS, RowVerdict, choose, ending, verdict_table
from records import Record, load_records


def record(library: str, version: str, old: str = "a = 1", new: str = "a = 2") -> Record:
    return Record(library, version, "", "Facts.", old, new)


def verdict(**fields: object) -> RowVerdict:
    return RowVerdict.model_validate({"line": 1, "id": "a", "environment": 0, "exact": True, **fields})


def test_releases_compare_as_numbers():
    assert (release("2.0.0"), release("2.0"), release("1.3.x"), release("0")) == ((2,), (2,), (1, 3), ())
    assert release("1.10.0") > release("1.9.3") > release("1.9")


@pytest.mark.parametrize(
    ("library", "version", "pin", "exact"),
    [
        ("NumPy", "1.3.0", "numpy==1.23.5", False),  # no wheel for Python 3.11: the first that has
        ("NumPy", "1.23.5", "numpy==1.23.5", True),
        ("NumPy", "2.0.0", "numpy==2.0.0", True),
        ("scikit-learn", "0.24.0", "scikit-learn==1.1.3", False),
        ("pandas", "2.2.0", "pandas==2.2.3", False),
        ("PyTorch", "2.6.0", "torch==2.13.0", False),
        ("Scrapy", "2.12.0", "Scrapy==2.12.0", True),
    ],
)
def test_the_environment_of_a_row(library, version, pin, exact):
    place, is_exact = choose(record(library, version))
    assert (pin in ENVIRONMENTS[place].split(), is_exact) == (True, exact)


def test_rows_without_an_environment():
    assert choose(record("NumPy", "9.0")) is None
    assert choose(record("left-pad", "1.0")) is None


def test_endings_quote_no_text_of_a_row():
    seen = [
        ({"outcome": "ok", "text": ""}, "ok"),
        ({"outcome": "warning", "text": "FutureWarning: `secret` is deprecated"}, "warning FutureWarning"),
        ({"outcome": "error", "text": "NameError: name 'secret' is not defined"}, "error NameError"),
        ({"outcome": "error", "text": "urllib.error.URLError: <urlopen error>"}, "error URLError"),
        ({"outcome": "error", "text": "KeyboardInterrupt"}, "error KeyboardInterrupt"),
        ({"outcome": "limit", "text": "still running after 20 s"}, "limit"),
    ]
    assert [ending(run) for run, _ in seen] == [text for _, text in seen]


@pytest.mark.parametrize(
    ("new", "old", "found"),
    [
        ("ok", "error AttributeError", "gold"),
        ("ok", "warning FutureWarning", "gold"),
        ("ok", "ok", "runs"),
        ("warning FutureWarning", "error NameError", "runs"),  # gold runs clean
        ("error NameError", "error NameError", "real-change"),
        ("ok", "limit", "runs"),  # a timeout of the old code proves nothing about the API
        ("limit MemoryError", "error NameError", "real-change"),
    ],
)
def test_levels(new, old, found):
    assert verdict(new=new, old=old).level == found


def test_the_table_by_hand():
    rows = [record("NumPy", "1.3.0"), record("NumPy", "2.0.0", new="a = 3"), record("SciPy", "9.0")]
    verdicts = [
        verdict(id=rows[0].id, exact=False, new="ok", old="error TypeError"),
        verdict(id=rows[1].id, exact=True, new="error NameError", old="ok"),
    ]
    assert verdict_table(rows, verdicts).splitlines()[2:] == [
        "| NumPy | 2 | 2 | 1 | 1 | 1 | 1 |",
        "| SciPy | 1 | 0 | 0 | 0 | 0 | 0 |",
        "| all | 3 | 2 | 1 | 1 | 1 | 1 |",
        "",
        "new code fails: error NameError 1",
    ]


def test_bad_input_is_refused_in_one_line(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(record("NumPy", "1.3.0").to_row()) + "\n")
    out = tmp_path / "v.jsonl"
    (tmp_path / "v.jsonl.part").write_text('{"file_sha256": "0"}\n')
    for file, said in ((tmp_path / "absent", "no such file"), (rows, "made from another file or with other settings")):
        done = run_script("check_data.py", "published", file, "--out", out, check=False)
        assert (done.returncode, said in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.stderr


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the environments are for Python 3.11")
def test_what_was_run_before_a_kill_is_not_run_again(tmp_path):
    """The one row is done in the .part file, so no environment is made."""
    file, out = tmp_path / "rows.jsonl", tmp_path / "v.jsonl"
    row = record("NumPy", "2.2.0", "import numpy as np\na = np.trapz([1, 2])", "import numpy as np\na = 1")
    file.write_text(json.dumps(row.to_row()) + "\n")
    header = {"file_sha256": sha256(file), "environments": ENVIRONMENTS, "seconds": 20, "commit": "c"}
    verdict = {"line": 1, "id": row.id, "environment": 4, "exact": True, "new": "ok", "old": "error AttributeError"}
    (tmp_path / "v.jsonl.part").write_text(json.dumps(header) + "\n" + json.dumps(verdict) + "\n")
    said = run_script(
        "check_data.py", "published", file, "--out", out, "--envs", tmp_path / "envs", "--seconds", 20
    ).stdout
    assert "| NumPy | 1 | 1 | 1 | 1 | 1 | 1 |" in said
    assert not (tmp_path / "envs").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the environments are for Python 3.11")
def test_a_row_of_each_kind_is_run(tmp_path: Path):
    """One environment, the last of the scientific ones: a row that is gold, one that runs, one that does not; a row of
    a library without an environment is left out. Needs a package index."""
    rows = [
        record(
            "NumPy", "2.2.0", "import numpy as np\na = np.trapz([1, 2])", "import numpy as np\na = np.trapezoid([1, 2])"
        ),
        record("NumPy", "2.2.0", "import numpy as np\na = np.sum([1])", "import numpy as np\na = np.sum([1, 0])"),
        record("NumPy", "2.2.0", "import numpy as np\na = np.nothing", "import numpy as np\na = np.nothing_new"),
        record("left-pad", "1.0"),
    ]
    file, out = tmp_path / "rows.jsonl", tmp_path / "v.jsonl"
    file.write_text("".join(json.dumps(row.to_row()) + "\n" for row in rows))
    done = run_script("check_data.py", "published", file, "--out", out, "--envs", tmp_path / "envs", "--jobs", 1)
    assert "| NumPy | 3 | 3 | 3 | 2 | 2 | 1 |" in done.stdout
    gold = tmp_path / "gold.jsonl"
    run_script("check_data.py", "rows", file, "--clean", "gold", "--verdicts", out, "--write-clean", gold)
    assert [row.old_code for row in load_records(gold)] == [rows[0].old_code]
