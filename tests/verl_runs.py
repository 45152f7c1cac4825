"""What the tests of DAPO share: overrides for a small run, and verl's engine started by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from conftest import ROOT, TINY_ROWS, VERL_ON_CPU, run_command

from adapters import adapter_config, initial_adapter

OTHER = {**TINY_ROWS[0], "update_info": "cumtrapz was renamed to cumulative_trapezoid.", "new_code": "area = 2 * area"}


def settings(data, run, model, *more: str) -> list[str]:
    """Overrides of the CPU configuration for a file, a run's folder and a model."""
    return [
        f"recode.data={data}",
        f"run={run.name}",
        f"data.train_files={run}/data/train.parquet",
        f"data.val_files={run}/data/val.parquet",
        f"trainer.default_local_dir={run}",
        f"actor_rollout_ref.model.path={model}",
        *more,
    ]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def kill_after(step: int, run: Path, command: list[str]) -> None:
    """Start a run, and send it SIGKILL two seconds after it has saved and logged a step."""
    log = run.parent / "first.log"
    with open(log, "w") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env={**os.environ})
    tracker, metrics = run / "latest_checkpointed_iteration.txt", run / "metrics.jsonl"
    deadline = time.time() + 400
    while not (tracker.exists() and tracker.read_text().strip() == str(step)):
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.time() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)
    while f'"step": {step},' not in metrics.read_text():
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(signal.SIGKILL)
    process.wait()


def run_engine(ranks: int, jobs: list[tuple[str, Path, Path]]) -> None:
    """tests/verl_engine.py under torchrun, for (what, model, folder) jobs; a folder looks like a run of src/dapo.py."""
    for what, model, out in jobs:
        out.mkdir()
        if what == "merge":
            initial_adapter(str(model), adapter_config(4, 8, 0.0, ["all-linear"]), out / "adapter_init", seed=0)
        start = {"config": {"actor_rollout_ref": {"model": {"path": str(model)}}}}
        (out / "run.json").write_text(json.dumps({"starts": [start]}))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    command += [str(ROOT / "tests" / "verl_engine.py"), *(str(word) for job in jobs for word in job)]
    run_command(command, env={**VERL_ON_CPU, "OMP_NUM_THREADS": "1"})
