"""The reward `execution` on the miniature benchmark: values by hand, through trl's call and verl's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import ROOT, run_command, run_script
from mini_migration import ROOM, SCALE, SUM, write
from wheels import only

import sandbox
from common.errors import InputError
from evaluation.migration import execution as module
from evaluation.migration.execution import Execution, compute_score
from prompts import reference_completion
from records import load_records


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="module")
def reward(data, tmp_path_factory) -> Execution:
    """Prepared, with its environment made."""
    try:
        sandbox.check_ready()
    except sandbox.InfrastructureError as error:
        pytest.skip(f"no sandbox here: {error}")
    made = Execution()
    path = data.with_name("evidence.jsonl")  # as in data/, with the outcomes of the proofs
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    seen = {"old_on_new": {"outcome": "error", "text": ""}}
    path.write_text("".join(json.dumps({**row, "seen": seen}) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in only(data.parent).items():
            patch.setenv(name, value)
        made.prepare(str(data), [record.id for record in load_records(data)], tmp_path_factory.mktemp("envs"))
    return made


def columns(*records) -> dict[str, list[str]]:
    return {
        "target": [record.new_code for record in records],
        "old_code": [record.old_code for record in records],
        "record_id": [record.id for record in records],
    }


def test_each_completion_has_its_value_and_its_reason(reward):
    records = (ROOM, ROOM, SUM, SCALE, SCALE, SCALE, SCALE, SCALE)
    answers = [
        reference_completion(ROOM.new_code),
        reference_completion(ROOM.old_code),
        reference_completion(SUM.old_code),
        reference_completion("import gizmo\nsize = gizmo.scale(3, 1)"),  # not the target, and as right
        reference_completion(SCALE.old_code),
        reference_completion("size = ("),
        reference_completion("# the code"),
        "no tags",
    ]
    said = {}
    found = reward(answers, log_extra=said.__setitem__, **columns(*records))
    assert found == [2.0, -1.5, -1.5, 2.0, -1.5, -2.0, -2.0, -2.0]
    assert said["execution reason"] == [
        "pass",
        "error: AttributeError: module 'gizmo' has no attribute 'area'",
        "deprecated: DeprecationWarning: use tally",
        "pass",
        "check: AssertionError",
        *["no statement that parses"] * 3,
    ]


def test_sandboxes_stay_open(reward):
    """Sixteen programs more start no other server than each thread's first."""
    before = {thread.name for thread in reward._pool._threads}
    codes = [f"import gizmo\nroom = gizmo.surface(2, 3) + {n}" for n in range(16)]
    started = []
    start = sandbox.Sandbox._start
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox.Sandbox, "_start", lambda self: (started.append(self), start(self)))
        found = reward([reference_completion(code) for code in codes], **columns(*[ROOM] * 16))
    assert found == [2.0] + [-1.5] * 15
    assert len(started) <= len({thread.name for thread in reward._pool._threads} - before) + 1


def test_verl_gets_the_same(reward, data, monkeypatch):
    monkeypatch.setattr(module, "execution", reward)
    about = {"record_id": ROOM.id, "old_code": ROOM.old_code}
    settings = {"data": str(data), "envs": "unused", "weights": [1.0, 0.5]}
    right = compute_score("recode", reference_completion(ROOM.new_code), ROOM.new_code, about, **settings)
    assert (right["score"], right["correctness"], right["execution"]) == (2.0, 2.0, 2.0)  # 1 + 0.5 * 2
    copy = compute_score("recode", reference_completion(ROOM.old_code), ROOM.new_code, about, **settings)
    assert (copy["score"], copy["correctness"], copy["execution"]) == (0.25, -1.5, -1.5)  # 1 - 0.5 * 1.5
    assert set(right) == {"score", "format", "correctness", "syntax", "em", "es", "execution"}


def test_records_without_evidence_are_refused(data, tmp_path):
    lines = (data.parent / "evidence.jsonl").read_text().splitlines()
    rows = tmp_path / "rows.jsonl"
    rows.write_text(data.read_text())
    ids = [record.id for record in load_records(rows)]
    for text, message in (
        (None, "evidence.jsonl: no such file; --evidence names the evidence of the records"),
        ("\n".join(lines[1:]), f"evidence.jsonl: no evidence for 1 records, first {ids[0]}"),
        ("\n".join(lines).replace('"check": "assert room == 6", ', ""), "evidence.jsonl: check: missing for 1 records"),
    ):
        if text is not None:
            (tmp_path / "evidence.jsonl").write_text(text + "\n")
        with pytest.raises(InputError, match="evidence") as stopped:
            Execution().prepare(str(rows), ids)
        assert message in str(stopped.value)
    with pytest.raises(InputError, match="has no evidence"):
        Execution().prepare("hf://datasets/some/rows", ids)


def test_a_run_stops_before_its_model_loads(tmp_path, tiny_data, random_model):
    config = ["--config", ROOT / "configs" / "quickstart" / "grpo.yaml", "--model_name_or_path", random_model]
    flags = ["--data", tiny_data, "--output_dir", tmp_path / "run", "--reward", "format,execution"]
    done = run_script("grpo.py", *config, *flags, "--max_target_length", 200, check=False)
    assert done.returncode == 2
    assert f"{tiny_data.with_name('evidence.jsonl')}: no such file" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "run").glob("*.safetensors"))


@pytest.mark.slow
def test_a_run_with_the_reward(data, tmp_path, random_model):
    """Two real GRPO steps: the reasons of the reward are in the rollouts."""
    out = tmp_path / "run"
    flags = ["--config", ROOT / "configs" / "quickstart" / "grpo.yaml", "--model_name_or_path", random_model]
    flags += ["--data", data, "--output_dir", out, "--max_steps", 2, "--max_completion_length", 16]
    flags += ["--num_generations", 4, "--save_strategy", "no", "--report_to", "none", "--bf16", "false"]
    flags += ["--dtype", "float32", "--max_target_length", 200, "--reward", "format,execution"]
    command = [sys.executable, ROOT / "src" / "grpo.py", *flags]
    run_command(list(map(str, command)), env=only(data.parent), cwd=tmp_path)
    assert (tmp_path / ".venvs").is_dir()  # made before the first step
    rows = [json.loads(line) for line in (out / "rollouts.jsonl").read_text().splitlines()]
    assert [row["rewards"]["execution"] for row in rows] == [-2.0] * len(rows)  # a random model writes no code
