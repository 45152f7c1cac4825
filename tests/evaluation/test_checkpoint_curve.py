"""Curves over checkpoints: what is chosen, what is refused, what is drawn, and a real run of both trainers' kinds."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CPU, ROOT, run_script
from mini_arena import ADD, RENAME, ROWS, write_data

import checkpoint_curve
import sandbox
from checkpoint_curve import Protocol, Run, choose, claim, protocol_of
from common.checkpoints import Checkpoint, base_of, find_checkpoints, run_start
from common.errors import InputError
from common.provenance import sha256
from common.run_logs import at_step, ema, series
from evaluation.curve import baselines, curve_rows, evaluation, learning_curve, lengths, markdown
from evaluation.curve_run import read_run

IDS = [row["prog_syn_id"] for row in ROWS]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- the training log ------------------------------------------------------------------------------------------------


def test_the_moving_average_at_the_paper_s_weight():
    """1, 3, 2 at 0.9: 1; (0.09 + 0.3) / 0.19 = 2.0526; (0.081 + 0.27 + 0.2) / 0.271 = 2.0332."""
    assert ema([1.0, 3.0, 2.0], 0.9) == pytest.approx([1.0, 0.39 / 0.19, 0.551 / 0.271])
    assert ema([], 0.9) == []


def test_both_trainers_logs():
    grpo = [
        {"step": 1, "reward": -1.0, "frac_reward_zero_std": 0.5},
        {"step": 2, "loss": 0.1},
        {"step": 3, "reward": 2.0},
    ]
    dapo = [
        {"step": 0, "val-core/x": 1.0},
        {"step": 1, "reward/before_filter/score": 0.5, "response_length/mean": 40.0},
    ]
    assert series(grpo, "reward") == ([1, 3], [-1.0, 2.0])
    assert series(grpo, "zero_variance_share") == ([1], [0.5])
    assert series(grpo, "response_length") == ([], [])
    assert series(dapo, "reward") == ([1], [0.5])
    assert series(dapo, "response_length") == ([1], [40.0])
    assert [at_step([1, 3], [-1.0, 2.0], step) for step in (0, 1, 2, 3, 9)] == [None, -1.0, -1.0, 2.0, 2.0]


# --- checkpoints and settings ----------------------------------------------------------------------------------------


def trl_checkpoint(run: Path, step: int, *, whole: bool = True, kind: str = "adapter_config.json") -> Path:
    """The files that say what a checkpoint of trl's is."""
    folder = run / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / kind).write_text("{}")
    weights = {"adapter_config.json": "adapter_model.safetensors", "config.json": "model.safetensors"}[kind]
    (folder / weights).write_bytes((2).to_bytes(8, "little") + b"{}")  # a safetensors file without tensors
    (folder / "trainer_state.json").write_text(f'{{"global_step": {step}}}' if whole else '{"global_st')
    return folder


def start_of(model: Path | str, **more: object) -> dict:
    return {"started": "2026-01-01", "resumed_from": None, "config": {"model_name_or_path": str(model)}, **more}


def test_checkpoints_are_found_by_step_and_cut_ones_passed_over(tmp_path):
    trl_checkpoint(tmp_path, 10)
    trl_checkpoint(tmp_path, 9, kind="config.json")
    trl_checkpoint(tmp_path, 12, whole=False)
    (tmp_path / "checkpoint-final").mkdir()
    actor = tmp_path / "global_step_11" / "actor"
    actor.mkdir(parents=True)
    (actor / "fsdp_config.json").write_text('{"world_size": 1}')
    (actor / "model_world_size_1_rank_0.pt").write_bytes(b"PK\x03\x04 cut short")
    found = [(c.step, c.kind) for c in find_checkpoints(tmp_path)]
    assert found == [(9, "model"), (10, "adapter")]
    import torch

    torch.save({}, actor / "model_world_size_1_rank_0.pt")
    assert [(c.step, c.kind) for c in find_checkpoints(tmp_path)] == [*found, (11, "verl")]
    assert find_checkpoints(tmp_path / "absent") == []


def test_the_run_s_start_and_its_base(tmp_path):
    first, second = start_of("a"), start_of("b", config={"model_name_or_path": "b", "model_revision": "r"})
    resumed = start_of("c", resumed_from="checkpoint-3")
    (tmp_path / "run.json").write_text(json.dumps({"starts": [first, second, resumed]}))
    assert base_of(run_start(tmp_path)) == ("b", "r")  # a start from nothing wrote over the first
    assert base_of({"config": {"actor_rollout_ref": {"model": {"path": "/m"}}}}) == ("/m", "main")
    verl = [{"actor_rollout_ref": value} for value in (3, {"model": "x"}, {"model": {"path": None}})]
    for config in ({}, {"model_name_or_path": 3}, {"model_name_or_path": "a", "model_revision": 3}, *verl):
        with pytest.raises(InputError, match="is missing or not text: name the base model with --base"):
            base_of({"config": config})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"null\n", ":1: not a JSON object"),
        (b'{"step": "1"}\n', ":1: step: missing or not a number"),
        (b'{"reward": 1}\n', ":1: step: missing or not a number"),
        (b'{"step": 1, "reward": "x"}\n', ":1: reward: missing or not a number"),
        (b'{"step": 1}\n{"step": 2, "response_length/mean": [1]}\n', ":2: response_length/mean: missing or not"),
        (b'{"step": 1, "x": "\xe9"}\n', ":1: not JSON"),
    ],
)
def test_metrics_that_cannot_be_drawn(tmp_path, content, message):
    (tmp_path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(InputError) as error:
        read_run(tmp_path, "base")
    assert str(error.value).startswith(f"{tmp_path / 'metrics.jsonl'}{message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("null", "input should be a valid dictionary"),
        ("{", "not JSON"),
        ("{}", "benchmark: field required"),
        ({"benchmark": "humaneval+", "errata": 3}, "errata: input should be a valid dictionary"),
        (
            {"scores": {"pass@1": {"mean": 0.5, "low": None, "high": None}}},
            "scores.pass@1: expected mean, low and high",
        ),
        ({"samples": {"sha256": "x", "made": {}}}, "samples.made: benchmark: field required"),
        ({"samples": {"sha256": "x", "made": {"benchmark": "arena", "data_sha256": "x"}}}, "samples.made: not samples"),
    ],
)
def test_scores_of_a_checkpoint_that_cannot_be_drawn(tmp_path, stops, content, message):
    whole = {**scored(0, [1, 2]), "benchmark": "arena", "data": {}}
    whole["samples"]["made"]["benchmark"] = "arena"
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "run.json").write_text(json.dumps({"starts": [start_of("a")]}))
    path = tmp_path / "curve" / "step-0" / "results.json"
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps({**whole, **content}))
    assert f": {path}: {message}" in stops(checkpoint_curve.main, "--run", tmp_path, "--plot-only")


@pytest.mark.parametrize("content", ["null", "[]", "{}", "{"])
def test_settings_that_cannot_be_read(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(InputError, match=r"settings\.json: "):
        claim(tmp_path, {"data_sha256": "x"}, write=True)


def test_the_figures_are_tried_first(tmp_path, stops):
    (tmp_path / "curve" / "curve.png").mkdir(parents=True)
    line = stops(checkpoint_curve.main, "--run", tmp_path)
    assert "curve/curve.png: is a folder; expected a file to write" in line
    assert "cannot be written: " in stops(checkpoint_curve.main, "--run", tmp_path, "--out", "/proc/none")


def test_which_checkpoints():
    there = [Checkpoint(step, "adapter") for step in (100, 200, 300, 350)]

    def steps(every=None, wanted=None):
        return [checkpoint.step for checkpoint in choose(there, every, wanted)]

    assert steps() == [0, 100, 200, 300, 350]
    assert steps(every=200) == [0, 200, 350]
    assert steps(wanted="300,100") == [100, 300]
    assert steps(wanted="0") == [0]
    with pytest.raises(InputError, match="no checkpoint of step 150; there are 0, 100, 200, 300, 350"):
        steps(wanted="150")
    with pytest.raises(InputError, match="--steps 'last'"):
        steps(wanted="last")


@pytest.fixture
def protocol(tmp_path):
    """`protocol_of` for a YAML and flags, with a data file and a run of 2026."""
    data = tmp_path / "data.jsonl"
    data.write_text("{}")
    run = Run(tmp_path, {"started": "2026"}, "base", "main", [])

    def make(config: dict, *flags: str) -> Protocol:
        path = tmp_path / "config.yaml"
        path.write_text(json.dumps({"data": str(data), **config}))  # JSON is YAML
        return protocol_of(path, flags, ["--workers", "2"], run)

    return make


def test_the_settings_are_read_by_generate_s_own_parser(protocol):
    config = {"benchmark": "arena", "backend": "vllm", "top_p": 0.7, "no_docs": False, "limit": None}
    settings = protocol(config).settings
    assert (settings["backend"], settings["top_p"], settings["no_docs"], settings["limit"]) == ("vllm", 0.7, False, 100)
    assert settings["data_sha256"] == hashlib.sha256(b"{}").hexdigest()
    assert (settings["start of the run"], settings["score flags"]) == ("2026", "--workers 2")
    flags = ["--backend", "transformers", "--no-docs", "--top-p=0.70", "--seed", "7", "--limit", "7"]
    found = protocol(config, *flags)
    assert found.settings == settings | {"backend": "transformers", "no_docs": True, "seed": 7, "limit": 7}
    assert found.flags[2:] == (*flags, "--limit", "7")


@pytest.mark.parametrize(
    ("config", "flags", "message"),
    [
        ({}, ["--model", "x"], "--model: not available here"),
        ({"adapter": "x"}, [], "--adapter: not available here"),
        ({"benchmark": "multi"}, [], "a curve is of CodeUpdateArena"),
        ({}, ["--backend=endpoint"], "--backend endpoint: a server holds one model"),
        ({"data": "absent.jsonl"}, [], "absent.jsonl: no such file"),
        ({"limit": 1}, [], "--limit 1: an interval needs at least 2 problems"),
    ],
)
def test_flags_that_a_curve_cannot_have(protocol, config, flags, message):
    with pytest.raises(InputError, match=message):
        protocol(config, *flags)


def test_words_that_generate_does_not_know(protocol, capsys):
    hint = "--temprature: did you mean --temperature?"  # the value is not shown
    for words, shown in ((["runs/grpo"], "runs/grpo"), (["--temprature", "1"], hint)):
        with pytest.raises(SystemExit) as stopped:
            protocol({}, *words)
        assert stopped.value.code == 2
        assert capsys.readouterr().err.endswith(f": unrecognized arguments: {shown}\n")


def test_settings_never_mix(tmp_path):
    old = {"limit": 20, "top_p": 0.7, "data": "a.jsonl", "data_sha256": "aa"}
    claim(tmp_path, old, write=False)
    assert not (tmp_path / "settings.json").exists()
    claim(tmp_path, old, write=True)
    claim(tmp_path, {**old, "data": "moved.jsonl"}, write=True)
    assert json.loads((tmp_path / "settings.json").read_text()) == old
    for change, message in {
        ("limit", 40): "limit 20, now 40",
        ("data_sha256", "bb"): "data_sha256 aa, now bb",
        ("seed", 1): "seed None, now 1",
    }.items():
        with pytest.raises(InputError, match=message):
            claim(tmp_path, old | dict([change]), write=True)
    del old["top_p"]
    with pytest.raises(InputError, match=r"top_p 0.7, now None: choose another --out"):
        claim(tmp_path, old, write=True)


def test_bad_input_ends_in_one_line(tmp_path):
    """In the order in which a run's folder is looked at; nothing is written."""
    run, data = tmp_path / "run", write_data(tmp_path / "mini.jsonl")
    run.mkdir()

    def failure(*flags: object) -> str:
        done = run_script("checkpoint_curve.py", "--run", run, *flags, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        return done.stderr

    assert "no metrics.jsonl there" in failure()
    (run / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5}\n')
    assert "run.json: not there" in failure()
    (run / "run.json").write_text(json.dumps({"starts": [start_of(tmp_path / "absent" / "model")]}))
    assert "no complete checkpoint-N or global_step_N there" in failure()
    trl_checkpoint(run, 2)
    assert "no such file" in failure("--config", tmp_path / "absent.yaml")
    assert "absent/model: no such folder" in failure("--data", data)
    assert "nothing has been scored yet" in failure("--plot-only")
    assert "leave out --samples" in failure("--plot-only", "--samples", 2)
    assert "--limit 1: an interval needs" in failure("--data", data, "--limit", 1)
    assert "argument --every: 0 is not above 0" in failure("--data", data, "--every", 0)
    assert "--ema: 1 is not at least 0 and below 1" in failure("--ema", 1)
    assert "argument --k: x: expected numbers" in failure("--data", data, "--score-flags=--k x")
    assert not (run / "curve").exists()


# --- table and figures -----------------------------------------------------------------------------------------------


def scored(step: int, passed: list[int], **made: object) -> dict:
    """What src/score.py writes, as far as a curve reads it: `passed` of 2 samples of each problem."""
    counts = {f"task {i}": {"n": 2, "passed": p, "upassed": 0} for i, p in enumerate(passed)}
    mean = sum(passed) / 2 / len(passed)
    identity = {
        "backend": "transformers",
        "prompt": "zero-shot",
        "docs": True,
        "dtype": "float32",
        "data": f"at {step}",
    }
    identity |= {"data_sha256": "d" * 64, "sampling": {"temperature": 0.8}, "limit": len(passed), "model": "base"}
    identity |= {"adapter": f"run/checkpoint-{step}" if step else None, "adapter_sha256": str(step)}
    identity |= {"model_sha256": {"model.safetensors": "b"}, "model_commit": None, **made}
    return {
        "problems": len(passed),
        "samples_per_problem": 2,
        "scores": {"pass@1": {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}},
        "scores_without_errata": {},
        **{"tasks": counts, "rates": {"format": 1.0}, "errata": None, "executed_with": {"numpy": "2"}},
        "samples": {"sha256": f"samples {step}", "made": identity},
    }


RESULTS = {0: scored(0, [1, 0, 1, 2]), 10: scored(10, [2, 0, 2, 2])}
LOG = [
    {"step": step, "reward": float(step), "completions/mean_length": 100.0 * step, "frac_reward_zero_std": 0.25}
    for step in (1, 2)
]


def curve(results: dict[int, dict] = RESULTS, log: list[dict] = LOG) -> dict:
    return {
        **{"folder": "runs/x", "base": "models/base", "ema": 0.5, "paper": baselines()},
        "run": {"started": "2026-01-01", "commit": "abc", "seed": 42},
        "evaluation": evaluation(results),
        "steps": curve_rows(results, log, 0.5),
    }


def test_the_rows():
    """Pass@1 of 4 problems: 0.5, 0, 0.5, 1 (mean 0.5), then 1, 0, 1, 1 (0.75): paired, +0.5, 0, +0.5, 0: mean +0.25.

    The reward logged by step 10: 1, then 2; EMA 0.5: (0.5 * 0.5 * 1 + 0.5 * 2) / 0.75 = 1.25 / 0.75.
    """
    first, last = curve()["steps"]
    assert (first["step"], first["gain"], first["reward"]) == (0, None, {"logged": None, "ema": None})
    assert last["scores"] == RESULTS[10]["scores"]
    assert last["gain"]["mean"] == 0.25
    assert 0 <= last["gain"]["low"] < 0.25 < last["gain"]["high"] <= 0.5
    assert last["reward"] == {"logged": 2.0, "ema": pytest.approx(1.25 / 0.75)}
    assert last["zero_variance_share"] == {"logged": 0.25, "ema": 0.25}
    assert (last["adapter"], last["samples_sha256"]) == ("run/checkpoint-10", "samples 10")


def test_the_table():
    text = markdown(curve())
    assert "started 2026-01-01, commit abc, seed 42, base model models/base" in text
    assert "4 problems x 2 samples" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[2] == "| 0 | 50.0 (40.0 to 60.0) | - | - | - | - |"
    assert rows[3].startswith("| 10 | 75.0 (65.0 to 85.0) | 25.0 (")
    assert rows[3].endswith("| 1.67 | 167 | 0.25 |")
    assert "on all 670 problems: Qwen2.5-Coder-32B-Instruct 75.7; DeepSeek-R1-Distill-Qwen-32B 78.2." in text


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (scored(10, [1, 1, 1, 1], sampling={"temperature": 0.0}), "steps 0 and 10 differ in sampling"),
        (scored(10, [1, 1, 1]), "steps 0 and 10 differ in limit"),
        (scored(10, [1, 1, 1, 1]) | {"executed_with": {"numpy": "3"}}, "steps 0 and 10 differ in executed_with"),
        (scored(10, [1, 1, 1, 1], model_sha256={}), "steps 0 and 10 are not of the same base model"),
    ],
)
def test_two_evaluations_are_no_curve(other, message):
    with pytest.raises(ValueError, match=message):
        evaluation({0: RESULTS[0], 10: other})


def test_a_whole_model_of_its_own_weights_is_one_curve():
    evaluation({0: RESULTS[0], 10: scored(10, [1, 1, 1, 1], adapter=None, model_sha256={"model.safetensors": "c"})})


@pytest.mark.parametrize(("results", "cut"), [(RESULTS, False), ({0: scored(0, [0, 0, 0, 1])}, True)])
def test_the_figure_has_the_paper_s_lines(results, cut):
    """The axis is cut only where the baselines are more than twice as high as the highest interval: 75.7 > 2 * 22.5."""
    figure = learning_curve(curve(results), LOG)
    axes = figure.axes
    assert len(axes) == (3 if cut else 2)
    dashed = {tuple(line.get_ydata()): line.get_linestyle() for line in axes[1].lines if len(line.get_xdata()) == 2}
    assert dashed[75.7, 75.7] == "--"
    assert dashed[78.2, 78.2] == "-."
    low, high = axes[1].get_ylim()
    assert low < 75.7 < 78.2 < high
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [
        "this run, with its 95 % interval",
        "Qwen2.5-Coder-32B-Instruct: 75.7 in the paper",
        "DeepSeek-R1-Distill-Qwen-32B: 78.2 in the paper",
    ]
    [bars] = axes[-1].containers
    assert [list(map(float, values)) for values in bars.lines[0].get_data()] == [
        sorted(results),
        [100 * result["scores"]["pass@1"]["mean"] for _, result in sorted(results.items())],
    ]
    logged, smooth = axes[0].lines
    assert list(logged.get_ydata()) == [1.0, 2.0]
    assert list(smooth.get_ydata()) == pytest.approx([1.0, 1.25 / 0.75])
    figure.canvas.draw()


def test_the_second_figure_and_a_log_without_its_keys():
    top, bottom = lengths(curve(), LOG).axes
    assert list(top.lines[0].get_ydata()) == [100.0, 200.0]
    assert list(bottom.lines[1].get_ydata()) == [25.0, 25.0]  # percent
    for axis in lengths(curve(log=[{"step": 1, "loss": 2.0}]), []).axes:
        assert [text.get_text() for text in axis.texts] == ["not in metrics.jsonl"]


# --- real runs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    try:
        sandbox.check_ready()
    except sandbox.InfrastructureError as error:
        pytest.skip(f"no sandbox here: {error}")
    return write_data(tmp_path_factory.mktemp("mini") / "mini.jsonl")


@pytest.fixture(scope="module")
def learned(random_model: Path, data: Path, tmp_path_factory) -> Path:
    """The tiny model after it has learned the reference answers of two of the five problems by heart."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from common.chat import chat_of
    from evaluation.arena.problems import load_tasks
    from prompts import reference_completion

    tokenizer = AutoTokenizer.from_pretrained(random_model)
    chat = chat_of(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(random_model, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    rows = []
    for task in load_tasks(data):
        if task.id in (RENAME["prog_syn_id"], ADD["prog_syn_id"]):
            prompt = chat.encode(chat.render(task.messages()))
            answer = tokenizer(reference_completion(task.reference) + tokenizer.eos_token)["input_ids"]
            rows.append((torch.tensor([prompt + answer]), torch.tensor([[-100] * len(prompt) + answer])))
    for _ in range(120):
        losses = [model(input_ids=ids, labels=labels).loss for ids, labels in rows]
        sum(losses).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if max(losses).item() < 0.01:
            break
    folder = tmp_path_factory.mktemp("models") / "learned"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


GREEDY = ["--backend", "transformers", "--samples", 1, "--temperature", 0, "--max-new-tokens", 60, "--batch-size", 5]
GREEDY += ["--dtype", "float32", "--limit", 5]


def command(run: Path, data: Path, *flags: object) -> list[str]:
    words = [sys.executable, ROOT / "src" / "checkpoint_curve.py", "--run", run, "--data", data, *GREEDY, *flags]
    return list(map(str, words))


def call(run: Path, data: Path, *flags: object, check: bool = True) -> subprocess.CompletedProcess:
    return run_script(*command(run, data, *flags)[1:], check=check)


@pytest.fixture(scope="module")
def grpo(learned: Path, tiny_data: Path, tmp_path_factory) -> Path:
    """A GRPO run of two steps with a checkpoint after each, and one of three that was cut short."""
    out = tmp_path_factory.mktemp("runs") / "grpo"
    run_script(
        *("grpo.py", "--model_name_or_path", learned, "--data", tiny_data, "--output_dir", out, *CPU),
        *("--use_peft", "true", "--use_dora", "true", "--lora_r", 4, "--lora_alpha", 8, "--lora_dropout", "0.0"),
        *("--max_steps", 2, "--num_generations", 4, "--per_device_train_batch_size", 4, "--prompts_per_step", 1),
        *("--max_completion_length", 40, "--learning_rate", "1e-2", "--lr_scheduler_type", "constant"),
        *("--beta", "0.0", "--gradient_checkpointing", "false", "--save_steps", 1, "--print_samples", 0),
    )
    trl_checkpoint(out, 3, whole=False)
    return out


def is_generate(pid: str) -> bool:
    """Whether this process is src/generate.py, and not a fork that has yet to become it."""
    try:
        return b"generate.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return False


@pytest.fixture(scope="module")
def killed(grpo: Path, data: Path) -> Path:
    """The curve's folder, after its call has got SIGKILL in the middle and was started again."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    started = subprocess.Popen(
        *(command(grpo, data),),
        **{"cwd": ROOT, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL},
        start_new_session=True,
    )
    deadline = time.time() + 300
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
    log = grpo / "curve" / "step-1" / "log.txt"  # there a moment before the program that writes to it
    while not (log.exists() and any(map(is_generate, children.read_text().split()))):
        assert started.poll() is None, "it ended before it could be killed"
        assert time.time() < deadline
        time.sleep(0.02)
    started.kill()
    started.wait()
    assert (grpo / "curve" / "curve.json").is_file()  # step 0 is drawn
    orphaned = call(grpo, data, check=False)  # src/generate.py is still running alone
    assert (orphaned.returncode, orphaned.stderr.count("\n")) == (2, 1)
    assert "is still running there" in orphaned.stderr
    os.killpg(started.pid, signal.SIGKILL)
    before = (grpo / "curve" / "step-0" / "results.json").stat().st_mtime_ns
    deadline = time.time() + 30
    while (done := call(grpo, data, check=False)).returncode == 2 and "still running" in done.stderr:
        assert time.time() < deadline  # the killed programs are not gone yet
    assert done.returncode == 0, done.stderr
    assert "1/3" in done.stderr  # the bar: step 0 counts as done
    assert (grpo / "curve" / "step-0" / "results.json").stat().st_mtime_ns == before
    return grpo / "curve"


@pytest.mark.slow
def test_the_curve_of_a_grpo_run(killed, grpo, learned):
    """Step 0 answers two of five problems; each step's numbers are what src/score.py wrote."""
    found = json.loads((killed / "curve.json").read_text())
    assert [row["step"] for row in found["steps"]] == [0, 1, 2]
    metrics = {row["step"]: row for row in lines(grpo / "metrics.jsonl")}
    for row in found["steps"]:
        result = json.loads((killed / f"step-{row['step']}" / "results.json").read_text())
        assert row["scores"] == result["scores"]
        assert row["samples_sha256"] == result["samples"]["sha256"]
        passed = [task["passed"] for task in result["tasks"].values()]
        assert row["scores"]["pass@1"]["mean"] == sum(passed) / 5
        if row["step"]:
            assert row["adapter"] == str(grpo / f"checkpoint-{row['step']}")
            assert row["adapter_sha256"] == sha256(Path(row["adapter"]) / "adapter_model.safetensors")
            assert row["reward"]["logged"] == metrics[row["step"]]["reward"]
    first, second = (metrics[step]["reward"] for step in (1, 2))
    assert found["steps"][0]["scores"]["pass@1"]["mean"] == 0.4
    assert found["steps"][2]["reward"]["ema"] == pytest.approx((0.09 * first + 0.1 * second) / 0.19)
    assert found["base"] == str(learned)
    assert found["run"]["started"] == json.loads((grpo / "run.json").read_text())["starts"][0]["started"]
    assert (found["evaluation"]["limit"], found["evaluation"]["sampling"]["temperature"]) == (5, 0.0)
    assert (killed / "curve.md").read_text() == markdown(found) + "\n"
    for name in ("curve.png", "lengths.png"):
        assert (killed / name).read_bytes().startswith(b"\x89PNG")


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("step-*/*")}


@pytest.mark.slow
def test_a_second_call_evaluates_nothing_and_another_subset_is_refused(killed, grpo, data):
    before, table = times(killed), (killed / "curve.md").read_text()
    assert "all 3 checkpoints have their scores" in call(grpo, data).stdout
    assert table in run_script("checkpoint_curve.py", "--run", grpo, "--plot-only").stdout
    for flags, message in {
        ("--limit", 3): "holds a curve with limit 5, now 3: choose another --out",
        ("--seed", 7): "holds a curve with seed 42, now 7",
    }.items():
        done = call(grpo, data, *flags, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert message in done.stderr
    run_script("checkpoint_curve.py", "--run", grpo, "--plot-only", "--ema", 0.5)
    assert "EMA 0.5" in (killed / "curve.md").read_text()
    assert times(killed) == before


@pytest.mark.slow
def test_flags_that_generate_refuses_claim_nothing(grpo, data, tmp_path):
    done = call(grpo, data, "--out", tmp_path / "out", "--prompt", "evalplus", check=False)
    assert done.returncode == 2
    printed = [line for line in done.stderr.splitlines() if line and not line.startswith("checkpoints:")]  # but the bar
    assert printed == ["generate: --prompt evalplus: arena has the forms zero-shot, one-shot"]
    assert not (tmp_path / "out" / "settings.json").exists()


@pytest.mark.slow
def test_a_dapo_checkpoint_is_merged_for_its_evaluation(verl, learned, data, tmp_path):
    """verl's own checkpoint of a DoRA policy that noise has moved: what step 0 had learned by heart is gone."""
    from verl_runs import run_engine

    run = tmp_path / "dapo"
    run_engine(1, [("merge", learned, run)])
    start = {"started": "x", "config": {"actor_rollout_ref": {"model": {"path": str(learned)}}}}
    (run / "run.json").write_text(json.dumps({"starts": [start]}))
    (run / "metrics.jsonl").write_text('{"step": 1, "reward/before_filter/score": 0.5, "response_length/mean": 9.0}\n')
    call(run, data)
    found = json.loads((run / "curve" / "curve.json").read_text())
    assert [row["step"] for row in found["steps"]] == [0, 1]
    assert [row["scores"]["pass@1"]["mean"] for row in found["steps"]] == [0.4, 0.0]
    assert found["steps"][1]["gain"]["mean"] == pytest.approx(-0.4)
    assert found["steps"][1]["reward"] == {"logged": 0.5, "ema": 0.5}
    assert not (run / "curve" / "step-1" / "merged").exists()
