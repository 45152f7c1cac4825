"""Run programs that a model wrote: fast, because each one forks from an interpreter that has imported the libraries,
and isolated from the machine and from each other by bubblewrap.

    from sandbox import Limits, run_all
    run_all(programs, preload=["numpy", "torch"], limits=Limits(seconds=10))    # verdicts, in their order
    PYTHONPATH=src python -m sandbox --preload numpy program.py                 # run one program
    PYTHONPATH=src python -m sandbox                                            # does the sandbox work on this machine?

A program passes if it runs to its last line without an exception. Any other end is a failure with a status:
`assertion`, `error` (another exception), `syntax`, `exit` (it left early, whatever the exit status), `timeout`,
`memory`, `processes`, `crash` (a signal, or it took the fork server with it). If the sandbox itself fails, it raises
InfrastructureError, which means nothing about the program.

It protects against
- endless loops, in Python or in C, even if every exception and signal is caught: the deadline is kept outside;
- leaving early: sys.exit, os._exit, a signal or exec does not pass; only a random token after the last line does;
- unbounded memory, processes, threads, files and output (src/sandbox/limits.py);
- reading, changing or deleting the caller's files: they are not visible (src/sandbox/mounts.py lists what is);
- the network, GPUs, and access to other processes, the caller or the fork server;
- state left for the next program: memory, /tmp, /dev/shm, System V segments, environment, processes.

It does not protect against
- a program that attacks its tests: they run in its own process, so code written for it can find the token in memory, or
  replace what the tests call. For CodeUpdateArena and migration answers, src/evaluation/tampering.py closes the known
  ways and lists the open ones; evalplus's tests and the proofs of records have no such guard;
- kernel bugs, side channels, a shared time budget (on a loaded machine slow programs time out);
- memory outside of address spaces: memfd and System V segments, for root also file systems that a program mounts;
- randomness: numpy's and torch's global states are those of the fork server, so a program must seed them.

`unsafe=True` (--unsafe): no bubblewrap. Limits, deadline and token still hold, but a program can do what the user can.
"""

from sandbox.client import Sandbox, Verdict, last_line
from sandbox.limits import DEFAULT, Limits, add_flags, settings
from sandbox.mounts import InfrastructureError
from sandbox.pool import check_ready, run_all

__all__ = ["DEFAULT", "InfrastructureError", "Limits", "Sandbox", "Verdict"]
__all__ += ["add_flags", "check_ready", "last_line", "run_all", "settings"]
