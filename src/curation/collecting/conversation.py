"""The conversations of src/collect.py: ask the model, judge the answer, log the round, say what was wrong, ask again.

A question is sent with at most one earlier answer, the last one, and the objections to it: so prompts do not grow with
the rounds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from common.completion import Completion, Sampling
from common.endpoint import Endpoint, EndpointError
from common.provenance import prompt_hash
from curation.collecting.log import REFUSED, Log, repeats
from curation.collecting.proposals import (
    ACCEPTED,
    PAIR_PARTS,
    Update,
    Upgrade,
    Verdict,
    as_row,
    build,
    examine,
    lacking,
    read_update,
    to_json,
)
from curation.collecting.questions import messages
from curation.collecting.release_notes import Paragraph

PROMPT_REFUSED = {400, 413, 422}  # these, and a content filter, end one job; others (a wrong key) end the run
Message = dict[str, str]
Judge = Callable[
    [str, str], tuple[Verdict, dict[str, Any]]
]  # of an answer and its round: the verdict, more for the log


def sampling(args: argparse.Namespace) -> Sampling:
    return Sampling(args.temperature, args.top_p, args.max_new_tokens)


def derived_seed(seed: int, name: str) -> int:
    """A seed of 31 bits for one round, the same in every run."""
    return int(hashlib.sha256(f"{seed} {name}".encode()).hexdigest()[:8], 16) >> 1


class Collector:
    """Asks, checks and logs. One `collect` per paragraph, each in a thread of its own."""

    def __init__(self, args: argparse.Namespace, upgrade: Upgrade, log: Log, server: Endpoint) -> None:
        self.args, self.upgrade, self.log, self.server = args, upgrade, log, server
        self.stop = threading.Event()
        self.proving = threading.Semaphore(args.jobs)

    def collect(self, paragraph: Paragraph, ended: Callable[[int], object]) -> int:
        """The update of a paragraph, then its pairs. Tells `ended` of each job; returns how many there were."""
        old, new = (f"{self.upgrade.library} {version}" for version in self.upgrade.versions)
        shared = {"library": self.upgrade.library, "old": old, "new": new, "paragraph": paragraph.text}
        first = messages("update", section=" > ".join(paragraph.section) or "(none)", **shared)
        read = partial(self.judge_update, paragraph)
        last = self.converse(paragraph.id, "update", first, read)
        ended(1)
        if last is None or last["verdict"] != ACCEPTED:
            return 1
        update = Update(**last["update"])
        for number in range(1, self.args.pairs + 1):
            asked = messages("pair", number=number, total=self.args.pairs, **to_json(update), **shared)
            job = f"{paragraph.id}/{number}"
            self.converse(job, "pair", asked, partial(self.judge_pair, job, update))
            ended(1)
        return 1 + self.args.pairs

    def converse(self, job: str, role: str, first: list[Message], judge: Judge) -> dict[str, Any] | None:
        """Rounds of one job until it ends; its last round."""
        while not self.stop.is_set() and (step := self.log.next_step(job, self.args.rounds)):
            cause, objections = step
            history = self.log.jobs.get(job, [])
            said = list(first)
            if cause != "start":
                said += [{"role": "assistant", "content": history[-1]["answer"]}]
                said += messages("repair", objections=objections)
            text = json.dumps(said, ensure_ascii=False)
            name = f"{job}#{len(history) + 1}"
            seed = derived_seed(self.args.seed, name)
            try:
                done, refusal = self.server.complete(said, sampling(self.args), seed), None
            except EndpointError as error:
                if error.status not in PROMPT_REFUSED and not error.is_filtered:
                    raise
                done, refusal = Completion("", None, None, REFUSED), str(error)
            answer = done.text.encode("utf-8", "replace").decode()  # a hash takes no half pair
            if refusal:
                verdict, found = Verdict(REFUSED, (f"the server refused the prompt: {refusal}",)), {}
            else:
                verdict, found = judge(answer, name)
            problems = list(verdict.problems)
            if verdict.stage == "format" and done.finish_reason == "length":
                problems.append(f"the answer was cut at {self.args.max_new_tokens} tokens")
            row = {
                "round": name,
                "job": job,
                "role": role,
                "cause": cause,
                "prompt_sha256": prompt_hash(text),
                "seed": seed,
                "answer": answer,
                "prompt_tokens": done.prompt_tokens,
                "completion_tokens": done.completion_tokens,
                "finish_reason": done.finish_reason,
                "verdict": verdict.stage,
                "problems": problems,
                **found,
            }
            self.log.add(row)
        history = self.log.jobs.get(job)
        return history[-1] if history else None

    def judge_update(self, paragraph: Paragraph, answer: str, _: str) -> tuple[Verdict, dict[str, Any]]:
        update, verdict = read_update(answer, "\n".join((*paragraph.section, paragraph.text)))
        return verdict, {"update": to_json(update)} if update else {}

    def judge_pair(self, job: str, update: Update, answer: str, name: str) -> tuple[Verdict, dict[str, Any]]:
        if found := lacking(answer, PAIR_PARTS):
            return Verdict("format", tuple(found)), {}
        record, evidence = build(answer, update, self.upgrade)
        if twin := self.log.twin(record.id, job):
            return Verdict("validate", (repeats(twin),)), {}
        with self.proving:
            args = self.args
            verdict = examine(record, evidence, update.name, args.envs, args.seconds, unsafe=args.unsafe)
        row = as_row(name, update.name, record, evidence)
        return verdict, {"proposed": row} if verdict.stage == ACCEPTED else {"seen": evidence.get("seen")}
