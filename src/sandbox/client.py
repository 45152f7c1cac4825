"""One fork server in a bubblewrap (src/sandbox/server.py), and the verdicts that it gives."""

from __future__ import annotations

import functools
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sandbox import mounts
from sandbox.limits import DEFAULT, Limits
from sandbox.mounts import InfrastructureError

FOLDER = Path(__file__).resolve().parent
SERVER = (FOLDER / "server.py", FOLDER / "child.py")  # what runs inside the sandbox
READABLE = (FOLDER / "readable.py").read_text("utf-8")
START_SECONDS = 600  # imports from a cold network disk
GRACE_SECONDS = 20  # beyond a program's own limit, before its server counts as lost
CONTROLS = {"assert 1 + 1 == 2": "pass", "assert 1 + 1 == 3": "assertion"}


@dataclass(frozen=True)
class Verdict:
    """How one program ended. `detail` and `output` come from the program: show them, but do not decide by them."""

    status: str  # "pass", or the kind of failure
    detail: str  # the last lines of the traceback, or the reason
    seconds: float  # wall-clock time, from the fork to the end of its last process
    output: str = ""  # the end of what it printed

    @property
    def passed(self) -> bool:
        return self.status == "pass"


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


@functools.cache
def _warn_unsafe() -> None:
    line = "!" * 100
    print(f"{line}\nNO SANDBOX (--unsafe): these programs can read and delete your files\n{line}", file=sys.stderr)


class _Server:
    """The process of a fork server: it reads and writes JSON lines."""

    def __init__(self, command: Sequence[str]) -> None:
        self.scratch = tempfile.TemporaryDirectory(prefix="sandbox-", ignore_cleanup_errors=True)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the server runs)
        self.process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**mounts.ENVIRONMENT, "HOME": self.scratch.name},
            umask=mounts.UMASK,
            cwd=self.scratch.name,
            start_new_session=True,
        )
        assert self.process.stdin and self.process.stdout
        self._stdin, self._stdout, self._buffer = self.process.stdin, self.process.stdout, b""

    def exchange(self, message: Any, seconds: float) -> dict | None:
        """Send one JSON line and read one; None if the server has ended or does not answer within `seconds`."""
        deadline = time.monotonic() + seconds
        try:
            unsent = memoryview(json.dumps(message).encode() + b"\n")
            while unsent:
                unsent = unsent[self._stdin.write(unsent) :]
            replies = select.poll()
            replies.register(self._stdout, select.POLLIN)
            while b"\n" not in self._buffer:
                if not replies.poll(max(0, deadline - time.monotonic()) * 1000):
                    return None
                chunk = os.read(self._stdout.fileno(), 1 << 16)
                if not chunk:
                    return None
                self._buffer += chunk
        except BrokenPipeError:
            return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def kill(self) -> None:
        self.process.kill()  # everything inside ends with bubblewrap
        self.process.wait()

    def last_words(self) -> str:
        """End it; the last line of its stderr."""
        self.kill()
        self._stderr.seek(0)
        return last_line(self._stderr.read().decode("utf-8", "replace")) or "no error message"

    def clean(self) -> None:
        self.kill()
        for stream in (self._stdin, self._stdout, self._stderr):
            stream.close()
        self.scratch.cleanup()


@dataclass
class Sandbox:
    """One fork server, one program at a time, for use as a context manager in one thread (it ends with that thread).

    Raises InfrastructureError if the server does not start or a control goes wrong: a program that passes, one that
    fails, and one that reads, as the user that programs run as, everything it could import.
    """

    python: str | Path = sys.executable  # possibly of another virtual environment
    preload: Sequence[str] = ()  # modules imported before forking
    limits: Limits = DEFAULT
    read_only: Sequence[str | Path] = ()  # paths to show inside
    unsafe: bool = False  # without bubblewrap
    needs: Sequence[str] | None = ()  # modules that programs must be able to import; None skips that control

    def __post_init__(self) -> None:
        self._lock, self._closed = threading.Lock(), False
        self._server: _Server | None = None
        if self.unsafe:
            _warn_unsafe()

    def __enter__(self) -> Sandbox:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._clean()

    def close(self) -> None:
        """End the server and everything that runs in it, permanently; safe from any thread."""
        with self._lock:
            self._closed = True
            if self._server:
                self._server.process.kill()

    def run(self, program: str) -> Verdict:
        """The verdict on one program. If the server is lost, it is started again, controls included, and the program
        gets a second chance: the machine may have been at fault. A second loss counts as the program's failure."""
        start = time.monotonic()
        for _ in range(2):
            assert self._server, "the sandbox is not open"
            if verdict := self._ask(self._server, program):
                return verdict
            self._start()
        return Verdict("crash", "it ended the fork server, twice", time.monotonic() - start)

    def _start(self) -> None:
        self._clean()
        python, read_only = str(self.python), (*self.read_only, *SERVER)
        command, below_tmp = [mounts.interpreter(python)[0], "-s", str(SERVER[0])], []
        if not self.unsafe:
            below_tmp = [path for path in mounts.visible(python, read_only) if Path(path).is_relative_to("/tmp")]
            command = mounts.command(python, read_only, mounts.SERVER) + command
        with self._lock:
            if self._closed:
                raise InfrastructureError("the sandbox was closed")
            server = self._server = _Server(command)
        settings = {"preload": list(self.preload), "limits": asdict(self.limits), "isolated": not self.unsafe}
        ready = server.exchange({**settings, "scratch": server.scratch.name, "below_tmp": below_tmp}, START_SECONDS)
        if ready is None:
            raise InfrastructureError(f"the fork server did not start: {server.last_words()}")
        if ready["status"] != "ready":
            raise InfrastructureError(f"{python}: {ready['detail']}")
        if ready["threads"] > 1:
            print(f"sandbox: preloading left {ready['threads']} threads; their forks may hang", file=sys.stderr)
        self._check(server)

    def _check(self, server: _Server) -> None:
        """Run the controls."""
        for program, status in CONTROLS.items():
            verdict = self._ask(server, program)
            if verdict is None or verdict.status != status:
                found = f"{verdict.status}: {verdict.detail}" if verdict else server.last_words()
                raise InfrastructureError(f"control {program!r} should be {status!r}, was {found}")
        if self.needs is None:
            return
        verdict = self._ask(server, f"{READABLE}\ncheck({list(self.needs)!r})")
        if verdict and verdict.status == "timeout":
            raise InfrastructureError(f"{self.python}: importing {self.needs} took too long: raise --seconds")
        if verdict is None or not verdict.passed:
            found = last_line(verdict.detail).removeprefix("CannotImport: ") if verdict else server.last_words()
            user = f" (as user {verdict.output.split()[0]})" if verdict and verdict.output.strip() else ""
            hint = "; chmod -R a+rX on its folder makes it readable" if "PermissionError" in found else ""
            raise InfrastructureError(f"programs{user} cannot import what {self.python} has: {found}{hint}")

    def _clean(self) -> None:
        if self._server:
            self._server.clean()
            self._server = None

    def _ask(self, server: _Server, program: str) -> Verdict | None:
        """The verdict; None if the server was lost."""
        reply = server.exchange(program, self.limits.seconds + GRACE_SECONDS)
        if reply is None:
            return None
        if reply["status"] == "infrastructure":
            raise InfrastructureError(reply["detail"])
        return Verdict(**reply)
