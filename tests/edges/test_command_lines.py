"""Flags of every program and YAML files of flags: any value is accepted or refused in one line."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from functools import cache
from typing import Any
from unittest import mock

import pytest
import yaml
from conftest import ROOT, TINY_ROWS, environment
from edges.adversarial import ODD, as_file, damaged_text
from edges.checker import IS_LONG, Ended, check_ended, check_files, count, effort, run_main, scratch
from hypothesis import example, given
from hypothesis import strategies as st

# The programs that read their flags with argparse, and what keeps each from doing its work.
PROGRAMS: dict[str, list[str]] = {
    "check_data rows": ["no-such-file.jsonl"],
    "check_data proofs": ["no-such-folder"],
    "check_data published": ["no-such-file.jsonl"],
    "check_data leakage": ["no-such-file.jsonl", "--test", "no-such-file.jsonl"],
    "checkpoint_curve": ["--run", "no-such-run"],
    "collect": ["--notes", "no-such-file.md"],
    "generate": ["--check"],
    "merge_adapter": ["--adapter", "no-such-folder", "--out", "out"],
    "migrate": ["no-such-file.py", "--model", "no-such-model/x", "--update", "note"],
    "plot": ["no-such-run"],
    "report": ["no-such-run"],
    "review": ["no-such-run", "--data", "data"],
    "rewards": ["no-such-file.txt", "--target", "no-such-file.py"],
    "score": ["--samples", "no-such-file.jsonl", "--out", "out"],
}
STATUSES = (0, 1, 2)
VALUES = st.sampled_from(
    ["0", "1", "-1", "2", "1.5", "nan", "inf", "-inf", "1e309", "9" * 5000, "0x10", "1_000", "٣", " 1 ", "1,5", "5,1,1"]
    + ["true", "None", "", " ", "-", "--", "=", "x=y", "a" * 5000, "folder", "empty", "/dev/null", "/", ".", "~", "*"]
    + ["folder/x.jsonl", "empty/x.jsonl", "no/such/x.jsonl", "x.jsonl", "http://", "http://[::1", "http://h:99999"]
    + [
        "numpy==2.0.0",
        "numpy",
        "arena",
        "humaneval",
        "migration",
        "endpoint",
        "vllm",
        "one-shot",
        "evalplus",
        "@x",
        "%s",
    ]
    + [odd for odd in ODD if odd not in ("\x00", "\ud800", "\udfff")]  # no argument can hold these
    + ["\udc80"]  # a byte that is not UTF-8
)


class _Stop(Exception):
    pass


@cache
def parser_of(program: str) -> argparse.ArgumentParser:
    """The parser of a program (of a verb), taken when it is about to parse."""
    name, _, verb = program.partition(" ")
    taken: list[argparse.ArgumentParser] = []

    def take(parser: argparse.ArgumentParser, *_: object) -> None:
        taken.append(parser)
        raise _Stop

    module = importlib.import_module(name)
    with mock.patch.object(argparse.ArgumentParser, "parse_known_args", take), pytest.raises(_Stop):
        run_main(module.main, name)
    [parser] = taken
    if verb:
        [choices] = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        return choices[verb]
    return parser


def flags_of(program: str) -> list[str]:
    """--help is tested elsewhere; --unsafe and --write would let a program act."""
    return [a.option_strings[-1] for a in parser_of(program)._actions if a.option_strings and a.dest != "help"]


def run_program(program: str, words: list[str]) -> Ended:
    name, _, verb = program.partition(" ")
    return run_main(importlib.import_module(name).main, name, *([verb] if verb else []), *words)


@pytest.mark.parametrize("program", PROGRAMS)
@effort(25, 1_000)
@given(st.data())
def test_flags(program, data):
    count("command lines")
    flags = st.sampled_from([*flags_of(program), "--no-such-flag", "-x"])
    pair = st.tuples(flags, st.lists(VALUES, max_size=2)).map(lambda pair: [pair[0], *pair[1]])
    joined = st.tuples(flags, VALUES).map(lambda pair: ["=".join(pair)])
    words = [word for part in data.draw(st.lists(pair | joined, max_size=4)) for word in part]
    with scratch({"empty": b"", "folder/a": b""}) as folder:
        ended = run_program(program, PROGRAMS[program] + words)
        check_ended(ended, program.partition(" ")[0], STATUSES)
        check_files(folder)


GENERATE = {
    "benchmark": "arena",
    "data": "x.jsonl",
    "out": "out.jsonl",
    "model": "m",
    "samples": 10,
    "temperature": 0.8,
}
GENERATE |= {"top-p": 0.7, "no_docs": True, "limit": 100, "url": "http://127.0.0.1:1/v1", "read_only": ["/usr"]}
SCALARS = [
    "yes",
    "no",
    "on",
    "~",
    "null",
    "0o17",
    "1e3",
    "1e-5",
    ".inf",
    ".nan",
    "2026-01-01",
    "12:30:00",
    "1_000",
    "!!x",
]
SCALARS += [
    "!!python/object:os.system x",
    "&a [*a]",
    "*a",
    "<<: {}",
    "? x",
    "- 1",
    "{a: 1}",
    "[[[1]]]",
    "|",
    ">-",
    "@x",
]
SCALARS += [
    "`x`",
    "%x",
    '"\\ud800"',
    "9" * 5000,
    "0x" + "f" * 5000,
    "[" * 300,
    "{" * 3000,
    "'",
    "1:" * 300,
    "!!set {a}",
]


@st.composite
def yaml_files(draw: st.DrawFn) -> bytes:
    """A YAML of flags with some faults."""
    keys = draw(st.lists(st.sampled_from(sorted(GENERATE)), unique=True, max_size=5))
    lines = yaml.safe_dump({key: GENERATE[key] for key in keys}).splitlines()
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(lines)))
        match draw(st.integers(0, 4)):
            case 0 if keys:
                lines.insert(at, f"{draw(st.sampled_from(keys))}: {draw(st.sampled_from(SCALARS))}")
            case 1:
                lines.insert(at, draw(st.sampled_from([*SCALARS, *ODD, "---", "...", "\t", "1: 2", "[a]: 1", "? {}"])))
            case 2 if keys:
                key = draw(st.sampled_from(keys))
                lines = [line for line in lines if not line.startswith(key)]
                lines.append(f"{key}: {draw(st.sampled_from(SCALARS))}")
            case _:
                lines = draw(damaged_text("\n".join(lines))).split("\n")
    return draw(as_file("\n".join(lines) + "\n"))


@effort(60, 10_000)
@given(yaml_files())
@example(b"limit: " + b"9" * 5000)
@example(b"data: 2026-13-45\n")
@example(b"[a]: 1\n")
def test_a_yaml_of_flags(content):
    count("YAML files")
    with scratch({"flags.yaml": content}):
        ended = run_program("generate", ["--check", "--config", "flags.yaml"])
        check_ended(ended, "generate")


def test_a_name_from_a_yaml_that_no_file_can_have():
    with scratch({"flags.yaml": b'data: "\\ud800"\nout: x.jsonl\nreference: true\nbenchmark: migration\n'}):
        check_ended(run_program("generate", ["--config", "flags.yaml"]), "generate", (2,))


@pytest.mark.skipif(not IS_LONG, reason="importing trl takes seconds: only with --hypothesis-profile long")
@effort(1, 2_000)
@given(yaml_files())
def test_a_yaml_of_a_trainer(content):
    count("YAML files")
    from grpo import main

    rows = "".join(json.dumps(row) + "\n" for row in TINY_ROWS).encode()
    with scratch({"flags.yaml": content, "rows.jsonl": rows}):
        ended = run_main(main, "grpo", "--config", "flags.yaml", "--data", "rows.jsonl", "--check", "true")
        check_ended(ended, "grpo", (2,))


SURROGATES = '{"dependency": "\\ud83d", "new_version": "1\\u0000", "old_code": "\\u001b[31m\\nx = 1"}\n'
PROCESSES: dict[str, tuple[Any, ...]] = {
    "check_data rows": ("check_data.py", "rows", "rows.jsonl"),
    "score": (
        "score.py",
        "--samples",
        "rows.jsonl",
        "--out",
        "out",
        "--benchmark",
        "migration",
        "--data",
        "rows.jsonl",
    ),
    "collect": ("collect.py", "--notes", "rows.jsonl", "--old", "a\n==1", "--new", "b"),
    "dapo": ("dapo.py", "--print-config", "recode.lora_rank=\x1b[31m"),
    "merge_adapter": ("merge_adapter.py", "--adapter", "\u2028", "--out", "out"),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_of_its_own(name, tmp_path):
    """With a stdout and a stderr that can hold only ASCII."""
    (tmp_path / "rows.jsonl").write_text(SURROGATES)
    script, *words = PROCESSES[name]
    env = environment({"PYTHONIOENCODING": "ascii", "OPENAI_API_KEY": "sk-1"})
    command = [sys.executable, str(ROOT / "src" / script), *words]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=env, check=False, timeout=120)
    ended = Ended(done.returncode, done.stdout.decode("ascii"), done.stderr.decode("ascii"))
    check_ended(ended, script.removesuffix(".py"), (1,) if name == "check_data rows" else (2,))
    assert [path.name for path in tmp_path.rglob("*") if path.suffix == ".part"] == []
