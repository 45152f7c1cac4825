"""Run programs that a model wrote: fast, because each forks from an interpreter that has imported the libraries, and
apart from the machine and from each other, by bubblewrap.

    from sandbox import Limits, run, run_all
    run_all(programs, preload=["numpy", "torch"], limits=Limits(seconds=10))    # verdicts, in order
    PYTHONPATH=src python -m sandbox --preload numpy program.py                 # try one
    PYTHONPATH=src python -m sandbox                                            # does the sandbox work here?

A program passes when it runs to its last line without an exception. Every other end is a fail and says which:
`assertion`, `error` (another exception), `syntax`, `exit` (it left early, whatever the status), `timeout`, `memory`,
`processes`, `crash` (a signal, or it took the fork server with it). What the sandbox itself could not do is an
InfrastructureError, which says nothing about the program.

It protects from
- endless loops, in Python or in C, also with every exception and signal caught: the clock runs outside of the program;
- leaving early: sys.exit, os._exit, a signal or exec is no pass; only a random token after the last line is;
- memory, processes, threads, files and output without bound (src/sandbox/server.py; Limits below);
- reading, changing or deleting the caller's files: they are not there (src/sandbox/mounts.py says what is, read-only);
- the network, other processes, the caller, the fork server;
- state for the next program: memory, /tmp, /dev/shm, System V segments, environment, processes end with each program.

It does not protect from
- a program that targets its tests: they run in its own process, so code written for it can find the token in memory, or
  replace what the tests call. For CodeUpdateArena src/evaluation/arena/runner.py closes the ways that are known and
  says which stay open; migration checks (src/curation/proof.py) and evalplus's tests have no such guard;
- a hole in the kernel, side channels, a shared time budget (a loaded machine makes slow programs time out);
- memory outside of address spaces: memfd and System V segments, for root also file systems that a program mounts;
- GPU code: no device is visible;
- chance: numpy's and torch's global random states are the fork server's; a program that draws seeds them itself.

With `unsafe=True` (--unsafe) there is no bubblewrap: limits, deadline and token hold, but a program can read and delete
what the user can, use the network, and stop the run. For machines that may be lost and forbid user namespaces.
"""

from sandbox.mounts import InfrastructureError
from sandbox.pool import DEFAULT, Limits, Sandbox, Verdict, add_flags, check_ready, last_line, run, run_all, settings

__all__ = [
    "DEFAULT",
    "InfrastructureError",
    "Limits",
    "Sandbox",
    "Verdict",
    "add_flags",
    "check_ready",
    "last_line",
    "run",
    "run_all",
    "settings",
]
