"""The inside of the sandbox: imports the preloaded modules once, then forks one process for each program.

src/sandbox/pool.py starts this file with the interpreter under test, as process 1 of a bubblewrap (or bare, when told
to do without), and talks to it in JSON lines over stdin and stdout: the settings, then a program, its verdict, the next
program. Standard library only, Python 3.9 or newer: the interpreter may be that of another virtual environment.

Each program gets, before its first line runs: a session, mount and IPC namespaces of its own (so /tmp and /dev/shm are
empty, and gone afterwards), no capability, another user where this one is root, resource limits, an empty working
folder and HOME, and /dev/null as stdin.
When it ends or must end, every process but this one is killed at one stroke: kill(-1) leaves nobody the time to fork.
It has passed when this run's random token came through its result pipe and it then exited with status 0.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import io
import json
import linecache
import os
import platform
import re
import resource
import secrets
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import types

ISOLATED = os.getpid() == 1  # bare, kill(-1) would end every process of the user
TICK = 0.1  # seconds between two looks at what a program uses
REPORT = 1 << 16  # bytes read from a result pipe: ours are far shorter
PAGE = resource.getpagesize()
CLONE_NEWNS, CLONE_NEWIPC = 0x00020000, 0x08000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
FREE_USERS = range(60706, 61184)  # given to nobody: https://systemd.io/UIDS-GIDS
LINUX = tuple(map(int, re.match(r"(\d+)\.(\d+)", platform.release()).groups()))
LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """A function of the C library; OSError where it fails."""
    if getattr(LIBC, name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def statm() -> tuple[int, int]:
    """(address space, resident memory) of this process in bytes."""
    with open("/proc/self/statm") as file:
        size, resident = file.read().split()[:2]
    return int(size) * PAGE, int(resident) * PAGE


def used(session: int, baseline: int) -> tuple[int, int]:
    """(threads, bytes resident above the preloaded baseline), over all processes of the program."""
    threads = memory = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has ended since
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            if int(name) != os.getpid() and (ISOLATED or int(fields[3]) == session):
                threads += int(fields[17])
                memory += max(0, int(fields[21]) * PAGE - baseline)
    return threads, memory


def own_state() -> tuple:
    """What a process of the same user may change in this one even from outside: it must not reach the next program."""
    limits = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]
    return limits, os.sched_getaffinity(0), os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)


def end_all(child: int) -> int:
    """Kill and reap every process of the program; the wait status of `child`."""
    if ISOLATED:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    status = 0
    while True:
        if not ISOLATED:  # orphans come to this process, the subreaper: whatever left the group is killed here
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                for pid in file.read().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
        try:
            pid, ended = os.waitpid(-1, 0)
        except ChildProcessError:
            return status
        if pid == child:
            status = ended


def fresh_mounts(size: int, visible: list[str]) -> None:
    """Empty /tmp and /dev/shm for this process alone; what bubblewrap had bound below /tmp is bound there again."""
    call("unshare", CLONE_NEWNS | CLONE_NEWIPC)
    call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    kept = [(path, os.open(path, os.O_PATH)) for path in visible]
    for target in (b"/tmp", b"/dev/shm"):
        options = f"size={size},nr_inodes=65536,mode=1777".encode()
        call("mount", b"tmpfs", target, b"tmpfs", MS_NOSUID | MS_NODEV, options)
    for path, fd in kept:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            os.makedirs(path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, "x").close()
        call("mount", f"/proc/self/fd/{fd}".encode(), path.encode(), None, MS_BIND | MS_REC, None)
        os.close(fd)


def become_nobody() -> None:
    """No capability is left; where this process is root's it becomes one of a user that has nothing else running."""
    if os.getuid() == 0:
        user = secrets.choice(FREE_USERS)
        os.fchown(1, user, user)  # for those who open /dev/stdout
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    call("capset", header, (ctypes.c_uint32 * 6)())


def prepare(program: str, settings: dict, folder: str) -> str:
    """In the child: everything between the fork and the program's first line; the program's file."""
    limits = settings["limits"]
    file_bytes = int(limits["file_mb"] * 2**20)
    if ISOLATED:
        fresh_mounts(file_bytes, settings["below_tmp"])
        become_nobody()
    home, work = os.path.join(folder, "home"), os.path.join(folder, "work")
    os.makedirs(home)
    os.makedirs(work)
    os.chdir(work)
    os.environ.update(HOME=home, TMPDIR=folder)
    tempfile.tempdir = None  # preloaded modules may have asked for it already
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seconds = int(limits["seconds"] + 1) * (os.cpu_count() or 1)  # a backstop: the deadline is by the clock
    space = statm()[0] + int(limits["memory_gb"] * 2**30)
    caps = {"AS": space, "FSIZE": file_bytes, "CPU": seconds, "CORE": 0, "NOFILE": 1024, "MSGQUEUE": 0}
    if ISOLATED and LINUX >= (5, 14):  # before, it counts the same user's processes outside of the sandbox, too
        caps["NPROC"] = 2 * limits["processes"]  # another backstop: `used` is asked ten times a second
    for name, value in caps.items():
        hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    path = os.path.abspath("program.py")
    with open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(program)
    return path


def execute(program: str, path: str) -> dict[str, str]:
    """Run the program as __main__ of the file `path`; its verdict, as far as this process can tell."""
    try:
        code = compile(program, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return {"status": "syntax", "detail": "".join(traceback.format_exception_only(type(error), error))}
    main = types.ModuleType("__main__")
    main.__file__ = path
    sys.modules["__main__"], sys.argv = main, [path]
    lines = io.StringIO(program, newline=None).readlines()  # as the parser counts them, form feeds being no ends
    linecache.cache[path] = (len(program), None, lines, path)  # also after a chdir or rm
    show = traceback.format_exception
    try:
        exec(code, main.__dict__)
        return {"status": "pass", "detail": ""}
    except SystemExit as error:
        return {"status": "exit", "detail": f"SystemExit: {error.code!r}"}
    except BaseException as error:
        status = "error"
        if isinstance(error, AssertionError):
            status = "assertion"
        elif isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # torch's is a RuntimeError
            status = "memory"
        return {"status": status, "detail": "".join(show(type(error), error, error.__traceback__.tb_next, limit=-5))}


def run_child(program: str, token: str, settings: dict, folder: str, pipes: tuple[int, int]) -> None:
    """In the child; never returns. The program may replace anything in os, json or traceback: what reports is kept."""
    leave, write, encode, own, me = os._exit, os.write, json.dumps, os.getpid, os.getpid()
    try:
        try:
            os.setsid()
            for fd in (1, 2):
                os.dup2(pipes[1], fd)
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(pipes[0], 3, inheritable=False)
            os.closerange(4, 4096)
            path = prepare(program, settings, folder)
            write(3, f"{token} ready\n".encode())
        except BaseException as error:
            write(3, f"{token} {encode({'status': 'infrastructure', 'detail': repr(error)})}\n".encode())
            return
        verdict = {"status": "error", "detail": ""}
        try:
            verdict = execute(program, path)
            verdict["detail"] = "\n".join(verdict["detail"].strip().splitlines()[-12:])[-2000:]
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:  # stdout closed, or an exception that cannot be shown: the verdict stands
            pass
        if own() == me:  # a fork of the program that reached its end has nothing to say
            write(3, f"{token} {encode(verdict)}\n".encode())
        leave(0)
    finally:  # whatever happened (fd 3 closed by the program, say): this process must not go on as a fork server
        leave(1)


def drain(fd: int, kept: bytearray, most: int, last: bool) -> None:
    """Read what is there, 1 MB at most (a flood must not hide the clock): the first `most` bytes stay, or the last."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(16):
            chunk = os.read(fd, 1 << 16)
            kept += chunk if last else chunk[: most - len(kept)]
            if last and len(kept) > most:
                del kept[: len(kept) - most]
            if not chunk:
                return


def judge(token: str, report: bytes, status: int, stopped: tuple[str, str] | None) -> dict[str, str]:
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
    """Fork, watch, end, judge."""
    limits, token = settings["limits"], secrets.token_hex(16)
    folder = "/tmp" if ISOLATED else tempfile.mkdtemp(dir=settings["scratch"])
    (result, result_end), (output, output_end) = os.pipe(), os.pipe()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        run_child(program, token, settings, folder, (result_end, output_end))
    ended = os.pidfd_open(child)
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
            threads, memory = used(child, baseline)
            if threads > limits["processes"]:
                stopped = "processes", f"{threads} processes and threads, {limits['processes']} allowed"
            elif memory > limits["memory_gb"] * 2**30:
                stopped = "memory", f"{memory / 2**30:.1f} GB in all its processes, {limits['memory_gb']:g} allowed"
    status = end_all(child)
    seconds = time.monotonic() - start
    drain(result, report, REPORT, last=False)
    drain(output, printed, limits["output_kb"] << 10, last=True)
    for fd in (result, output, ended):
        os.close(fd)
    if not ISOLATED:
        shutil.rmtree(folder, ignore_errors=True)
    verdict = judge(token, bytes(report), status, stopped)
    return {**verdict, "seconds": seconds, "output": printed.decode("utf-8", "replace")}


def main() -> None:
    sys.path.pop(0)  # this file's folder
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as process 1: a candidate's SIGINT is ignored, as its SIGKILL is

    def reply(message: dict) -> None:
        replies.write(json.dumps(message).encode() + b"\n")

    settings = json.loads(requests.readline())
    if settings["isolated"] != ISOLATED:
        return reply({"status": "infrastructure", "detail": "the fork server is not process 1 of a sandbox"})
    if not ISOLATED:
        call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for name in settings["preload"]:
        try:
            importlib.import_module(name)
        except BaseException as error:
            return reply({"status": "infrastructure", "detail": f"cannot import {name}: {error!r}"})
    gc.collect()
    gc.freeze()  # a child's collector does not touch, and so copy, the preloaded objects
    reply({"status": "ready", "threads": len(os.listdir("/proc/self/task"))})
    state, baseline = own_state(), statm()[1]
    for line in requests:
        verdict = run(json.loads(line), settings, baseline)
        if own_state() != state:
            sys.exit("a program changed the limits of the fork server")
        reply(verdict)


if __name__ == "__main__":
    main()
