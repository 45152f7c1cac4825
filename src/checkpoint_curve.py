"""Pass@1 of a run's checkpoints on a fixed subset of CodeUpdateArena, beside the run's reward (paper Fig. 2 and 5).

    python src/checkpoint_curve.py --run runs/grpo --data FILE --limit 200 --every 500
    python src/checkpoint_curve.py --run runs/quickstart/grpo --data FILE --backend transformers --samples 5
    python src/checkpoint_curve.py --run runs/grpo --plot-only --ema 0.99

Step 0 is the base model; the checkpoints are src/grpo.py's and src/dapo.py's. One after the other they go through
src/generate.py and src/score.py; flags that are not listed below go to src/generate.py and win over the YAML. Killed
half way, or with more checkpoints there than before, the same command goes on; another subset, sampling, data or run
needs another --out. Writes into --out:

    curve.png      reward and Pass@1 with 95 % intervals against steps, the paper's 32B models dashed
    lengths.png    response length, share of groups with equal rewards
    curve.md       both as a table; curve.json: the same with everything that identifies the run
    step-N/        samples, verdicts and scores of each checkpoint

The run must keep its checkpoints: a save_total_limit of at least their number for src/grpo.py,
trainer.max_actor_ckpt_to_keep=null for src/dapo.py, whose checkpoints are merged into step-N/ for the time of their
evaluation.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from common.checkpoints import Checkpoint, base_of, find_checkpoints, run_start
from common.cli import fail, program, read_yaml
from common.errors import InputError
from common.files import read_jsonl, replacing, write_json, write_text
from common.provenance import sha256
from common.rows import resolve
from evaluation.arena.multi import ARENA
from evaluation.curve import baselines, curve_rows, evaluation, learning_curve, lengths, markdown
from evaluation.curve_settings import claim, generate_settings, locked

SRC = Path(__file__).resolve().parent
DEFAULT_LIMIT = 100


def choose(there: Sequence[Checkpoint], every: int | None, steps: str | None) -> list[Checkpoint]:
    """Step 0 and all checkpoints; with `every`: the multiples of it, and the last; with `steps`: those alone."""
    known = {checkpoint.step: checkpoint for checkpoint in [Checkpoint(0, "base"), *there]}
    if every is not None:
        if every < 1:
            fail(f"--every {every}: starts at 1")
        return [checkpoint for step, checkpoint in known.items() if step % every == 0 or checkpoint is there[-1]]
    if steps is None:
        return list(known.values())
    try:
        wanted = sorted({int(step) for step in steps.split(",")})
    except ValueError:
        fail(f"--steps {steps!r}: expected numbers such as 0,100,200")
    missing = [step for step in wanted if step not in known]
    if missing:
        fail(f"--steps: no checkpoint of step {missing[0]}; there are {', '.join(map(str, known))}")
    return [known[step] for step in wanted]


def run_program(name: str, words: Sequence[object], log: Path, lock: IO[str]) -> None:
    """`python src/NAME WORDS`: what it prints goes to `log`, its progress to stderr. Ends with its status unless 0."""
    command = [sys.executable, str(SRC / name), *map(str, words)]
    with open(log, "a", encoding="utf-8") as file:
        file.write(shlex.join(command) + "\n")
        file.flush()
        done = subprocess.run(command, stdout=file, pass_fds=[lock.fileno()], check=False)
    if done.returncode < 0:
        fail(f"{name} was ended by {signal.Signals(-done.returncode).name}; the same command goes on from here")
    if done.returncode:
        raise SystemExit(done.returncode)  # it has said why


def evaluate(checkpoint: Checkpoint, args: argparse.Namespace, settings: Mapping[str, str], lock: IO[str]) -> None:
    """Samples and scores of one checkpoint."""
    folder = args.out / f"step-{checkpoint.step}"
    folder.mkdir(exist_ok=True)
    log, merged = folder / "log.txt", folder / "merged"
    base = ["--model", args.base, "--revision", args.revision]
    if checkpoint.kind == "verl" and not merged.exists():
        flags = ["--checkpoint", checkpoint.folder, "--out", merged, "--base", args.base]
        flags += ["--revision", args.revision, "--dtype", settings.get("dtype", "bfloat16")]
        run_program("merge_adapter.py", flags, log, lock)
    model = {
        "base": base,
        "adapter": [*base, "--adapter", checkpoint.folder],
        "model": ["--model", checkpoint.folder],
        "verl": ["--model", merged],
    }[checkpoint.kind]
    samples = folder / "samples.jsonl"
    flags = ["--config", args.config, *args.flags, "--benchmark", "arena", "--limit", settings["limit"]]
    run_program("generate.py", [*flags, *model, "--out", samples], log, lock)
    claim(args.out, settings, write=True)  # not before src/generate.py has taken the flags
    run_program("score.py", [*args.score_flags, "--k", 1, "--samples", samples, "--out", folder], log, lock)
    shutil.rmtree(merged, ignore_errors=True)


def draw(args: argparse.Namespace, log: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Write table and pictures of what has been scored by now, and return the table; None where nothing has."""
    results = {}
    for path in args.out.glob("step-*/results.json"):
        results[int(path.parent.name.removeprefix("step-"))] = json.loads(path.read_text("utf-8"))
    if not results:
        return None
    try:
        how = evaluation(results)
    except ValueError as error:
        fail(f"{args.out}: {error}: not one curve; remove the step-N folders that are to be evaluated again")
    curve = {
        "folder": str(args.run),
        "base": args.base,
        "run": {key: value for key, value in args.start.items() if key != "config"},
        "evaluation": how,
        "paper": baselines(),
        "ema": args.ema,
        "steps": curve_rows(results, log, args.ema),
    }
    for name, figure in {"curve.png": learning_curve, "lengths.png": lengths}.items():
        with replacing(args.out / name) as part:
            figure(curve, log).savefig(part, format="png")
    write_text(args.out / "curve.md", markdown(curve) + "\n")
    write_json(args.out / "curve.json", curve)
    return curve


def evaluate_all(chosen: Sequence[Checkpoint], args: argparse.Namespace, log: Sequence[Mapping[str, Any]]) -> None:
    """Evaluate the checkpoints that have no scores yet, and draw after each. Any mistake ends before the first."""
    from tqdm import tqdm

    settings = generate_settings(read_yaml(str(args.config)), args.flags)
    settings["limit"] = str(args.limit if args.limit is not None else settings.get("limit", DEFAULT_LIMIT))
    if not settings["limit"].isdigit() or int(settings["limit"]) < 2:
        fail(f"--limit {settings['limit']}: at least 2 problems, for an interval")
    settings.setdefault("data", ARENA)
    if not Path(args.base).is_dir() and (args.base.count("/") > 1 or args.base.startswith((".", "/"))):
        fail(f"the run's base model {args.base} is not there: start where the run was started, or give --base")
    try:
        settings["data_sha256"] = sha256(resolve(settings["data"]))
    except (InputError, OSError) as error:
        fail(error)
    settings |= {"start of the run": args.start.get("started"), "score flags": shlex.join(args.score_flags)}
    lock = locked(args.out)
    claim(args.out, settings, write=False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # subprocess.run then ends what is running
    left = [step for step in chosen if not (args.out / f"step-{step.step}" / "results.json").is_file()]
    if not left:
        print(f"{args.out}: all {len(chosen)} checkpoints have their scores")
        return
    with tqdm(total=len(chosen), initial=len(chosen) - len(left), desc="checkpoints", unit="checkpoint") as bar:
        for checkpoint in left:
            bar.set_postfix_str(f"now step {checkpoint.step}", refresh=False)
            bar.display()
            bar.fp.write("\n")  # the line below belongs to the programs' own bars
            evaluate(checkpoint, args, settings, lock)
            draw(args, log)
            bar.update()


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--run", type=Path, required=True, help="the training run's folder: checkpoints, metrics.jsonl, run.json")
    add("--out", type=Path, help="folder to write (default: curve/ in the run's folder)")
    add("--limit", type=int, help=f"problems, a fixed subset (default: the YAML's, or {DEFAULT_LIMIT})")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--every", type=int, metavar="N", help="step 0, the steps that N divides, and the last")
    which.add_argument("--steps", metavar="0,100,200", help="these steps alone; 0 is the base model")
    which.add_argument("--plot-only", action="store_true", help="draw what has been scored; evaluate nothing")
    add("--ema", type=float, default=0.9, help="weight of the moving average (default: %(default)s, the paper's)")
    add("--base", help="the base model, where it is no longer where the run found it")
    add("--config", type=Path, default=SRC.parent / "configs" / "eval.yaml", help="YAML of src/generate.py's flags")
    add("--score-flags", type=shlex.split, default=[], metavar="'…'", help="flags for src/score.py, as one argument")
    parser.error = fail  # type: ignore[method-assign]
    args, rest = parser.parse_known_args(argv)
    args.flags = [word for word in rest if word != "--"]
    if not 0 <= args.ema < 1:
        fail(f"--ema {args.ema}: must be in [0, 1)")
    if args.plot_only and (args.flags or args.limit is not None):
        fail(f"--plot-only evaluates nothing: leave out {(args.flags or ['--limit'])[0]}")
    args.out = args.out or args.run / "curve"
    return args


@program()
def main() -> int:
    args = parse_arguments()
    if not (args.run / "metrics.jsonl").is_file():
        fail(f"{args.run}: no metrics.jsonl there")
    try:
        log = read_jsonl(args.run / "metrics.jsonl")
        args.start = run_start(args.run)
        args.base, args.revision = (args.base, "main") if args.base else base_of(args.start)
    except ValueError as error:
        fail(error)
    if not args.plot_only:
        there = find_checkpoints(args.run)
        if not there:
            fail(f"{args.run}: no complete checkpoint-N or global_step_N there")
        evaluate_all(choose(there, args.every, args.steps), args, log)
    curve = draw(args, log)
    if not curve:
        fail(f"{args.out}: nothing has been scored yet")
    print(markdown(curve) + "\n")
    for name in ("curve.png", "lengths.png", "curve.md", "curve.json"):
        print(args.out / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
