"""HumanEval+ and MBPP+: samples -> evalplus's verdicts, in the sandbox -> numbers, for src/score.py.

The verdicts are evalplus's (its tests, oracles, limits). "base" is HumanEval's own tests, "plus" those and evalplus's.
An answer to evalplus's prompt is cut and sanitised as evalplus does; one to our prompt is judged as it is. The
problem's text is put before neither: an answer brings its own imports.

evalplus 0.3.1 fails every answer to HumanEval/32: its special case for find_zero continues with the next input without
recording that this one passed (`continue` in evalplus/eval/__init__.py, unsafe_execute), so the count of passed inputs
is too short and untrusted_check turns the pass into a fail. The ceiling is 163 of 164; scores without that problem are
beside the standard ones.

Time limits are evalplus's too, by the clock: an input has 4 times what its reference took, at least a second; a sample
has a minute for its base inputs and one for the others. On a busy machine right answers fail. So the reference of each
problem is judged beside the samples, and those that do not pass are named: trust the scores only if there are none.

evalplus needs an environment of its own (requirements/humaneval.txt gives the reason): .venvs/evalplus, which
scripts/evaluate.sh makes, or --python. The data: --data, else $HUMANEVAL_OVERRIDE_PATH or $MBPP_OVERRIDE_PATH, else
what evalplus downloads once. An answer that targets evalplus's run can end or forge it, but not leave the sandbox.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.rows import resolve
from evaluation.humaneval.problems import FunctionTask, read_lines
from evaluation.humaneval.report import markdown, summarise, verdict_rows
from evaluation.results import Scored
from evaluation.samples import Identity, Sample
from sandbox import InfrastructureError, last_line, mounts

JUDGE = Path(__file__).with_name("judge.py")
OWN_PYTHON = Path(__file__).parents[3] / ".venvs" / "evalplus" / "bin" / "python"
LIMITS = ("workers", "min_time_limit", "gt_time_limit_factor", "sample_seconds")
START_SECONDS = 1800  # imports and the expected outputs
EVALPLUS_NAMES = {"humaneval": "human_eval_plus", "mbpp": "mbpp_plus"}  # in the names of evalplus's functions
PYTHON_FLAG = {"--python": {"help": "interpreter that has evalplus (default: .venvs/evalplus if there, else this one)"}}
FLAGS: dict[str, dict[str, Any]] = {
    **PYTHON_FLAG,
    "--min-time-limit": {"type": float, "default": 1.0, "help": "seconds an input has at least (evalplus's: 1)"},
    "--gt-time-limit-factor": {"type": float, "default": 4.0, "help": "times the reference's time (evalplus's: 4)"},
    "--sample-seconds": {"type": float, "default": 60.0, "help": "base or other inputs of a sample (evalplus's: 60)"},
    "--check": {"action": "store_true", "help": "only check that evalplus, its data and the sandbox are here"},
}


@dataclass(frozen=True)
class Judging:
    """How samples are judged. `limits`: evalplus's workers and time limits; `unsafe`: without the sandbox."""

    dataset: str  # humaneval or mbpp
    data: Path
    python: str
    unsafe: bool
    limits: Mapping[str, Any]


def interpreter(python: str | None) -> str:
    """The interpreter that has evalplus, as far as is known."""
    return python or str(OWN_PYTHON if OWN_PYTHON.exists() else sys.executable)


def judging(args: argparse.Namespace, data: Path) -> Judging:
    """What the flags ask for."""
    limits = {name: getattr(args, name) for name in LIMITS}
    return Judging(args.benchmark, data, interpreter(args.python), args.unsafe, limits)


def find_data(args: argparse.Namespace) -> str:
    """The data file: named, or evalplus's own, downloaded if it is not in its cache. Raises InputError."""
    if named := args.data or os.environ.get(f"{args.benchmark.upper()}_OVERRIDE_PATH"):  # evalplus reads it, too
        return named
    python, name = interpreter(args.python), EVALPLUS_NAMES[args.benchmark]
    check_installed(python)
    code = f"from evalplus.data import get_{name}, {args.benchmark} as m\nget_{name}()\nprint(m._ready_{name}_path())"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"--data is needed: evalplus could not download its own: {last_line(done.stderr)}")
    return done.stdout.splitlines()[-1]


def check_installed(python: str) -> None:
    """Raise InputError if the interpreter has no evalplus."""
    code = "import importlib.util as u, sys; sys.exit(not u.find_spec('evalplus'))"
    try:
        missing = subprocess.run([python, "-c", code], check=False).returncode
    except OSError as error:
        raise InputError(f"--python {python}: {error.strerror}") from None
    if missing:
        raise InputError(
            "evalplus is not installed: python -m venv .venvs/evalplus && "
            ".venvs/evalplus/bin/pip install -r requirements/humaneval.txt"
        )


def check_flags(args: argparse.Namespace) -> str:
    """Check that evalplus, its data and the sandbox are here."""
    data = find_data(args)
    check(judging(args, resolve(data)))
    return f"evalplus, its sandbox and {data} are here"


def check(how: Judging) -> None:
    """Raise InputError or InfrastructureError if evalplus or the sandbox is missing."""
    check_installed(how.python)
    with tempfile.TemporaryDirectory(prefix="evalplus-") as folder:
        command, own = judge_command(how, folder)
        done = subprocess.run([*command, "--check"], **own, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InfrastructureError(f"{how.python} cannot import evalplus there: {last_line(done.stderr)}")


def judge_command(how: Judging, folder: str) -> tuple[list[str], dict[str, Any]]:
    """(command line, keywords for subprocess.run) of judge.py, in the sandbox unless `unsafe`."""
    judge = [mounts.interpreter(how.python)[0], "-s", str(JUDGE)]
    own: dict[str, Any] = {"env": mounts.ENVIRONMENT, "umask": mounts.UMASK, "cwd": folder}
    if how.unsafe:
        own["env"] = {**mounts.ENVIRONMENT, "HOME": folder, "TMPDIR": folder}
        return [*judge, "--bare", "--work", f"{folder}/work"], own
    rights = ("SETUID", "SETGID") if mounts.ROOT else ()  # to become nobody with
    options = [part for right in rights for part in ("--cap-add", f"CAP_{right}")]
    options += ["--size", str(2**30), "--tmpfs", "/evalplus"]
    return [*mounts.command(how.python, [JUDGE], options=options), *judge], own


def run_evalplus(job: dict[str, Any], how: Judging) -> dict[str, Any]:
    """evalplus's results (judge.py). Raises InfrastructureError if there are none."""
    count = len(job["samples"]) + len(job["controls"])
    seconds = START_SECONDS + (2 * how.limits["sample_seconds"] + 10) * count / (how.limits["workers"] or 1)
    with tempfile.TemporaryDirectory(prefix="evalplus-") as folder:
        if how.unsafe:
            print("NO SANDBOX (--unsafe): these samples can read and delete your files", file=sys.stderr)
        command, own = judge_command(how, folder)
        text = json.dumps(job).encode()
        try:
            done = subprocess.run(command, **own, input=text, stdout=subprocess.PIPE, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise InfrastructureError(f"evalplus had not finished after {seconds:.0f} s") from None
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise InfrastructureError(f"evalplus ended without results, exit status {done.returncode}") from None


def score(
    how: Judging, tasks: Sequence[FunctionTask], rows: Sequence[Sample], ks: Sequence[int], made: Identity | None
) -> Scored:
    """Have evalplus judge the samples, the references beside them, and count."""
    check(how)
    is_reference = made is not None and made.backend == "reference"
    wanted = {task.id for task in tasks}
    lines = [line.rstrip("\n") for line in read_lines(how.data) if json.loads(line)["task_id"] in wanted]
    job = {
        "dataset": how.dataset,
        "data": "\n".join(lines) + "\n",
        "samples": [(row.task_id, row.code or "") for row in rows],
        "controls": [] if is_reference else [(task.id, task.reference) for task in tasks],
        "sanitize": made is not None and made.prompt == "evalplus",
        **how.limits,
    }
    found = run_evalplus(job, how)
    verdicts, controls = verdict_rows(rows, found["eval"], has_controls=not is_reference)
    numbers = {
        **summarise(verdicts, ks),
        "references_that_fail": controls,
        "executed_with": found["versions"],
        "evalplus": {"data_md5": found["hash"], "unsanitized": found["unsanitized"], **how.limits},
    }
    return Scored(verdicts, numbers, markdown)
