"""Train and measure every run of a study, one after another: a queue that resumes.

    python src/study.py configs/study/small.yaml --list
    python src/study.py configs/study/small.yaml --only 'grpo-*' --model models/Qwen2.5-Coder-0.5B-Instruct
    python src/study.py configs/study/paper.yaml --gpus 8 --dry-run

scripts/study.sh installs what the stages need and calls this program. Each run has a folder in --out: train/ and one
for each measure, as their programs write them, and log.txt with every command and its output. A stage whose result is
there is skipped; one that was interrupted resumes. A stage that fails does not stop the others, but the exit status is
then 1. Two queues may share --out: a run that one of them works on is skipped by the other. In the end, or at any time
with --report, it writes what is known so far to --out: study.md (tables), scores.png, completions.png.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.cli import Parser, between, one_line, program
from common.errors import InputError
from common.files import write_text
from common.markdown import table
from common.signals import exit_on_sigterm
from experiments.grid import Run, choose, read_study, runs_of
from experiments.report import write_report
from experiments.stages import TRAIN, Machine, Stage, stages, trained_steps, with_files

CHECKS_ONLY = {"INSTALL_ONLY": "1"}  # the launch scripts check, install, and do not train
LOCK, LOG, FAILED = "lock", "log.txt", "failed.txt"


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Whether no other process works on this run; until the block ends, none will."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def call(command: Sequence[str], log: Path) -> int:
    """Run a command, its output and its time in the log. Returns its status; it ends with this program."""
    started = time.monotonic()
    with log.open("ab") as file:
        file.write(f"\n$ {shlex.join(command)}\n".encode())
        file.flush()
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            status = process.wait()
        except BaseException:  # a signal
            process.terminate()
            process.wait()
            raise
        file.write(f"# status {status}, {time.monotonic() - started:.0f} s\n".encode())
    return status


def check(runs: Mapping[Run, Sequence[Stage]]) -> None:
    """Check every training, and every measure once, before hours of work begin. Raises InputError."""
    from tqdm import tqdm

    once: dict[str, tuple[Run, Stage]] = {}
    for run, todo in runs.items():
        for stage in todo:
            if not stage.is_done:
                once.setdefault(run.name if stage.name == TRAIN else stage.name, (run, stage))
    for run, stage in tqdm(once.values(), desc="checks"):
        variables = os.environ | CHECKS_ONLY
        done = subprocess.run(stage.check, env=variables, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise InputError(f"{run.name}, {stage.name}: {said[-1]}", f"  found by {shlex.join(stage.check)}")


def last_line(log: Path) -> str:
    """What a command said last, above its status: why it failed, if it did."""
    *_, said, _ = log.read_bytes()[-4000:].decode("utf-8", "replace").strip().splitlines()
    return one_line(said)


def work_on(todo: Sequence[Stage], folder: Path) -> dict[str, str]:
    """Do the stages that are left; without a training, nothing is measured. Returns stage -> why it failed."""
    failed: dict[str, str] = {}
    log = folder / LOG
    for stage in todo:
        if stage.is_done or TRAIN in failed:
            continue
        started = time.monotonic()
        print(f"  {stage.name}", end="", flush=True)
        for command in stage.commands:
            if status := call(command, log):
                failed[stage.name] = f"status {status}: {last_line(log)}"
                break
        print(
            f", {time.monotonic() - started:.0f} s",
            f": failed: {why}" if (why := failed.get(stage.name)) else "",
            sep="",
        )
    return failed


def state(folder: Path, todo: Sequence[Stage]) -> str:
    """Done, running, failed or waiting."""
    if all(stage.is_done for stage in todo):
        return "done"
    if (folder / LOCK).exists():
        with locked(folder) as is_free:
            if not is_free:
                return "running"
    if (folder / FAILED).exists():
        return f"failed: {(folder / FAILED).read_text('utf-8').splitlines()[0]}"
    return "interrupted" if (folder / LOG).exists() else "waiting"


def listing(runs: Mapping[Run, Sequence[Stage]], out: Path) -> str:
    """A line for each run: the steps of its training, what is measured, and its state."""
    rows = []
    for run, todo in runs.items():
        folder = out / run.name
        trains = [stage for stage in todo if stage.name == TRAIN]
        measures = [stage for stage in todo if stage.name != TRAIN]
        steps = f"{trained_steps(folder)} steps{', saved' if trains[0].is_done else ''}" if trains else "-"
        done = sum(stage.is_done for stage in measures)
        rows.append((run.name, steps, f"{done} of {len(measures)}", state(folder, todo)))
    return table(["run", "training", "measured", "state"], rows, aligned=True)


def work(runs: Mapping[Run, Sequence[Stage]], out: Path) -> bool:
    """Do everything that is not done. Returns whether nothing failed."""
    all_well = True
    for number, (run, todo) in enumerate(runs.items(), start=1):
        folder = out / run.name
        with locked(folder) as is_free:
            where = f"log: {folder / LOG}" if is_free else "another process works on it"
            print(f"{number}/{len(runs)} {run.name}  ({where})", flush=True)
            if not is_free:
                continue
            (folder / FAILED).unlink(missing_ok=True)
            if failed := work_on(todo, folder):
                all_well = False
                write_text(folder / FAILED, "".join(f"{name}: {why}\n" for name, why in failed.items()))
    return all_well


def named_files(given: Sequence[str]) -> dict[str, str]:
    """NAME=FILE -> a mapping. Raises InputError."""
    pairs = [text.partition("=") for text in given]
    if wrong := [name for name, equals, file in pairs if not (name and equals and file)]:
        raise InputError(f"--data {wrong[0]}: expected NAME=FILE")
    return {name: file for name, _, file in pairs}


@program()
def main() -> int:
    exit_on_sigterm()
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("study", type=Path, help="the file of the study (src/experiments/grid.py)")
    add("--out", type=Path, help="folder of the runs (default: runs/study/NAME of the file)")
    add("--list", action="store_true", help="show the state of each run and stop")
    add("--report", action="store_true", help="write tables and figures of what is there, and stop")
    add("--only", action="append", default=[], metavar="NAME", help="only runs of this name; * is any text; repeatable")
    add("--model", help="instead of the file's: a folder or a hub name")
    add("--data", action="append", default=[], metavar="NAME=FILE", help="another file of these records; repeatable")
    add("--arena", metavar="FILE", help="CodeUpdateArena's problems (default: the hub's)")
    add("--envs", type=Path, default=Path(".venvs"), help="environments of the records (default: %(default)s)")
    add("--evalplus", default="python", help="the interpreter that has evalplus (default: %(default)s)")
    add("--gpus", type=between(int, 0, 4096), default=0, help="GPUs of this machine (default: %(default)s)")
    add("--dry-run", action="store_true", help="print the commands that are left")
    args = parser.parse_args()
    if not Path("scripts/grpo.sh").is_file():
        raise InputError(f"{Path.cwd()}: not the root of the repository, where the launch scripts are")
    study = with_files(read_study(args.study), args.model, named_files(args.data), args.arena)
    out = args.out or Path("runs/study") / args.study.stem
    machine = Machine(args.gpus, args.envs, args.evalplus)
    runs = {run: stages(run, study, out / run.name, machine) for run in choose(list(runs_of(study)), args.only)}
    if args.list:
        print(listing(runs, out))
        return 0
    if args.report:
        print(*(write_report(runs, study, out) or [f"{out}: nothing is measured or trained yet"]), sep="\n")
        return 0
    if args.dry_run:
        for todo in runs.values():
            for stage in todo:
                if not stage.is_done:
                    print(*map(shlex.join, stage.commands), sep="\n")
        return 0
    check(runs)
    all_well = work(runs, out)
    files = [*write_report(runs, study, out), *(f"{out}/RUN/{name}" for name in (TRAIN, "MEASURE", LOG))]
    print("", listing(runs, out), "", "where things are:", *(f"  {file}" for file in files), sep="\n")
    return 0 if all_well else 1


if __name__ == "__main__":
    sys.exit(main())
