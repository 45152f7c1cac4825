"""What one GPU measures with the 7B shape and random weights, beside what is expected of it.

    PYTHONPATH=src python benchmarks/bench_gpu.py --out runs/gpu                  # every part, on one GPU of 80 GB
    PYTHONPATH=src python benchmarks/bench_gpu.py --out runs/gpu --parts rollout,update
    PYTHONPATH=src python benchmarks/bench_gpu.py --out runs/gpu --write results/gpu.md     # measures nothing
    PYTHONPATH=src python benchmarks/bench_gpu.py --shape tiny --out /tmp/gpu     # the same code on a CPU, in a minute

machine      memory copy and matrix product: the ceilings
norm         the row norms of one DoRA layer: factored, and by peft
rollout      decoding with the base, and with DoRA as merged copies, cached and stock
decoding     eight completions of one prompt: by transformers, with a shared prompt, compiled
agreement    log-probabilities of merged rollouts against the policy that is updated
update       forward, backward and AdamW with LoRA and DoRA, the reference pass, and a shared prompt
trainer      src/grpo.py with configs/grpo.yaml: three steps and a resume (saves 15 GB to a temporary folder)

By the estimates, each part ends within five minutes; more than six is an alarm. Every measurement is a line of
OUT/gpu.jsonl as soon as it is made, so an interrupted run keeps its numbers; parts that run later add theirs. Exit
status 1: a part failed, or a number is alarming. Needs requirements.txt alone.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from common.cli import Parser, program
from common.errors import InputError
from common.files import read_log, require_writable, write_text

if TYPE_CHECKING:
    from gpu.harness import Bench

PARTS = ("machine", "norm", "rollout", "decoding", "agreement", "update", "trainer")


def chosen(text: str) -> list[str]:
    """The parts that are named. Raises InputError."""
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise InputError(f"--parts {unknown[0]}: choose from {', '.join(PARTS)}")
    return names


def start(shape: str | None, seed: int, path: Path) -> tuple[Bench, str]:
    """(the bench, the name of its shape): 7b by default on a GPU, tiny on a CPU. Raises InputError."""
    import torch

    from gpu.harness import Bench, Log
    from gpu.shapes import SHAPES

    cuda = torch.cuda.is_available()
    name = shape or ("7b" if cuda else "tiny")
    if name == "7b" and not cuda:
        raise InputError("--shape 7b: torch finds no GPU: choose --shape tiny")
    require_writable(path)
    read_log(path)  # repairs a line that a kill truncated
    return Bench(SHAPES[name], torch.device("cuda" if cuda else "cpu"), seed, Log(path, [])), name


def measure(bench: Bench, parts: list[str]) -> None:
    """Run the parts. One that fails is logged with its traceback, and the others still run."""
    from gpu import decoding, norms, rollouts, trainer, updates

    jobs: dict[str, Callable[[Bench], None]] = {
        "machine": rollouts.machine,
        "norm": norms.norm,
        "rollout": rollouts.rollout,
        "decoding": decoding.decoding,
        "agreement": updates.agreement,
        "update": updates.update,
        "trainer": trainer.trainer,
    }
    for part in parts:
        began = time.perf_counter()
        try:
            jobs[part](bench)
        except Exception as error:  # a GPU is held: what the other parts measure is worth having
            traceback.print_exc()
            bench.log.note(part, "part", failed=f"{type(error).__name__}: {error}"[:300])
        else:
            bench.log.note(part, "part", part_seconds=time.perf_counter() - began)
        bench.free()


def write_page(log: Path, out: Path) -> None:
    """The page of what the log holds. Raises InputError if no GPU measured anything."""
    from gpu.page import groups, page

    rows = read_log(log)
    if not any(environment["card"] for environment, _ in groups(rows)):
        raise InputError(f"{log}: no measurements of a GPU there")
    write_text(out, page(rows))
    print(out)


@program()
def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of gpu.jsonl (default: %(default)s)")
    parser.add_argument("--parts", default=",".join(PARTS), help="default: %(default)s")
    parser.add_argument("--shape", choices=["7b", "tiny"], help="default: 7b on a GPU, else tiny")
    parser.add_argument("--seed", type=int, default=42, help="of weights and sampling (default: %(default)s)")
    parser.add_argument("--commit", help="the commit that is measured, if this folder is not a git checkout")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page of OUT/gpu.jsonl, and stop")
    args = parser.parse_args()
    log, parts = args.out / "gpu.jsonl", chosen(args.parts)
    if args.write:
        write_page(log, args.write)
        return 0
    bench, shape = start(args.shape, args.seed, log)

    from gpu.harness import describe
    from gpu.page import section
    from gpu.verdicts import alarms, applies, failures

    describe(bench, shape, args.commit)
    measure(bench, parts)
    environment, *rows = bench.log.rows
    print("\n" + section(environment, rows))
    is_wrong = bool(failures(rows)) or (applies(environment) and bool(alarms(rows)))
    return 1 if is_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
