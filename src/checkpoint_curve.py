"""Pass@1 of a run's checkpoints on a fixed subset of CodeUpdateArena, beside the run's reward (paper Fig. 2 and 5).

    python src/checkpoint_curve.py --run runs/grpo --data FILE --limit 200 --every 500
    python src/checkpoint_curve.py --run runs/quickstart/grpo --data FILE --backend transformers --samples 5
    python src/checkpoint_curve.py --run runs/grpo --plot-only --ema 0.99

Step 0 is the base model; the checkpoints are those of src/grpo.py or src/dapo.py. Each goes through src/generate.py and
src/score.py in turn. Flags that are not listed below go to src/generate.py and override the YAML (--limit: 100 problems
by default). The same command resumes after an interruption and evaluates new checkpoints; another subset, sampling,
data or run needs another --out. Writes into --out:

    curve.png      reward and Pass@1 with 95 % intervals against steps, the paper's 32B models dashed
    lengths.png    response length, share of groups with equal rewards
    curve.md       both as a table; curve.json: the same with everything that identifies the run
    step-N/        samples, verdicts and scores of each checkpoint

The run must keep its checkpoints: save_total_limit of src/grpo.py at least their number, or
trainer.max_actor_ckpt_to_keep=null for src/dapo.py.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from common.checkpoints import Checkpoint, find_checkpoints
from common.cli import Parser, above_zero, fail, in_range, parse_flags, program
from common.errors import InputError, ReCodeError
from common.files import read_json, replacing, require_writable, write_json, write_text
from common.locks import locked
from common.models import refuse_unusable
from common.provenance import sha256
from common.ranges import BELOW_ONE
from common.rows import resolve
from common.signals import exit_on_sigterm
from evaluation.arena.multi import ARENA
from evaluation.curve import baselines, curve_rows, evaluation, learning_curve, lengths, markdown
from evaluation.curve_run import Run, read_run
from evaluation.flags import make_parser
from evaluation.results import CurveResult
from evaluation.samples import FileFormat
from evaluation.score_flags import make_score_parser

SRC = Path(__file__).resolve().parent
DEFAULT_LIMIT = 100  # ours: problems
FILES = ("curve.png", "lengths.png", "curve.md", "curve.json")
# Flags of src/generate.py: set here, never by the user; and those that identify samples.
SET_HERE = ("model", "adapter", "revision", "out", "reference", "copy", "check")
IDENTIFYING = (
    *("backend", "prompt", "no_docs", "limit", "max_target_tokens", "skip_bad_tasks", "samples", "temperature"),
    *("top_p", "max_new_tokens", "seed", "dtype", "batch_size"),
)


class Settings(FileFormat):
    """settings.json: what identifies a curve; the keys are Protocol.settings'."""

    data_sha256: str


@dataclass(frozen=True)
class Protocol:
    """How every checkpoint is evaluated. `flags` are src/generate.py's; `settings` identify the curve."""

    flags: tuple[str, ...]
    score_flags: tuple[str, ...]
    settings: Mapping[str, Any]


def choose(there: Sequence[Checkpoint], every: int | None, steps: str | None) -> list[Checkpoint]:
    """Step 0 and all checkpoints; with `every`: its multiples and the last; with `steps`: only those."""
    known = {checkpoint.step: checkpoint for checkpoint in [Checkpoint(0, "base"), *there]}
    if every is not None:
        return [checkpoint for step, checkpoint in known.items() if step % every == 0 or checkpoint is there[-1]]
    if steps is None:
        return list(known.values())
    try:
        wanted = sorted({int(step) for step in steps.split(",")})
    except ValueError:
        raise InputError(f"--steps {steps!r}: expected numbers such as 0,100,200") from None
    missing = [step for step in wanted if step not in known]
    if missing:
        raise InputError(f"--steps: no checkpoint of step {missing[0]}; there are {', '.join(map(str, known))}")
    return [known[step] for step in wanted]


def protocol_of(config: Path, flags: Sequence[str], score_flags: Sequence[str], run: Run) -> Protocol:
    """The YAML and the flags as src/generate.py's own parser reads them. Raises InputError if they cannot be used."""
    parser = make_parser(None)
    asked = vars(parse_flags(parser, ["--config", str(config), *flags]))
    if asked["benchmark"] != "arena":
        raise InputError(f"--benchmark {asked['benchmark']}: a curve is of CodeUpdateArena (arena)")
    for name in SET_HERE:
        if asked[name] != parser.get_default(name):
            raise InputError(f"--{name}: not available here: the checkpoints of --run are evaluated")
    if asked["backend"] == "endpoint":
        raise InputError("--backend endpoint: a server holds one model, not a run's checkpoints")
    parse_flags(make_score_parser(None), score_flags)  # only to check them
    asked["limit"] = DEFAULT_LIMIT if asked["limit"] is None else asked["limit"]
    if asked["limit"] < 2:
        raise InputError(f"--limit {asked['limit']}: an interval needs at least 2 problems")
    data = asked["data"] or ARENA
    settings = {name: asked[name] for name in IDENTIFYING} | {
        "data": data,
        "data_sha256": sha256(resolve(data)),
        "start of the run": run.start.get("started"),
        "score flags": shlex.join(score_flags),
    }
    return Protocol(("--config", str(config), *flags, "--limit", str(asked["limit"])), tuple(score_flags), settings)


def claim(out: Path, settings: Mapping[str, Any], *, write: bool) -> None:
    """Raise InputError if `out` holds a curve with other settings; `write` records them if it holds none.

    The data file may move: its hash is compared.
    """
    path = out / "settings.json"
    if path.is_file():
        old = read_json(path, Settings).model_dump()
        for key in dict.fromkeys([*settings, *old]):
            if key != "data" and old.get(key) != settings.get(key):
                was, now = old.get(key), settings.get(key)
                raise InputError(f"{out} holds a curve with {key} {was}, now {now}: choose another --out")
    elif write:
        write_json(path, dict(settings))


def run_program(name: str, words: Sequence[object], log: Path, lock: IO[str]) -> None:
    """`python src/NAME WORDS` with stdout appended to `log`. Exits with its status unless that is 0."""
    command = [sys.executable, str(SRC / name), *map(str, words)]
    with open(log, "a", encoding="utf-8") as file:
        file.write(shlex.join(command) + "\n")
        file.flush()
        done = subprocess.run(command, stdout=file, pass_fds=[lock.fileno()], check=False)
    if done.returncode < 0:
        raise ReCodeError(
            f"{name} was ended by {signal.Signals(-done.returncode).name}; run the same command to resume"
        )
    if done.returncode:
        raise SystemExit(done.returncode)  # it has printed why


def evaluate(checkpoint: Checkpoint, run: Run, protocol: Protocol, out: Path, lock: IO[str]) -> None:
    """Samples and scores of one checkpoint."""
    folder = out / f"step-{checkpoint.step}"
    folder.mkdir(exist_ok=True)
    log, merged, samples = folder / "log.txt", folder / "merged", folder / "samples.jsonl"
    base = ["--model", run.base, "--revision", run.revision]
    if checkpoint.kind == "verl" and not merged.exists():
        of_run = ["--base", run.base, "--revision", run.revision, "--dtype", protocol.settings["dtype"]]
        run_program("merge_adapter.py", ["--checkpoint", checkpoint.folder, "--out", merged, *of_run], log, lock)
    models: dict[str, list[object]] = {
        "base": [*base],
        "adapter": [*base, "--adapter", checkpoint.folder],
        "model": ["--model", checkpoint.folder],
        "verl": ["--model", merged],
    }
    run_program("generate.py", [*protocol.flags, *models[checkpoint.kind], "--out", samples], log, lock)
    claim(out, protocol.settings, write=True)  # only now: src/generate.py checks what its flags mean together
    run_program("score.py", [*protocol.score_flags, "--k", 1, "--samples", samples, "--out", folder], log, lock)
    shutil.rmtree(merged, ignore_errors=True)


def draw(run: Run, out: Path, weight: float) -> dict[str, Any] | None:
    """Write table and figures of what has been scored so far, and return the table; None if nothing has."""
    results = {}
    for path in out.glob("step-*/results.json"):
        if (step := path.parent.name.removeprefix("step-")).isdecimal():
            results[int(step)] = read_json(path, CurveResult).model_dump()
    if not results:
        return None
    try:
        how = evaluation(results)
    except InputError as error:
        raise InputError(f"{out}: {error}: not one curve; remove the step-N folders to evaluate again") from None
    curve = {
        "folder": str(run.folder),
        "base": run.base,
        "run": {key: value for key, value in run.start.items() if key != "config"},
        "evaluation": how,
        "paper": baselines(),
        "ema": weight,
        "steps": curve_rows(results, run.log, weight),
    }
    for name, figure in {"curve.png": learning_curve, "lengths.png": lengths}.items():
        with replacing(out / name) as part:
            figure(curve, run.log).savefig(part, format="png")
    write_text(out / "curve.md", markdown(curve) + "\n")
    write_json(out / "curve.json", curve)
    return curve


def evaluate_all(chosen: Sequence[Checkpoint], run: Run, protocol: Protocol, out: Path, weight: float) -> None:
    """Evaluate the checkpoints that have no scores yet, and draw after each. Bad input ends before the first."""
    from tqdm import tqdm

    refuse_unusable(run.base)
    lock = locked(out)
    claim(out, protocol.settings, write=False)
    exit_on_sigterm()  # subprocess.run then ends the running program
    left = [step for step in chosen if not (out / f"step-{step.step}" / "results.json").is_file()]
    if not left:
        print(f"{out}: all {len(chosen)} checkpoints have their scores")
        return
    with tqdm(total=len(chosen), initial=len(chosen) - len(left), desc="checkpoints", unit="checkpoint") as bar:
        for checkpoint in left:
            bar.set_postfix_str(f"now step {checkpoint.step}", refresh=False)
            bar.display()
            bar.fp.write("\n")  # the line below is for the programs' own bars
            evaluate(checkpoint, run, protocol, out, lock)
            draw(run, out, weight)
            bar.update()


def parse_arguments(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """(the flags, those for src/generate.py)"""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--run", type=Path, required=True, help="the training run's folder: checkpoints, metrics.jsonl, run.json")
    add("--out", type=Path, help="folder to write (default: curve/ in the run's folder)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--every", type=above_zero(int), metavar="N", help="step 0, the multiples of N, and the last")
    which.add_argument("--steps", metavar="0,100,200", help="only these steps; 0 is the base model")
    which.add_argument("--plot-only", action="store_true", help="draw what has been scored; evaluate nothing")
    ema = in_range(float, BELOW_ONE)
    add("--ema", type=ema, default=0.9, help="weight of the moving average (default: %(default)s, the paper's)")
    add("--base", help="the base model, if it has moved since the run")
    add("--config", type=Path, default=SRC.parent / "configs" / "eval.yaml", help="YAML of src/generate.py's flags")
    add("--score-flags", type=shlex.split, default=[], metavar="'…'", help="flags for src/score.py, as one argument")
    args, rest = parser.parse_known_args(argv)
    flags = [word for word in rest if word != "--"]
    if args.plot_only and flags:
        fail(f"--plot-only evaluates nothing: leave out {flags[0]}")
    return args, flags


@program()
def main() -> int:
    args, flags = parse_arguments()
    out = args.out or args.run / "curve"
    require_writable(*(out / name for name in (*FILES, "settings.json", ".lock")))
    run = read_run(args.run, args.base)
    if not args.plot_only:
        there = find_checkpoints(args.run)
        if not there:
            raise InputError(f"{args.run}: no complete checkpoint-N or global_step_N there")
        chosen = choose(there, args.every, args.steps)
        evaluate_all(chosen, run, protocol_of(args.config, flags, args.score_flags, run), out, args.ema)
    curve = draw(run, out, args.ema)
    if not curve:
        raise InputError(f"{out}: nothing has been scored yet")
    print(markdown(curve) + "\n")
    for name in FILES:
        print(out / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
