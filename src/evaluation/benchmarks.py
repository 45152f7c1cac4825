"""The benchmarks: what src/generate.py asks a model, and what src/score.py executes and counts.

A benchmark is an entry of BENCHMARKS. A new one takes a folder with the functions that its entry names, and the entry.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import sandbox
from common.chat import Message
from evaluation.arena import multi
from evaluation.arena import score as arena
from evaluation.arena.problems import load_tasks
from evaluation.humaneval import score as evalplus
from evaluation.humaneval.problems import FUNCTION_PROMPTS, load_functions
from evaluation.migration import score as migration
from evaluation.migration.problems import load_migrations
from evaluation.migration.training_rewards import score_unexecuted
from evaluation.results import Scored
from evaluation.samples import Identity, Sample
from prompts import WORDINGS

Flags = Mapping[str, Mapping[str, Any]]  # flag -> its keywords for argparse; none if sandbox.add_flags adds it
SANDBOX: Flags = {flag: {} for flag in ("--seconds", "--memory-gb", "--workers", "--read-only", "--unsafe")}


class Problem(Protocol):
    """What a model is asked."""

    @property
    def id(self) -> str: ...
    @property
    def reference(self) -> str: ...  # code that solves it
    def messages(self, prompt: str = ..., *, docs: bool = ...) -> list[Message]: ...


Scorer = Callable[[Sequence[Any], Sequence[Sample], Sequence[int], Identity | None], Scored]
"""Problems, their samples, the k of Pass@k, what the samples depend on -> scores."""


@dataclass(frozen=True)
class Benchmark:
    """One benchmark; `args` are the flags of the program that calls."""

    name: str  # on the command line
    source: Callable[[argparse.Namespace], str]  # src/generate.py: the file of problems, made or found if need be
    load: Callable[[Path, bool], Sequence[Problem]]  # the problems of a file; True leaves out unusable rows
    scorer: Callable[[argparse.Namespace, Path], Scorer]  # src/score.py: how samples are executed and counted
    draw_flags: Flags  # of src/generate.py, for this benchmark
    score_flags: Flags  # of src/score.py
    prompts: tuple[str, ...] = ("zero-shot",)
    asks_as_trained: bool = False  # zero-shot is the wording of the model's training run
    has_docs: bool = True  # an update, which --no-docs withholds
    thought: tuple[str, ...] = ()  # the thinking part of reference answers, if they are not about an update
    copy: Callable[[Any], str] | None = None  # --copy: the code of a model that changes nothing
    check: Callable[[argparse.Namespace], str] | None = None  # --check: what it found
    seconds: float | None = sandbox.DEFAULT.seconds  # default of src/score.py's --seconds
    reported_as: str = ""  # its name in results, if another one


def arena_like(name: str, **more: Any) -> Benchmark:
    return Benchmark(
        name=name,
        load=lambda path, skip_bad: load_tasks(path, name, skip_bad=skip_bad),
        scorer=lambda args, data: partial(arena.score, **arena.judging(args)),
        score_flags={**arena.FLAGS, **SANDBOX},
        **more,
    )


def evalplus_like(name: str) -> Benchmark:
    return Benchmark(
        name=name,
        source=evalplus.find_data,
        load=lambda path, skip_bad: load_functions(path),
        scorer=lambda args, data: partial(evalplus.score, evalplus.judging(args, data)),
        draw_flags=evalplus.PYTHON_FLAG,
        score_flags={**evalplus.FLAGS, "--workers": {}, "--unsafe": {}},
        prompts=FUNCTION_PROMPTS,
        has_docs=False,
        thought=("I write the function.",),
        check=evalplus.check_flags,
        seconds=None,
        reported_as=f"{name}+",
    )


MIGRATION = Benchmark(
    name="migration",
    source=lambda args: args.data or "data/heldout.jsonl",
    load=lambda path, skip_bad: load_migrations(path, skip_bad=skip_bad),
    scorer=lambda args, data: (
        score_unexecuted if args.no_run else partial(migration.score, **migration.judging(args, data))
    ),
    draw_flags={"--copy": {"action": "store_true", "help": "write the old code, unchanged, as samples; no model"}},
    score_flags={**migration.FLAGS, **SANDBOX},
    prompts=("zero-shot", *WORDINGS),
    asks_as_trained=True,
    copy=lambda problem: problem.record.old_code,
    seconds=migration.SECONDS,
)
ALL = (
    arena_like("arena", source=lambda args: args.data or multi.ARENA, draw_flags={}, prompts=("zero-shot", "one-shot")),
    arena_like("multi", source=multi.build, draw_flags={**multi.FLAGS, **SANDBOX}),
    *(MIGRATION, evalplus_like("humaneval"), evalplus_like("mbpp")),
)
BENCHMARKS = {benchmark.name: benchmark for benchmark in ALL}
