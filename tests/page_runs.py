"""Small runs and evaluations for src/report.py, with known answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edges.checker import run_main

import report
import score
from common.provenance import sha256
from evaluation.samples import code_of
from records import Record

FFT = Record(
    "NumPy",
    "2.0.0",
    "Transforms a frame.",
    "`np.fft` keeps the precision of its input: convert to `float64` first.",
    "import numpy as np\nspectrum = np.fft.fft(frame)",
    'import numpy as np\nspectrum = np.fft.fft(frame.astype("f8"))',
)
AREA = Record(
    "NumPy",
    "2.0.0",
    "Integrates.",
    "`np.trapz` is now called `np.trapezoid`.",
    "import numpy as np\narea = np.trapz(y)",
    "import numpy as np\narea = np.trapezoid(y)",
)
RECORDS = (FFT, AREA)


def answer(code: str, thought: str = "I apply the update.") -> str:
    return f" {thought} </think>\n<answer>\n```python\n{code}\n```\n</answer>"


COPY = answer(FFT.old_code + "  # unchanged")
EXACT = answer(FFT.new_code)
NO_PARSE = answer("import numpy as np\nspectrum = np.fft.fft(frame")
NO_ANSWER = " I do not know."
# completion -> (format, ES*, advantage); for ES* of the copy: 13 insertions over 60 characters, the longer text
ROLLOUTS: Sequence[tuple[str, float, float, float | None]] = (
    (COPY, 1.0, 3.5 * (1 - 13 / 60) - 1.5, 0.5),
    (EXACT, 1.0, 2.0, 1.0),
    (NO_PARSE, 1.0, -2.0, -0.5),
    (NO_ANSWER, -1.0, -2.0, -1.0),
)
CONFIG: dict[str, Any] = {
    "model_name_or_path": "runs/sft-merged",
    "num_generations": 4,
    "learning_rate": 5e-5,
    "max_steps": 2,
    "reward": "format,es_star",
}


def lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_data(folder: Path, records: Sequence[Record] = RECORDS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "data.jsonl"
    path.write_text(lines([record.to_row() for record in records]))
    return path


def start(data: Path, config: Mapping[str, Any] = CONFIG) -> dict[str, Any]:
    """An entry of run.json."""
    return {
        **{"started": "2026-01-02T03:04:05+00:00", "command": "python src/grpo.py", "commit": "0123456789abcdef"},
        **{"dirty": False, "seed": 42, "data": {str(data): {"sha256": sha256(data), "bytes": data.stat().st_size}}},
        "versions": {"torch": "2.13.0", "vllm": None},
        "hardware": {"cpu": "A processor", "cores": 2, "memory_gb": 25.3, "gpus": [{"name": "H100"}, {"name": "H100"}]},
        **{"config": dict(config), "resumed_from": None},
    }


def rollout(step: int, n: int, record: Record = FFT, group: int = 0, **changes: Any) -> dict[str, Any]:
    """A line of rollouts.jsonl, as GRPO writes it."""
    completion, form, es_star, advantage = ROLLOUTS[n]
    row = {"step": step, "record_id": record.id, "group": group, "completion": completion, "target": record.new_code}
    rewards = {"format_reward": form, "es_star": es_star}
    return row | {"rewards": rewards, "advantage": advantage, "reason": ""} | changes


def metric(step: int, reward: float, **more: Any) -> dict[str, Any]:
    row = {"step": step, "time": 1000.0 + step, "reward": reward, "completions/mean_length": 60.0, "step_time": 2.0}
    return row | {"rewards/format_reward/mean": 0.5, "frac_reward_zero_std": 0.25} | more


def write_run(folder: Path, data: Path, steps: int = 2, config: Mapping[str, Any] = CONFIG) -> Path:
    """A GRPO run of one group of four a step."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"starts": [start(data, config)]}))
    (folder / "metrics.jsonl").write_text(lines([metric(step, 0.1 * step) for step in range(1, steps + 1)]))
    rows = [rollout(step, n) for step in range(1, steps + 1) for n in range(len(ROLLOUTS))]
    (folder / "rollouts.jsonl").write_text(lines(rows))
    return folder


def write_evaluation(folder: Path, data: Path, completions: Mapping[str, Sequence[str]]) -> Path:
    """What generate.py and score.py --no-run leave: record id -> its completions."""
    rows = [
        {
            **{"task_id": identity, "sample_id": n, "completion": text, "code": code_of(text, "zero-shot")},
            **{"prompt_tokens": 9, "completion_tokens": 9, "finish_reason": "stop" if n else "length"},
        }
        for identity, texts in completions.items()
        for n, text in enumerate(texts)
    ]
    folder.mkdir(parents=True)
    (folder / "samples.jsonl").write_text(lines(rows))
    identity = {"benchmark": "migration", "data": str(data), "data_sha256": sha256(data), "model": "a model"}
    (folder / "samples.json").write_text(json.dumps({"identity": identity, "problems": list(completions)}))
    ended = run_main(score.main, "score", "--samples", folder / "samples.jsonl", "--no-run", "--out", folder)
    assert ended.status == 0, ended.stderr
    return folder


BEFORE = {FFT.id: [NO_ANSWER, COPY], AREA.id: [answer(AREA.old_code), NO_ANSWER]}
AFTER = {FFT.id: [EXACT, COPY], AREA.id: [NO_ANSWER, NO_ANSWER]}


def write_quickstart(folder: Path) -> Path:
    """A run, and an evaluation before and after it."""
    data = write_data(folder / "records")
    write_evaluation(folder / "runs" / "base", data, BEFORE)
    write_evaluation(folder / "runs" / "grpo-test", data, AFTER)
    write_run(folder / "runs" / "grpo", data)
    return folder / "runs"


# A model, a server or a file can put this into any text.
EVIL = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)><!-- {{ 7 * 7 }} \"'& \x00\x1b[31m\u202e\u2028\x7f"
)
HALF = "\ud83d"  # half of a surrogate pair


def write_hostile(folder: Path) -> list[Path]:
    """Runs and evaluations with EVIL in every field that takes a text."""
    evil = EVIL.replace("\x00", "")  # no name of a file has one
    record = replace(
        FFT, update_info=EVIL, old_code=f"x = 1  # {evil.splitlines()[0]}", new_code="x = 2", dependency=EVIL
    )
    data = write_data(folder / "data", [record, AREA])
    name = folder / re.sub("[/\n\x85\u2028]", "", evil)
    config = CONFIG | {"learning_rate": EVIL, "lora_target_modules": [EVIL], EVIL: EVIL}
    run = write_run(name, data, config=config)
    first = start(data, config) | dict.fromkeys(("started", "command", "commit", "resumed_from"), EVIL)
    first |= {"versions": {EVIL: EVIL}, "hardware": {"cpu": EVIL, "gpus": [{"name": EVIL}]}}
    first["data"] |= {EVIL: {"sha256": EVIL}}
    (run / "run.json").write_text(json.dumps({"starts": [first, first]}))
    text = EVIL + HALF
    row = rollout(1, 0, completion=f"{text}</think><answer>\n```python\n{text}\n```\n</answer>", target=text)
    row |= {"record_id": record.normalised().id, "rewards": {text: 1.0, "es_star": float("nan")}, "reason": text}
    (run / "rollouts.jsonl").write_text(lines([row, row | {"record_id": text, "group": 1}]))
    (run / "metrics.jsonl").write_text(lines([metric(1, 0.5, **{f"rewards/{EVIL}/mean": 1.0, EVIL: EVIL})]))
    places = [run]
    for which, completions in (("before", BEFORE), ("after", AFTER)):
        place = write_evaluation(folder / f"{which}{name.name}", write_data(folder / "plain"), completions)
        result = json.loads((place / "results.json").read_text())
        made = {"model": EVIL, "adapter": EVIL, "prompt": EVIL, "sampling": {EVIL: EVIL}, "benchmark": EVIL}
        result["samples"]["made"] = made
        result |= {"command": EVIL, "started": EVIL, "label": EVIL, "benchmark": EVIL}
        (place / "results.json").write_text(json.dumps(result))
        places.append(place)
    return places


def page_of(folder: Path, *runs: Path, **flags: object) -> str:
    """The page of these runs, written by the program."""
    out = folder / "page.html"
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    ended = run_main(report.main, "report", *runs, "--out", out, *words)
    assert (ended.status, ended.stderr) == (0, ""), ended.stderr
    return out.read_text("utf-8")


def data_of(page: str) -> dict[str, Any]:
    """What the page's script reads."""
    return json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])
