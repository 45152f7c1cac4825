"""What the reward `execution` adds to a GRPO step: seconds for the answers of a step, sandboxes kept open or not.

A step has `--prompts` records, drawn by `--seed`, with `--group` different answers each: the target or the old code,
with another last line. All ways score the same steps, in turns, and must give the same rewards. The environments of
the drawn records are made first (.venvs, or --envs) and are not timed.

    PYTHONPATH=src python benchmarks/bench_execution.py
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from common.cli import Parser, above_zero, program
from evaluation.migration.execution import Execution
from prompts import reference_completion
from records import Record, load_records
from sandbox import InfrastructureError

DATA = Path(__file__).parents[1] / "data" / "train.jsonl"
Step = dict[str, list[Any]]


def step_of(records: list[Record], group: int) -> Step:
    """The columns that trl passes for one step."""
    rows: Step = {"completions": [], "target": [], "old_code": [], "record_id": []}
    for record in records:
        for n in range(group):
            code = record.new_code if n % 2 else record.old_code
            rows["completions"].append(reference_completion(f"{code}\nanswer = {n}"))
            rows["target"].append(record.new_code)
            rows["old_code"].append(record.old_code)
            rows["record_id"].append(record.id)
    return rows


def timed(score: Callable[..., list[float]], step: Step) -> tuple[float, list[float]]:
    """(seconds, rewards) of one step."""
    start = time.perf_counter()
    found = score(**step)
    return time.perf_counter() - start, found


@program(InfrastructureError)
def main() -> None:
    parser = Parser(description=__doc__)
    add, count = parser.add_argument, above_zero(int)
    add("--data", type=Path, default=DATA, help="records, with evidence.jsonl beside them (default: data/train.jsonl)")
    add("--envs", type=Path, default=Path(".venvs"), help="folder of environments (default: %(default)s)")
    add("--prompts", type=count, default=2, help="records of a step (default: %(default)s)")
    add("--group", type=count, default=8, help="answers to each (default: %(default)s)")
    add("--steps", type=count, default=8, help="timed steps, each with records of its own (default: %(default)s)")
    add("--seed", type=int, default=0)
    args = parser.parse_args()
    records = load_records(args.data)
    drawn = random.Random(args.seed).sample(records, min(len(records), args.prompts * args.steps))
    steps = [step_of(drawn[i : i + args.prompts], args.group) for i in range(0, len(drawn), args.prompts)]
    ids = [record.id for record in drawn]
    kept = Execution()
    kept.prepare(str(args.data), ids, args.envs)
    seconds: dict[str, list[float]] = {"first use of its environments": [], "kept open": [], "opened for each step": []}
    for step in tqdm(steps, desc="steps"):
        first, expected = timed(kept, step)
        warm, again = timed(kept, step)
        fresh = Execution()
        fresh.evidence, fresh.locks, fresh.envs = kept.evidence, kept.locks, kept.envs
        cold, others = timed(fresh, step)
        fresh.close()
        assert expected == again == others
        for name, value in zip(seconds, (first, warm, cold), strict=True):
            seconds[name].append(value)
    kept.close()
    middle = {name: statistics.median(found) for name, found in seconds.items()}
    print(
        f"\n{args.prompts} records x {args.group} answers, median and highest of {len(steps)} steps, seed {args.seed}"
    )
    for name, found in seconds.items():
        print(f"{name:<30}{middle[name]:>7.2f} s {max(found):>7.2f} s {middle[name] / middle['kept open']:>6.2f}x")


if __name__ == "__main__":
    main()
