"""HumanEval+ and MBPP+: prompts, samples, and evalplus itself, inside the sandbox, on problems of our own."""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import os
import runpy
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from chat_templates import TRAINED, make_tokenizer
from conftest import run_script

from common.chat import chat_of
from common.errors import InputError
from common.estimates import pass_at_k
from evaluation.humaneval.problems import load_functions
from evaluation.humaneval.score import Judging, check, verdict_rows
from evaluation.prompts import EVALPLUS_STOPS, evalplus_messages
from evaluation.samples import Sample, code_of
from sandbox import InfrastructureError, mounts

ROOT = Path(__file__).parent.parent.parent.parent
PYTHON = Path(os.environ.get("EVALPLUS_PYTHON") or ROOT / ".venvs" / "evalplus" / "bin" / "python")
GOLD = Path(os.environ.get("HUMANEVAL_OVERRIDE_PATH") or "HUMANEVAL_OVERRIDE_PATH is not set")
evalplus = pytest.mark.skipif(not PYTHON.exists(), reason=f"{PYTHON}: requirements/humaneval.txt is not installed")

# Four problems in the form of evalplus's data file. The last one is there for its name.
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
    {
        "task_id": "HumanEval/32",
        "prompt": 'def find_zero(xs: list):\n    """Return x with xs[0] + xs[1] * x == 0."""\n',
        "entry_point": "find_zero",
        "canonical_solution": "    return -xs[0] / xs[1]\n",
        "contract": "",
        "base_input": [[[1, 2]]],
        "plus_input": [[[-3, 1]], [[0, 4]]],
        "atol": 1e-4,
    },
]
SWALLOWS = """def largest(xs):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass"""
# Four answers to each problem, and whether they pass the base and the plus inputs. posix has what evalplus's guard
# takes out of os: only the sandbox is between that answer and the caller's files.
DESTROYS = """import posix
posix.system("rm -rf VICTIM ~/.cache /evalplus/* /dev/shm/*; touch VICTIM/../written; echo out; echo err >&2")
def double(x):
    return 2 * x"""
ANSWERS = {
    "HumanEval/900": [
        ("def double(x):\n    return 2 * x", True, True),
        ("def double(x):\n    return abs(2 * x)", True, False),  # base: 1, 2; plus: -3
        ("def double(x):\n    while True:\n        pass", False, False),
        (DESTROYS, True, True),
    ],
    "HumanEval/901": [
        ("def largest(xs):\n    return max(xs, default=0)", True, True),
        ("def largest(xs):\n    return max(xs)", True, False),  # plus: the empty list
        (SWALLOWS, False, False),
        ("import os\ndef largest(xs):\n    os._exit(0)", False, False),
    ],
    "HumanEval/902": [
        ("def half(x):\n    return x / 2 + 1e-7", True, True),  # within the tolerance
        ("def half(x: Float):\n    return x / 2", False, False),  # a name that is not imported
        (None, False, False),
        ("def half(x):\n    return x / 2\n\nassert half(1) == 1", False, False),  # fails as a program
    ],
    "HumanEval/32": [("def find_zero(xs):\n    return -xs[0] / xs[1]", False, False)] * 4,  # right, and failed
}


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
        ("HumanEval/32", "find_zero"),
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
    out = tmp_path / "samples.jsonl"
    flags = ["--benchmark", "humaneval", "--prompt", "evalplus", "--model", random_model, "--out", out]
    flags += ["--samples", 2, "--max-new-tokens", 6, "--batch-size", 2, "--dtype", "float32"]
    run_script("generate.py", *flags, env={"HUMANEVAL_OVERRIDE_PATH": str(data)})
    found = read(out)
    assert len(found) == 8
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

    from common.completion import Sampling
    from evaluation.backends import Request, with_transformers

    tokenizer = AutoTokenizer.from_pretrained(random_model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(random_model, dtype=torch.float32)
    sampling = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=40, stop=("e",))
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
        (["--benchmark", "arena", "--data", "x", "--prompt", "evalplus"], "arena has the forms zero-shot, one-shot"),
        (["--benchmark", "mbpp", "--data", "x", "--prompt", "one-shot"], "mbpp has the forms zero-shot, evalplus"),
        (["--benchmark", "mbpp", "--data", "x", "--no-docs"], "mbpp has no update to withhold"),
        (
            ["--benchmark", "mbpp", "--data", "absent.jsonl", "--backend", "endpoint", "--url", "http://u"],
            "no such file",
        ),
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
                "http://u",
                "--dialect",
                "openai",
            ],
            "needs --dialect vllm",
        ),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, flags, message):
    nowhere = {"HUMANEVAL_OVERRIDE_PATH": "", "MBPP_OVERRIDE_PATH": ""}  # used if --data is not given
    assert message in failure("generate.py", "--model", "m", "--out", tmp_path / "s.jsonl", *flags, env=nowhere)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "contains no problem"),
        ("{", "own.jsonl:1: row: "),
        ('{"a":' * 50_000, "own.jsonl:1: row: nested too deeply: at most 100 levels"),
        ('{"a": ' + "9" * 5000 + "}", "own.jsonl:1: row: Exceeds the limit (4300 digits)"),
        ("null", "own.jsonl:1: row: input should be"),
        (json.dumps(PROBLEMS[0]) + "\n\n" + json.dumps(PROBLEMS[0]), "own.jsonl:3: task_id: HumanEval/900 is already"),
        (json.dumps({**PROBLEMS[0], "entry_point": 3}), "own.jsonl:1: entry_point: input should be a valid string"),
    ],
)
def test_a_bad_data_file(tmp_path, text, message):
    path = tmp_path / "own.jsonl"
    path.write_text(text)
    flags = ["--benchmark", "humaneval", "--reference", "--out", tmp_path / "s.jsonl"]
    assert message in failure("generate.py", *flags, "--data", path)


# --- evalplus itself -------------------------------------------------------------------------------------------------


def test_a_damaged_archive_is_named_in_one_line(tmp_path):
    path = write_problems(tmp_path / "own.jsonl.gz")
    whole = path.read_bytes()
    for damaged in (whole[:-20], whole[:30] + b"\xff" * 20 + whole[50:]):  # cut, overwritten
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"own\.jsonl\.gz: not a complete gzip file: "):
            load_functions(path)


@pytest.fixture(scope="module")
def boxed() -> None:
    try:
        mounts.binary()
    except mounts.InfrastructureError as error:
        pytest.skip(f"no sandbox here: {error}")


def write_samples(path: Path, answers: dict[str, list[str | None]], data: Path, **made: object) -> Path:
    """A samples file of these codes, and the note that src/generate.py leaves beside it."""
    rows = [
        {"task_id": task, "sample_id": i, "completion": code or "", "code": code, "finish_reason": "stop"}
        for task, codes in answers.items()
        for i, code in enumerate(codes)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = "mbpp" if next(iter(answers)).startswith("Mbpp") else "humaneval"
    note = {"benchmark": benchmark, "data_sha256": hashlib.sha256(data.read_bytes()).hexdigest(), **made}
    path.with_suffix(".json").write_text(json.dumps({"identity": note, "starts": []}))
    return path


def evaluate(*args: object, check: bool = True) -> subprocess.CompletedProcess:
    return run_script("score.py", "--python", PYTHON, *args, check=check)


def references(data: Path, folder: Path, *flags: object, benchmark: str = "humaneval", **limits: object) -> str:
    """The reference solutions of `data` as samples, judged; the scores are in folder/out."""
    samples = folder / "samples.jsonl"
    run_script("generate.py", "--benchmark", benchmark, "--data", data, "--reference", "--out", samples, *flags)
    judged = [word for flag, value in limits.items() for word in (f"--{flag.replace('_', '-')}", value)]
    return evaluate("--samples", samples, "--out", folder / "out", *judged).stdout


@pytest.fixture(scope="module")
def reference(boxed, data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evalplus")
    references(data, folder)
    return folder / "out"


@evalplus
def test_the_reference_solutions(reference):
    """All pass but HumanEval/32, which no answer passes: 3 of 4, and 3 of the other 3."""
    result = json.loads((reference / "results.json").read_text())
    assert {task: (count["base_passed"], count["passed"]) for task, count in result["tasks"].items()} == {
        "HumanEval/900": (1, 1),
        "HumanEval/901": (1, 1),
        "HumanEval/902": (1, 1),
        "HumanEval/32": (0, 0),
    }
    assert result["scores"]["pass@1"]["mean"] == 0.75
    assert result["scores_without_unpassable"]["pass@1"]["mean"] == 1
    assert (result["references_that_fail"], result["rates"]) == ({}, {"no_code": 0, "truncated": 0})
    assert (result["unpassable"], result["executed_with"]["evalplus"]) == (["HumanEval/32"], "0.3.1")
    assert "pass@5" not in result["scores"]  # one sample


@evalplus
@pytest.mark.slow
def test_right_wrong_endless_and_destructive_answers(reference, data, tmp_path):
    victim = tmp_path / "home" / "thesis"
    victim.mkdir(parents=True)
    (victim / "chapter").write_text("one")
    answers = {
        task: [code and code.replace("VICTIM", str(victim)) for code, *_ in mine] for task, mine in ANSWERS.items()
    }
    samples = write_samples(tmp_path / "samples.jsonl", answers, data, prompt="zero-shot", model="hand", sampling={})
    out = tmp_path / "out"
    flags = ["--data", data, "--samples", samples, "--out", out, "--k", "1,2"]
    flags += ["--min-time-limit", 3]  # seconds: this machine may be busy
    done = evaluate(*flags, "--label", "Qwen2.5-Coder-7B-Instruct/GRPO")
    text = done.stdout
    assert not {"out", "err"} & set((text + done.stderr).split("\n"))

    found = {(row["task_id"], row["sample_id"]): row for row in read(out / "verdicts.jsonl")}
    assert {key: [row["base_passed"], row["passed"]] for key, row in found.items()} == {
        (task, i): expected for task, mine in ANSWERS.items() for i, (_, *expected) in enumerate(mine)
    }
    assert found["HumanEval/901", 2]["base"] == found["HumanEval/901", 3]["base"] == "timeout"
    assert (victim / "chapter").read_text() == "one"
    assert not (victim.parent / "written").exists()

    # Right answers of four: 2, 1, 1 and 0 with the plus inputs, 3, 2, 1 and 0 with the base inputs.
    # pass@1 plus  (2 + 1 + 1) / 16 = 25.0            without the last task 4 / 12 = 33.3
    # pass@1 base  (3 + 2 + 1) / 16 = 37.5            6 / 12 = 50.0
    # pass@2 plus  1 - C(2,2)/C(4,2) = 5/6 and 1 - C(3,2)/C(4,2) = 1/2 twice: 11/6 of 4 = 45.8, of 3 = 61.1
    # pass@2 base  1, 5/6 and 1/2: 7/3 of 4 = 58.3, of 3 = 77.8
    cells = {line.split("|")[1].strip(): line.split("|")[2:] for line in text.splitlines() if line.startswith("| Pass")}
    numbers = [cell.split("(")[0].strip() for cell in cells["Pass@2"]]
    assert numbers[:5] == ["58.3", "45.8", "77.8", "61.1", "-"]
    first = next(line for line in text.splitlines() if line.startswith("| Pass@1"))
    assert [cell.split("(")[0].strip() for cell in first.split("|")[2:-1]] == ["37.5", "25.0", "50.0", "33.3", "82.3"]
    assert json.loads((out / "results.json").read_text())["references_that_fail"] == {}
    assert "Samples that pass: 6 base, 4 plus, of 16; without code 6.2 %" in text

    assert (out / "table.md").read_text() == text.split(f"\n\n{out}")[0] + "\n"

    # Against the references: 1, 1, 1, 0 before, 1/2, 1/4, 1/4, 0 now: (-1/2 - 3/4 - 3/4) / 4 = -50.0.
    text = run_script("score.py", "--compare", reference, out).stdout
    assert "4 problems: 0 better, 3 worse, 1 equal" in text
    assert "They were drawn with a different backend" in text
    assert "They were judged with different limits: min_time_limit 1.0 and 3.0." in text
    [row] = [line for line in text.splitlines() if line.startswith("| Pass@1 | 75.0 | 25.0 | ")]
    assert row.startswith("| Pass@1 | 75.0 | 25.0 | -50.0 (")
    # base: 1, 1, 1, 0 before, 3/4, 1/2, 1/4, 0 now: (-1/4 - 1/2 - 3/4) / 4 = -37.5
    assert "| base Pass@1 | 75.0 | 37.5 | -37.5 (" in text
    for line in ("-0.50  HumanEval/900", "-0.75  HumanEval/901", "-0.75  HumanEval/902"):
        assert line in text.splitlines()

    other = tmp_path / "other.jsonl"
    write_samples(other, {task: mine[:1] for task, mine in answers.items()}, data)
    assert "holds the results of other samples" in failure(
        "score.py", "--python", PYTHON, "--data", data, "--samples", other, "--out", out
    )


@evalplus
def test_an_answer_to_evalplus_s_prompt_is_sanitised(boxed, data, tmp_path):
    """The function and what it needs stay; a failing assert and an unrelated call go, which would end the program."""
    code = "import math\ndef helper(x):\n    return x + x\ndef NAME(x):\n    return helper(x)\nassert False\nquit()"
    answers = {"HumanEval/900": [code.replace("NAME", "double")] * 2, "HumanEval/901": ["not Python"] * 2}
    rows = [row for row in PROBLEMS if row["task_id"] in answers]
    two = write_problems(tmp_path / "two.jsonl", rows)
    samples = write_samples(tmp_path / "samples.jsonl", answers, two, prompt="evalplus")
    evaluate("--data", two, "--samples", samples, "--out", tmp_path / "out")
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {task: count["passed"] for task, count in result["tasks"].items()} == {
        "HumanEval/900": 2,
        "HumanEval/901": 0,
    }
    assert result["unpassable"] == []


@evalplus
def test_an_answer_that_ends_evalplus_ends_the_run(boxed, data, tmp_path):
    """No scores, and no answer counts as failed: the run reports that it has no results."""
    kills = "import posix\ndef double(x):\n    posix.kill(-1, 9)"
    answers = {row["task_id"]: [kills if row["entry_point"] == "double" else "x = 1"] for row in PROBLEMS}
    samples = write_samples(tmp_path / "samples.jsonl", answers, data)
    done = evaluate("--data", data, "--samples", samples, "--out", tmp_path / "out", check=False)
    assert done.returncode == 2
    assert "the sandbox, not the samples: evalplus ended without results" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@evalplus
@pytest.mark.slow
def test_an_answer_that_ends_a_worker_ends_the_run(boxed, data, tmp_path):
    """evalplus raises then, and the thread of its that waits for the last sample does not hold the run up."""
    kills = "import posix\nposix.kill(posix.getppid(), 9)"
    samples = write_samples(tmp_path / "samples.jsonl", {row["task_id"]: [kills] for row in PROBLEMS}, data)
    command = ["score.py", "--python", PYTHON, "--data", data, "--samples", samples, "--out", tmp_path / "out"]
    done = run_script(*command, check=False)
    assert done.returncode == 2
    assert "BrokenProcessPool" in done.stderr
    assert "evalplus ended without results, exit status 1" in done.stderr.splitlines()[-1]


@evalplus
def test_a_reference_that_is_too_slow_is_named(boxed, tmp_path):
    """It waits longer the second time, as if the machine had become busy: the sample passes, its reference does not."""
    known = "glob.glob('/tmp/.cache/evalplus/*.pkl')"  # there as soon as evalplus has the expected outputs
    slow = f"    import glob, time\n    time.sleep(3 if {known} else 0)\n    return 2 * x\n"
    path = write_problems(tmp_path / "own.jsonl", [{**PROBLEMS[0], "canonical_solution": slow}])
    samples = write_samples(tmp_path / "samples.jsonl", {"HumanEval/900": ["double = (2).__mul__"]}, path)
    text = evaluate("--data", path, "--samples", samples, "--out", tmp_path / "out").stdout
    assert "| Pass@1 | 100.0 (" in text
    assert "**Do not trust these scores**: 1 reference solutions did not pass" in text
    assert "HumanEval/900 (fail, fail)" in text
    (tmp_path / "references").mkdir()
    text = references(path, tmp_path / "references")
    assert "| Pass@1 | 0.0 (" in text
    assert "**Do not trust these scores**: 1 reference solutions did not pass" in text


@evalplus
def test_mbpp_and_a_subset(boxed, tmp_path):
    rows = [
        {
            **PROBLEMS[0],
            "task_id": f"Mbpp/{number}",
            "prompt": f'"""\nWrite a function to add {number}.\nassert add(1) == {1 + number}\n"""\n',
            "entry_point": "add",
            "canonical_solution": f"\ndef add(x):\n    return x + {number}\n",
        }
        for number in (900, 901, 902)
    ]
    path = write_problems(tmp_path / "own.jsonl", rows)
    text = references(path, tmp_path, "--limit", 2, benchmark="mbpp")
    assert "mbpp+, 2 problems x 1 samples" in text
    assert "| Pass@1 | 100.0 (100.0 to 100.0) | 100.0 (100.0 to 100.0) | - |" in text


@evalplus
@pytest.mark.parametrize("family", TRAINED)
def test_the_prompt_is_evalplus_s_own(family):
    """Byte for byte what make_raw_chat_prompt writes, but for a BOS that the tokenizer adds a second time."""
    code = "import evalplus; print(evalplus.__path__[0])"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    package = Path(done.stdout.strip())
    theirs = runpy.run_path(str(package / "provider" / "utility.py"))  # it imports nothing but typing
    tree = ast.parse((package / "codegen.py").read_text("utf-8"))
    [body] = [node.body for node in tree.body if getattr(node, "name", None) == "run_codegen"]
    told = {  # the first level of the function: below it they change for other benchmarks
        node.targets[0].id: node.value.value
        for node in body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    tokenizer, text = make_tokenizer(family), PROBLEMS[1]["prompt"]
    words = told["instruction_prefix"], told["response_prefix"]
    expected = theirs["make_raw_chat_prompt"](text.strip() + "\n", *words, tokenizer)
    assert chat_of(tokenizer).render(evalplus_messages(text)) == expected
    assert (*theirs["EOS"], "\n```\n") == EVALPLUS_STOPS  # the last: every decoder's, with a chat template


@evalplus
@pytest.mark.slow
@pytest.mark.skipif(not GOLD.is_file(), reason=f"{GOLD} is not there")
def test_the_reference_solutions_of_humaneval_plus(boxed, tmp_path):
    """On the variant with fewer inputs, so that it takes a minute; results/humaneval.md has the whole file."""
    references(GOLD, tmp_path, min_time_limit=10, sample_seconds=600)
    tasks = json.loads((tmp_path / "out" / "results.json").read_text())["tasks"]
    assert len(tasks) == 164
    assert [task for task, count in tasks.items() if not count["passed"]] == ["HumanEval/32"]


# --- without evalplus ------------------------------------------------------------------------------------------------


def test_results_are_matched_with_their_samples():
    samples = [
        Sample(task_id=task, sample_id=i, completion="", code="x", finish_reason=reason)
        for task, i, reason in [("a", 0, "stop"), ("a", 1, "length"), ("b", 0, "stop"), ("b", 1, "stop")]
    ]
    seen = [("pass", "pass"), ("pass", "fail"), ("timeout", "pass"), ("pass", "timeout")]
    judged = [{"base_status": base, "plus_status": plus} for base, plus in seen]
    good, slow = ({"base_status": "pass", "plus_status": status} for status in ("pass", "timeout"))
    rows, controls = verdict_rows(samples, {"b": [*judged[2:], slow], "a": [*judged[:2], good]})
    assert controls == {"b": {"base": "pass", "plus": "timeout"}}
    assert [(row["base_passed"], row["passed"], row["truncated"]) for row in rows] == [
        (True, True, False),
        (True, False, True),
        (False, False, False),  # plus counts only with base
        (True, False, False),
    ]
    own = {"HumanEval/1": [judged[2]], "HumanEval/2": [judged[0]], "HumanEval/32": [judged[1]]}
    samples_of_references = [samples[0].model_copy(update={"task_id": task}) for task in own]
    rows, controls = verdict_rows(samples_of_references, own, has_controls=False)
    assert [row["passed"] for row in rows] == [False, True, False]
    assert controls == {"HumanEval/1": {"base": "timeout", "plus": "pass"}}  # nobody passes HumanEval/32
    with pytest.raises(InputError, match="did not judge every sample"):
        verdict_rows(samples, {"a": [*judged[:2], good], "b": judged[2:]})
    assert pass_at_k(4, 2, 2) == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--samples and --out are needed"),
        (["--check"], "benchmark None: expected one of arena, multi, migration, humaneval, mbpp"),
        (["--benchmark", "arena", "--check"], "--check: not for arena"),
        (["--benchmark", "humaneval", "--check", "--seconds", "3"], "--seconds: not for humaneval"),
        (["--benchmark", "mbpp", "--check", "--errata", "x"], "--errata: not for mbpp"),
        (["--benchmark", "humaneval", "--check", "--workers", "0"], "argument --workers: 0 is not above 0"),
        (["--benchmark", "humaneval", "--check", "--label", "mine"], "argument --label: invalid choice: 'mine'"),
        (["--benchmark", "humaneval", "--check", "--python", "/absent/python"], "/absent/python: No such file"),
        (["--compare", "x"], "--compare needs two results or more"),
    ],
)
def test_mistakes_in_the_command(flags, message):
    assert message in failure("score.py", *flags, env={"HUMANEVAL_OVERRIDE_PATH": ""})


@evalplus
def test_the_check_before_anything_is_sampled(boxed, data):
    text = evaluate("--benchmark", "humaneval", "--check", "--data", data).stdout
    assert text == f"evalplus, its sandbox and {data} are here\n"


def test_an_environment_without_evalplus(tmp_path):
    import sys
    from importlib.util import find_spec

    if find_spec("evalplus"):
        pytest.skip("evalplus is installed here")
    here = {"HUMANEVAL_OVERRIDE_PATH": ""}
    asks = ["--benchmark", "humaneval", "--python", sys.executable]
    for command in (
        ["score.py", *asks, "--check"],
        ["generate.py", *asks, "--reference", "--out", tmp_path / "s.jsonl"],  # which would download evalplus's data
    ):
        assert "evalplus is not installed: python -m venv .venvs/evalplus" in failure(*command, env=here)


def test_an_environment_that_programs_cannot_import_stops_the_run(boxed, tmp_path):
    """The judge's check runs as the user who judges; the packages here are empty ones of these names."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    (packages,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (packages / "evalplus").mkdir()
    for name in ("evalplus/__init__.py", "evalplus/evaluate.py", "evalplus/sanitize.py", "numpy.py"):
        (packages / name).touch()
    limits = {"workers": 1, "sample_seconds": 1.0}
    how = Judging("humaneval", tmp_path, str(tmp_path / "env" / "bin" / "python"), unsafe=False, limits=limits)
    check(how)
    (packages / "numpy.py").unlink()
    with pytest.raises(InfrastructureError, match=r"^programs \(as .*\) cannot import what .*No module named 'numpy'"):
        check(how)
    (packages / "numpy.py").touch()
    if mounts.ROOT:
        (packages / "evalplus").chmod(0o700)
        with pytest.raises(InfrastructureError, match=r"as a user without files\) cannot import what .*'evalplus"):
            check(how)


def test_the_judge_s_check_imports_what_the_judge_imports():
    """Under an interpreter without evalplus it fails, before any sample has been drawn."""
    from importlib.util import find_spec

    if find_spec("evalplus"):
        pytest.skip("evalplus is installed here")
    judge = ROOT / "src" / "evaluation" / "humaneval" / "judge.py"
    done = subprocess.run([sys.executable, judge, "--bare", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "No module named 'evalplus'" in done.stderr


@pytest.mark.skipif(not Path(PYTHON).exists(), reason="evalplus's environment is not here")
def test_the_judge_s_check_passes_where_evalplus_is():
    judge = ROOT / "src" / "evaluation" / "humaneval" / "judge.py"
    done = subprocess.run([PYTHON, judge, "--bare", "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
