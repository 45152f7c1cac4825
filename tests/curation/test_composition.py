"""check_data.py composition: the tables by hand, the picture, and the card of our own data."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import ROOT, run_script

from curation.check_proofs import load
from curation.composition import percentiles, tables
from records import Record

RUNS = {"old_on_new": {"outcome": "error", "text": ""}}
ROWS = [  # record, split, update, kind
    (Record("NumPy", "2.0.0", "a", "note", "x = a", "x = b\n\ny = 1"), "train", "numpy-2.0-b", "rename"),
    (Record("NumPy", "2.0.0", "a", "- b\n- c", "y = a", "y = b + c"), "heldout", "numpy-2.0-d+numpy-2.0-c", "default"),
    (Record("click", "8.0.0", "a", "note", "z = a", "z = 1\n" * 16), "train", "click-8.0-z", "rename"),
]


def write_data(folder: Path) -> Path:
    for split in ("train", "heldout"):
        rows = [record.to_row() for record, of, *_ in ROWS if of == split]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    envs = {"old_env": ["a==1"], "new_env": ["a==2"], "seen": RUNS}
    lines = [
        {"id": record.normalised().id, "split": split, "update": update, "kind": kind, **envs}
        for record, split, update, kind in ROWS
    ]
    lines[0]["use"] = ["numpy.b"]
    (folder / "evidence.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_tables(tmp_path):
    libraries, kinds, shapes, lengths = tables(load(write_data(tmp_path)))
    assert libraries.splitlines()[2:] == [
        "| click | 1 | 1 | 0 |",
        "| NumPy | 3 | 1 | 1 |",  # b, d and c
        "| **total** | **4** | **2** | **1** |",
    ]
    assert kinds.splitlines()[2:] == [
        "| rename | 2 | 2 | 0 |",
        "| default | 2 | 0 | 1 |",
        "| **total** | **4** | **2** | **1** |",
    ]
    assert shapes.splitlines()[2:] == [
        "| target over 15 lines | 1 | 0 |",
        "| note of several lines | 0 | 1 |",
        "| two updates at once | 0 | 1 |",
        "| names that the answer must use | 1 | 0 |",
        "| other right targets | 0 | 0 |",
        "| lines of the release note stored by hash | 0 | 0 |",
        "| old code on the new version: raises | 2 | 1 |",
        "| old code on the new version: fails its check | 0 | 0 |",
        "| old code on the new version: warns | 0 | 0 |",
        "| old code on the new version: passes (addition) | 0 | 0 |",
    ]
    assert lengths.splitlines()[2] == "| lines | 1 | 2 | 16 | 16 |"  # the blank line does not count


def test_percentiles_are_values_of_the_set():
    assert percentiles([3]) == [3, 3, 3, 3]
    assert percentiles(list(range(100, 0, -1))) == [10, 50, 90, 100]
    assert percentiles([1, 2, 3, 4]) == [1, 2, 4, 4]


def test_the_picture(tmp_path):
    done = run_script("check_data.py", "composition", write_data(tmp_path), "--figure", tmp_path / "set.png")
    assert done.stdout.startswith("| library | updates | train | held-out |\n")
    assert done.stdout.endswith(f"\nwrote {tmp_path / 'set.png'}\n")
    assert (tmp_path / "set.png").read_bytes().startswith(b"\x89PNG")
    refused = run_script("check_data.py", "composition", tmp_path, "--figure", tmp_path, check=False)
    line = f"check_data: {tmp_path}: is a folder; expected a file to write\n"
    assert (refused.returncode, refused.stdout, refused.stderr) == (2, "", line)


def test_the_card_has_the_tables_of_our_data():
    card = (ROOT / "data" / "README.md").read_text("utf-8")
    for table in tables(load(ROOT / "data")):
        assert table in card
