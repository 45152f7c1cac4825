"""The conversations of src/collect.py: ask the model, check the answer, log the round, send the objections, ask again.

A question is sent with at most one earlier answer, the last one, and the objections to it: prompts do not grow with the
number of rounds.

The questions are in prompts/NAME.md beside this file: a comment that lists the placeholders, then the messages, each
after a line `# system` or `# user`. Only those {placeholders} are filled; any other brace is text.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from common.completion import Completion, PromptRejected, Sampling
from common.endpoint import Endpoint
from common.provenance import prompt_hash
from curation.collecting import proposals
from curation.collecting.log import REFUSED, Log, Round, repeats
from curation.collecting.proposals import CheckResult, ProposedUpdate, Upgrade
from curation.collecting.release_notes import Paragraph
from curation.proof import ProofSettings

FOLDER = Path(__file__).with_name("prompts")
ROLES = ("update", "pair")
Message = dict[str, str]
Checked = tuple[CheckResult, dict[str, Any]]  # with more fields for the log
Check = Callable[[str, str], Checked]  # of an answer and the name of its round


@dataclass(frozen=True)
class CollectSettings:
    """How a model is asked, and how its proposals are proven."""

    pairs: int  # of snippets, for each update
    rounds: int  # answers to a question at most
    seed: int
    sampling: Sampling
    concurrency: int  # paragraphs at a time
    proof: ProofSettings  # a pair's programs run one after the other, `jobs` pairs at a time


def read_prompt(name: str) -> list[tuple[str, str]]:
    """(role, text) of each message of a prompt file."""
    text = (FOLDER / f"{name}.md").read_text("utf-8").partition("\n-->\n")[2]
    pieces = re.split(r"^# (system|user)$", text, flags=re.MULTILINE)
    return [(role, body.strip()) for role, body in zip(pieces[1::2], pieces[2::2], strict=True)]


def prompts_sha256() -> str:
    """Identifies the texts of all prompts."""
    return hashlib.sha256(json.dumps([read_prompt(name) for name in (*ROLES, "repair")]).encode()).hexdigest()


def messages(name: str, values: Mapping[str, object]) -> list[Message]:
    """The chat messages of a prompt with its placeholders filled; braces inside the values are text."""

    def filled(text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: str(values[found[1]]), text)

    return [{"role": role, "content": filled(text)} for role, text in read_prompt(name)]


class Collector:
    """Asks, checks and logs. Call `collect` once for each paragraph, each in its own thread."""

    def __init__(self, settings: CollectSettings, upgrade: Upgrade, log: Log, server: Endpoint) -> None:
        self.settings, self.upgrade, self.log, self.server = settings, upgrade, log, server
        self.stop = threading.Event()
        self.proving = threading.Semaphore(settings.proof.jobs)

    def collect(self, paragraph: Paragraph) -> None:
        """The update of a paragraph, then its pairs."""
        old, new = (f"{self.upgrade.library} {version}" for version in self.upgrade.versions)
        shared = {"library": self.upgrade.library, "old": old, "new": new, "paragraph": paragraph.text}
        question = messages("update", {**shared, "section": " > ".join(paragraph.section) or "(none)"})
        last = self.converse(paragraph.id, "update", question, partial(self.check_update, paragraph))
        if last.get("verdict") != proposals.ACCEPTED:
            return
        update, total = ProposedUpdate(**last["update"]), self.settings.pairs
        for number in range(1, total + 1):
            question = messages("pair", {**shared, **asdict(update), "number": number, "total": total})
            job = f"{paragraph.id}/{number}"
            self.converse(job, "pair", question, partial(self.check_pair, job, update))

    def converse(self, job: str, role: str, question: list[Message], check: Check) -> Round:
        """Rounds of one job until it ends; its last round, {} if there is none."""
        while not self.stop.is_set() and (step := self.log.next_step(job, self.settings.rounds)):
            cause, objections = step
            history = self.log.jobs.get(job, [])
            prompt = list(question)
            if history:
                prompt += [{"role": "assistant", "content": history[-1]["answer"]}]
                prompt += messages("repair", {"objections": objections})
            name = f"{job}#{len(history) + 1}"
            row = {"round": name, "job": job, "role": role, "cause": cause}
            self.log.add({**row, **self.ask(prompt, name, check)})
        return self.log.jobs.get(job, [{}])[-1]

    def ask(self, prompt: list[Message], name: str, check: Check) -> dict[str, Any]:
        """One answer and its check, for the log."""
        # 31 bits, the same in every run
        seed = int(hashlib.sha256(f"{self.settings.seed} {name}".encode()).hexdigest()[:8], 16) >> 1
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
            objections.append(f"the answer was truncated at {self.settings.sampling.max_new_tokens} tokens")
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
        update, result = proposals.read_update(answer, "\n".join((*paragraph.section, paragraph.text)))
        return result, {"update": asdict(update)} if update else {}

    def check_pair(self, job: str, update: ProposedUpdate, answer: str, name: str) -> Checked:
        if found := proposals.lacking(answer, proposals.PAIR_PARTS):
            return CheckResult("format", tuple(found)), {}
        record, evidence = proposals.build(answer, update, self.upgrade)
        if twin := self.log.twin(record.id, job):
            return CheckResult("validate", (repeats(twin),)), {}
        with self.proving:
            settings = replace(self.settings.proof, jobs=1)
            result, runs = proposals.check_proposal(record, evidence, update.name, settings)
        if result.stage != proposals.ACCEPTED:
            return result, {"seen": runs}
        proven = evidence.model_copy(update={"seen": runs})
        return result, {"proposed": proposals.as_row(name, update.name, record, proven)}
