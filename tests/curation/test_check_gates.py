"""check_data.py gates: a record with a weak check, run in an environment made here; its log is read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import run_script
from wheels import only, write_wheel

from common.files import read_jsonl
from records import Record

RECORD = Record(
    "toylib",
    "2.0",
    "Doubles a number.",
    "`toylib.old` is gone: use `toylib.new`.",
    "import toylib\nx = toylib.old(2)",
    "import toylib\nx = toylib.new(2)",
)


def write_data(folder: Path, check: str) -> Path:
    folder.mkdir(exist_ok=True)
    envs = {"old_env": ["toylib==1.0"], "new_env": ["toylib==2.0"]}
    row = {"id": RECORD.id, "split": "train", "update": "toylib-2.0-old", "kind": "rename", "check": check, **envs}
    (folder / "train.jsonl").write_text(json.dumps(RECORD.to_row()) + "\n")
    (folder / "evidence.jsonl").write_text(json.dumps(row) + "\n")
    return folder


@pytest.fixture
def toylib(tmp_path) -> dict[str, str]:
    write_wheel(tmp_path / "wheels", "toylib", "2.0", {"toylib.py": "def new(x): return 2 * x\n"})
    return only(tmp_path / "wheels")


def test_a_weak_check_is_found_and_the_log_is_used(tmp_path, toylib):
    data, log = write_data(tmp_path / "data", "assert x != 5"), tmp_path / "log.jsonl"

    def gates(envs: str, *, check: bool = False):
        return run_script("check_data.py", "gates", data, "--envs", tmp_path / envs, "--log", log, "--jobs", 1,
                          env=toylib, check=check)  # fmt: skip

    first = gates("envs")
    assert first.returncode == 1, first.stderr
    place = f"{data / 'train.jsonl'}:1: check: mutation: a wrong migration passes (result None): "
    assert f"{place}-x = toylib.new(2) | +x = None\n" in first.stdout
    assert "| no fourth run (counted only) | 1 | - |" in first.stdout
    assert "| several right forms (counted only) | 0 | - |" in first.stdout
    assert "| empty program | 1 | 1 | 100.0 |" in first.stdout
    assert [row["id"] for row in read_jsonl(log)] == [RECORD.id]

    again = gates("none")  # everything from the log: no environment is created
    assert (again.returncode, again.stdout) == (1, first.stdout)
    assert not (tmp_path / "none").exists()

    write_data(data, "assert x == 4")  # another check: the record runs again
    strong = gates("envs", check=True)
    assert strong.stdout.startswith("\n| gate | train: records | train: findings |")
    assert [row["id"] for row in read_jsonl(log)] == [RECORD.id, RECORD.id]


def test_an_unknown_record_is_one_line(tmp_path):
    data = write_data(tmp_path / "data", "assert x == 4")
    done = run_script("check_data.py", "gates", data, "--record", "0" * 12, check=False)
    assert (done.returncode, done.stderr) == (2, f"check_data: {data}: no such record\n")
