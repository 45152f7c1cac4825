"""The sandbox against hostile programs: every verdict right, nothing survives, nothing outside is touched."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import venv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox import InfrastructureError, Limits, Sandbox, Verdict, check_ready, mounts, run_all
from sandbox.__main__ import main

ROOT = Path(__file__).parent.parent.parent
# `PYTHONPATH=src python -m sandbox`, without a variable that a sandbox would drop
RUN = "runpy.run_module('sandbox', run_name='__main__')"
START = f"import runpy, sys; sys.path.insert(0, {str(ROOT / 'src')!r}); {RUN}"
COMMAND = [sys.executable, "-c", START]
LIMITS = Limits(seconds=3, memory_gb=1, file_mb=32, processes=32, output_kb=16)
BRIEF = replace(LIMITS, seconds=0.5)


@pytest.fixture(scope="module", autouse=True)
def possible():
    try:
        mounts.binary()
    except InfrastructureError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def box():
    with Sandbox(preload=["numpy"], limits=LIMITS) as box:
        yield box


@pytest.fixture(scope="module")
def loose():
    """Without bubblewrap: only for programs that do no harm."""
    with Sandbox(limits=LIMITS, unsafe=True) as box:
        yield box


@pytest.fixture(scope="module")
def brief():
    """For programs that run into the time limit."""
    with Sandbox(limits=BRIEF) as box:
        yield box


@pytest.fixture(scope="module")
def brief_loose():
    with Sandbox(limits=BRIEF, unsafe=True) as box:
        yield box


def run(program: str, **settings: Any) -> Verdict:
    return run_all([program], progress=False, **settings)[0]


def test_huge_pages_change_nothing_but_the_pages():
    """64 MB of ordinary pages, in a process of its own: at least 50 are huge afterwards, with what they held."""
    program = """
import hashlib, mmap, os, sys
sys.path[:0] = sys.argv[1:]
import server

def huge():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("AnonHugePages"))

memory = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
memory[:] = os.urandom(1 << 20) * 64
memory.madvise(mmap.MADV_HUGEPAGE)
before, content = huge(), hashlib.sha256(memory).digest()
server.use_huge_pages()
assert hashlib.sha256(memory).digest() == content
print(before >> 10, huge() >> 10)
"""
    command = [sys.executable, "-c", program, str(ROOT / "src" / "sandbox")]
    before, after = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    if after <= before:
        pytest.skip("this kernel gives no huge pages")
    assert after - before >= 50


def processes(marker: str) -> list[str]:
    """Command lines on this machine that contain `marker`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if marker in line and path.parent.name != str(os.getpid()):
            found.append(line)
    return found


def gone(marker: str, seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while processes(marker):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


PLAIN = {
    "empty": ("", "pass"),
    "runs to its end": ("assert sum([1, 2]) == 3", "pass"),
    "is __main__, with a file": (
        "import __main__\nassert __name__ == '__main__' and __main__.__file__ == __file__",
        "pass",
    ),
    "annotations are evaluated": ("def f(x: int): pass\nassert f.__annotations__ == {'x': int}", "pass"),
    "its source can be read": ("import inspect\ndef f(): pass\nassert 'pass' in inspect.getsource(f)", "pass"),
    "reads an empty stdin": ("import sys\nassert sys.stdin.read() == ''", "pass"),
    "closes stdout": ("import sys\nsys.stdout.close()", "pass"),
    "an exception in a thread": ("import threading\nthreading.Thread(target=lambda: 1 / 0).start()", "pass"),
    "assertion": ("assert 1 == 2", "assertion"),
    "subclass of it": ("class E(AssertionError): pass\nraise E", "assertion"),
    "exception": ("int('x')", "error"),
    "base exception": ("raise BaseException", "error"),
    "keyboard interrupt": ("raise KeyboardInterrupt", "error"),
    "exception that cannot be shown": ("class E(Exception):\n  def __str__(self): raise E\nraise E", "error"),
    "does not parse": ("def f(:", "syntax"),
    "null byte": ("x = 1\0", "syntax"),
    "lone surrogate": ("x = '\udc80'", "syntax"),
    "null byte at run time": ("open('a\\0b')", "error"),
    "ten thousand brackets": ("(" * 10_000, "syntax"),
    "recursion": ("def f(): f()\nf()", "error"),
    "a loop in Python": ("while True: pass", "timeout"),
    "a loop in C": ("any(iter(int, 1))", "timeout"),
    "a regular expression": ("import re\nre.match('(a+)+$', 'a' * 60 + 'b')", "timeout"),
    "sleep": ("import time\ntime.sleep(1000)", "timeout"),
    "sys.exit": ("import sys\nsys.exit(0)", "exit"),
    "SystemExit": ("raise SystemExit", "exit"),
    "quit": ("quit()", "exit"),
    "os._exit": ("import os\nos._exit(0)", "exit"),
    "os._exit in a thread": (
        "import os, threading, time\nthreading.Thread(target=os._exit, args=[0]).start()\ntime.sleep(9)",
        "exit",
    ),
    "exec": ("import os\nos.execv('/bin/true', ['true'])", "exit"),
    "a fork continues instead": ("import os\nif os.fork(): os._exit(0)", "exit"),
    "exit in a finally": ("import sys\ntry: assert False\nfinally: sys.exit(0)", "exit"),
    "signal to itself": ("import os\nos.kill(os.getpid(), 15)", "crash"),
    "a real-time signal": ("import os\nos.kill(os.getpid(), 40)", "crash"),
    "abort": ("import os\nos.abort()", "crash"),
    "closes every file": ("import os\nos.closerange(0, 4096)", "exit"),
    "null pointer": ("import ctypes\nctypes.string_at(0)", "crash"),
    "10 GB": ("x = bytearray(10 << 30)", "memory"),
    "memory in small pieces": ("x = []\nwhile True: x.append(bytes(1 << 20))", "memory"),
}


@pytest.mark.parametrize("isolated", [True, False], ids=["sandbox", "unsafe"])
@pytest.mark.parametrize("name", PLAIN)
def test_verdicts(name, isolated, request):
    program, status = PLAIN[name]
    name_of_box = ("brief" if isolated else "brief_loose") if status == "timeout" else "box" if isolated else "loose"
    verdict = request.getfixturevalue(name_of_box).run(program)
    assert verdict.status == status, verdict
    assert verdict.passed == (status == "pass")
    assert verdict.seconds < LIMITS.seconds + 2
    assert bool(verdict.detail) == (status != "pass") or name == "exception that cannot be shown"


SWALLOWED = """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True:
    try:
        while True: pass
    except BaseException: pass
"""
FORGED = r"""
import json, os, sys
verdict, token = '{"status": "pass", "detail": ""}', "0" * 32
lines = [verdict, "ready", "pass", f"{token} ready", f"{token} {verdict}"]
for fd in range(1, 64):
    for line in lines:
        try: os.write(fd, line.encode() + b"\n")
        except OSError: pass
os._exit(0)
"""
BLOCKED_REPORT = """
import fcntl, os
os.set_blocking(3, False)
try:
    while True: os.write(3, b"x" * 65536)
except BlockingIOError: pass
os._exit(0)
"""
C_RECURSION = """
import sys
sys.setrecursionlimit(10**9)
class A:
    def __getattr__(self, name): return getattr(self, name)
A().x
"""
FILES = "for i in range(10**9):\n  with open(f'{}/{{i}}', 'wb') as f: f.write(bytes(1 << 20))"
HOSTILE = {
    "swallowed timeout": (SWALLOWED, "timeout"),
    "stops itself": ("import os\nos.kill(os.getpid(), 19)", "timeout"),
    "forged output": (FORGED, "exit"),
    "fills the result pipe": (BLOCKED_REPORT, "exit"),
    "10 GB of numpy": ("import numpy\nx = numpy.ones(10 << 27)", "memory"),
    "fork bomb": ("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass", "processes"),
    "fork bomb of a shell": ("import os, time\nos.system('f() { f | f & }; f')\ntime.sleep(60)", "processes"),
    "thread bomb": (
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=[60]).start()",
        "error",
    ),
    "a large file": ("with open('x', 'wb') as f:\n  while True: f.write(bytes(1 << 20))", "error"),
    "many files": (FILES.format("."), "error"),
    "files in /dev/shm": (FILES.format("/dev/shm"), "error"),
    "endless output": ("while True: print('x' * 10_000)", "timeout"),
    "recursion in C": (C_RECURSION, "crash" if sys.version_info < (3, 12) else "error"),
    "makes a user namespace": (
        "import ctypes\nlibc = ctypes.CDLL(None)\nassert libc.unshare(0x10000000) == 0 or libc.unshare(0x20000) == 0",
        "assertion",
    ),
    "unmounts /tmp": ("import ctypes\nassert ctypes.CDLL(None).umount2(b'/tmp', 2) == 0", "assertion"),
    "writes a sysctl": ("open('/proc/sys/kernel/threads-max', 'r+')", "error"),
    "reads the server's memory": ("open('/proc/1/mem', 'rb')", "error"),
    "makes a file in /": ("open('/x', 'w')", "error"),
    "makes a file in /dev": ("open('/dev/x', 'w')", "error"),
    "makes a file in /usr": ("open('/usr/x', 'w')", "error"),
    "makes a file beside the interpreter": ("import sys\nopen(sys.prefix + '/x', 'w')", "error"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_programs(box, brief, name):
    if name == "makes a user namespace" and mounts.ROOT:
        pytest.skip("for root there is no user namespace around the program that could forbid it")
    program, status = HOSTILE[name]
    box = brief if status == "timeout" else box
    server = box._server.process.pid
    verdict = box.run(program)
    assert verdict.status == status, verdict
    assert verdict.seconds < LIMITS.seconds + 3
    assert len(verdict.output) <= LIMITS.output_kb * 1024
    assert box._server.process.pid == server, "the fork server was lost"
    # Process 1 and the program itself: nothing survived.
    left = box.run("import os\nassert set(filter(str.isdigit, os.listdir('/proc'))) == {'1', str(os.getpid())}")
    assert left.passed, left


@pytest.mark.parametrize("target", ["os.getppid()", "1", "-1", "0x7fffffff", "-os.getppid()"])
@pytest.mark.parametrize("number", [2, 9, 15, 19])
def test_it_cannot_kill_what_runs_it(box, target, number):
    server = box._server.process.pid
    program = f"""
        import os
        try: os.kill({target}, {number})
        except OSError: pass
        assert False
    """
    assert box.run(textwrap.dedent(program)).status == "assertion"
    assert box._server.process.pid == server


def test_a_program_that_takes_the_server_along_fails_and_the_next_one_does_not(box):
    """The kernel lets processes of one user change each other's limits; for root the two are not one user."""
    program = "import resource\nresource.prlimit(1, resource.RLIMIT_NOFILE, (3, 3))"
    verdict = box.run(program)
    if mounts.ROOT:
        assert verdict.status == "error" and "PermissionError" in verdict.detail
    else:
        assert (verdict.status, verdict.detail) == ("crash", "it ended the fork server, twice")
    assert box.run("import numpy\nassert len(open(__file__).read()) > 0").passed


def test_a_server_lost_twice_during_a_program_is_its_failure(box):
    def lose(first: int) -> None:
        os.kill(first, signal.SIGKILL)
        while box._server is None or box._server.process.pid == first:
            time.sleep(0.01)
        time.sleep(1.5)  # the imports and the controls are done: the program runs again
        os.kill(box._server.process.pid, signal.SIGKILL)

    timer = threading.Timer(0.3, lose, [box._server.process.pid])
    timer.start()
    verdict = box.run("import time\ntime.sleep(60)")
    timer.join()
    assert (verdict.status, verdict.detail) == ("crash", "it ended the fork server, twice")
    assert box.run("assert True").passed


def test_a_server_lost_by_the_machine_is_not_a_failure(box):
    os.kill(box._server.process.pid, signal.SIGKILL)
    assert box.run("assert True").passed
    os.kill(box._server.process.pid, signal.SIGKILL)
    assert box.run("assert False").status == "assertion"


def test_memory_is_the_sum_over_all_processes():
    # Three children with 120 MiB each: 360 MiB; 256 MiB are allowed.
    program = """
        import os, time
        for _ in range(3):
            if os.fork() == 0:
                x = b"x" * (120 << 20)
                time.sleep(60)
        time.sleep(60)
    """
    verdict = run(textwrap.dedent(program), limits=Limits(memory_gb=0.25))
    assert verdict.status == "memory" and verdict.seconds < 20, verdict


LEAVE = """
import builtins, ctypes, json, os, subprocess, sys
import numpy
os.environ["LEFT"] = "1"
for path in ("/tmp/left", "/dev/shm/left", os.path.expanduser("~/left"), "left"):
    with open(path, "w") as file: file.write("left")
assert ctypes.CDLL(None).shmget(4242, 4096, 0o1666) >= 0
os.rename("/tmp/home", "/tmp/elsewhere")
daemon = "import os, time\\nif os.fork(): os._exit(0)\\nos.setsid()\\nif os.fork(): os._exit(0)\\ntime.sleep(4242)"
subprocess.run([sys.executable, "-c", daemon])
os.setpriority(os.PRIO_PROCESS, 0, 19)
os.umask(0o777)
numpy.sum = numpy.array = None
builtins.len = json.dumps = os.getpid = os._exit = None
sys.modules["json"] = None
"""
NOTHING_LEFT = """
import json, os
import numpy
assert numpy.sum(numpy.array([1, 2])) == 3 and len("ab") == 2 and json.dumps(1) == "1"
assert "LEFT" not in os.environ
home = os.path.expanduser("~")
assert os.listdir(home) == [] and os.listdir(".") == ["program.py"] and os.listdir("/dev/shm") == []
assert "left" not in os.listdir("/tmp")
assert len(open("/proc/sysvipc/shm").readlines()) == 1
assert set(filter(str.isdigit, os.listdir("/proc"))) == {"1", str(os.getpid())}
assert os.getpriority(os.PRIO_PROCESS, 0) == PRIORITY
"""


def test_nothing_is_left_for_the_next_program(box):
    assert box.run(LEAVE).passed
    verdict = box.run(f"PRIORITY = {os.getpriority(os.PRIO_PROCESS, 0)}\n{NOTHING_LEFT}")
    assert verdict.passed, verdict


def test_no_process_outlives_its_program(box, loose):
    program = """
        import subprocess, sys
        subprocess.Popen(["sleep", "87654.5"], start_new_session=True)
        orphan = "import os, subprocess; subprocess.Popen(['sleep', '87654.5'], start_new_session=True)"
        subprocess.run([sys.executable, "-c", orphan])
    """
    for one in (box, loose):
        assert one.run(textwrap.dedent(program)).passed
        assert not processes("87654.5")


def test_files_outside_are_not_there(box, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    program = f"""
        import os, shutil
        shutil.rmtree({str(tmp_path)!r}, ignore_errors=True)
        for folder in ("/home", "/root", "/var", "/srv", "/mnt", "/etc/shadow", "/etc/passwd", {str(secret)!r}):
            assert not os.path.exists(folder) or folder in ("/home", "/root"), folder
        with open(os.path.join(os.path.expanduser("~"), "x"), "w") as file: file.write("x")
        os.makedirs({str(tmp_path)!r})
        open({str(secret)!r}, "w").close()
    """
    verdict = box.run(textwrap.dedent(program))
    assert verdict.passed, verdict
    assert secret.read_text() == "secret"
    assert not (Path.home() / "x").exists()
    # Of the home folder only what leads to the interpreter and to the fork server's file is there.
    shown = mounts.visible(sys.executable, [ROOT / "src" / "sandbox" / "server.py"])
    leads = {path.relative_to(Path.home()).parts[0] for path in map(Path, shown) if path.is_relative_to(Path.home())}
    listed = box.run(f"import os\nif os.path.exists({str(Path.home())!r}): print(*os.listdir({str(Path.home())!r}))")
    assert set(listed.output.split()) == leads


def test_no_network(box):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.settimeout(0.2)
        connect = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=1)"
        assert box.run(connect).status == "error"
        with pytest.raises(TimeoutError):
            server.accept()
    name = "import socket\nassert [name for _, name in socket.if_nameindex()] == ['lo']"
    assert box.run(name).passed


def test_the_environment_is_not_the_callers(box, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    program = "import os\nassert not [k for k in os.environ if 'KEY' in k]\nassert os.environ['HOME'] == '/tmp/home'"
    with Sandbox(limits=LIMITS) as fresh:
        assert fresh.run(program).passed
    assert "secret" not in box.run("print(open('/proc/self/environ').read())").output


def test_detail_and_output(box):
    verdict = box.run("def f(x):\n    assert x > 1, 'too small'\n\nprint('said')\nf(1)")
    assert verdict.detail.splitlines()[-1] == "AssertionError: too small"
    assert "line 2, in f\n    assert x > 1" in verdict.detail
    assert verdict.output == "said\n"
    # 16 KiB are kept: the last 16 * 1024 characters of 50,000.
    assert box.run("print('a' * 50_000 + 'end')").output == "a" * (16 * 1024 - 4) + "end\n"
    assert len(box.run("raise ValueError('x' * 10**6)").detail) == 2000


def test_order_is_kept():
    programs = ["import time\ntime.sleep(0.3)", "assert False", "1 / 0", "x = (", "import sys\nsys.exit()", ""]
    verdicts = run_all(programs, limits=LIMITS, workers=2, progress=False)
    assert [verdict.status for verdict in verdicts] == ["pass", "assertion", "error", "syntax", "exit", "pass"]
    assert run_all([], progress=False) == []


def test_another_environment_below_tmp(tmp_path):
    """What it imports late is still there after /tmp was emptied for the program."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    (package,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (package / "early.py").write_text("value = [1]\n")
    (package / "late.py").write_text("value = 2\n")
    data = tmp_path / "data.txt"
    data.write_text("data")
    program = f"""
        import sys, early, late
        assert sys.prefix == {str(tmp_path / "env")!r} and early.value == [1] and late.value == 2
        early.value.append(2)
        assert open({str(data)!r}).read() == "data"
        try: open({str(data)!r}, "w")
        except OSError: pass
        else: raise SystemExit("written")
    """
    settings = {"python": str(python), "preload": ["early"], "limits": LIMITS, "read_only": [data]}
    verdicts = run_all([textwrap.dedent(program)] * 2, **settings, workers=1, progress=False)
    assert [verdict.status for verdict in verdicts] == ["pass", "pass"], verdicts
    assert data.read_text() == "data"


def test_a_control_that_goes_wrong_stops_the_run(tmp_path):
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    (package,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (package / "broken.py").write_text("import builtins\nbuiltins.exec = lambda *_: None\n")
    with pytest.raises(InfrastructureError, match="control 'assert 1 \\+ 1 == 3' should be 'assertion', was pass"):
        check_ready(python=tmp_path / "env" / "bin" / "python", preload=["broken"])


@pytest.mark.skipif(not mounts.ROOT, reason="programs run as the user who installed what they import")
@pytest.mark.parametrize("name", ["plain.py", "package", "package/__init__.py", ""])
def test_what_a_program_may_not_read_stops_the_run(tmp_path, name):
    """As root, with umask 027: the fork server, which is root, imports what its programs cannot."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    (packages,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (packages / "plain.py").write_text("")
    (packages / "package").mkdir()
    (packages / "package" / "__init__.py").write_text("")
    (packages / "notes.txt").write_text("")
    (packages / "notes.txt").chmod(0o600)
    check_ready(python=python, preload=["plain", "package"])
    (packages / name).chmod(0o750 if (packages / name).is_dir() else 0o640)
    said = rf"programs \(as user \d+\) cannot import what {python} has: PermissionError: .*; chmod -R a\+rX on its"
    with pytest.raises(InfrastructureError, match=said):
        check_ready(python=python, preload=["plain", "package"])


def test_what_a_run_needs_is_imported_first(tmp_path):
    user = r"\d+" if mounts.ROOT else "1000"
    said = rf"^programs \(as user {user}\) cannot import what .* has: missing: ModuleNotFoundError: No module"
    with pytest.raises(InfrastructureError, match=said):
        run_all(["", ""], needs=["json", "missing"], progress=False)
    assert [verdict.status for verdict in run_all(["", ""], needs=["json", "xml.dom"], progress=False)] == ["pass"] * 2


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_an_environment_behind_a_folder_that_is_closed_to_others(tmp_path, mode):
    """The folders above an environment are made anew in the sandbox. Its own folder is shown as it is."""
    home = tmp_path / "closed" / "env"
    venv.create(home, with_pip=False, symlinks=True)
    (packages,) = (home / "lib").glob("python*/site-packages")
    (packages / "plain.py").write_text("")
    home.parent.chmod(0o700)
    home.chmod(mode)
    if mode == 0o700 and mounts.ROOT:
        with pytest.raises(InfrastructureError, match=r"PermissionError: .*; chmod -R a\+rX on its folder makes it"):
            check_ready(python=home / "bin" / "python", needs=["plain"])
    else:
        check_ready(python=home / "bin" / "python", needs=["plain"])


def test_a_message_of_many_lines_is_one(tmp_path):
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    (packages,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (packages / "broken.py").write_text("raise ImportError('first\\n\\nlast')")
    with pytest.raises(InfrastructureError, match=r"has: broken: ImportError: first last$"):
        check_ready(python=tmp_path / "env" / "bin" / "python", needs=["broken"])


def test_the_bubblewrap_for_other_programs(tmp_path):
    """As evalplus runs in it: any command line, and more options."""
    for name in ("shown", "beside"):
        (tmp_path / name).write_text(name)
    code = f"import os; print(os.listdir({str(tmp_path)!r})); open('/work/x', 'w')"
    command = mounts.command(sys.executable, [tmp_path / "shown"], options=["--tmpfs", "/work"])
    done = subprocess.run([*command, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['shown']\n"


def children() -> set[str]:
    path = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    return set(path.read_text().split())


def test_what_the_sandbox_cannot_do_is_not_a_failure(tmp_path):
    before = children()
    with pytest.raises(InfrastructureError, match="not a working interpreter"):
        run("", python=tmp_path / "python")
    with pytest.raises(InfrastructureError, match="cannot import no_such_module: ModuleNotFoundError"):
        run("", preload=["no_such_module"])
    with pytest.raises(InfrastructureError, match="File too large"):
        check_ready(limits=Limits(file_mb=1e-6))  # one byte: the program itself cannot be written
    with pytest.raises(InfrastructureError, match="cannot be shown"):
        check_ready(read_only=["/"])
    with pytest.raises(InfrastructureError, match="missing: no such file"):
        check_ready(read_only=[tmp_path / "missing"])
    assert children() == before  # of a start that failed nothing stays


def script(tmp_path: Path, name: str) -> subprocess.Popen:
    """A process that runs endless programs in two sandboxes; each of them starts `sleep NAME`."""
    program = f"import subprocess\nsubprocess.Popen(['sleep', '{name}'])\nwhile True: pass"
    path = tmp_path / "caller.py"
    path.write_text(
        "import signal\nfrom sandbox import Limits, run_all\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # what nohup and shells' & take away
        f"run_all([{program!r}] * 4, limits=Limits(seconds=100), workers=2)\n"
    )
    return subprocess.Popen(
        [sys.executable, path], env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(("number", "name"), [(signal.SIGKILL, "76543.1"), (signal.SIGINT, "76543.2")])
def test_everything_ends_with_the_caller(tmp_path, number, name):
    caller = script(tmp_path, name)
    end = time.monotonic() + 30
    while len(processes(f"sleep {name}")) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert len(processes(f"sleep {name}")) == 2
    caller.send_signal(number)
    assert caller.wait(10) != 0
    said = caller.stderr.read()
    assert ("KeyboardInterrupt" in said) == (number == signal.SIGINT)
    assert gone(f"sleep {name}")


def test_unsafe_prints_a_warning():
    done = subprocess.run([*COMMAND, "--unsafe"], capture_output=True, text=True, check=True, cwd=ROOT / "src")
    assert "NO SANDBOX (--unsafe)" in done.stderr


def test_command_line(tmp_path):
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("assert True")
    bad.write_text("print('before')\nassert False, 'no'")
    command = [*COMMAND, "--seconds", "5"]
    done = subprocess.run([*command, good, bad], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{good}: pass in ") and lines[1].startswith(f"{bad}: assertion in ")
    assert lines[-2:] == ["AssertionError: no", "before"]
    zero = subprocess.run([*command, "--memory-gb", "0", good], capture_output=True, text=True, check=False)
    assert zero.returncode == 2 and "--memory-gb: 0 is not above 0" in zero.stderr
    bad.write_text("raise ValueError(chr(0xd83d) + chr(27))")
    done = subprocess.run([*command, bad], capture_output=True, encoding="utf-8", check=False)
    assert done.stdout.splitlines()[-1] == "ValueError: \\ud83d\\x1b"
    missing = subprocess.run([*command, tmp_path / "no.py"], capture_output=True, text=True, check=False)
    assert missing.returncode == 2 and missing.stderr.count("\n") == 1


def test_forbidden_user_namespaces_are_reported_in_one_line(tmp_path):
    """bubblewrap itself, started inside a sandbox that allows no further user namespaces."""
    outer = mounts.command(sys.executable, read_only=[ROOT / "src"])
    command = [*outer, *COMMAND]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("sandbox: ")]
    assert line.startswith("sandbox: no sandbox: bwrap: ") and line.endswith("--unsafe runs without one")
    done = subprocess.run([*command, "--unsafe"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "the sandbox works" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bad"], "sandbox: unrecognized arguments: --bad"),
        (["absent.py"], "sandbox: absent.py: No such file or directory"),
        (["--python"], "sandbox: argument --python: expected one argument"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(words, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["__main__.py", *words])
    try:
        status = main()
    except SystemExit as error:
        status = error.code
    assert (status, capsys.readouterr().err) == (2, f"{message}\n")
