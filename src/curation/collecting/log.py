"""The folder of a collection: every round of its conversations, and what is derived from them.

    rounds.jsonl     one line per answer of the model, written when its check is done: the only state
    proposed.jsonl   records that passed every check, with evidence; derived from rounds.jsonl
    feedback.jsonl   the reviewer's decisions (src/review.py); the words of a rejection are sent to the model
    run.json         the settings that identify the collection, and every start

A job is one request to the model: to state the update of a paragraph ("3f2a9c01"), or to write one of its pairs
("3f2a9c01/2"). Its rounds, in order, are the conversation so far. Round n of a job is named "3f2a9c01/2#n".
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel

from common.errors import InputError
from common.files import append_jsonl, read_json, read_jsonl, read_log, write_json
from common.rows import typed
from curation.collecting.proposals import ACCEPTED
from curation.evidence import Evidence

Round = dict[str, Any]
FINAL = (ACCEPTED, "none")
REFUSED = "refused"  # the verdict if the server does not accept the prompt, usually because it is too long


def is_text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("expected a string")
    return value


Text = Annotated[Any, AfterValidator(is_text)]  # pydantic's own str rejects unpaired surrogates


class RecordRow(BaseModel):
    """A record in the published schema."""

    dependency: str
    new_version: str
    description: str
    update_info: str
    old_code: str
    new_code: str


class Proposed(BaseModel):
    """A line of proposed.jsonl."""

    proposal: str
    name: str
    record: RecordRow
    evidence: Evidence


class RoundRow(BaseModel):
    """What this project reads from a line of rounds.jsonl."""

    round: str
    job: str
    role: Literal["update", "pair"]
    cause: str
    verdict: str
    problems: list[Text]
    answer: Text = ""
    update: dict[str, str] | None = None
    proposed: Proposed | None = None


class Decision(BaseModel):
    """A line of feedback.jsonl."""

    proposal: str
    decision: Literal["accept", "reject"]
    feedback: Text = ""


class RunFile(BaseModel):
    """run.json."""

    identity: dict[str, Any]
    starts: list[dict[str, Any]]


def register_start(folder: Path, identity: Mapping[str, Any], start: Mapping[str, Any]) -> None:
    """Add a start to run.json. Raises InputError if the folder belongs to a collection with another identity."""
    path = folder / "run.json"
    run = read_json(path, RunFile) if path.is_file() else RunFile(identity=dict(identity), starts=[])
    if other := [key for key in identity if run.identity.get(key) != identity[key]]:
        raise InputError(f"{folder} is a collection with another {', '.join(other)}: choose another --out")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(path, {"identity": identity, "starts": [*run.starts, {"started": now, **start}]})


def repeats(twin: str) -> str:
    """The objection to a pair that another job has had accepted."""
    return f"the same pair as {twin}: write another one"


class Log:
    """The rounds of a folder by job. Jobs run in threads; `add` is safe to call from any.

    `writes` is the file that this program appends to, and may repair: rounds.jsonl or feedback.jsonl.
    """

    def __init__(self, folder: Path, writes: str) -> None:
        self.folder = folder
        self._lock = threading.RLock()  # `add` calls `twin`

        def rows(name: str, schema: type[BaseModel]) -> list[dict[str, Any]]:
            path = folder / name
            found = read_log(path) if name == writes else read_jsonl(path) if path.is_file() else []
            for line, row in enumerate(found, start=1):
                typed(schema, row, f"{path}:{line}")
            return found

        self.jobs: dict[str, list[Round]] = {}
        for row in rows("rounds.jsonl", RoundRow):
            self.jobs.setdefault(row["job"], []).append(row)
        self.decisions = {row["proposal"]: row for row in rows("feedback.jsonl", Decision)}

    def accepted_pairs(self) -> list[Round]:
        with self._lock:
            return [row for rounds in self.jobs.values() for row in rounds if row.get("proposed")]

    def to_review(self) -> list[dict[str, Any]]:
        """The lines of proposed.jsonl that end their job and have no decision yet."""
        last = [rounds[-1] for rounds in self.jobs.values() if rounds[-1].get("proposed")]
        return [row["proposed"] for row in last if row["round"] not in self.decisions]

    def add(self, row: Round) -> None:
        """Log a round with its verdict. A record that another job had accepted in the meantime is rejected here."""
        with self._lock:
            if row.get("proposed") and (twin := self.twin(row["proposed"]["evidence"]["id"], row["job"])):
                row = {**row, "verdict": "validate", "problems": [repeats(twin)]}
                del row["proposed"]
            append_jsonl(self.folder / "rounds.jsonl", row)
            self.jobs.setdefault(row["job"], []).append(row)
            if row.get("proposed"):
                append_jsonl(self.folder / "proposed.jsonl", row["proposed"])

    def twin(self, record_id: str, job: str) -> str | None:
        """Another job that has had the same record accepted, if there is one."""
        same = (row["job"] for row in self.accepted_pairs() if row["proposed"]["evidence"]["id"] == record_id)
        return next((other for other in same if other != job), None)

    def next_step(self, job: str, rounds: int) -> tuple[str, str] | None:
        """(why the model is asked, the objections to send), or None if the job has ended.

        The reasons: start; error, with the objections of the checks; review, with a reviewer's words, which reopen the
        job for another `rounds` rounds.
        """
        if job not in self.jobs:
            return "start", ""
        history = self.jobs[job]
        last = history[-1]
        if last["verdict"] in (*FINAL, REFUSED):
            words = self.decisions.get(last["round"], {}).get("feedback", "").strip()
            return ("review", f"- A reviewer says: {words}") if words else None
        opened = max((at for at, row in enumerate(history) if row["cause"] != "error"), default=0)
        if len(history) - opened >= rounds:
            return None
        return "error", "\n".join(f"- {problem}" for problem in last["problems"])


def rates(log: Log) -> dict[str, Any]:
    """Acceptance rates: of jobs (in the first round, after repair, given up) and of answers (by verdict)."""
    out: dict[str, Any] = {}
    for role in ("update", "pair"):
        jobs = [rounds for rounds in log.jobs.values() if rounds[0]["role"] == role]
        answers = [row for rounds in jobs for row in rounds]
        accepted = [rounds for rounds in jobs if rounds[-1]["verdict"] == ACCEPTED]
        heads = Counter(problem.partition(":")[0] for row in answers for problem in row["problems"])
        out[role] = {
            "jobs": len(jobs),
            "accepted": len(accepted),
            "accepted_in_first_round": sum(len(rounds) == 1 for rounds in accepted),
            "no_update": sum(rounds[-1]["verdict"] == "none" for rounds in jobs),
            "rejected": sum(rounds[-1]["verdict"] not in FINAL for rounds in jobs),
            "answers": len(answers),
            "answers_by_verdict": dict(Counter(row["verdict"] for row in answers).most_common()),
            "problems": dict(heads.most_common()),
        }
    return out
