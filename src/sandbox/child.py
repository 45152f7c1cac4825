"""One program's process in the sandbox: what happens between the fork and the program's last line.

Each program gets, before its first line runs: a session, mount and IPC namespaces of its own (so that /tmp and /dev/shm
are empty, and gone afterwards), no capability, another user if the fork server is root, resource limits, an empty
working folder and HOME, and /dev/null as stdin. Standard library only, Python 3.9 or newer, as in server.py.
"""

from __future__ import annotations

import ctypes
import io
import json
import linecache
import os
import platform
import re
import resource
import secrets
import signal
import sys
import tempfile
import traceback
import types

ISOLATED = os.getpid() == 1  # the fork server's: in a bubblewrap of its own
PAGE = resource.getpagesize()
CLONE_NEWNS, CLONE_NEWIPC = 0x00020000, 0x08000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
PR_SET_DUMPABLE = 4
FREE_USERS = range(60706, 61184)  # assigned to nobody: https://systemd.io/UIDS-GIDS
LINUX = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """Call a function of the C library; OSError if it fails."""
    if getattr(LIBC, name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def statm() -> tuple[int, int]:
    """(address space, resident memory) of this process in bytes."""
    with open("/proc/self/statm") as file:
        size, resident = file.read().split()[:2]
    return int(size) * PAGE, int(resident) * PAGE


def fresh_mounts(size: int, visible: list[str]) -> None:
    """Empty /tmp and /dev/shm for this process alone; what bubblewrap bound below /tmp is bound again."""
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
    """Drop every capability; if this process is root, become a user that has no other process."""
    if os.getuid() == 0:
        user = secrets.choice(FREE_USERS)
        os.fchown(1, user, user)  # for programs that open /dev/stdout
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    call("capset", header, (ctypes.c_uint32 * 6)())


def prepare(program: str, settings: dict, folder: str) -> str:
    """Everything between the fork and the program's first line; returns the program's file."""
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
    tempfile.tempdir = None  # preloaded modules may have cached it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seconds = int(limits["seconds"] + 1) * (os.cpu_count() or 1)  # a backstop: the deadline is wall-clock time
    space = statm()[0] + int(limits["memory_gb"] * 2**30)
    caps = {"AS": space, "FSIZE": file_bytes, "CPU": seconds, "CORE": 0, "NOFILE": 1024, "MSGQUEUE": 0}
    if ISOLATED and LINUX >= (5, 14):  # older kernels also count the user's processes outside the sandbox
        caps["NPROC"] = 2 * limits["processes"]  # another backstop: server.py counts ten times a second
    for name, value in caps.items():
        hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    path = os.path.abspath("program.py")
    with open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(program)
    return path


def execute(program: str, path: str) -> dict[str, str]:
    """Run the program as __main__ of the file `path`; its verdict, as far as this process knows it."""
    try:
        code = compile(program, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return {"status": "syntax", "detail": "".join(traceback.format_exception_only(type(error), error))}
    main = types.ModuleType("__main__")
    main.__file__ = path
    sys.modules["__main__"], sys.argv = main, [path]
    lines = io.StringIO(program, newline=None).readlines()  # as the parser counts them: form feeds do not end lines
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
        elif isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # torch raises a RuntimeError
            status = "memory"
        trace = error.__traceback__ and error.__traceback__.tb_next  # without this function's own frame
        return {"status": status, "detail": "".join(show(type(error), error, trace, limit=-5))}


def run(program: str, token: str, settings: dict, folder: str, pipes: tuple[int, int]) -> None:
    """Never returns. The program may replace anything in os, json or traceback, so what reports is kept here."""
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
        except BaseException:  # stdout closed, or an exception that cannot be shown: the verdict is valid
            pass
        if own() == me:  # a fork of the program that reached the end must not report
            write(3, f"{token} {encode(verdict)}\n".encode())
        leave(0)
    finally:  # whatever happened (say, the program closed fd 3), this process must not continue as a fork server
        leave(1)
