"""Review what src/collect.py proposed, in the terminal: accept, edit, or reject with words that go back to the model.

    python src/review.py runs/numpy-2.0 --data my-records --envs .venvs
    python src/review.py runs/numpy-2.0 --data my-records < answers.txt       # answers from a pipe

Each proposal is shown with its update note, the difference between old and new code, the check, and what the three runs
said. The answers:

    a   accept: append it to --data (train.jsonl or heldout.jsonl by its update, and evidence.jsonl)
    e   edit in $EDITOR; the edited record is validated and proven again, then shown again
    r   reject; the line that follows is what the model is told the next time collect.py runs (empty: nothing, and the
        pair is dropped)
    s   skip it for now     q   quit; so does the end of the input

Decisions stand in RUN/feedback.jsonl, so the same command goes on with what is left.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.cli import fail, parse_flags, printable, program
from common.errors import InputError
from common.files import append_jsonl, encoded
from curation.collecting.log import Log
from curation.collecting.proposals import (
    ACCEPTED,
    CODE,
    KINDS,
    PAIR_PARTS,
    Verdict,
    as_row,
    examine,
    from_row,
    lacking,
    part,
)
from curation.evidence import add, alike, read_evidence, split_of, twin
from curation.virtualenvs import EnvironmentFailed
from prompts import fenced
from records import Record
from sandbox import InfrastructureError

MENU = "[a]ccept  [e]dit  [r]eject  [s]kip  [q]uit > "
EDITED = ("kind", "update_info", *PAIR_PARTS)
COLOURS = {"+": "32", "-": "31", "@": "36", "#": "1"}


def colourful() -> bool:
    """Whether the output is a terminal that shows colours (NO_COLOR and TERM=dumb say no)."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint(line: str, mark: str) -> str:
    return f"\x1b[{COLOURS[mark]}m{line}\x1b[0m" if mark in COLOURS and colourful() else line


def diff(record: Record) -> list[str]:
    """The whole of the old code as a unified diff to the new code."""
    old, new = record.old_code.splitlines(), record.new_code.splitlines()
    return list(difflib.unified_diff(old, new, "old_code", "new_code", n=max(len(old), len(new)), lineterm=""))


def show(row: dict[str, Any], place: str, table: list[dict[str, Any]], share: float) -> None:
    """One proposal, with everything that a reviewer needs."""
    record, evidence = from_row(row)
    update = evidence["update"]
    versions = f"{' '.join(evidence['old_env'])} -> {' '.join(evidence['new_env'])}"
    print(paint(f"\n# {place}  {row['proposal']}  {record.id}  {record.dependency} {record.new_version}", "#"))
    same = sum(other["update"] == update for other in table)
    print(f"update   {update} ({evidence['kind']}), to {split_of(update, table, share)}; {same} records of it there")
    if others := alike(update, table):
        print(f"         maybe the same update: {', '.join(others)}")
    print(f"runs on  {versions}\nsource   {' '.join((evidence['source'], evidence['address'])).strip()}")
    print(printable(f"note     {record.update_info}\nsnippet  {record.description}\n"))
    for line in diff(record):
        print(paint(printable(line), line[:1]))
    print(printable(f"\ncheck\n{evidence['check']}\n"))
    for name, run in evidence["seen"].items():
        print(f"{name.replace('_', ' '):<11} {run['outcome']:<8} {printable(run['text'])}".rstrip())


def as_text(row: dict[str, Any]) -> str:
    """A proposal for the editor, in the parts that a model's answer has."""
    record, evidence = from_row(row)
    values = {**record.to_row(), "check": evidence["check"], "kind": evidence["kind"]}
    texts = {name: fenced(values[name]) if name in CODE else values[name] for name in EDITED}
    return "\n".join(f"<{name}>\n{texts[name]}\n</{name}>" for name in EDITED) + "\n"


def open_editor(text: str) -> str:
    """The text after $EDITOR (default: vi) has edited it. Raises OSError, CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.md"
        path.write_bytes(encoded(text))
        subprocess.run([*shlex.split(os.environ.get("EDITOR") or "vi"), str(path)], check=True)
        return path.read_text("utf-8")


def judge(text: str, row: dict[str, Any], args: argparse.Namespace) -> tuple[dict[str, Any], Verdict]:
    """The edited proposal, validated and proven as collect.py does, and the verdict on it."""
    if found := lacking(text, EDITED):
        return row, Verdict("format", tuple(found))
    fields = {name: part(text, name) or "" for name in EDITED}
    kind, check = fields.pop("kind"), fields.pop("check")
    if kind not in KINDS:
        return row, Verdict("validate", (f"<kind> is none of {', '.join(KINDS)}: {kind[:80]}",))
    record, evidence = from_row(row)
    record = replace(record, **fields)
    evidence = {**evidence, "id": record.id, "kind": kind, "check": check}
    verdict = examine(record, evidence, row["name"], args.envs, args.seconds, unsafe=args.unsafe)
    return as_row(row["proposal"], row["name"], record, evidence), verdict


class Review:
    """The decisions on the proposals of one folder, made line by line from stdin."""

    def __init__(self, args: argparse.Namespace, log: Log) -> None:
        self.args, self.log, self.counts = args, log, {"accepted": 0, "rejected": 0, "skipped": 0}

    def ask(self, prompt: str) -> str | None:
        """A line of the input, None at its end."""
        print(prompt, end="", flush=True)
        line = sys.stdin.readline()
        if not sys.stdin.isatty():
            print()
        return line.strip() if line else None

    def decide(self, row: dict[str, Any], decision: str, **more: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        said = {"proposal": row["proposal"], "decision": decision, "time": now, **more}
        append_jsonl(self.args.run / "feedback.jsonl", said)
        self.counts["accepted" if decision == "accept" else "rejected"] += 1

    def accept(self, row: dict[str, Any], edited: bool) -> bool:
        """Add it to the data folder; False where the folder has it already."""
        record, evidence = from_row(row)
        table = read_evidence(self.args.data)
        evidence["split"] = split_of(evidence["update"], table, self.args.heldout_share)
        if any(other["id"] == record.id and other != evidence for other in table):
            print(f"{self.args.data} has a record {record.id} already: reject or edit this one")
            return False
        if other := twin(self.args.data, record):
            print(f"{other} has the same snippets, for another version: reject or edit this one")
            return False
        add(self.args.data, record, evidence)
        self.decide(row, "accept", id=record.id, edited=edited)
        print(f"accepted into {self.args.data / evidence['split']}.jsonl")
        return True

    def edit(self, draft: str, row: dict[str, Any]) -> tuple[str, dict[str, Any], bool]:
        """(the draft, the proposal, whether the draft became the proposal)."""
        try:
            draft = open_editor(draft)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            print(f"the editor failed: {error}")
            return draft, row, False
        edited, verdict = judge(draft, row, self.args)
        if verdict.stage == ACCEPTED:
            return draft, edited, True
        print(f"not taken over, it fails at {verdict.stage}; edit again, or decide on what was shown:")
        for problem in verdict.problems:
            print(f"  {printable(problem)}")
        return draft, row, False

    def one(self, row: dict[str, Any], place: str) -> bool:
        """Decide on one proposal; False to quit."""
        draft, edited, again = as_text(row), False, True
        while True:
            if again:
                show(row, place, read_evidence(self.args.data), self.args.heldout_share)
            again, answer = False, self.ask(MENU)
            if answer is None or answer in ("q", "quit"):
                return False
            if answer in ("a", "accept"):
                if self.accept(row, edited):
                    return True
            elif answer in ("r", "reject"):
                words = self.ask("what should the model do differently? > ")
                if words is None:
                    return False
                self.decide(row, "reject", feedback=words)
                return True
            elif answer in ("s", "skip"):
                self.counts["skipped"] += 1
                return True
            elif answer in ("e", "edit"):
                draft, row, again = self.edit(draft, row)
                edited |= again
            else:
                print(f"{answer!r}: expected a, e, r, s or q")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flag = parser.add_argument
    add_flag("run", type=Path, metavar="RUN", help="the --out folder of src/collect.py")
    add_flag("--data", type=Path, help="folder that accepted records are appended to; made where it is not there")
    add_flag("--heldout-share", type=float, default=0.25, help="of new updates (default: %(default)s)")
    add_flag("--envs", type=Path, default=Path(".venvs"), help="where environments are kept (default: %(default)s)")
    add_flag("--seconds", type=float, default=60, help="time limit of one run of a program (default: %(default)s)")
    add_flag("--unsafe", action="store_true", help="no sandbox for edited records: they can read and delete your files")
    args = parse_flags(parser, argv)
    if not args.data:
        fail("--data: needed")
    if not 0 <= args.heldout_share <= 1:
        fail(f"--heldout-share {args.heldout_share}: lies in [0, 1]")
    if not args.seconds > 0:
        fail(f"--seconds {args.seconds}: starts above 0")
    if not (args.run / "rounds.jsonl").is_file():
        fail(f"{args.run}: no rounds.jsonl there: not a folder of src/collect.py")
    return args


@program(InfrastructureError)
def main() -> int:
    args = parse_arguments()
    try:
        log = Log(args.run, mends="feedback.jsonl")
        read_evidence(args.data)
    except (InputError, OSError) as error:
        fail(error)
    review, rows = Review(args, log), log.to_review()
    try:
        for number, row in enumerate(rows, start=1):
            if not review.one(row, f"{number} of {len(rows)}"):
                break
    except (InputError, EnvironmentFailed, InfrastructureError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        print()
    done = review.counts["accepted"] + review.counts["rejected"]
    said = ", ".join(f"{count} {name}" for name, count in review.counts.items())
    print(f"{said}; {len(rows) - done} of {len(rows)} left to decide")
    print(f"{args.run / 'feedback.jsonl'}\n{args.data}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
