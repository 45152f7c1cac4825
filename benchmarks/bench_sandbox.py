"""Programs per second in the sandbox, compared with a fresh interpreter for each program.

The programs resemble those of an evaluation: imports, a function, one test; they use numpy, pandas, torch or sympy, and
some fail. Both sides run the same programs, `--workers` at a time, and must reach the same verdicts. A harness without
a fork server starts a fresh interpreter for each program; here it is not isolated.

A second table compares a program in the sandbox with its floor, in turns: the same program in a bare fork of an
interpreter that has imported the same, and a bare fork that executes /bin/true. The last lines compare one sandbox with
one per core: programs per second, and CPU seconds of the sandboxes per second.

The projection assumes one program per unit test; CodeUpdateArena has 6.25 tests per problem (the mean of the 387
problems in an early snapshot of its repository).

    PYTHONPATH=src python benchmarks/bench_sandbox.py
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from common.cli import Parser, above_zero, program
from sandbox import InfrastructureError, Limits, Sandbox, run_all

PRELOAD = ["numpy", "pandas", "torch", "sympy"]
IMPORTS = "import numpy as np\nimport pandas as pd\nimport sympy\nimport torch\n"
BODIES = [  # (function and test, passes)
    ("def f(x): return np.flip(np.sort(x))\nassert f(np.array([3, 1, 2])).tolist() == [3, 2, 1]", True),
    ("def f(n): return np.linalg.inv(np.eye(n) * 2)\nassert np.allclose(f(50), np.eye(50) / 2)", True),
    ("def f(x): return x.cumsum()[::2]\nassert f(np.arange(6)).tolist() == [0, 3, 10]", True),
    ("def f(x): return np.trapezoid(x)\nassert f([1, 2, 3]) == 5", False),  # 4: (1 + 2) / 2 + (2 + 3) / 2
    ("d = pd.DataFrame({'k': [1, 1, 2], 'v': [1, 2, 3]})\nassert d.groupby('k').v.sum()[1] == 3", True),
    ("def f(a, b): return a.merge(b, on='k')\nd = pd.DataFrame({'k': [1]})\nassert len(f(d, d)) == 2", False),
    ("def f(x): return torch.softmax(x, 0).sum().item()\nassert abs(f(torch.ones(9)) - 1) < 1e-6", True),
    ("def f(m, x): return m(x).shape\nassert f(torch.nn.Linear(4, 2), torch.ones(3, 4)) == (3, 2)", True),
    ("x = torch.ones(3, requires_grad=True)\n(x * x).sum().backward()\nassert x.grad.tolist() == [2, 2, 2]", True),
    ("def f(x): return torch.no_such_name(x)\nf(torch.ones(2))", False),
    ("x = sympy.symbols('x')\nassert sympy.diff(x**2, x) == 2 * x", True),
    ("import itertools\nassert list(itertools.pairwise('abc')) == [('a', 'b'), ('b', 'c')]", True),
]
PROGRAMS = [(IMPORTS + body, passes) for body, passes in BODIES]


ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}  # as in the sandbox


def fresh(program: str) -> bool:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env={**os.environ, **ONE_THREAD}, capture_output=True, check=False).returncode == 0


FLOOR = """
import gc, importlib, json, os, sys, time
for name in json.loads(sys.stdin.readline()):
    importlib.import_module(name)
gc.collect()
gc.freeze()
null = os.open(os.devnull, os.O_WRONLY)
for line in sys.stdin:
    code, start = json.loads(line), time.perf_counter()
    if not (pid := os.fork()):
        os.dup2(null, 2)
        try:
            if not code:
                os.execv("/bin/true", ["true"])
            exec(compile(code, "program", "exec"), {"__name__": "__main__"})
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    print(time.perf_counter() - start, flush=True)
"""
TRUE = ""  # asks the floor's process for /bin/true


def beside_the_floor(programs: Sequence[str], rounds: int) -> None:
    """Print the times of a program in the sandbox and in bare forks, which take turns."""
    seconds: dict[str, list[float]] = {"fork and /bin/true": [], "program in a fork": [], "program in the sandbox": []}
    env = {**os.environ, **ONE_THREAD}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        Sandbox(preload=PRELOAD, needs=None) as box,
        subprocess.Popen([sys.executable, "-c", FLOOR], env=env, **pipes) as process,
    ):

        def fork(message: str | Sequence[str]) -> None:
            print(json.dumps(message), file=process.stdin, flush=True)

        fork(PRELOAD)
        for index in range(rounds):
            times: list[list[float]] = [[], [], []]
            for code in programs:
                for place, message in enumerate((TRUE, code)):
                    fork(message)
                    times[place].append(float(process.stdout.readline()))
                start = time.perf_counter()
                box.run(code)
                times[2].append(time.perf_counter() - start)
            for name, found in zip(seconds, times, strict=True):
                if index:  # the first round warms up
                    seconds[name].append(statistics.mean(found))
        process.stdin.close()
    middle = {name: statistics.median(found) for name, found in seconds.items()}
    print(f"mean of the {len(programs)} programs, median of {rounds - 1} rounds in turns; times the program in a fork")
    for name, value in middle.items():
        print(f"{name:<24}{value * 1e3:>6.1f} ms {value / middle['program in a fork']:>6.2f}x")


def cpu_seconds(pid: int) -> float:
    """Of a process, its living descendants and every process that they reaped."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") + sum(cpu_seconds(int(child)) for child in children)


def use_of_cores(programs: Sequence[str], rounds: int) -> None:
    """Print programs and CPU seconds per second with one sandbox and with one per core, which take turns."""
    cores = len(os.sched_getaffinity(0))
    rates: dict[int, list[tuple[float, float]]] = {1: [], cores: []}
    with ExitStack() as stack:
        boxes = [stack.enter_context(Sandbox(preload=PRELOAD, needs=None)) for _ in range(cores)]

        def spent() -> float:
            return sum(cpu_seconds(box._server.process.pid) for box in boxes if box._server)

        def work(box: Sandbox) -> None:
            for code in programs:
                box.run(code)

        for _ in range(rounds):
            for count, found in rates.items():
                before, start = spent(), time.perf_counter()
                with ThreadPoolExecutor(count) as pool:
                    list(pool.map(work, boxes[:count]))
                wall = time.perf_counter() - start
                found.append((count * len(programs) / wall, (spent() - before) / wall))
    for count, found in rates.items():
        speed, busy = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{count} at a time: {speed:>6.1f} programs/s, {busy:.2f} CPU seconds per second")


@program(InfrastructureError)
def main() -> None:
    parser = Parser(description=__doc__)
    add, count = parser.add_argument, above_zero(int)
    add("--fresh-rounds", type=count, default=2, help="rounds of the 12 programs (default: %(default)s)")
    add("--rounds", type=count, default=40, help="rounds in the sandbox (default: %(default)s)")
    add(
        "--turns", type=count, default=10, help="rounds beside the floor, and of each number of sandboxes (default: 10)"
    )
    add("--workers", type=count, default=1, help="at a time, on both sides (default: %(default)s)")
    add("--tests", type=above_zero(float), default=6.25, help="tests per sample, for the projection")
    args = parser.parse_args()
    expected = [passes for _, passes in PROGRAMS]
    programs = [program for program, _ in PROGRAMS]

    few = programs * args.fresh_rounds
    fresh(programs[0])  # so that both sides find the libraries in the page cache
    start = time.perf_counter()
    with ThreadPoolExecutor(args.workers) as pool:
        results = list(tqdm(pool.map(fresh, few), desc="fresh interpreters", total=len(few)))
    alone = (time.perf_counter() - start) / len(few)
    assert results == expected * args.fresh_rounds

    many = programs * args.rounds
    start = time.perf_counter()
    run_all(programs[:1] * args.workers, preload=PRELOAD, workers=args.workers, progress=False)
    once = time.perf_counter() - start
    start = time.perf_counter()
    verdicts = run_all(many, preload=PRELOAD, limits=Limits(), workers=args.workers)
    whole = time.perf_counter() - start
    assert [verdict.passed for verdict in verdicts] == expected * args.rounds
    each = (whole - once) / (len(many) - args.workers)

    mean = whole / len(many)
    print(f"\n{len(programs)} programs, each imports {', '.join(PRELOAD)}; {args.workers} at a time; verdicts agree\n")
    print(f"fresh interpreter  {1 / alone:>7.2f} programs/s  {alone * 1e3:>6.0f} ms each  ({len(few)} programs)")
    print(f"sandbox            {1 / mean:>7.2f} programs/s  {mean * 1e3:>6.0f} ms each  ({len(many)} programs)")
    print(f"                   {once:.1f} s of it are its start, imports and controls; then {each * 1e3:.0f} ms each")
    print(f"ratio              {alone / mean:.1f}x with the start, {alone / each:.1f}x without it\n")
    beside_the_floor(programs, args.turns + 1)
    use_of_cores(programs * 4, args.turns)
    print()
    total = 670 * 10 * args.tests
    print(f"670 problems x 10 samples x {args.tests:g} tests, projected to this machine, {args.workers} at a time:")
    print(f"sandbox {(total * each + once) / 3600:.2f} h, fresh interpreters {total * alone / 3600:.1f} h")


if __name__ == "__main__":
    main()
