"""HumanEval+ and MBPP+: prompts, samples, and evalplus itself, inside the sandbox, on problems of our own."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from conftest import run_script

from humaneval_tasks import load_functions
from prompts import EVALPLUS_STOPS
from sample_files import code_of

# Three problems in the form of evalplus's data file.
PROBLEMS = [
    {
        "task_id": "HumanEval/900",
        "prompt": 'def double(x: int) -> int:\n    """Return twice x.\n    >>> double(2)\n    4\n    """\n',
        "entry_point": "double",
        "canonical_solution": "    return 2 * x\n",
        "contract": "",
        "base_input": [[1], [2]],
        "plus_input": [[0], [-3], [10**20]],
        "atol": 0,
    },
    {
        "task_id": "HumanEval/901",
        "prompt": "from typing import List\n\n\n"
        'def largest(xs: List[int]) -> int:\n    """Return the largest, 0 if empty."""\n',
        "entry_point": "largest",
        "canonical_solution": "    return max(xs, default=0)\n",
        "contract": "",
        "base_input": [[[1, 3, 2]], [[5]]],
        "plus_input": [[[]], [[-1, -2]]],
        "atol": 0,
    },
    {
        "task_id": "HumanEval/902",
        "prompt": 'def half(x: float) -> float:\n    """Return the half of x."""\n',
        "entry_point": "half",
        "canonical_solution": "    return x / 2\n",
        "contract": "",
        "base_input": [[1.0]],
        "plus_input": [[3.0], [0.1]],
        "atol": 1e-6,
    },
]


def write_problems(path: Path, problems: list[dict] = PROBLEMS) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in problems)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_problems(tmp_path_factory.mktemp("functions") / "own.jsonl.gz")


def failure(script: str, *args: object, env: dict[str, str] | None = None) -> str:
    done = run_script(script, *args, check=False, env=env)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    return done.stderr


def test_the_problems_are_read_plain_and_compressed(data, tmp_path):
    tasks = load_functions(data)
    assert load_functions(write_problems(tmp_path / "own.jsonl")) == tasks
    assert [(task.id, task.entry_point) for task in tasks] == [
        ("HumanEval/900", "double"),
        ("HumanEval/901", "largest"),
        ("HumanEval/902", "half"),
    ]
    assert tasks[2].reference == 'def half(x: float) -> float:\n    """Return the half of x."""\n    return x / 2\n'


def test_our_prompt_and_evalplus_s(data):
    task = load_functions(data)[2]
    system, user, begun = task.messages()
    assert (system["role"], begun["content"]) == ("system", "Let me solve this step by step.\n<think>")
    assert "`half`" in user["content"]
    assert '```python\ndef half(x: float) -> float:\n    """Return the half of x."""\n```\n' in user["content"]
    assert task.messages("evalplus") == [
        {
            "role": "user",
            "content": "Please provide a self-contained Python script that solves the following problem in a markdown "
            'code block:\n```\ndef half(x: float) -> float:\n    """Return the half of x."""\n```\n',
        },
        {
            "role": "assistant",
            "content": "Below is a Python script with a self-contained function that solves the problem and passes "
            "corresponding tests:\n```python\n",
        },
    ]


def test_the_code_of_an_answer_in_evalplus_s_form():
    assert code_of("def f():\n\treturn 1\n```\nThis works.", "evalplus") == "def f():\n    return 1"
    assert code_of("def f():\n    return 1\nprint(f())\n```\n", "evalplus") == "def f():\n    return 1"
    assert code_of("def f():\n    return 1\n\ndef main():\n    f()", "evalplus") == "def f():\n    return 1\n"
    assert code_of("def f():\n    print(1)", "evalplus") == "def f():\n    print(1)"  # no newline right before it
    assert code_of("\n```\n", "evalplus") is None


def test_references_as_samples(data, tmp_path):
    out = tmp_path / "samples.jsonl"
    run_script("generate.py", "--benchmark", "humaneval", "--data", data, "--reference", "--out", out)
    assert [(row["task_id"], row["code"]) for row in read(out)] == [
        (row["task_id"], (row["prompt"] + row["canonical_solution"]).rstrip("\n")) for row in PROBLEMS
    ]


def test_samples_of_a_model_with_evalplus_s_prompt(data, random_model, tmp_path):
    """The file comes from evalplus's variable; the begun turn is sent; stop strings belong to the identity."""
    import hashlib

    out = tmp_path / "samples.jsonl"
    flags = ["--benchmark", "humaneval", "--prompt", "evalplus", "--model", random_model, "--out", out]
    flags += ["--samples", 2, "--max-new-tokens", 6, "--batch-size", 2, "--dtype", "float32"]
    run_script("generate.py", *flags, env={"HUMANEVAL_OVERRIDE_PATH": str(data)})
    found = read(out)
    assert len(found) == 6
    turn = (
        "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\nPlease provide a self-contained Python "
        'script that solves the following problem in a markdown code block:\n```\ndef half(x: float) -> float:\n    """'
        'Return the half of x."""\n```\n<|im_end|>\n<|im_start|>assistant\nBelow is a Python script with a '
        "self-contained function that solves the problem and passes corresponding tests:\n```python\n"
    )
    hashes = {row["prompt_sha256"] for row in found if row["task_id"] == "HumanEval/902"}
    assert hashes == {hashlib.sha256(turn.encode()).hexdigest()}
    identity = json.loads(out.with_suffix(".json").read_text())["identity"]
    assert identity["sampling"]["stop"] == list(EVALPLUS_STOPS)
    assert identity["data_sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()


def test_a_stop_string_ends_each_completion_of_a_batch(random_model):
    """Random weights write an "e" sooner or later: the row ends with the token that holds it, the others go on."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from engines import Request, with_transformers

    tokenizer = AutoTokenizer.from_pretrained(random_model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(random_model, dtype=torch.float32)
    sampling = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 40, "stop": ["e"]}
    [drawn] = with_transformers([[Request(f"t{i}", 0, "x", ()) for i in range(8)]], tokenizer, model, sampling, seed=1)
    longest = max(map(len, tokenizer.get_vocab()))
    lengths = set()
    for _, completion in drawn:
        stopped = "e" in completion.text or completion.completion_tokens < 40
        assert completion.finish_reason == ("stop" if stopped else "length")
        assert len(completion.text.partition("e")[2]) < longest
        lengths.add(completion.completion_tokens)
    assert len(lengths) > 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--benchmark", "humaneval"], "--data and --out are needed"),
        (["--benchmark", "arena", "--data", "x", "--prompt", "evalplus"], "is for --benchmark humaneval and mbpp"),
        (["--benchmark", "mbpp", "--data", "x", "--prompt", "one-shot"], "is CodeUpdateArena's own"),
        (["--benchmark", "mbpp", "--data", "x", "--no-docs"], "mbpp has no update to withhold"),
        (["--benchmark", "mbpp", "--data", "absent.jsonl", "--backend", "endpoint", "--url", "u"], "no such file"),
        (
            [
                "--benchmark",
                "mbpp",
                "--data",
                "x",
                "--prompt",
                "evalplus",
                "--backend",
                "endpoint",
                "--url",
                "u",
                "--dialect",
                "openai",
            ],
            "needs --dialect vllm",
        ),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, flags, message):
    assert message in failure("generate.py", "--model", "m", "--out", tmp_path / "s.jsonl", *flags)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no problem"),
        ("{", "own.jsonl:1: row: "),
        (json.dumps(PROBLEMS[0]) + "\n\n" + json.dumps(PROBLEMS[0]), "own.jsonl:2: task_id: HumanEval/900 stands"),
        (json.dumps({**PROBLEMS[0], "entry_point": 3}), "own.jsonl:1: entry_point: missing, empty or no text"),
    ],
)
def test_a_bad_data_file(tmp_path, text, message):
    path = tmp_path / "own.jsonl"
    path.write_text(text)
    flags = ["--benchmark", "humaneval", "--reference", "--out", tmp_path / "s.jsonl"]
    assert message in failure("generate.py", *flags, "--data", path)
