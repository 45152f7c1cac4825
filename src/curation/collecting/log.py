"""The folder of a collection: every round that was made, and what follows from them.

    rounds.jsonl     one line per answer of the model, written when its verdict is known: the only state there is
    proposed.jsonl   records that the machine accepted, with evidence; derived from rounds.jsonl
    feedback.jsonl   the reviewer's decisions (src/review.py); a rejection's words go back to the model
    run.json         what the folder is of, and every start

A job is one thing asked of the model: to state the update of a paragraph ("3f2a9c01"), or to write one of its pairs
("3f2a9c01/2"). Its rounds, in order, are the conversation so far. Round n of a job is named "3f2a9c01/2#n".
"""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import append_jsonl, read_jsonl, read_log, write_json
from curation.collecting.proposals import ACCEPTED

Round = dict[str, Any]
FINAL = (ACCEPTED, "none")
REFUSED = "refused"  # the verdict where the server takes no such prompt, mostly one that is too long


def rows_of(path: Path, *, mend: bool) -> list[dict[str, Any]]:
    """The rows of a log, [] where there is none yet. `mend`: a line that a kill cut is taken out; only who writes may.

    Raises InputError.
    """
    if not mend and not path.is_file():
        return []
    try:
        return read_log(path) if mend else read_jsonl(path)
    except InputError as error:
        raise InputError(str(error)) from None


def claim(folder: Path, identity: Mapping[str, Any], start: Mapping[str, Any]) -> None:
    """Note in run.json what the folder is of. Raises InputError where it is of something else."""
    path, starts = folder / "run.json", []
    identity = json.loads(json.dumps(identity))
    if path.is_file():
        try:
            there = json.loads(path.read_text("utf-8"))
            old, starts = there["identity"], there["starts"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path}: not a run.json of src/collect.py") from None
        if other := [key for key in identity if old.get(key) != identity[key]]:
            raise InputError(f"{folder} is a collection with another {', '.join(other)}: choose another --out")
    elif (folder / "rounds.jsonl").is_file():
        raise InputError(f"{folder} holds rounds.jsonl and no run.json: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(path, {"identity": identity, "starts": [*starts, {"started": now, **start}]})


def repeats(twin: str) -> str:
    """What is said of a pair that another job has had accepted."""
    return f"the same pair as {twin}: write another one"


@dataclass
class Log:
    """The rounds of a folder by job. Jobs run in threads: `add` is safe from any. `mends`: the file that is ours."""

    folder: Path
    mends: str
    jobs: dict[str, list[Round]] = field(default_factory=lambda: defaultdict(list))
    decisions: dict[str, dict[str, Any]] = field(default_factory=dict)  # by proposal

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        rounds, feedback = (
            rows_of(self.folder / name, mend=name == self.mends) for name in ("rounds.jsonl", "feedback.jsonl")
        )
        try:
            for row in rounds:
                self.jobs[row["job"]].append(row)
            self.decisions = {row["proposal"]: row for row in feedback}
        except (KeyError, TypeError) as error:
            raise InputError(f"{self.folder}: a line of rounds.jsonl or feedback.jsonl without {error}") from None

    def accepted_pairs(self) -> list[Round]:
        with self._lock:
            return self._accepted_pairs()

    def _accepted_pairs(self) -> list[Round]:
        return [row for rounds in list(self.jobs.values()) for row in rounds if row.get("proposed")]

    def to_review(self) -> list[dict[str, Any]]:
        """The lines of proposed.jsonl that end their job and that nobody has decided on."""
        with self._lock:
            last = [rounds[-1] for rounds in list(self.jobs.values()) if rounds and rounds[-1].get("proposed")]
        return [row["proposed"] for row in last if row["round"] not in self.decisions]

    def add(self, row: Round) -> None:
        """Log a round whose verdict is known. Halves of surrogate pairs, which no file takes, become question marks.

        A record that another job had accepted while this one was being proven is rejected here: see `twin`.
        """
        row = json.loads(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))
        with self._lock:
            if row.get("proposed") and (twin := self._twin(row["proposed"]["evidence"]["id"], row["job"])):
                del row["proposed"]
                row |= {"verdict": "validate", "problems": [repeats(twin)]}
            append_jsonl(self.folder / "rounds.jsonl", row)
            self.jobs[row["job"]].append(row)
            if row.get("proposed"):
                append_jsonl(self.folder / "proposed.jsonl", row["proposed"])

    def twin(self, record_id: str, job: str) -> str | None:
        """Another job that has had the same record accepted, if one has."""
        with self._lock:
            return self._twin(record_id, job)

    def _twin(self, record_id: str, job: str) -> str | None:
        same = (row["job"] for row in self._accepted_pairs() if row["proposed"]["evidence"]["id"] == record_id)
        return next((other for other in same if other != job), None)

    def next_step(self, job: str, rounds: int) -> tuple[str, str] | None:
        """(why the model is asked again, what to tell it), or None where the job has ended.

        The reasons: start; error, with what the checks found; review, with a reviewer's words, which open the job for
        another `rounds` rounds.
        """
        history = self.jobs.get(job, [])  # no new key: other threads iterate
        if not history:
            return "start", ""
        last = history[-1]
        if last["verdict"] == REFUSED:
            return None
        if last["verdict"] in FINAL:
            decision = self.decisions.get(last["round"], {})
            words = decision.get("feedback", "").strip() if decision.get("decision") == "reject" else ""
            return ("review", f"- A reviewer says: {words}") if words else None
        opened = max((at for at, row in enumerate(history) if row["cause"] != "error"), default=0)
        if len(history) - opened >= rounds:
            return None
        return "error", "\n".join(f"- {problem}" for problem in last["problems"])


def rates(log: Log) -> dict[str, Any]:
    """Acceptance by stage. Of jobs: accepted in the first round, after repair, given up. Of answers: by verdict."""
    out: dict[str, Any] = {}
    for role in ("update", "pair"):
        jobs = [rounds for rounds in log.jobs.values() if rounds and rounds[0]["role"] == role]
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
