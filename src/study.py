"""Train and measure every run of a study, one after another: a queue that resumes.

    python src/study.py configs/study/small.yaml --list
    python src/study.py configs/study/small.yaml --only 'grpo-*' --model models/Qwen2.5-Coder-0.5B-Instruct
    python src/study.py configs/study/paper.yaml --gpus 8 --dry-run

scripts/study.sh counts the GPUs, installs what the stages need and calls this program. Each run has a folder in --out:
train/ and one for each measure, as their programs write them; done/, with the settings of each stage that is finished;
and log.txt, every command with its output. A stage that is done is skipped, and refused if its settings have changed
since; one that was interrupted resumes. A stage that fails does not stop the others, but the exit status is then 1. Two
queues may share --out: a run that one of them works on is skipped by the other. In the end, or at any time with
--report, it writes the results so far to --out: study.md (tables), scores.png, completions.png.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from common.cli import Parser, between, one_line, program
from common.errors import InputError
from common.files import write_text
from common.locks import LockedError, is_locked, locked
from common.markdown import table
from common.signals import exit_on_sigterm
from experiments.checks import layers_of
from experiments.grid import TRAIN, UNTRAINED, choose, read_study, runs_of
from experiments.report import write_report
from experiments.stages import Machine, Stage, Stages, stages, trained_steps, with_files

LOG, FAILED = "log.txt", "failed.txt"


def call(command: Sequence[str], log: Path, variables: Mapping[str, str], lock: IO[str]) -> int:
    """Run a command, its output and its time in the log. Returns its status.

    It ends with this program; if this program is killed, it keeps the run locked as long as it lives.
    """
    started = time.monotonic()
    with log.open("ab") as file:
        file.write(f"\n$ {shlex.join(command)}\n".encode())
        file.flush()
        process = None
        try:  # from before the start: a signal may come while Popen returns
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | variables,
                pass_fds=[lock.fileno()],
            )
            status = process.wait()
        except BaseException:  # SystemExit by SIGTERM, or KeyboardInterrupt
            if process:
                print(": interrupted; the same command resumes", flush=True)
                process.terminate()
                process.wait()
            raise
        file.write(f"\n# status {status}, {time.monotonic() - started:.0f} s\n".encode())
    return status


def last_line(log: Path) -> str:
    """What a command said last, before the line of its status: why it failed, if it did."""
    text = log.read_bytes()[-4000:].decode("utf-8", "replace")
    lines = [line for line in text[: text.rindex("\n# status")].splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else ""


def ending(status: int) -> str:
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"status {status}"


def work_on(todo: Sequence[Stage], log: Path, variables: Mapping[str, str], lock: IO[str]) -> dict[str, str]:
    """Do the stages that are left; without a training, nothing is measured. Returns stage -> why it failed."""
    failed: dict[str, str] = {}
    for stage in todo:
        if stage.is_done or TRAIN in failed:
            continue
        started = time.monotonic()
        print(f"  {stage.name}", end="", flush=True)
        for command in stage.commands:
            if status := call(command, log, variables, lock):
                failed[stage.name] = f"{ending(status)}: {last_line(log)}"
                break
        else:
            stage.finish()
            if stage.name == TRAIN:  # what was measured of an earlier training does not count
                for marker in stage.marker.parent.glob("*.json"):
                    if marker != stage.marker:
                        marker.unlink()
        why = f": failed: {failed[stage.name]}" if stage.name in failed else ""
        print(f", {time.monotonic() - started:.0f} s{why}", flush=True)
    return failed


def failures(folder: Path) -> dict[str, str]:
    """Stage -> why it failed when it ran last."""
    path = folder / FAILED
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return {stage: why for stage, _, why in (line.partition(": ") for line in lines)}


def write_failures(folder: Path, failed: Mapping[str, str]) -> None:
    """What `failures` reads; no file without any."""
    if failed:
        write_text(folder / FAILED, "".join(f"{stage}: {why}\n" for stage, why in failed.items()))
    else:
        (folder / FAILED).unlink(missing_ok=True)


def work(runs: Stages, out: Path, variables: Mapping[str, str]) -> bool:
    """Do everything that is not done. Returns whether nothing failed."""
    has_failed = False
    for number, (run, todo) in enumerate(runs.items(), start=1):
        folder, name = out / run.name, f"{number}/{len(runs)} {run.name}"
        try:
            lock = locked(folder)
        except LockedError:
            print(f"{name}  (another process works on it)", flush=True)
            continue
        with lock:
            print(f"{name}  (log: {folder / LOG})", flush=True)
            chosen = {stage.name for stage in todo}
            others = {stage: why for stage, why in failures(folder).items() if stage not in chosen}
            write_failures(folder, others)
            failed = work_on(todo, folder / LOG, variables, lock)
            has_failed |= bool(failed)
            write_failures(folder, others | failed)
    return not has_failed


def state(folder: Path, todo: Sequence[Stage]) -> str:
    """Done, running, failed, interrupted or waiting."""
    if all(stage.is_done for stage in todo):
        return "done"
    if is_locked(folder):
        return "running"
    if failed := failures(folder):
        return "failed: " + ": ".join(next(iter(failed.items())))
    return "interrupted" if (folder / LOG).exists() else "waiting"


def listing(runs: Stages, out: Path) -> str:
    """A line for each run: the steps of its training, what is measured, and its state."""
    rows = []
    for run, todo in runs.items():
        folder = out / run.name
        training = [stage for stage in todo if stage.name == TRAIN]
        try:
            steps = f"{trained_steps(folder)} steps{', done' if training[0].is_done else ''}" if training else "-"
            done = sum(stage.is_done for stage in todo if stage.name != TRAIN)
            rows.append((run.name, steps, f"{done} of {len(todo) - len(training)}", state(folder, todo)))
        except InputError as error:
            rows.append((run.name, "", "", f"changed: {error}"))
    return table(["run", "training", "measured", "state"], rows, aligned=True)


def named_files(given: Sequence[str]) -> dict[str, str]:
    """NAME=FILE -> a mapping. Raises InputError."""
    pairs = [text.partition("=") for text in given]
    if wrong := [name for name, equals, file in pairs if not (name and equals and file)]:
        raise InputError(f"--data {wrong[0]}: expected NAME=FILE")
    return {name: file for name, _, file in pairs}


def make_parser() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("study", type=Path, help="the file of the study (src/experiments/grid.py)")
    add("--out", type=Path, help="folder of the runs (default: runs/study/NAME of the file)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="show the state of each run, and stop")
    what.add_argument("--report", action="store_true", help="write tables and figures of all results, and stop")
    what.add_argument("--check", action="store_true", help="check everything, print the requirements files, and stop")
    what.add_argument("--dry-run", action="store_true", help="print the commands that are left, and stop")
    add("--only", action="append", default=[], metavar="NAME", help="only runs of this name; * is any text; repeatable")
    add("--measures", action="append", default=[], metavar="NAME", help="only measures of this name; as --only")
    add("--against", default=UNTRAINED, metavar="RUN", help="--report: gains over this run (default: %(default)s)")
    add("--model", help="instead of the file's: a folder or a hub name")
    add("--data", action="append", default=[], metavar="NAME=FILE", help="another file of these records; repeatable")
    add("--arena", metavar="FILE", help="CodeUpdateArena's problems (default: the hub's)")
    add("--evalplus", default="python", help="the interpreter that has evalplus (default: %(default)s)")
    add("--gpus", type=between(int, 0, 4096), default=0, help="GPUs of this machine; 0, the default, is a CPU")
    return parser


@program()
def main() -> int:
    exit_on_sigterm()
    args = make_parser().parse_args()
    if not Path("scripts/grpo.sh").is_file():
        raise InputError(f"{Path.cwd()}: not the root of the repository, where the launch scripts are")
    study = with_files(read_study(args.study), args.model, named_files(args.data), args.arena)
    out, machine = args.out or Path("runs/study") / args.study.stem, Machine(args.gpus, args.evalplus)
    every = {run: stages(run, study, out / run.name, machine) for run in runs_of(study)}
    measures = {TRAIN, *choose(study.measures, args.measures, "--measures")}
    names = choose([run.name for run in every], args.only, "--only")
    chosen = {run: [one for one in todo if one.name in measures] for run, todo in every.items() if run.name in names}
    if args.against != UNTRAINED and args.against not in {run.name for run in every}:
        raise InputError(f"--against {args.against}: no such run: {', '.join(run.name for run in every)}")
    if args.list:
        print(listing(chosen, out))
    elif args.report:
        print(*(write_report(every, out, args.against) or [f"{out}: no results yet"]), sep="\n")
    elif args.check:
        print(*layers_of(chosen, study, machine.variables))
    elif args.dry_run:
        print("# with", *(f"{name}={value}" for name, value in machine.variables.items()))
        for run, todo in chosen.items():
            for stage in todo:
                if not stage.is_done:
                    print(f"# {run.name}, {stage.name}", *map(shlex.join, stage.commands), sep="\n")
    else:
        is_well = work(chosen, out, machine.variables)
        files = [*write_report(every, out, args.against), *(f"{out}/RUN/{name}" for name in (TRAIN, "MEASURE", LOG))]
        print("", listing(chosen, out), "", "where things are:", *(f"  {file}" for file in files), sep="\n")
        return 0 if is_well else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
