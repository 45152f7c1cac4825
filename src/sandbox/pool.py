"""Fork servers in bubblewraps: one program at a time each, many at a time in all. The API is `sandbox`."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import mounts
from sandbox.mounts import InfrastructureError

SERVER = Path(__file__).resolve().with_name("server.py")
START_SECONDS = 600  # imports from a cold network disk
GRACE_SECONDS = 20  # beyond a program's own limit before its server counts as lost
CONTROLS = {"assert 1 + 1 == 2": "pass", "assert 1 + 1 == 3": "assertion"}
# May a program read what it can import? It may be another user than the one who installed that (root, umask 027), and
# than the fork server, which has imported the preloaded modules. Then it imports what the run needs.
IMPORTS = """\
import importlib, os, sys
for folder in sys.path:
    try:
        entries = list(os.scandir(folder or "."))
    except (FileNotFoundError, NotADirectoryError):
        continue
    for entry in entries:
        for path in (entry.path, os.path.join(entry.path, "__init__.py")):
            try:
                if os.path.isdir(path):
                    os.listdir(path)
                elif path.endswith((".py", ".so", ".pth")):
                    open(path, "rb").close()
            except (FileNotFoundError, NotADirectoryError):
                pass
for name in needs:
    importlib.import_module(name)
"""


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    seconds: float = 30.0  # by the clock
    memory_gb: float = 4.0  # GiB above the preloaded baseline: address space per process, resident memory in sum
    file_mb: float = 256.0  # MiB: one file, all of /tmp, all of /dev/shm
    processes: int = 64  # processes and threads at a time
    output_kb: int = 64  # KiB of stdout and stderr kept, the last ones; more is dropped and no fail

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not value > 0:
                raise ValueError(f"{name} is {value}: a limit is above 0")


@dataclass(frozen=True)
class Verdict:
    """How one program ended. `detail` and, even more, `output` come from the program: for people, not for decisions."""

    status: str  # "pass", or the kind of fail
    detail: str  # the last lines of the traceback, or the reason
    seconds: float  # by the clock, from fork to the end of its last process
    output: str = ""  # the end of what it printed

    @property
    def passed(self) -> bool:
        return self.status == "pass"


DEFAULT = Limits()


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


@functools.cache
def _warn_unsafe() -> None:
    line = "!" * 100
    print(f"{line}\nNO SANDBOX (--unsafe): these programs can read and delete your files\n{line}", file=sys.stderr)


class Sandbox:
    """One fork server, one program at a time, for use as a context manager in one thread (it ends with that thread).

    `python`: the interpreter, maybe of another virtual environment (3.9 or newer). `preload`: modules imported before
    forking. `read_only`: paths to show inside. `needs`: modules that programs must be able to import;
    None: that is not tried. InfrastructureError if it cannot start or one of its controls goes wrong: a program that
    passes, one that fails, and one that reads, as the user that programs are, what there is to import.
    """

    def __init__(
        self,
        python: str | Path = sys.executable,
        preload: Sequence[str] = (),
        limits: Limits = DEFAULT,
        read_only: Sequence[str | Path] = (),
        unsafe: bool = False,
        needs: Sequence[str] | None = (),
    ) -> None:
        self._python, self._unsafe = str(python), unsafe
        self._needs = None if needs is None else list(needs)
        self._settings: dict[str, Any] = {
            "preload": list(preload),
            "limits": dataclasses.asdict(limits),
            "isolated": not unsafe,
        }
        self._read_only = (*read_only, SERVER)
        self._lock, self._closed = threading.Lock(), False
        self._process: subprocess.Popen | None = None
        if unsafe:
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
        """End the server and whatever runs in it, for good; safe from any thread."""
        with self._lock:
            self._closed = True
            if self._process:
                self._process.kill()  # bubblewrap's end is the end of everything in it

    def run(self, program: str) -> Verdict:
        """The verdict on one program.

        A server that is lost during a program is started again, controls included, and the program given a second
        chance, because the machine may have been at fault. The second loss is the program's fail.
        """
        start = time.monotonic()
        for _ in range(2):
            if verdict := self._ask(program):
                return verdict
            self._start()
        return Verdict("crash", "it ended the fork server, twice", time.monotonic() - start)

    def _start(self) -> None:
        self._clean()
        self._scratch = tempfile.TemporaryDirectory(prefix="sandbox-", ignore_cleanup_errors=True)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the server)
        server = [mounts.interpreter(self._python)[0], "-s", str(SERVER)]
        settings = {**self._settings, "scratch": self._scratch.name}
        if self._unsafe:
            command, settings["below_tmp"] = server, []
        else:
            shown = mounts.visible(self._python, self._read_only)
            settings["below_tmp"] = [path for path in shown if Path(path).is_relative_to("/tmp")]
            command = mounts.command(self._python, self._read_only, options=mounts.SERVER) + server
        environment = {**mounts.ENVIRONMENT, "HOME": self._scratch.name}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._stderr}
        own = {"env": environment, "umask": mounts.UMASK, "cwd": self._scratch.name, "start_new_session": True}
        self._buffer = b""
        with self._lock:
            if self._closed:
                raise InfrastructureError("the sandbox was closed")
            self._process = subprocess.Popen(command, **pipes, **own, bufsize=0)
        ready = self._exchange(settings, START_SECONDS)
        if ready is None:
            raise InfrastructureError(f"the fork server did not start: {self._last_words()}")
        if ready["status"] != "ready":
            raise InfrastructureError(f"{self._python}: {ready['detail']}")
        if ready["threads"] > 1:
            print(f"sandbox: preloading left {ready['threads']} threads; their forks may hang", file=sys.stderr)
        for program, status in CONTROLS.items():
            verdict = self._ask(program)
            if verdict is None or verdict.status != status:
                said = f"{verdict.status}: {verdict.detail}" if verdict else self._last_words()
                raise InfrastructureError(f"control {program!r} should be {status!r}, was {said}")
        if self._needs is None:
            return
        verdict = self._ask(f"needs = {self._needs!r}\n{IMPORTS}")
        if verdict and verdict.status == "timeout":
            raise InfrastructureError(f"{self._python}: importing {self._needs} took too long: raise --seconds")
        if verdict is None or not verdict.passed:
            said = last_line(verdict.detail) if verdict else self._last_words()
            hint = "; chmod -R a+rX on its folder makes it readable" if "PermissionError" in said else ""
            raise InfrastructureError(f"programs cannot import what {self._python} has: {said}{hint}")

    def _clean(self) -> None:
        if process := self._process:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
            self._stderr.close()
            self._scratch.cleanup()
            self._process = None

    def _last_words(self) -> str:
        self._process.kill()
        self._process.wait()
        self._stderr.seek(0)
        return last_line(self._stderr.read().decode("utf-8", "replace")) or "it said nothing"

    def _ask(self, program: str) -> Verdict | None:
        """None where the server was lost."""
        reply = self._exchange(program, self._settings["limits"]["seconds"] + GRACE_SECONDS)
        if reply is None:
            return None
        if reply["status"] == "infrastructure":
            raise InfrastructureError(reply["detail"])
        return Verdict(**reply)

    def _exchange(self, message: Any, seconds: float) -> dict | None:
        """Send one JSON line, read one; None where the server has ended or is silent for `seconds`."""
        process, deadline = self._process, time.monotonic() + seconds
        try:
            unsent = memoryview(json.dumps(message).encode() + b"\n")
            while unsent:
                unsent = unsent[process.stdin.write(unsent) :]
            replies = select.poll()
            replies.register(process.stdout, select.POLLIN)
            while b"\n" not in self._buffer:
                if not replies.poll(max(0, deadline - time.monotonic()) * 1000):
                    return None
                chunk = os.read(process.stdout.fileno(), 1 << 16)
                if not chunk:
                    return None
                self._buffer += chunk
        except BrokenPipeError:
            return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)


def run_all(
    programs: Sequence[str],
    *,
    python: str | Path = sys.executable,
    preload: Sequence[str] = (),
    limits: Limits = DEFAULT,
    read_only: Sequence[str | Path] = (),
    unsafe: bool = False,
    needs: Sequence[str] = (),
    workers: int | None = None,
    progress: bool = True,
) -> list[Verdict]:
    """The verdicts on `programs`, in their order, from `workers` sandboxes at a time (default: one per usable core).

    Each worker may take the preloaded baseline plus `limits.memory_gb`. The first InfrastructureError ends the run.
    """
    from tqdm import tqdm

    verdicts: list[Verdict | None] = [None] * len(programs)
    if workers is not None and workers < 1:
        raise ValueError(f"{workers} workers")
    waiting = collections.deque(range(len(programs)))
    workers = min(workers or len(os.sched_getaffinity(0)), len(programs))
    # One of them tries what programs can read and import: that takes as long as a program.
    boxes = [Sandbox(python, preload, limits, read_only, unsafe, None if i else needs) for i in range(workers)]
    with tqdm(total=len(programs), desc="programs", disable=not progress) as bar:

        def work(box: Sandbox) -> None:
            with box:
                while True:
                    try:
                        index = waiting.popleft()
                    except IndexError:
                        return
                    verdicts[index] = box.run(programs[index])
                    bar.update()

        with ThreadPoolExecutor(max(1, workers)) as pool:
            try:
                futures = [pool.submit(work, box) for box in boxes]
                for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                    future.result()
            finally:  # on an error or Ctrl-C the others stop at once
                waiting.clear()
                for box in boxes:
                    box.close()
    return verdicts


def run(program: str, **settings: Any) -> Verdict:
    """The verdict on one program; the keywords of `run_all`. For many programs use that or a `Sandbox`: a start costs
    the imports of `preload` and three controls."""
    return run_all([program], **{"progress": False, **settings})[0]


def check_ready(**settings: Any) -> None:
    """Start a sandbox, run its controls, end it; or raise InfrastructureError."""
    with Sandbox(**settings):
        pass


def _positive(kind: type) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return number


def add_flags(parser: argparse.ArgumentParser, seconds: str | None = None) -> None:
    """The limits as flags, for every script that runs programs; `settings` reads them.

    `seconds`: the default of --seconds in words, where the script chooses it itself; the flag is None where not given.
    """
    group = parser.add_argument_group("sandbox")
    helps = {
        "seconds": "time limit of a program",
        "memory_gb": "memory above the imported libraries, GiB",
        "file_mb": "what a program may write, MiB",
        "processes": "processes and threads at a time",
        "output_kb": "output kept, KiB",
    }
    for field in dataclasses.fields(Limits):
        flag = "--" + field.name.replace("_", "-")
        words = seconds if field.name == "seconds" else None
        default = None if words else field.default
        text = f"{helps[field.name]} (default: {words or field.default})"
        group.add_argument(flag, type=_positive(type(field.default)), default=default, help=text)
    group.add_argument("--workers", type=_positive(int), help="sandboxes at a time (default: one per core)")
    group.add_argument("--read-only", nargs="+", default=[], metavar="PATH", help="more paths that programs may read")
    group.add_argument("--unsafe", action="store_true", help="no sandbox: programs can read and delete your files")


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The keywords of `run_all` from the flags of `add_flags`."""
    limits = Limits(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Limits)})
    return {"limits": limits, "workers": args.workers, "read_only": args.read_only, "unsafe": args.unsafe}
