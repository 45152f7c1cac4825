"""The inside of the sandbox: imports the preloaded modules once, then forks one process for each program.

src/sandbox/client.py starts this file with the interpreter under test, as process 1 of a bubblewrap (or bare, with
--unsafe), and talks to it in JSON lines over stdin and stdout: the settings, then a program, its verdict, the next
program. Standard library only, Python 3.9 or newer: the interpreter may be that of another virtual environment.

When a program ends or must end, every process but this one is killed at once: kill(-1) leaves none of them time to
fork. It has passed if this run's random token came through its result pipe and it then exited with status 0.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import secrets
import select
import shutil
import signal
import sys
import tempfile
import time

import child  # src/sandbox/child.py: a script's own folder comes first in sys.path

TICK = 0.1  # seconds between two checks of what a program uses
REPORT = 1 << 16  # bytes read from a result pipe: real reports are far shorter
PR_SET_CHILD_SUBREAPER = 36
MADV_COLLAPSE = 25  # Linux 6.1; older kernels refuse it
HUGE_PAGE = 1 << 21
ISOLATED = child.ISOLATED  # bare, kill(-1) would end every process of the user


def used(session: int, baseline: int) -> tuple[int, int]:
    """(threads, bytes resident above the preloaded baseline), over all processes of the program."""
    threads = memory = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            if int(name) != os.getpid() and (ISOLATED or int(fields[3]) == session):
                threads += int(fields[17])
                memory += max(0, int(fields[21]) * child.PAGE - baseline)
    return threads, memory


def use_huge_pages() -> None:
    """Move this process's private memory to huge pages, if the kernel can: a fork copies the page tables, and its end
    frees them, so that fewer pages are most of what can be saved on a program."""
    madvise = child.LIBC.madvise
    madvise.argtypes = [child.ctypes.c_void_p, child.ctypes.c_size_t, child.ctypes.c_int]
    with open("/proc/self/maps") as file:
        mappings = [line.split() for line in file]
    for span, mode, _, _, _, *name in mappings:
        if mode == "rw-p" and name in ([], ["[heap]"]):
            first, last = (int(address, 16) for address in span.split("-"))
            first, last = -(-first // HUGE_PAGE) * HUGE_PAGE, last // HUGE_PAGE * HUGE_PAGE
            if first < last:
                madvise(first, last - first, MADV_COLLAPSE)  # an error only means that some pages remain small


def own_state() -> tuple:
    """What a process of the same user can change in this one: such a change must not reach the next program."""
    limits = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]
    return limits, os.sched_getaffinity(0), os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)


def end_all(program: int) -> int:
    """Kill and reap every process of the program (bare: its group first); the wait status of process `program`."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1 if ISOLATED else -program, signal.SIGKILL)
    status = 0
    while True:
        if not ISOLATED:  # processes that left the group became children of this one, the subreaper
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                for orphan in file.read().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(orphan), signal.SIGKILL)
        try:
            pid, ended = os.waitpid(-1, 0)
        except ChildProcessError:
            return status
        if pid == program:
            status = ended


def drain(fd: int, kept: bytearray, most: int, last: bool) -> None:
    """Read what is there, at most 1 MB (a flood must not delay the deadline); keep the first or last `most` bytes."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(16):
            chunk = os.read(fd, 1 << 16)
            kept += chunk if last else chunk[: most - len(kept)]
            if last and len(kept) > most:
                del kept[: len(kept) - most]
            if not chunk:
                return


def verdict_of(token: str, report: bytes, status: int, stopped: tuple[str, str] | None) -> dict[str, str]:
    """The verdict from what the child wrote, how it ended, and why it was stopped, if it was."""
    lines = [line[len(token) + 1 :] for line in report.decode("utf-8", "replace").split("\n") if line.startswith(token)]
    if lines[:1] != ["ready"]:
        detail = json.loads(lines[0])["detail"] if lines else f"wait status {status} before the program began"
        return {"status": "infrastructure", "detail": detail}
    if stopped:
        return {"status": stopped[0], "detail": stopped[1]}
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name if number < signal.SIGRTMIN else f"signal {number}"
        return {"status": "timeout" if name == "SIGXCPU" else "crash", "detail": f"killed by {name}"}
    if len(lines) == 2 and os.WEXITSTATUS(status) == 0:
        return json.loads(lines[1])
    return {"status": "exit", "detail": f"ended itself with status {os.WEXITSTATUS(status)} before its last line"}


def run(program: str, settings: dict, baseline: int) -> dict[str, object]:
    """Fork, watch, end and judge one program."""
    limits, token = settings["limits"], secrets.token_hex(16)
    folder = "/tmp" if ISOLATED else tempfile.mkdtemp(dir=settings["scratch"])
    (result, result_end), (output, output_end) = os.pipe(), os.pipe()
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        child.run(program, token, settings, folder, (result_end, output_end))
    ended = os.pidfd_open(pid)
    report, printed, stopped = bytearray(), bytearray(), None
    for fd in (result_end, output_end):
        os.close(fd)
    poll = select.poll()
    for fd in (result, output, ended):
        os.set_blocking(fd, False)
        poll.register(fd, select.POLLIN)
    look = start + TICK
    while not stopped:
        events = dict(poll.poll(int(TICK * 1000)))
        drain(result, report, REPORT, last=False)
        drain(output, printed, limits["output_kb"] << 10, last=True)
        for fd in (result, output):
            if events.get(fd, 0) & select.POLLHUP and not events[fd] & select.POLLIN:
                poll.unregister(fd)
        if ended in events:
            break
        now = time.monotonic()
        if now - start > limits["seconds"]:
            stopped = "timeout", f"still running after {limits['seconds']:g} s"
        elif now >= look:
            look = now + TICK
            threads, memory = used(pid, baseline)
            if threads > limits["processes"]:
                stopped = "processes", f"{threads} processes and threads, {limits['processes']} allowed"
            elif memory > limits["memory_gb"] * 2**30:
                stopped = "memory", f"{memory / 2**30:.1f} GB in all its processes, {limits['memory_gb']:g} allowed"
    status = end_all(pid)
    seconds = time.monotonic() - start
    drain(result, report, REPORT, last=False)
    drain(output, printed, limits["output_kb"] << 10, last=True)
    for fd in (result, output, ended):
        os.close(fd)
    if not ISOLATED:
        shutil.rmtree(folder, ignore_errors=True)
    verdict = verdict_of(token, bytes(report), status, stopped)
    return {**verdict, "seconds": seconds, "output": printed.decode("utf-8", "replace")}


def main() -> None:
    sys.path.pop(0)  # this file's folder, of which programs import nothing
    del sys.modules["child"]
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as process 1, it ignores a program's SIGINT, like its SIGKILL

    def reply(message: dict) -> None:
        replies.write(json.dumps(message).encode() + b"\n")

    settings = json.loads(requests.readline())
    if settings["isolated"] != ISOLATED:
        return reply({"status": "infrastructure", "detail": "the fork server is not process 1 of a sandbox"})
    if not ISOLATED:
        child.call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for name in settings["preload"]:
        try:
            importlib.import_module(name)
        except BaseException as error:
            return reply({"status": "infrastructure", "detail": f"cannot import {name}: {error!r}"})
    gc.collect()
    gc.freeze()  # a child's collector must not touch, and so copy, the preloaded objects
    use_huge_pages()
    reply({"status": "ready", "threads": len(os.listdir("/proc/self/task"))})
    state, baseline = own_state(), child.statm()[1]
    for line in requests:
        verdict = run(json.loads(line), settings, baseline)
        if own_state() != state:
            sys.exit("a program changed the limits of the fork server")
        reply(verdict)


if __name__ == "__main__":
    main()
