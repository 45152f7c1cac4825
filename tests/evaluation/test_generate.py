"""Drawing samples, through the command line: what is written, what an interruption leaves, what must not be mixed."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest
from chat_server import ok
from chat_templates import FAMILIES, make_family
from conftest import run_script
from mini_arena import ROWS, write_data

import generate
from common.completion import NoAnswer, Sampling
from common.errors import InputError
from evaluation.arena.problems import load_tasks
from evaluation.backends import LocalModel, Request, derived_seed, plan_batches, with_vllm
from evaluation.flags import parse_arguments
from evaluation.samples import code_of, read_samples

QUICK = ["--max-new-tokens", 6, "--batch-size", 2, "--dtype", "float32"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("mini") / "mini.jsonl")


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def failure(*args: object) -> str:
    done = run_script("generate.py", *args, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_references_as_samples(data, tmp_path):
    out = tmp_path / "samples.jsonl"
    run_script("generate.py", "--data", data, "--reference", "--out", out)
    assert [(row["task_id"], row["sample_id"], row["code"], row["finish_reason"]) for row in rows(out)] == [
        (row["prog_syn_id"], 0, row["ref_solution"].rstrip("\n"), "stop") for row in ROWS
    ]
    note = json.loads((tmp_path / "samples.json").read_text())
    assert note["identity"]["backend"] == "reference"
    assert note["identity"]["data_sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    assert "all 5 samples are there" in run_script("generate.py", "--data", data, "--reference", "--out", out).stdout


@pytest.fixture(scope="module")
def whole(data, random_model, tmp_path_factory) -> Path:
    """Two samples of each problem, drawn in one go."""
    out = tmp_path_factory.mktemp("whole") / "samples.jsonl"
    run_script("generate.py", "--data", data, "--model", random_model, "--out", out, "--samples", 2, *QUICK)
    return out


def test_transformers_on_a_cpu(data, random_model, whole):
    from transformers import AutoTokenizer

    from common.chat import chat_of

    tokenizer = AutoTokenizer.from_pretrained(random_model)
    prompts = {task.id: chat_of(tokenizer).render(task.messages()) for task in load_tasks(data)}
    found = rows(whole)
    assert {(row["task_id"], row["sample_id"]) for row in found} == {(task, i) for task in prompts for i in (0, 1)}
    for row in found:
        prompt = prompts[row["task_id"]]
        assert row["prompt_sha256"] == hashlib.sha256(prompt.encode()).hexdigest()
        assert row["prompt_tokens"] == len(tokenizer(prompt)["input_ids"])
        assert 1 <= row["completion_tokens"] <= 6
        assert row["finish_reason"] in ("stop", "length")
        assert row["code"] is None  # random weights write no answer
    first, second = ([row["completion"] for row in found if row["sample_id"] == i] for i in (0, 1))
    assert first != second
    identity = json.loads(whole.with_suffix(".json").read_text())["identity"]
    weights = (random_model / "model.safetensors").read_bytes()
    assert identity["model_sha256"] == {"model.safetensors": hashlib.sha256(weights).hexdigest()}
    assert identity["sampling"] == {"temperature": 0.8, "top_p": 0.7, "max_new_tokens": 6, "seed": 42}


@pytest.mark.parametrize("cut", [40, 1500])
def test_killed_and_started_again_it_draws_what_it_would_have_drawn(data, random_model, whole, tmp_path, cut):
    """The file of a killed run may end in the middle of a line; in the end it is as if nothing had happened."""
    out = tmp_path / "samples.jsonl"
    out.write_bytes(whole.read_bytes()[:-cut])
    out.with_suffix(".json").write_bytes(whole.with_suffix(".json").read_bytes())
    run_script("generate.py", "--data", data, "--model", random_model, "--out", out, "--samples", 2, *QUICK)
    assert out.read_bytes() == whole.read_bytes()
    assert len(json.loads(out.with_suffix(".json").read_text())["starts"]) == 2


def test_more_samples_leave_the_first_ones_alone(data, random_model, whole, tmp_path):
    out = tmp_path / "samples.jsonl"
    command = ["generate.py", "--data", data, "--model", random_model, "--out", out, *QUICK]
    run_script(*command, "--samples", 1)
    assert len(rows(out)) == 5
    first = rows(out)
    run_script(*command, "--samples", 2)
    assert rows(out)[:5] == first
    # The second samples are those of a run that draws both at once, because each has a seed of its own.
    assert sorted(out.read_text().splitlines()) == sorted(whole.read_text().splitlines())


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (["--temperature", 0.5], "--temperature"),
        (["--seed", 1], "--seed"),
        (["--no-docs"], "--no-docs"),
        (["--limit", 3], "--limit, set of problems"),
        (["--batch-size", 3], "--batch-size"),
        (["--dtype", "bfloat16"], "--dtype"),
    ],
)
def test_nothing_is_mixed(data, random_model, whole, flags, key):
    before = whole.read_bytes()
    message = failure("--data", data, "--model", random_model, "--out", whole, "--samples", 2, *QUICK, *flags)
    assert f"holds samples with another {key}: choose another --out" in message
    assert whole.read_bytes() == before


def test_another_model_another_data_set_another_prompt(data, random_model, whole, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    other = tmp_path / "other"
    model = AutoModelForCausalLM.from_pretrained(random_model)
    model.lm_head.weight.data += 0.5
    model.save_pretrained(other)
    AutoTokenizer.from_pretrained(random_model).save_pretrained(other)
    rest = ["--out", whole, "--samples", 2, *QUICK]
    assert "another --model, weights of --model: choose" in failure("--data", data, "--model", other, *rest)
    changed = write_data(tmp_path / "changed.jsonl", [{**ROWS[0], "problem": "Another one."}, *ROWS[1:]])
    assert "another content of --data: choose" in failure("--data", changed, "--model", random_model, *rest)
    # The wording of the prompt changed in the code: the identity is the same, the hash of each prompt is not.
    out = tmp_path / "samples.jsonl"
    text = whole.read_text().replace('"prompt_sha256": "', '"prompt_sha256": "0')
    out.write_text(text)
    out.with_suffix(".json").write_bytes(whole.with_suffix(".json").read_bytes())
    message = failure("--data", data, "--model", random_model, "--out", out, "--samples", 2, *QUICK)
    assert "holds a sample of another prompt for [" in message
    assert out.read_text() == text
    out.with_suffix(".json").unlink()
    assert "exists without the note of its run, samples.json" in failure(
        "--data", data, "--model", random_model, "--out", out, *QUICK
    )


def test_an_adapter_by_itself_on_its_base_and_in_verl_s_folder(data, random_model, tmp_path):
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    from adapters import adapter_config

    torch.manual_seed(1)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(random_model), adapter_config(r=4, alpha=64))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=2.0)
    model.save_pretrained(tmp_path / "run")
    model.save_pretrained(tmp_path / "merger" / "lora_adapter")
    hot = ["--data", data, "--temperature", 5, "--samples", 1, *QUICK]
    run_script("generate.py", "--model", random_model, "--out", tmp_path / "base.jsonl", *hot)
    drawn = []
    for name, flags in {
        "one": ["--model", tmp_path / "run"],
        "two": ["--model", random_model, "--adapter", tmp_path / "merger"],
    }.items():
        run_script("generate.py", *flags, "--out", tmp_path / f"{name}.jsonl", *hot)
        drawn.append([row["completion"] for row in rows(tmp_path / f"{name}.jsonl")])
        identity = json.loads((tmp_path / f"{name}.json").read_text())["identity"]
        assert identity["model"] == str(random_model)
        assert len(identity["adapter_sha256"]) == 64
    assert drawn[0] == drawn[1]
    assert drawn[0] != [row["completion"] for row in rows(tmp_path / "base.jsonl")]
    # verl's merger writes the magnitudes but not use_dora: peft would silently drop them.
    config = tmp_path / "run" / "adapter_config.json"
    config.write_text(config.read_text().replace('"use_dora": true', '"use_dora": false'))
    assert "set use_dora to true" in failure("--model", tmp_path / "run", "--out", tmp_path / "x.jsonl", *hot)


def test_a_chat_server_that_stops_half_way(serve, data, tmp_path):
    """After twelve answers it refuses; the second run asks for what is missing and for nothing else."""
    count = 0

    def behave(number, body):
        nonlocal count
        count += 1
        return (401, {}, b"expired", 0) if count > 12 and len(server.bodies) <= 16 and not second else ok(body)

    second = False
    server = serve(behave)
    out = tmp_path / "samples.jsonl"
    command = ["--data", data, "--backend", "endpoint", "--url", server.url, "--model", "big", "--out", out]
    command += ["--samples", 4, "--concurrency", 1, "--seed", 7]
    done = run_script("generate.py", *command, check=False)
    assert done.returncode == 2
    assert (
        "status 401 (no key was sent: see --key-variable): expired; the same command resumes from here"
        in done.stderr.splitlines()[-1]
    )
    assert len(rows(out)) == 12
    second, asked = True, len(server.bodies)
    run_script("generate.py", *command)
    assert len(server.bodies) - asked == 8
    found = {(row["task_id"], row["sample_id"]): row for row in rows(out)}
    assert len(found) == len(rows(out)) == 20
    assert len({row["completion"] for row in found.values()}) == 20  # prompt and seed are in the answer: all differ
    assert all(row["prompt_tokens"] == 11 for row in found.values())
    first = found[ROWS[0]["prog_syn_id"], 3]
    assert first["completion"].endswith(f"seed {derived_seed(7, ROWS[0]['prog_syn_id'], 3)}")


def endpoint_command(data: Path, url: str, out: Path) -> list[object]:
    flags = ["--backend", "endpoint", "--url", url, "--model", "big", "--samples", 1, "--concurrency", 1]
    return ["--data", data, "--out", out, *flags, "--tries", 1]


def test_a_provider_s_failure_is_not_a_sample(serve, data, tmp_path):
    """The third answer is an error under status 200: the run stops, and the same command draws it again."""
    failing = True

    def behave(number, body):
        if failing and len(server.bodies) == 3:
            whole = ok(body, "")[2]
            whole["choices"][0] |= {"finish_reason": "error", "error": {"message": "upstream is down", "code": 502}}
            return 200, {}, whole, 0
        return ok(body)

    server = serve(behave)
    out = tmp_path / "samples.jsonl"
    command = endpoint_command(data, server.url, out)
    done = run_script("generate.py", *command, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"generate: {server.url}: finish_reason error: upstream is down (1 try); the same command resumes from here"
    )
    assert len(rows(out)) == 2
    failing, asked = False, len(server.bodies)
    run_script("generate.py", *command)
    assert len(server.bodies) - asked == 3
    assert {row["task_id"] for row in rows(out)} == {row["prog_syn_id"] for row in ROWS}
    assert all(row["completion"] for row in rows(out))


def test_a_finish_reason_that_ends_no_answer_is_refused(data, tmp_path):
    out = tmp_path / "samples.jsonl"
    run_script("generate.py", "--data", data, "--reference", "--out", out)
    out.write_text(out.read_text().replace('"finish_reason": "stop"', '"finish_reason": "error"', 1))
    with pytest.raises(InputError, match=r":1: finish_reason: string should match pattern"):
        read_samples(out, [row["prog_syn_id"] for row in ROWS])


def everything_written(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*") if path.is_file())


def test_no_secret_is_printed_or_written(serve, data, tmp_path):
    """The server echoes the key in two answers, then in a refusal; the URL holds a login too."""

    def behave(number, body):
        echo = f"key {server.headers[-1]['Authorization']}"
        return ok(body, echo) if len(server.bodies) < 3 else (401, {}, {"error": echo}, 0)

    server = serve(behave)
    key = {"OPENAI_API_KEY": "sk-SECRET\r"}  # as a file with Windows line ends leaves it
    done = run_script("generate.py", *endpoint_command(data, server.url, tmp_path / "a.jsonl"), env=key, check=False)
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer sk-SECRET"}
    assert "status 401: key Bearer ***; the same command resumes" in done.stderr.splitlines()[-1]
    assert [row["completion"] for row in rows(tmp_path / "a.jsonl")] == ["key Bearer ***"] * 2
    server.bodies.clear()
    url = server.url.replace("http://", "http://me:pass-word@")
    login = run_script("generate.py", *endpoint_command(data, url, tmp_path / "b.jsonl"), env=key, check=False)
    assert "Basic bWU6cGFzcy13b3Jk" in {headers["Authorization"] for headers in server.headers}
    assert "status 401: key Basic ***; the same command resumes" in login.stderr.splitlines()[-1]
    start = json.loads((tmp_path / "b.json").read_text())["starts"][0]
    hidden = server.url.replace("http://", "http://***@")
    assert start["config"]["url"] == hidden
    assert f"--url '{hidden}'" in start["command"]
    seen = done.stdout + done.stderr + login.stdout + login.stderr + everything_written(tmp_path)
    assert not [secret for secret in ("SECRET", "pass-word", "bWU6cGFzcy13b3Jk") if secret in seen]


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        ([], {"OPENAI_API_KEY": "sk-SE\rCRET"}, "$OPENAI_API_KEY: a key has no blanks, no control characters and only"),
        (["--key-variable", "MY_KEY"], {"MY_KEY": "sk SECRET"}, "$MY_KEY: a key has no blanks"),
        (["--key-variable", "sk-SECRET"], {}, "--key-variable: expected the name of an environment variable that is"),
        (["--key-variable", "SECRET"], {}, "--key-variable: expected the name of an environment variable that is"),
        (["--url", "me:SECRET@localhost/v1"], {}, "--url ***: expected http:// or https://"),
        (["--url", "http://me:SEC/RET@localhost/v1"], {}, "--url ***: not a URL"),
        (["--ur", "http://me:SECRET@localhost/v1"], {}, "unrecognized arguments: --ur: did you mean --url?\n"),
    ],
)
def test_a_bad_key_is_refused_before_any_request(serve, data, tmp_path, flags, environment, message):
    server = serve(lambda number, body: ok(body))
    command = endpoint_command(data, server.url, tmp_path / "x.jsonl")
    done = run_script("generate.py", *command, *flags, env=environment, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
    assert not [part for part in ("SECRET", "SE", "RET") if part in done.stderr]
    assert (server.bodies, list(tmp_path.iterdir())) == ([], [])


FAKE_VLLM = """\
import os
from types import SimpleNamespace

AT_IMPORT = os.environ.get("VLLM_USE_FLASHINFER_SAMPLER")
SamplingParams = TokensPrompt = lambda **settings: settings


class LLM:
    def __init__(self, **settings):
        pass

    def generate(self, prompts, settings, use_tqdm):
        global ASKED
        ASKED = prompts[0], settings[0]
        return [
            SimpleNamespace(prompt_token_ids=[1], outputs=[SimpleNamespace(text=r, token_ids=[2], finish_reason=r)])
            for r in ("stop", "abort", "length", "error", None)
        ]
"""


@pytest.fixture
def fake_vllm(tmp_path, monkeypatch):
    """A module in vLLM's place, which needs a GPU: it notes the environment at its import, and drops requests."""
    (tmp_path / "vllm.py").write_text(FAKE_VLLM)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    yield lambda: sys.modules["vllm"]
    sys.modules.pop("vllm", None)


def draw_with_vllm() -> list[list]:
    requests = [Request(f"t{i}", 0, "<s>x", ()) for i in range(5)]
    tokenizer = make_family(FAMILIES["mistral-0.3"], adds_bos=True, adds_eos=True)
    how = (tokenizer, "m", LocalModel("m", dtype="float32"), Sampling(0.8, 0.7, 4), 1)
    chunks = []
    with pytest.raises(NoAnswer, match=r"^vLLM dropped 3 requests with finish_reason abort$"):
        for chunk in with_vllm(requests, *how):
            chunks.append(chunk)
    return chunks


@pytest.mark.parametrize(("own", "expected"), [(None, "0"), ("1", "1")])
def test_vllm_is_imported_without_flashinfer_s_sampler(fake_vllm, monkeypatch, own, expected):
    monkeypatch.setenv("VLLM_USE_FLASHINFER_SAMPLER", own or "")  # undone after the test, also what with_vllm sets
    if own is None:
        monkeypatch.delenv("VLLM_USE_FLASHINFER_SAMPLER")
    draw_with_vllm()
    seen = fake_vllm().AT_IMPORT
    assert seen == expected


def test_vllm_gets_the_prompt_s_own_tokens_and_the_end_of_a_turn(fake_vllm, monkeypatch):
    """The rendered prompt has its BOS, which the tokenizer would add again, with an eos at the end."""
    monkeypatch.setenv("VLLM_USE_FLASHINFER_SAMPLER", "0")
    draw_with_vllm()
    tokenizer = make_family(FAMILIES["mistral-0.3"])
    prompt, settings = fake_vllm().ASKED
    assert prompt["prompt_token_ids"] == [tokenizer.bos_token_id, *tokenizer("x")["input_ids"]]
    assert settings["stop_token_ids"] == [tokenizer.eos_token_id]


def test_what_vllm_drops_is_not_a_sample(fake_vllm, monkeypatch):
    monkeypatch.setenv("VLLM_USE_FLASHINFER_SAMPLER", "0")
    [chunk] = draw_with_vllm()
    assert [(request.task_id, done.text, done.finish_reason) for request, done in chunk] == [
        ("t0", "stop", "stop"),
        ("t2", "length", "length"),
    ]


def test_batches_are_fixed_beforehand():
    requests = [Request(f"t{i}", s, "p" * (i % 3), ()) for s in range(2) for i in range(5)]
    by_length = ["t2", "t1", "t4", "t0", "t3"]
    plans = {
        size: [[f"{r.task_id}.{r.sample_id}" for r in batch] for batch in plan_batches(requests, size)]
        for size in (1, 2, 5)
    }
    assert plans[1] == [[f"{task}.{i}"] for task in by_length for i in (0, 1)]
    assert plans[2] == [[f"{task}.0", f"{task}.1"] for task in by_length]
    assert plans[5] == [["t2.0", "t2.1", "t1.0", "t1.1"], ["t4.0", "t4.1", "t0.0", "t0.1"], ["t3.0", "t3.1"]]
    assert derived_seed(1, "a", 2) == derived_seed(1, "a", 2) != derived_seed(1, "a2")


def test_the_code_of_an_answer():
    zero = "<answer>```python\nno\n```</answer> so </think>\n<answer>\n```python\n  x = 1\n  y = 2\n```\n</answer>"
    assert code_of(zero, "zero-shot") == "x = 1\ny = 2"
    assert code_of("```python\nx = 1\n```", "zero-shot") is None
    assert code_of("Sure.\n[PYTHON]\nx = 1\n[/PYTHON]\n[PYTHON]\ny\n[/PYTHON]", "one-shot").strip() == "x = 1"
    assert code_of("[PYTHON]\n```python\nx = 1\n```\n[/PYTHON]", "one-shot") == "x = 1"
    assert code_of("[PYTHON]\nx = 1", "one-shot").strip() == "x = 1"
    assert code_of("```python\nx = 1\n```", "one-shot") == "x = 1"
    assert code_of("I cannot.", "one-shot") is None


@pytest.mark.parametrize(
    ("completion", "prompt"),
    [
        (" ok </think>\n<answer>\n```python\n```\n</answer>", "zero-shot"),
        (" ok </think>\n<answer>\n```python\n  # as before\n\n```\n</answer>", "zero-shot"),
        ("[PYTHON]\n# as before\n[/PYTHON]", "one-shot"),
        ("\n\t# as before\n```\n", "evalplus"),
    ],
)
def test_an_answer_without_a_statement_is_not_code(completion, prompt):
    """Python parses it, but nothing is answered."""
    assert code_of(completion, prompt) is None


ENDPOINT = ["--model", "x", "--backend", "endpoint", "--url", "http://h/v1"]
RANGES = [
    ("--limit", "-1", "above 0 and at most 1000000"),
    ("--temperature", "-1", "0 or between 0.01 and 10"),
    ("--temperature", "nan", "0 or between 0.01 and 10"),
    ("--temperature", "inf", "0 or between 0.01 and 10"),
    ("--temperature", "1e-300", "0 or between 0.01 and 10"),  # logits divided by it overflow
    ("--top-p", "0", "above 0 and at most 1"),
    ("--top-p", "2", "above 0 and at most 1"),
    ("--top-p", "nan", "above 0 and at most 1"),
    ("--max-new-tokens", "0", "above 0 and at most 1000000"),
    ("--samples", "9999999999", "above 0 and at most 10000"),
    ("--tensor-parallel-size", "0", "above 0 and at most 1024"),
    ("--gpu-memory-utilization", "2", "above 0 and at most 1"),
    ("--concurrency", "0", "above 0 and at most 1024"),
    ("--seed", "-1", "between 0 and 4294967295"),
    ("--seed", str(2**70), "between 0 and 4294967295"),
    ("--request-seconds", "nan", "above 0 and at most 86400"),
    ("--tries", "0", "above 0 and at most 1000"),
    ("--seconds", "inf", "above 0 and at most 86400"),
    ("--memory-gb", "1e99", "above 0 and at most 65536"),
    ("--workers", "0", "above 0 and at most 4096"),
]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--model is needed"),
        (["--model", "x", "--questions", "3"], "--questions: not for arena"),
        (["--reference", "--copy"], "--copy: not for arena"),
        (["--reference", "--max-target-tokens", "60"], "--max-target-tokens: not for --reference"),
        (["--reference", "--limit", "0"], "argument --limit: 0 is not above 0"),
        (["--model", "x", "--temperature", "0"], "--temperature 0 draws the same sample each time"),
        (["--model", "x", "--backend", "endpoint"], "needs --url"),
        (["--model", "x", "--adapter", "absent"], "adapter absent: no adapter_config.json there"),
        (
            ["--model", "x", "--benchmark", "multi", "--prompt", "one-shot"],
            "--prompt one-shot: multi has the forms zero-shot",
        ),
        (["--model", "x", "--sample", "3"], "unrecognized arguments: --sample"),  # abbreviated
        (["--model", "x", "--samples", "many"], "argument --samples: invalid int value: 'many'"),
        *[
            (["--model", "x", *flags], f"argument {flags[0]}: {flags[1]} is not {accepted}")
            for *flags, accepted in RANGES
        ],
        *[
            (flags, f"{flag}: not for {mode}, only for --backend")
            for flags, flag, mode in (
                (["--model", "x", "--url", "http://h/v1"], "--url", "--backend transformers"),
                (["--model", "x", "--backend", "transformers", "--tries", "8"], "--tries", "--backend transformers"),
                (
                    ["--model", "x", "--gpu-memory-utilization", "1"],
                    "--gpu-memory-utilization",
                    "--backend transformers",
                ),
                ([*ENDPOINT, "--dtype", "float32"], "--dtype", "--backend endpoint"),
                ([*ENDPOINT, "--adapter", "y"], "--adapter", "--backend endpoint"),
                (["--reference", "--model", "x"], "--model", "--reference"),
                (["--reference", "--temperature", "0.8"], "--temperature", "--reference"),  # also the default
                (["--reference", "--samples=3"], "--samples", "--reference"),
                (["--benchmark", "migration", "--copy", "--prompt", "zero-shot"], "--prompt", "--copy"),
            )
        ],
        (["--reference", "--out", "samples.txt"], "expected a name that ends in .jsonl"),
        (["--reference", "--data", "absent.jsonl"], "absent.jsonl: no such file"),
    ],
)
def test_mistakes_end_in_one_line(data, tmp_path, stops, flags, message):
    assert message in stops(generate.main, "--data", data, "--out", tmp_path / "samples.jsonl", *flags)


@pytest.mark.parametrize(
    ("yaml", "flags", "message"),
    [
        ("temperature: .nan", [], "eval.yaml:1: temperature: invalid float value: '.nan'"),
        ("temperature: nan", [], "eval.yaml:1: temperature: nan is not 0 or between 0.01 and 10"),
        ("top_p: 2", [], "eval.yaml:1: top_p: 2 is not above 0 and at most 1"),
        ("limit: -1", [], "eval.yaml:1: limit: -1 is not above 0"),
        ("samples: 3.5", [], "eval.yaml:1: samples: invalid int value: '3.5'"),
        ("url: http://h/v1", [], "--url: not for --backend transformers, only for --backend endpoint"),
        ("backend: vllm", ["--url", "http://h/v1"], "--url: not for --backend vllm"),
    ],
)
def test_the_yaml_is_checked_like_the_flags(data, tmp_path, stops, yaml, flags, message):
    config = tmp_path / "eval.yaml"
    config.write_text(yaml)
    given = ["--data", data, "--out", tmp_path / "samples.jsonl", "--model", "x", "--config", config]
    assert message in stops(generate.main, *given, *flags)


def test_the_yaml_of_another_mode_may_hold_keys_that_do_nothing(data, tmp_path):
    (tmp_path / "eval.yaml").write_text("backend: vllm\ntemperature: 0.5\ngpu_memory_utilization: 0.5\nsamples: 3")
    flags = ["--data", data, "--out", tmp_path / "samples.jsonl", "--config", tmp_path / "eval.yaml"]
    _, drawing = parse_arguments(list(map(str, [*flags, "--reference"])))
    assert (drawing.backend, drawing.samples) == ("reference", 1)
    _, drawing = parse_arguments(list(map(str, [*flags, *ENDPOINT])))
    assert (drawing.backend, drawing.samples) == ("endpoint", 3)


def unusable_outputs(folder: Path) -> dict[str, Path]:
    """Outputs that cannot be written, also by root."""
    (folder / "file").touch()
    (folder / "is-a-folder.jsonl").mkdir()
    (folder / "note.json").mkdir()
    return {
        "file/samples.jsonl: cannot be written: ": folder / "file" / "samples.jsonl",
        "is-a-folder.jsonl: is a folder; expected a file to write": folder / "is-a-folder.jsonl",
        "note.json: is a folder; expected a file to write": folder / "note.jsonl",
        "/proc/none/samples.jsonl: cannot be written: No such file": Path("/proc/none/samples.jsonl"),
        f"{'x' * 255}.jsonl: cannot be written: ": folder / f"{'x' * 255}.jsonl",
    }


@pytest.mark.parametrize("case", range(5))
def test_an_output_that_cannot_be_written_is_found_first(tmp_path, stops, case):
    message, out = list(unusable_outputs(tmp_path).items())[case]
    assert message in stops(generate.main, "--data", "absent.jsonl", "--model", "absent", "--out", out)


def damaged_models(good: Path, folder: Path) -> dict[str, tuple[Path, str]]:
    """Case -> (model folder, message)."""
    weights, config = (good / "model.safetensors").read_bytes(), (good / "config.json").read_text()
    index = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}, "metadata": {}})
    files: dict[str, tuple[dict[str, bytes | str], str]] = {
        "empty": ({}, "config.json is missing"),
        "no weights": ({"config.json": config}, "cannot be loaded: Error no file named model.safetensors"),
        "no JSON": ({"config.json": "{", "model.safetensors": weights}, "config.json: not JSON"),
        "a list": ({"config.json": "[]", "model.safetensors": weights}, "config.json: "),
        "no type": ({"config.json": "{}", "model.safetensors": weights}, "config.json: model_type: field required"),
        "an unknown type": (
            {"config.json": '{"model_type": "foo"}', "model.safetensors": weights},
            "has model type `foo` but Transformers does not recognize this architecture",
        ),
        "a wrong value": (
            {"config.json": config.replace('"hidden_size": 128', '"hidden_size": "a"'), "model.safetensors": weights},
            "Field 'hidden_size' expected int, got str (value: 'a')",
        ),
        "cut weights": (
            {"config.json": config, "model.safetensors": weights[:-9]},
            "cannot be loaded: Error while deserializing header: ",
        ),
        "a pointer": (
            {"config.json": config, "model.safetensors": "version https://git-lfs.github.com/spec/v1\noid x"},
            "model.safetensors: a Git LFS pointer instead of the weights",
        ),
        "a missing shard": (
            {"config.json": config, "model.safetensors.index.json": index},
            "cannot be loaded: No such file or directory: ",
        ),
    }
    for case, (contents, _) in files.items():
        (folder / case).mkdir()
        for name, content in contents.items():
            (folder / case / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return {case: (folder / case, message) for case, (_, message) in files.items()}


@pytest.mark.parametrize("check", [[], ["--check"]])
def test_a_model_that_is_not_there_or_damaged_is_one_line(data, random_model, tmp_path, monkeypatch, stops, check):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    cases = list(damaged_models(random_model, tmp_path).values())
    cases += [(Path("/no/such"), "model /no/such: no such folder"), (Path("a/b/c"), "model a/b/c: no such folder")]
    monkeypatch.setenv("HOME", str(random_model.parent))  # transformers does not know ~
    cases += [(Path("~") / random_model.name, "no such folder"), (Path("nowhere/none"), "model nowhere/none: ")]
    for model, message in cases:
        flags = ["--data", data, "--out", tmp_path / "samples.jsonl", "--model", model, *check]
        assert message in stops(generate.main, *flags)


def test_an_adapter_that_is_damaged_or_of_another_model_is_one_line(data, random_model, tmp_path, stops):
    import torch
    from safetensors.torch import save_file

    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    fitting = {f"{layer}.lora_A.weight": torch.zeros(4, 128), f"{layer}.lora_B.weight": torch.zeros(128, 4)}
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "use_dora": False}
    every = {
        f"{layer.replace('.0.', f'.{number}.')}.{name}.weight": torch.zeros(shape)
        for number in range(3)
        for name, shape in (("lora_A", (4, 128)), ("lora_B", (128, 4)))
    }
    cases = [
        ("{", fitting, "adapter_config.json: not JSON"),
        (json.dumps({**settings, "r": "four"}), fitting, "adapter_config.json: r: "),
        (
            json.dumps({**settings, "peft_type": "IA3"}),
            fitting,
            "adapter_config.json: peft_type: input should be 'LORA'",
        ),
        (json.dumps(settings), None, "adapter_model.safetensors: no such file"),
        (json.dumps(settings), {k: v[:, :64] for k, v in fitting.items()}, "size mismatch for "),
        (json.dumps(settings), {"base_model.model.x.lora_A.weight": torch.zeros(4, 4)}, "Found missing adapter keys"),
        (
            json.dumps({**settings, "target_modules": ["q_proj", "qkv_proj"]}),
            {**every, "base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight": torch.zeros(4, 128)},
            "the model has no base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight (1 such weights)",
        ),
    ]
    for number, (config, weights, message) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "adapter_config.json").write_text(config)
        if weights:
            save_file({key: value.contiguous() for key, value in weights.items()}, folder / "adapter_model.safetensors")
        flags = ["--model", random_model, "--adapter", folder, "--check"]
        assert message in stops(generate.main, "--data", data, "--out", tmp_path / "samples.jsonl", *flags)


def test_prompts_that_do_not_fit(data, random_model, tmp_path):
    flags = ["--data", data, "--model", random_model, "--out", tmp_path / "x.jsonl", "--max-new-tokens", 500]
    assert "new ones: 760 tokens exceed the model's context of 512" in failure(*flags)
