"""The JSON of runs and checkpoints, written by other versions, other tools, and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from edges.adversarial import faulty, json_file, rows_file
from edges.checker import check_ended, check_message, contents, count, effort, run_main, scratch
from hypothesis import given
from hypothesis import strategies as st

import checkpoint_curve
import plot
import report
from adapters import AdapterConfig
from common.checkpoints import base_of, find_checkpoints, read_checkpoint, run_start, world_size
from common.errors import InputError
from common.files import read_json
from common.same_run import check_same_run
from trl_training.resume import find_checkpoint

CONFIG = {"model_name_or_path": "Qwen/Qwen2.5-0.5B", "model_revision": "main", "learning_rate": 1e-5, "seed": 42}
CONFIG |= {"max_steps": 500, "lora_target_modules": ["q_proj"], "model_init_kwargs": {"dtype": "bfloat16"}}
START = {
    **{"started": "2026-01-01T00:00:00+00:00", "command": "python src/grpo.py", "commit": "abc", "seed": 42},
    **{"config": CONFIG, "data": {"train.jsonl": {"sha256": "a", "bytes": 1}}, "resumed_from": None},
}
VERL = {**START, "config": {"actor_rollout_ref": {"model": {"path": "Qwen/Qwen2.5-0.5B"}}, "recode": {"lr": 1}}}
RUN = {"starts": [START, {**START, "resumed_from": "runs/x/checkpoint-2"}]}
STATE = {"global_step": 2, "epoch": 0.5, "best_metric": None, "log_history": [{"step": 1, "loss": 0.1}]}
ADAPTER = {"base_model_name_or_path": "nowhere/none", "use_dora": True, "r": 8, "target_modules": ["q_proj"]}
METRICS = [{"step": 1, "reward": 0.5, "completions/mean_length": 9.0}, {"step": 2, "reward": 1}, {"step": 3, "loss": 0}]
FILES = {
    **{"run/run.json": json.dumps(RUN).encode(), "run/metrics.jsonl": b'{"step": 1, "reward": 0.5}\n'},
    "run/checkpoint-2/trainer_state.json": json.dumps(STATE).encode(),
    "run/checkpoint-2/adapter_config.json": json.dumps(ADAPTER).encode(),
    "run/checkpoint-2/adapter_model.safetensors": b"",
    "run/checkpoint-2/optimizer.pt": b"",
}


def test_the_starts_of_a_run_that_is_whole():
    with scratch(FILES) as folder:
        assert base_of(run_start(folder / "run")) == ("Qwen/Qwen2.5-0.5B", "main")


@effort(150, 20_000)
@given(json_file(RUN) | json_file({"starts": [VERL]}), faulty(START, most=1))
def test_run_json(content, now):
    count("run.json files")
    with scratch(FILES | {"run/run.json": content}) as folder:
        try:
            base, revision = base_of(run_start(folder / "run"))
            assert isinstance(base, str) and isinstance(revision, str)
        except InputError as error:
            check_message(error)
        if not (isinstance(now, dict) and isinstance(now.get("config"), dict) and isinstance(now.get("data"), dict)):
            return  # the program's own description is not input
        try:
            check_same_run([folder / "run"], {**START, "config": now["config"]}, ("seed",), ("max_steps",))
        except InputError as error:
            check_message(error)


@effort(150, 20_000)
@given(json_file(STATE), json_file(ADAPTER), json_file({"world_size": 1}))
def test_the_files_of_a_checkpoint(state, adapter, fsdp):
    count("checkpoints")
    files = {"run/checkpoint-2/trainer_state.json": state, "run/checkpoint-2/adapter_config.json": adapter}
    with scratch(FILES | files | {"dapo/global_step_3/actor/fsdp_config.json": fsdp}) as folder:
        run = folder / "run"
        for attempt in (
            lambda: read_checkpoint(run / "checkpoint-2"),
            lambda: find_checkpoint(run, "auto"),
            lambda: find_checkpoint(run, None),
            lambda: find_checkpoint(run, str(run / "checkpoint-2")),
            lambda: read_json(run / "checkpoint-2/adapter_config.json", AdapterConfig),
            lambda: world_size(folder / "dapo/global_step_3"),
            lambda: read_checkpoint(folder / "dapo/global_step_3"),
        ):
            try:
                attempt()
            except InputError as error:
                check_message(error)
        for found in find_checkpoints(run, sharded=True):  # what is chosen is complete
            assert type(found.step) is int


@effort(30, 3_000)
@given(json_file(RUN), json_file(ADAPTER), st.sampled_from(["run.json", "adapter_config.json", "metrics.jsonl"]))
def test_programs_that_read_a_run(run, adapter, which):
    """No results are there, so the curve ends with one line."""
    count("run folders")
    faults = {"run.json": run, "adapter_config.json": adapter, "metrics.jsonl": run}
    place = "run/checkpoint-2" if which == "adapter_config.json" else "run"
    with scratch(FILES | {f"{place}/{which}": faults[which]}) as folder:
        before = contents(folder)
        ended = run_main(checkpoint_curve.main, "checkpoint_curve", "--run", "run", "--plot-only", "--out", "out")
        check_ended(ended, "checkpoint_curve", (2,))
        assert {name: text for name, text in contents(folder).items() if name in before} == before


@effort(4, 500)
@given(rows_file(METRICS))
def test_plot(metrics):
    pytest.importorskip("matplotlib")
    count("metrics files")
    with scratch({"run/metrics.jsonl": metrics}):
        ended = run_main(plot.main, "plot", "run", "--out", "reward.png")
        check_ended(ended, "plot", before="plot: .* values left out: .*")
        assert Path("reward.png").exists() == (ended.status == 0)
        assert not list(Path().rglob("*.part"))


ROLLOUT = {
    **{"step": 1, "record_id": "a1", "group": 0, "completion": "x</think><answer>```python\ny = 1\n```</answer>"},
    **{"target": "y = 2", "rewards": {"format_reward": 1.0, "es_star": 0.5}, "advantage": 0.5, "reason": "parses"},
}
LOGS = {
    "run/run.json": json.dumps(RUN).encode(),
    "run/metrics.jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in METRICS),
    "run/rollouts.jsonl": json.dumps(ROLLOUT).encode() + b"\n",
}


@effort(20, 2_000)
@given(
    st.one_of(
        json_file(RUN).map(lambda content: {"run/run.json": content}),
        rows_file(METRICS, most=3).map(lambda content: {"run/metrics.jsonl": content}),
        rows_file([ROLLOUT, ROLLOUT], most=3).map(lambda content: {"run/rollouts.jsonl": content}),
        json_file(ROLLOUT).map(lambda content: {"run/rollouts.jsonl": content}),
    )
)
def test_the_page_of_a_run(files):
    count("pages of runs")
    with scratch(LOGS | files) as folder:
        ended = run_main(report.main, "report", "run", "--out", "page.html")
        check_ended(ended, "report")
        assert set(contents(folder)) == {*LOGS, *([] if ended.status else ["page.html"])}
