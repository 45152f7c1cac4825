"""The run directory: what it records."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from common.errors import InputError
from common.estimates import mean_and_error
from common.files import read_jsonl
from common.provenance import describe, git_state, read_starts, record_start, sha256
from common.run_logs import Rollout, ema, frame, write_rollouts

ROOT = Path(__file__).parent.parent.parent


def test_sha256_and_git(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    # FIPS 180-2, the one-block example
    assert sha256(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    assert git_state()["commit"] == (head.stdout.strip() or None)


def test_every_start_is_kept(tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text("{}\n")
    description = describe({"learning_rate": 1e-4}, {"hf://x": data}, seed=7)
    record_start(tmp_path / "run", description)
    record_start(tmp_path / "run", description, resumed_from="checkpoint-2")
    starts = json.loads((tmp_path / "run" / "run.json").read_text())["starts"]
    assert [start["resumed_from"] for start in starts] == [None, "checkpoint-2"]
    assert starts[0]["config"] == {"learning_rate": 1e-4}
    assert starts[0]["data"]["hf://x"]["bytes"] == 3
    assert {"commit", "dirty", "seed", "versions", "hardware", "command"} <= starts[0].keys()


def test_a_damaged_run_json_is_one_line_and_stays(tmp_path):
    (tmp_path / "run.json").write_text('{"starts": [{"data": {}}]}')
    for call in (read_starts, lambda folder: record_start(folder, {"config": {}})):
        with pytest.raises(InputError, match=r"run.json: starts.0.config: field required$"):
            call(tmp_path)
    assert (tmp_path / "run.json").read_text() == '{"starts": [{"data": {}}]}'
    with pytest.raises(InputError, match=r"absent/run.json: not there"):
        read_starts(tmp_path / "absent")


def test_rollouts_show_every_share(tmp_path):
    rewards = {"format_reward": -1.0, "es_star": -2.0}
    rollout = Rollout(3, "abc", 1, "I think</think>", "x = 1", rewards, -0.5, "no <answer>")
    write_rollouts(tmp_path, [rollout])
    [row] = read_jsonl(tmp_path / "rollouts.jsonl")
    assert row == {
        **{"step": 3, "record_id": "abc", "group": 1, "completion": "I think</think>", "target": "x = 1"},
        **{"rewards": rewards, "advantage": -0.5, "reason": "no <answer>"},
    }
    text = frame(rollout)
    for part in ("step 3", "group 1", "abc", "I think</think>", "es_star -2.00", "advantage -0.50", "(no <answer>)"):
        assert part in text


def test_standard_errors():
    # 1, 2, 3, 6: mean 3, squared deviations 4 + 1 + 0 + 9 = 14, variance 14/3, error sqrt(14/3/4) = 1.0801.
    assert mean_and_error([1, 2, 3, 6]) == {"mean": 3.0, "standard_error": pytest.approx(1.0801, abs=1e-4)}


def test_the_moving_average():
    # weight 0.5: 2; (0.5 * 1 + 0.5 * 4) / 0.75 with total 0.5 * 1.0 + 0.5 * 4 = 2.5 -> 2.5 / 0.75.
    assert ema([2.0, 4.0], 0.5) == [2.0, pytest.approx(2.5 / 0.75)]
