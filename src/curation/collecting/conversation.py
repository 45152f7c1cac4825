"""The conversations of src/collect.py: ask the model, check the answer, log the round, send the objections, ask again.

A question is sent with at most one earlier answer, the last one, and the objections to it: prompts do not grow with the
number of rounds.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from common.completion import Completion, PromptRejected, Sampling
from common.endpoint import Endpoint
from common.provenance import prompt_hash
from curation.collecting.log import REFUSED, Log, Round, repeats
from curation.collecting.proposals import (
    ACCEPTED,
    PAIR_PARTS,
    CheckResult,
    ProposedUpdate,
    Upgrade,
    as_row,
    build,
    check_proposal,
    lacking,
    read_update,
)
from curation.collecting.questions import messages
from curation.collecting.release_notes import Paragraph
from curation.proof import ProofSettings

Message = dict[str, str]
Checked = tuple[CheckResult, dict[str, Any]]  # with more fields for the log
Check = Callable[[str, str], Checked]  # of an answer and the name of its round


@dataclass(frozen=True)
class CollectSettings:
    """How a model is asked, and how its proposals are proven."""

    pairs: int  # of snippets, for each update
    rounds: int  # answers to a question at most
    seed: int
    temperature: float
    top_p: float
    max_new_tokens: int
    concurrency: int  # paragraphs at a time
    jobs: int  # pairs proven at a time
    proof: ProofSettings

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_new_tokens)


def derived_seed(seed: int, name: str) -> int:
    """A seed of 31 bits for one round, the same in every run."""
    return int(hashlib.sha256(f"{seed} {name}".encode()).hexdigest()[:8], 16) >> 1


class Collector:
    """Asks, checks and logs. Call `collect` once for each paragraph, each in its own thread."""

    def __init__(self, settings: CollectSettings, upgrade: Upgrade, log: Log, server: Endpoint) -> None:
        self.settings, self.upgrade, self.log, self.server = settings, upgrade, log, server
        self.stop = threading.Event()
        self.proving = threading.Semaphore(settings.jobs)

    def collect(self, paragraph: Paragraph, ended: Callable[[int], object]) -> int:
        """The update of a paragraph, then its pairs. Calls `ended` after each job; returns how many there were."""
        old, new = (f"{self.upgrade.library} {version}" for version in self.upgrade.versions)
        shared = {"library": self.upgrade.library, "old": old, "new": new, "paragraph": paragraph.text}
        question = messages("update", {**shared, "section": " > ".join(paragraph.section) or "(none)"})
        last = self.converse(paragraph.id, "update", question, partial(self.check_update, paragraph))
        ended(1)
        if last is None or last["verdict"] != ACCEPTED:
            return 1
        update, total = ProposedUpdate(**last["update"]), self.settings.pairs
        for number in range(1, total + 1):
            question = messages("pair", {**shared, **asdict(update), "number": number, "total": total})
            job = f"{paragraph.id}/{number}"
            self.converse(job, "pair", question, partial(self.check_pair, job, update))
            ended(1)
        return 1 + total

    def converse(self, job: str, role: str, question: list[Message], check: Check) -> Round | None:
        """Rounds of one job until it ends; its last round."""
        while not self.stop.is_set() and (step := self.log.next_step(job, self.settings.rounds)):
            cause, objections = step
            history = self.log.jobs.get(job, [])
            prompt = list(question)
            if cause != "start":
                prompt += [{"role": "assistant", "content": history[-1]["answer"]}]
                prompt += messages("repair", {"objections": objections})
            name = f"{job}#{len(history) + 1}"
            row = {"round": name, "job": job, "role": role, "cause": cause}
            self.log.add({**row, **self.ask(prompt, name, check)})
        rounds = self.log.jobs.get(job)
        return rounds[-1] if rounds else None

    def ask(self, prompt: list[Message], name: str, check: Check) -> dict[str, Any]:
        """One answer and its check, for the log."""
        seed = derived_seed(self.settings.seed, name)
        found: dict[str, Any] = {}
        try:
            done = self.server.complete(prompt, self.settings.sampling, seed)
            answer = done.text.encode("utf-8", "replace").decode()  # half of a surrogate pair cannot be hashed
            result, found = check(answer, name)
        except PromptRejected as error:
            done, answer = Completion("", None, None, REFUSED), ""
            result = CheckResult(REFUSED, (f"the server refused the prompt: {error}",))
        objections = list(result.objections)
        if result.stage == "format" and done.finish_reason == "length":
            objections.append(f"the answer was truncated at {self.settings.max_new_tokens} tokens")
        return {
            "prompt_sha256": prompt_hash(json.dumps(prompt, ensure_ascii=False)),
            "seed": seed,
            "answer": answer,
            "prompt_tokens": done.prompt_tokens,
            "completion_tokens": done.completion_tokens,
            "finish_reason": done.finish_reason,
            "verdict": result.stage,
            "problems": objections,
            **found,
        }

    def check_update(self, paragraph: Paragraph, answer: str, _: str) -> Checked:
        update, result = read_update(answer, "\n".join((*paragraph.section, paragraph.text)))
        return result, {"update": asdict(update)} if update else {}

    def check_pair(self, job: str, update: ProposedUpdate, answer: str, name: str) -> Checked:
        if found := lacking(answer, PAIR_PARTS):
            return CheckResult("format", tuple(found)), {}
        record, evidence = build(answer, update, self.upgrade)
        if twin := self.log.twin(record.id, job):
            return CheckResult("validate", (repeats(twin),)), {}
        with self.proving:
            result, runs = check_proposal(record, evidence, update.name, self.settings.proof)
        if result.stage != ACCEPTED:
            return result, {"seen": runs}
        proven = evidence.model_copy(update={"seen": runs})
        return result, {"proposed": as_row(name, update.name, record, proven)}
