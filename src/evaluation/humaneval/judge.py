"""Runs evalplus on samples that come through stdin, and answers on stdout.

    {"dataset": "humaneval", "data": "<JSONL>", "samples": [[task, code], …], "controls": [[task, code], …],
     "sanitize": true, …} -> evalplus's results, a task's controls after its samples

score.py starts this file in bubblewrap, with the interpreter of an environment that has evalplus. No file of the caller
can be written in there: data and samples are in a file system in memory, which an answer may empty but not remove,
evalplus's cache in another. Expected outputs are therefore computed each time, and no answer of an earlier run can have
changed them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import secrets
import signal
import sys
import traceback
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORK = Path("/evalplus")  # score.py mounts it
SANITIZE_SECONDS = 20  # evalplus parses every range of lines: thousands of lines would take hours
FREE_USERS = range(60706, 61184)  # given to nobody: https://systemd.io/UIDS-GIDS
LIMITS = {"CORE": 0, "NPROC": 1024}  # evalplus caps the memory of each sample itself


def become_nobody() -> None:
    """Become a user that owns nothing, if this process is root's. The caller let it keep the right to do so."""
    for folder in ("/tmp", "/dev/shm", WORK):
        os.chmod(folder, 0o1777)
    user = secrets.choice(FREE_USERS)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def limit() -> None:
    """The limits of every process in here. The kernel counts processes per user, and outside ones too before 5.14."""
    for name, value in LIMITS.items():
        hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def sanitized(code: str, entry_point: str, sanitize: Callable[[str, str], str]) -> str | None:
    """What evalplus keeps of an answer; None if its parser gives up or takes too long."""

    def too_long(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SANITIZE_SECONDS)
    try:
        return sanitize(code, entry_point)
    except Exception:  # RecursionError, ValueError, a lone surrogate, …: evalplus would end the whole run
        return None
    finally:
        signal.alarm(0)


def set_timeout(seconds: float) -> None:
    """evalplus's EVALPLUS_TIMEOUT_PER_TASK: 0.3.1 reads it as text, compares that with a number and raises."""
    import evalplus.eval

    def getenv(name: str, default: object = None) -> object:
        return seconds if name == "EVALPLUS_TIMEOUT_PER_TASK" else os.getenv(name, default)

    evalplus.eval.os = types.SimpleNamespace(getenv=getenv)  # the module uses nothing else of os


def run(job: dict[str, Any], work: Path) -> dict[str, Any]:
    """evalplus's own results file, with the versions and the number of unsanitised answers."""
    work.mkdir(parents=True, exist_ok=True)
    data, samples = work / "data.jsonl", work / "samples.jsonl"
    data.write_text(job["data"], encoding="utf-8")
    os.environ[{"humaneval": "HUMANEVAL_OVERRIDE_PATH", "mbpp": "MBPP_OVERRIDE_PATH"}[job["dataset"]]] = str(data)
    from importlib.metadata import version

    import numpy
    from evalplus.evaluate import evaluate
    from evalplus.sanitize import sanitize

    rows = [(task, code) for task, code in job["samples"]]
    unsanitized = 0
    if job["sanitize"]:
        names = {row["task_id"]: row["entry_point"] for row in map(json.loads, job["data"].strip().split("\n"))}
        kept = [sanitized(code, names[task], sanitize) for task, code in rows]
        unsanitized = kept.count(None)
        rows = [(task, code if clean is None else clean) for (task, code), clean in zip(rows, kept, strict=True)]
    rows += job["controls"]
    text = "".join(json.dumps({"task_id": task, "solution": code}) + "\n" for task, code in rows)
    samples.write_text(text, encoding="utf-8")
    set_timeout(job["sample_seconds"])
    evaluate(
        dataset=job["dataset"],
        samples=str(samples),
        parallel=job["workers"],
        min_time_limit=job["min_time_limit"],
        gt_time_limit_factor=job["gt_time_limit_factor"],
    )
    results = json.loads((work / "samples_eval_results.json").read_text("utf-8"))
    versions = {"evalplus": version("evalplus"), "numpy": numpy.__version__, "python": sys.version.split()[0]}
    return {**results, "unsanitized": unsanitized, "versions": versions}


NEEDS = ("evalplus.evaluate", "evalplus.sanitize", "numpy")  # what run() imports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK, help="folder to work in (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="only import evalplus, as the user who judges")
    parser.add_argument("--bare", action="store_true", help="there is no bubblewrap around this process")
    args = parser.parse_args()
    if args.check:
        if not args.bare and os.getuid() == 0:
            become_nobody()
        for name in NEEDS:
            importlib.import_module(name)
        return
    job = json.loads(sys.stdin.buffer.read())
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    sys.stdout = sys.stderr = os.fdopen(os.dup(2), "w", 1, encoding="utf-8")  # what evalplus prints
    nothing = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):  # what answers print past evalplus, and what the programs print that they start
        os.dup2(nothing, fd)
    if not args.bare:
        if os.getuid() == 0:
            become_nobody()
        limit()
    warnings.simplefilter("ignore", SyntaxWarning)
    warnings.filterwarnings("ignore", message=r"\d+ samples to be tested")  # evalplus names each of them
    try:
        json.dump(run(job, args.work), answer)
        answer.close()
    except BaseException:  # evalplus's thread that waits for the last sample would keep this process alive forever
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # a thread of evalplus's may sleep for up to 20 seconds more


if __name__ == "__main__":
    main()
