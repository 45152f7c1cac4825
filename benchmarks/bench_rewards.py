"""The speed of ES* compared with a plain implementation, and the cost of hostile completions.

The plain reward takes the same steps (extract, parse, normalise, compare) with the textbook Levenshtein distance in
pure Python, as the authors' release does. Both score the same completions in the same run.

    PYTHONPATH=src python benchmarks/bench_rewards.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from Levenshtein import distance

from common.cli import Parser, above_zero, program
from rewards import clean, es_star, extract, score

HOSTILE_SIZE = 100_000  # characters


def plain_distance(a: str, b: str) -> int:
    """Levenshtein distance by rows, O(len a * len b)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def plain_es_star(completion: str, target: str) -> float:
    code = extract(completion)
    if code is None:
        return -2.0
    (ours, parses), (theirs, _) = clean(code), clean(target)
    if not parses:
        return -2.0
    longest = max(len(ours), len(theirs))
    return 3.5 * (1 - plain_distance(ours, theirs) / longest if longest else 1.0) - 1.5


def snippet(size: int, call: str) -> str:
    """Code of about `size` characters that calls `call` on every third line."""
    lines = ["import numpy as np"]
    while sum(len(line) + 1 for line in lines) < size:
        n = len(lines)
        lines += [f"x{n} = load({n})  # input {n}", f"y{n} = np.{call}(x{n})", f"print('run', y{n})"]
    return "\n".join(lines)[:size].rsplit("\n", 1)[0]


def answer(code: str) -> str:
    return f"The name changed.\n</think>\n<answer>\n```python\n{code}\n```\n</answer>"


def seconds(function: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def hostile() -> dict[str, str]:
    """Completions of 100 kB that each attack one step; those marked * are inside a well-formed answer."""
    n = HOSTILE_SIZE
    code = {
        "open parentheses": "(" * n,
        "deep attribute chain": "x" + ".a" * (n // 2),
        "deep sum": "1" + "+1" * (n // 2),
        "unary minus": "-" * (n - 1) + "1",
        "chained comparison": "1" + "<1" * (n // 2),
        "nested calls": "f(" * (n // 3) + ")" * (n // 3),
        "lambdas": "lambda:" * (n // 7) + "1",
        "25,000 statements": "x=1\n" * (n // 4),
        "comments": "x=1 #c\n" * (n // 7),
        "comments and strings": "x='' #c\n" * (n // 8),
        "null bytes": "\0" * n,
    }
    texts = {
        "backticks": "`" * n,
        "unclosed fences": "<answer>" + "```python\n" * (n // 10),
        "open answers": "<answer>" * (n // 8),
        "closed answers": "</think>" + "<answer></answer>" * (n // 17),
        "think tags": "<think></think>" * (n // 15),
    }
    return texts | {f"{name} *": answer(text) for name, text in code.items()}


@program()
def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--repeats", type=above_zero(int), default=200, help="timings per size (default: %(default)s)")
    args = parser.parse_args()
    print("ES* of one completion, target cached as in training (median)\n")
    print(f"{'characters':>10}  {'ours':>10}  {'plain':>12}  {'ratio':>7}  ratio of the edit distance alone")
    for size in (126, 600, 4000):
        completion, target = answer(snippet(size, "trapz")), snippet(size, "trapezoid")
        assert abs(es_star([completion], [target])[0] - plain_es_star(completion, target)) < 1e-9
        ours = seconds(lambda c=completion, t=target: es_star([c], [t]), args.repeats)
        plain = seconds(lambda c=completion, t=target: plain_es_star(c, t), 3)
        a, b = clean(snippet(size, "trapz"))[0], clean(target)[0]
        alone = seconds(lambda a=a, b=b: plain_distance(a, b), 3) / seconds(
            lambda a=a, b=b: distance(a, b), args.repeats
        )
        print(f"{size:>10}  {ours * 1e6:>7.0f} us  {plain * 1e3:>9.1f} ms  {plain / ours:>6,.0f}x  {alone:>8,.0f}x")
    print("\nAt 4,000 characters, parsing and tokenising dominate our cost, not the edit distance.")
    print(f"\nhostile completions of {HOSTILE_SIZE:,} characters (* inside a well-formed answer)\n")
    worst = 0.0
    for name, text in hostile().items():
        cost = seconds(lambda t=text: score(t, snippet(126, "trapezoid")), 3)
        worst = max(worst, cost)
        print(f"{name:<26}{cost * 1e3:>7.1f} ms   {score(text, 'x = 1').reason}")
    print(f"\nworst: {worst * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
