"""Review the proposals of src/collect.py in the terminal: accept, edit, or reject with words for the model.

    python src/review.py runs/numpy-2.0 --data my-records --envs .venvs
    python src/review.py runs/numpy-2.0 --data my-records < answers.txt       # answers from a pipe

Each proposal is shown with its update note, the difference between old and new code, the check, and the outcomes of the
runs. The answers:

    a   accept: append it to --data (train.jsonl or heldout.jsonl by its update, and evidence.jsonl)
    e   edit in $EDITOR; the edited record is validated and proven again, then shown again
    r   reject; the next line is sent to the model when collect.py runs again (empty: the pair is dropped)
    s   skip it for now     q   quit; so does the end of the input

Decisions are stored in RUN/feedback.jsonl, so the same command resumes with the remaining proposals.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.cli import Parser, between, fail, parse_flags, printable, program
from common.files import append_jsonl, encoded, require_writable
from curation import proof
from curation.collecting import proposals
from curation.collecting.log import Log
from curation.collecting.proposals import CheckResult
from curation.evidence import Evidence, add, alike, read_evidence, split_of, twin
from prompts import fenced
from sandbox import InfrastructureError

MENU = "[a]ccept  [e]dit  [r]eject  [s]kip  [q]uit > "
EDITED = ("kind", "update_info", *proposals.PAIR_PARTS)
COLOURS = {"+": "32", "-": "31", "@": "36", "#": "1"}


def paint(line: str, mark: str) -> str:
    """The line in the mark's colour, if the output is a terminal with colours (NO_COLOR or TERM=dumb: not)."""
    has_colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return f"\x1b[{COLOURS[mark]}m{line}\x1b[0m" if mark in COLOURS and has_colours else line


def show(row: dict[str, Any], place: str, accepted: Sequence[Evidence], share: float) -> None:
    """Print a proposal with everything that a reviewer needs, and the whole difference between old and new code."""
    record, evidence = proposals.from_row(row)
    update = evidence.update
    title = f"# {place}  {row['proposal']}  {record.id}  {record.dependency} {record.new_version}"
    print(f"\n{paint(printable(title), '#')}")
    same = sum(other.update == update for other in accepted)
    lines = [f"update   {update} ({evidence.kind}), to {split_of(update, accepted, share)}; {same} records of it there"]
    if others := alike(update, accepted):
        lines.append(f"         maybe the same update: {', '.join(others)}")
    lines.append(f"runs on  {' '.join(evidence.old_env)} -> {' '.join(evidence.new_env)}")
    lines.append(f"source   {evidence.source} {evidence.address}".rstrip())
    lines += [f"note     {record.update_info}", f"snippet  {record.description}\n"]
    print(printable("\n".join(lines)))
    old, new = record.old_code.split("\n"), record.new_code.split("\n")
    for line in difflib.unified_diff(old, new, "old_code", "new_code", n=max(len(old), len(new)), lineterm=""):
        print(paint(printable(line), line[:1]))
    print(printable(f"\ncheck\n{evidence.check}\n"))
    for alternative in evidence.alternatives:
        print(printable(f"also right\n{alternative}\n"))
    for one in evidence.equivalents:
        print(printable(f"equivalent mutant: {one.reason}\n{one.mutant}\n"))
    for name, run in (evidence.seen or {}).items():
        print(f"{name.replace('_', ' '):<11} {run['outcome']:<8} {printable(run['text'])}".rstrip())


def as_text(row: dict[str, Any]) -> str:
    """A proposal for the editor, in the parts of a model's answer."""
    record, evidence = proposals.from_row(row)
    values = {**record.to_row(), "check": evidence.check or "", "kind": evidence.kind}
    texts = {name: fenced(values[name]) if name in proposals.CODE else values[name] for name in EDITED}
    return "\n".join(f"<{name}>\n{texts[name]}\n</{name}>" for name in EDITED) + "\n"


def open_editor(text: str) -> str:
    """The text after $EDITOR (default: vi) has edited it. Raises OSError, CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.md"
        path.write_bytes(encoded(text))
        subprocess.run([*shlex.split(os.environ.get("EDITOR") or "vi"), str(path)], check=True)
        return path.read_text("utf-8")


def check_edit(text: str, row: dict[str, Any], settings: proof.ProofSettings) -> tuple[dict[str, Any], CheckResult]:
    """The edited proposal, validated and proven as in collect.py, and the result."""
    if found := proposals.lacking(text, EDITED):
        return row, CheckResult("format", tuple(found))
    fields = {name: proposals.part(text, name) or "" for name in EDITED}
    kind, check = fields.pop("kind"), fields.pop("check")
    if kind not in proposals.KINDS:
        return row, CheckResult("validate", (f"<kind> is not one of {', '.join(proposals.KINDS)}: {kind[:80]}",))
    record, evidence = proposals.from_row(row)
    record = replace(record, **fields)
    evidence = evidence.model_copy(update={"id": record.id, "kind": kind, "check": check})
    result, runs = proposals.check_proposal(record, evidence, row["name"], settings)
    proven = evidence.model_copy(update={"seen": runs})
    return proposals.as_row(row["proposal"], row["name"], record, proven), result


class Review:
    """The decisions on the proposals of a collection (the folder `run`), made line by line from stdin.

    Accepted records are added to the folder `data`; a share of new updates is held out.
    """

    def __init__(self, run: Path, data: Path, heldout_share: float, settings: proof.ProofSettings) -> None:
        self.run, self.data, self.heldout_share, self.settings = run, data, heldout_share, settings
        self.counts = {"accepted": 0, "rejected": 0, "skipped": 0}

    def accepted(self) -> dict[str, Evidence]:
        """The evidence of the data folder, by record id."""
        return read_evidence(self.data / "evidence.jsonl", missing_ok=True)

    def ask(self, prompt: str) -> str | None:
        """A line of the input; None at its end."""
        print(prompt, end="", flush=True)
        line = sys.stdin.readline()
        if not sys.stdin.isatty():
            print()
        return line.strip() if line else None

    def decide(self, row: dict[str, Any], decision: str, **more: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        made = {"proposal": row["proposal"], "decision": decision, "time": now, **more}
        append_jsonl(self.run / "feedback.jsonl", made)
        self.counts["accepted" if decision == "accept" else "rejected"] += 1

    def accept(self, row: dict[str, Any], edited: bool) -> bool:
        """Add a proposal to the data folder; False if the folder already has it."""
        data, accepted = self.data, self.accepted()
        record, evidence = proposals.from_row(row)
        split = split_of(evidence.update, accepted.values(), self.heldout_share)
        evidence = evidence.model_copy(update={"split": split})
        if accepted.get(record.id, evidence) != evidence:
            print(f"{data} already has a record {record.id}: reject or edit this one")
            return False
        if same := twin(data, record):
            print(f"{same} has the same snippets, for another version: reject or edit this one")
            return False
        add(data, record, evidence)
        self.decide(row, "accept", id=record.id, edited=edited)
        print(f"accepted into {data / split}.jsonl")
        return True

    def edit(self, draft: str, row: dict[str, Any]) -> tuple[str, dict[str, Any], bool]:
        """(the draft, the proposal, whether the draft became the proposal)."""
        try:
            draft = open_editor(draft)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:  # ValueError: quoting, not UTF-8
            print(f"the editor failed: {error}")
            return draft, row, False
        edited, result = check_edit(draft, row, self.settings)
        if result.stage == proposals.ACCEPTED:
            return draft, edited, True
        print(f"the edit fails at {result.stage}; edit again, or decide on the proposal as shown:")
        for objection in result.objections:
            print(f"  {printable(objection)}")
        return draft, row, False

    def decide_on(self, row: dict[str, Any], place: str) -> bool:
        """Decide on one proposal; False to quit."""
        draft, edited, again = as_text(row), False, True
        while True:
            if again:
                show(row, place, list(self.accepted().values()), self.heldout_share)
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
    parser = Parser(description=__doc__)
    add_flag = parser.add_argument
    add_flag("run", type=Path, metavar="RUN", help="the --out folder of src/collect.py")
    add_flag("--data", type=Path, required=True, help="folder for accepted records; created if missing")
    share = between(float, 0, 1)
    add_flag("--heldout-share", type=share, default=0.25, help="of new updates (default: %(default)s)")
    proof.add_flags(parser)
    args = parse_flags(parser, argv)
    if not (args.run / "rounds.jsonl").is_file():
        fail(f"{args.run}: no rounds.jsonl: not a folder of src/collect.py")
    return args


@program(InfrastructureError)
def main() -> int:
    args = parse_arguments()
    settings = proof.ProofSettings(args.envs, args.seconds, args.unsafe, args.jobs)
    review = Review(args.run, args.data, args.heldout_share, settings)
    require_writable(args.data / "evidence.jsonl", args.run / "feedback.jsonl")
    review.accepted()  # a file that cannot be read ends the program before the first question
    rows = Log(args.run, writes="feedback.jsonl").to_review()
    try:
        for number, row in enumerate(rows, start=1):
            if not review.decide_on(row, f"{number} of {len(rows)}"):
                break
    except KeyboardInterrupt:
        print()
    done = review.counts["accepted"] + review.counts["rejected"]
    counts = ", ".join(f"{count} {name}" for name, count in review.counts.items())
    print(f"{counts}; {len(rows) - done} of {len(rows)} left to decide")
    print(f"{args.run / 'feedback.jsonl'}\n{args.data}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
