"""Runs programs of src/ in processes that fork from an interpreter which has imported torch, transformers and trl.

These imports take 5 s of CPU time in each new process, and the tests start some fifty. A forked process has its own
memory, environment, working folder, arguments and standard streams.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from typing import NoReturn

ONE_THREAD = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}  # pyarrow's allocator; a fork copies one thread only


class WarmPython:
    """The client: one program at a time."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**environment, **ONE_THREAD},
            text=True,
        )
        atexit.register(self.server.communicate)  # the end of its input ends it

    def run(
        self, command: Sequence[str], *, cwd: str, env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """What subprocess.run returns for `python SCRIPT ARGS`; `command` starts with the interpreter."""
        assert self.server.stdin and self.server.stdout
        with tempfile.TemporaryDirectory() as folder:
            streams = [f"{folder}/stdout", f"{folder}/stderr"]
            job = {"argv": command[1:], "cwd": cwd, "env": dict(env), "streams": streams, "timeout": timeout}
            print(json.dumps(job), file=self.server.stdin, flush=True)
            status = json.loads(self.server.stdout.readline())
            stdout, stderr = (open(path, encoding="utf-8").read() for path in streams)  # noqa: SIM115
        if status is None:
            raise subprocess.TimeoutExpired(list(command), timeout, stdout, stderr)
        return subprocess.CompletedProcess(list(command), status, stdout, stderr)


def serve() -> dict:
    """Fork a process for each job and report its exit status, None after a timeout. Returns in the forked process."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing else may write replies
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401
    from trl import GRPOTrainer, SFTTrainer  # noqa: F401

    gc.freeze()  # a child's collector must not touch, and so copy, what was imported
    while line := sys.stdin.readline():
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            replies.close()
            return job
        ended = os.pidfd_open(pid)
        in_time = bool(select.select([ended], [], [], job["timeout"])[0])
        if not in_time:
            os.killpg(pid, signal.SIGKILL)
        os.close(ended)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps(status if in_time else None), file=replies, flush=True)
    raise SystemExit


def become(job: dict) -> str:
    """Turn the forked process into the one that was asked for; returns the script's path."""
    os.setsid()
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    for number, path in enumerate(["/dev/null", *job["streams"]]):
        opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (the old one may hold the next job)
    sys.argv = job["argv"]
    sys.path[0] = os.path.dirname(job["argv"][0])
    return job["argv"][0]


def run_program(script: str) -> NoReturn:
    """Run it as __main__ and end as an interpreter does, but without freeing the modules: that takes seconds."""
    status: object = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    if status is not None and not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)


if __name__ == "__main__":
    run_program(become(serve()))
