"""benchmarks/bench_gpu.py: its table and page from synthetic measurements, and every part with the tiny shape."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import ROOT, run_command

from bench_gpu import PARTS
from gpu.expected import EXPECTED, Expected
from gpu.page import page, pins
from gpu.verdicts import alarms, failures, other_versions

PROGRAM = [sys.executable, "benchmarks/bench_gpu.py"]
ENV = {"PYTHONPATH": "src", "OMP_NUM_THREADS": "1"}


def environment(**changes) -> dict:
    pinned = pins()
    found = {
        **{"part": "environment", "what": "start", "time": "2026-12-01T10:00:00+00:00", "shape": "7b"},
        **{"card": "NVIDIA H100 80GB HBM3", "card_gb": 85.0, "cpu": "Xeon", "driver": "580.65", "cuda": "13.0"},
        **{"commit": "0123456789abcdef", "dirty": False, "seed": 42},
        "versions": {name: pinned[name] for name in ("torch", "transformers", "trl", "peft")},
    }
    return {**found, **changes}


BASE = {"part": "rollout", "what": "base", "ms": 25.0, "floor_ms": 4.7, "of_bandwidth": 0.188, "peak_gb": 16.0}


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(21.0, "outside"), (21.9, "as expected"), (30.5, "as expected"), (35.0, "outside"), (41.0, "**ALARM**")],
)
def test_a_number_is_as_expected_outside_or_alarming(value, verdict):
    assert Expected("rollout", "base", "ms", "ms", 22, 30, above=40).verdict(value) == verdict


def test_a_single_expected_value_is_met_within_15_percent():
    about = Expected("machine", "copy", "tb_s", "TB/s", 3.0, 3.0)
    assert [about.verdict(value) for value in (2.5, 2.6, 3.4, 3.5)] == ["outside", *["as expected"] * 2, "outside"]
    assert about.range() == "about 3"


def test_nan_is_alarming():
    assert Expected("update", "x", "seconds", "s", above=1.0).verdict(float("nan")) == "**ALARM**"


def test_an_expected_range_raises_no_alarm():
    for expected in EXPECTED:
        for value in (expected.low, expected.high):
            assert value is None or expected.verdict(value) == "as expected", expected


def test_the_page_has_measured_beside_expected():
    rows = [environment(), BASE, {"part": "rollout", "what": "part", "part_seconds": 100.4}]
    lines = page(rows).splitlines()
    assert "## NVIDIA H100 80GB HBM3, 2026-12-01" in lines
    assert "| rollout: base | ms a token | 25 | 22 to 30 | above 40 | as expected |" in lines
    assert "| machine: copy | TB/s | not measured | about 3 | — |  |" in lines
    assert "| rollout: part | s of the whole part | 100 | 130 to 280 | above 360 | outside |" in lines
    assert not [line for line in lines if "†" in line or "Not run" in line]


DIFFERING = f"torch 2.11.0+cu130 (pinned: {pins()['torch']})"


def test_numbers_from_other_versions_are_marked():
    versions = {**environment()["versions"], "torch": "2.11.0+cu130"}
    text = page([environment(versions=versions), BASE])
    assert "| rollout: base | ms a token | 25 † |" in text
    assert f"- † measured with other versions than those of `requirements/constraints.txt`: {DIFFERING}\n" in text
    assert other_versions({**versions, "torch": f"{pins()['torch']}+cpu"}, pins()) == {}


def test_parts_that_ran_later_complete_the_table_and_replace_its_numbers():
    copy = {"part": "machine", "what": "copy", "tb_s": 3.1}
    rows = [environment(), BASE, environment(time="2026-12-01T11:00:00+00:00"), copy, BASE | {"ms": 45.0}]
    text = page(rows)
    assert text.count("## ") == 1
    assert "| machine: copy | TB/s | 3.1 | about 3 | — | as expected |" in text
    assert "| rollout: base | ms a token | 45 | 22 to 30 | above 40 | **ALARM** |" in text
    assert [expected.name for expected in alarms(rows)] == ["ms"]
    assert page([*rows, environment(card="NVIDIA H200"), BASE]).count("## ") == 2


def test_a_part_that_failed_is_named_until_it_has_run():
    failed = {"part": "rollout", "what": "part", "failed": "OutOfMemoryError: CUDA `out`\nof memory"}
    assert "- `rollout, part: OutOfMemoryError: CUDA 'out'\\nof memory`" in page([environment(), failed])
    assert failures([failed, {"part": "rollout", "what": "part", "part_seconds": 1.0}]) == []


def test_a_cpu_s_numbers_are_not_on_the_page():
    assert page([environment(card=None, card_gb=None), BASE]) == page([])


def test_the_committed_page_is_not_run_or_measured():
    text = (ROOT / "results" / "gpu.md").read_text("utf-8")
    assert text == page([]) if "Not run" in text else "| measured | expected | alarm |" in text


def test_wrong_flags_end_in_one_line(tmp_path):
    for flags, said in (
        (["--parts", "machine,decode"], "--parts decode: choose from " + ", ".join(PARTS)),
        (["--write", tmp_path / "gpu.md"], f"{tmp_path}/gpu.jsonl: no measurements of a GPU there"),
    ):
        done = run_command([*PROGRAM, "--out", str(tmp_path), *map(str, flags)], env=ENV, check=False)
        assert (done.returncode, done.stderr) == (2, f"bench_gpu: {said}\n")
    env = {**ENV, "CUDA_VISIBLE_DEVICES": ""}
    done = run_command([*PROGRAM, "--out", str(tmp_path), "--shape", "7b"], env=env, check=False)
    assert (done.returncode, done.stderr) == (2, "bench_gpu: --shape 7b: torch finds no GPU: choose --shape tiny\n")


@pytest.mark.slow
def test_every_part_runs_with_the_tiny_shape(tmp_path: Path):
    out = tmp_path / "gpu"
    run_command([*PROGRAM, "--shape", "tiny", "--out", str(out)], env={**ENV, "CUDA_VISIBLE_DEVICES": ""})
    rows = [json.loads(line) for line in (out / "gpu.jsonl").read_text().splitlines()]
    assert not failures(rows)
    assert sorted(row["part"] for row in rows if "part_seconds" in row) == [
        *("agreement", "decoding", "machine", "norm", "rollout", "trainer", "update")
    ]
    measured = {(row["part"], row["what"].replace("20 tokens", "1024 tokens"), name) for row in rows for name in row}
    assert not [e for e in EXPECTED if (e.part, e.what, e.name) not in measured and "400 tokens" not in e.what]
    exact = {row["what"]: row for row in rows if "base_unchanged" in row or "continues" in row}
    assert [row.get("base_unchanged", row.get("continues")) for row in exact.values()] == [True, True, True]
    assert [row["equal"] for row in rows if "small float32 model" in row["what"] and "equal" in row] == [1, 1]
    assert [row["follows"] for row in rows if "follows" in row] == [True, True]
    assert [row["difference"] < 0.02 for row in rows if "difference" in row] == [True] * 4
    [agreement] = [row for row in rows if row["part"] == "agreement" and "nats" in row]
    assert agreement["nats"] < agreement["nats_to_base"]
