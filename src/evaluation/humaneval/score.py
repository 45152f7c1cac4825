"""HumanEval+ and MBPP+: samples -> evalplus's verdicts, in the sandbox -> numbers, for src/score.py.

The verdicts are evalplus's (its tests, oracles, limits). "base" is HumanEval's own tests, "plus" those and evalplus's.
An answer to evalplus's prompt is cut and sanitised as evalplus does; one to our prompt is judged as it is. The
problem's text is put before neither: an answer brings its own imports.

evalplus 0.3.1 fails every answer to HumanEval/32 (results/humaneval.md says why), so the ceiling is 163 of 164; scores
without that problem are beside the standard ones.

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
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.cli import above_zero
from common.errors import InputError
from common.markdown import table
from common.rows import resolve
from evaluation.humaneval.problems import FunctionTask, read_lines
from evaluation.results import Scored
from evaluation.samples import Identity, Sample
from evaluation.tables import headline, in_paper, paper_row, per_task, percent, rates, scores, title
from sandbox import InfrastructureError, last_line, mounts

JUDGE = Path(__file__).with_name("judge.py")
OWN_PYTHON = Path(__file__).parents[3] / ".venvs" / "evalplus" / "bin" / "python"
LIMITS = ("workers", "min_time_limit", "gt_time_limit_factor", "sample_seconds")
START_SECONDS = 1800  # imports and the expected outputs
EVALPLUS_NAMES = {"humaneval": "human_eval_plus", "mbpp": "mbpp_plus"}  # in the names of evalplus's functions
NAMES = {"humaneval+": ("HumanEval", "HumanEval+"), "mbpp+": ("MBPP", "MBPP+")}
UNPASSABLE = ("HumanEval/32",)  # the docstring gives the reason
WAYS = ("passed", "base_passed")  # the base and plus tests; HumanEval's own alone
PASS = "pass"  # evalplus's word; the others are fail and timeout
PYTHON_FLAG = {"--python": {"help": "interpreter that has evalplus (default: .venvs/evalplus if there, else this one)"}}
FLAGS: dict[str, dict[str, Any]] = {
    **PYTHON_FLAG,
    "--min-time-limit": {
        "type": above_zero(float, 3600),
        "default": 1.0,
        "help": "seconds an input has at least (evalplus's: 1)",
    },
    "--gt-time-limit-factor": {
        "type": above_zero(float, 10000),
        "default": 4.0,
        "help": "times the reference's time (evalplus's: 4)",
    },
    "--sample-seconds": {
        "type": above_zero(float, 86400),
        "default": 60.0,
        "help": "base or other inputs of a sample (evalplus's: 60)",
    },
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
        user = "a user without files" if mounts.ROOT and not how.unsafe else "the current user"
        why = last_line(done.stderr)
        raise InfrastructureError(f"programs (as {user}) cannot import what {how.python} has: {why}")


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


def verdict_rows(
    samples: Sequence[Sample], found: Mapping[str, Sequence[Mapping[str, Any]]], *, has_controls: bool = True
) -> tuple[list[dict[str, Any]], dict[str, dict[str, str]]]:
    """(one row a sample, task -> statuses of its reference if that does not pass and could).

    `found`: evalplus's `eval`, whose lists are in the order in which the samples were handed over, the reference last
    if the run `has_controls`; without, the samples are the references.
    Raises InputError if evalplus did not answer for everything.
    """
    counts = Counter(row.task_id for row in samples)
    if {task: len(mine) for task, mine in found.items()} != {task: n + has_controls for task, n in counts.items()}:
        raise InputError("evalplus did not judge every sample")
    left = {task: iter(mine) for task, mine in found.items()}
    rows = []
    for row in samples:
        statuses = statuses_of(next(left[row.task_id]))
        rows.append(
            {
                "task_id": row.task_id,
                "sample_id": row.sample_id,
                "base_passed": statuses["base"] == PASS,
                "passed": set(statuses.values()) == {PASS},  # evalplus's rule: plus counts both
                **statuses,
                "no_code": row.code is None,
                "truncated": row.finish_reason == "length",
            }
        )
    references = {task: statuses_of(mine[-1]) for task, mine in found.items()}
    failing = {task: statuses for task, statuses in references.items() if set(statuses.values()) != {PASS}}
    return rows, {task: statuses for task, statuses in failing.items() if task not in UNPASSABLE}


def statuses_of(judged: Mapping[str, Any]) -> dict[str, str]:
    return {"base": judged["base_status"], "plus": judged["plus_status"]}


def summarise(verdicts: Sequence[Mapping[str, Any]], ks: Sequence[int]) -> dict[str, Any]:
    """Every number of one run: scores with and without the problem that no answer passes, rates, counts per task."""
    counts = per_task(verdicts, WAYS)
    passable = [count for task, count in counts.items() if task not in UNPASSABLE]
    return {
        "problems": len(counts),
        "samples_per_problem": len(verdicts) // len(counts),
        "scores": scores(counts.values(), ks, WAYS),
        "unpassable": sorted(counts.keys() & set(UNPASSABLE)),
        "scores_without_unpassable": scores(passable, ks, WAYS) if passable else {},
        "rates": rates(verdicts, ["no_code", "truncated"]),
        "verdicts": {part: dict(Counter(row[part] for row in verdicts).most_common()) for part in ("base", "plus")},
        "tasks": counts,
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The table of one run; percentages, 95 % intervals in brackets."""
    base, plus = NAMES[result["benchmark"]]
    paper = paper_row(result["label"], result["benchmark"])
    header = ["metric", base, plus]
    other = result["scores_without_unpassable"] if result["unpassable"] else {}
    if other:
        left = result["problems"] - len(result["unpassable"])
        header += [f"{name} without {', '.join(result['unpassable'])} ({left})" for name in (base, plus)]
    rows = []
    for name in (name for name in result["scores"] if not name.startswith("base_")):
        row = [title(name)]
        for part in filter(None, (result["scores"], other)):
            row += [percent(part[f"base_{name}"]), percent(part[name])]
        rows.append([*row, in_paper(paper.get(name))])
    passed = {key: sum(task[key] for task in result["tasks"].values()) for key in ("base_passed", "passed")}
    total = result["problems"] * result["samples_per_problem"]
    shares = {name: f"{100 * share:.1f} %" for name, share in result["rates"].items()}
    lines = [
        headline(result),
        "",
        table([*header, f"paper, {plus}"], rows),
        "",
        f"Samples that pass: {passed['base_passed']} base, {passed['passed']} plus, of {total}; without code "
        f"{shares['no_code']}, cut at the length limit {shares['truncated']}; "
        f"evalplus {result['executed_with']['evalplus']}.",
    ]
    if failing := result["references_that_fail"]:
        names = ", ".join(f"{task} ({seen['base']}, {seen['plus']})" for task, seen in sorted(failing.items()))
        lines.append(
            f"\n**Do not trust these scores**: {len(failing)} reference solutions did not pass here: "
            f"{names}. A busy machine? --workers 1, a longer --min-time-limit."
        )
    if unsanitized := result["evalplus"]["unsanitized"]:
        lines.append(f"{unsanitized} answers were too much for evalplus's sanitiser and were judged as they are.")
    return "\n".join(lines)


def score(
    how: Judging, tasks: Sequence[FunctionTask], rows: Sequence[Sample], ks: Sequence[int], made: Identity | None
) -> Scored:
    """Have evalplus judge the samples, the references beside them, and count."""
    check(how)
    is_reference = made is not None and made.backend == "reference"
    wanted = {task.id for task in tasks}
    lines = [line for _, line, row in read_lines(how.data) if row["task_id"] in wanted]
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
