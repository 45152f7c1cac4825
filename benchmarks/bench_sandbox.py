"""Programs per second in the sandbox, compared with a fresh interpreter for each program.

The programs resemble those of an evaluation: imports, a function, one test; they use numpy, pandas, torch or sympy, and
some fail. Both sides run the same programs, `--workers` at a time, and must reach the same verdicts. A harness without
a fork server starts a fresh interpreter for each program; here it is not isolated.

The projection assumes one program per unit test; CodeUpdateArena has 6.25 tests per problem (the mean of the 387
problems in an early snapshot of its repository).

    PYTHONPATH=src python benchmarks/bench_sandbox.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from common.cli import Parser, above_zero, program
from sandbox import InfrastructureError, Limits, run_all

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


@program(InfrastructureError)
def main() -> None:
    parser = Parser(description=__doc__)
    add, count = parser.add_argument, above_zero(int)
    add("--fresh-rounds", type=count, default=2, help="rounds of the 12 programs (default: %(default)s)")
    add("--rounds", type=count, default=40, help="rounds in the sandbox (default: %(default)s)")
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
    total = 670 * 10 * args.tests
    print(f"670 problems x 10 samples x {args.tests:g} tests, projected to this machine, {args.workers} at a time:")
    print(f"sandbox {(total * each + once) / 3600:.2f} h, fresh interpreters {total * alone / 3600:.1f} h")


if __name__ == "__main__":
    main()
