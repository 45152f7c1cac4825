"""Evaluations: their results, verdicts and answers, each beside the one before it of the same problems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from common.errors import InputError
from common.files import numbered_jsonl
from common.provenance import Start, sha256
from common.rows import typed
from common.run_logs import is_number
from evaluation.results import Result, read_result
from evaluation.samples import Sample as Answer
from evaluation.samples import read_rows
from rewards import parses, score
from run_page.find import RESULTS, Place
from run_page.reasons import Reason, explain, explain_format
from run_page.samples import Sample
from run_page.tasks import Task, load
from run_page.training import tags

VERDICTS = "verdicts.jsonl"
DETAIL = 500  # characters of an error: its end names it
MEASURES = {  # numbers that a verdict may have
    "es": "edit similarity to the target",
    "dm_star": "DM* (not in the paper)",
}
ANSWERS = {  # flags: what they say if they are set, and if they are not
    "em": ("equals the target", "differs from the target"),
    "old_api": ("still uses the old API", "does not use the old API"),
    "upassed": ("passes with the update, fails without it", "fails, or passes without the update too"),
    "base_passed": ("passes the original tests", "fails the original tests"),
}


class Verdict(BaseModel):
    """A line of verdicts.jsonl; the measures differ between benchmarks."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")
    task_id: str
    sample_id: int
    passed: bool | None = None
    reward: float | None = None
    status: str = ""
    detail: str = ""
    test: str | None = None
    truncated: bool | None = None


@dataclass
class Evaluation:
    """What the page shows of one evaluation."""

    place: Place
    result: Result
    start: Start
    verdicts: list[Verdict]
    answers: dict[tuple[str, int], Answer]  # by problem and number; empty if the samples are not there
    tasks: dict[str, Task]
    remarks: list[str]
    before: Evaluation | None = None

    @property
    def made(self) -> Mapping[str, Any]:
        return self.result.samples.made

    @property
    def family(self) -> tuple[str, bool, frozenset[str]]:
        """What evaluations share if they can be compared, problem by problem."""
        return self.result.benchmark, bool(self.result.rewards), frozenset(self.result.tasks)

    def means(self) -> dict[str, float]:
        """Problem -> the mean of its answers: of the reward, or the share that passes."""
        found: dict[str, list[float]] = defaultdict(list)
        for verdict in self.verdicts:
            if (mine := value(verdict)) is not None:
                found[verdict.task_id].append(mine)
        return {identity: sum(values) / len(values) for identity, values in found.items()}


def value(verdict: Verdict) -> float | None:
    """The reward, or 1 for an answer that passes."""
    return verdict.reward if verdict.passed is None else float(verdict.passed)


def read(place: Place) -> Evaluation:
    """The evaluation in a folder. Raises InputError, which names file, line and field."""
    folder = place.folder
    result = read_result(folder)
    start = typed(Start, result.model_dump(), str(folder / RESULTS))
    path = folder / VERDICTS
    lines = numbered_jsonl(path) if path.is_file() else []
    verdicts = [typed(Verdict, row, f"{path}:{line}") for line, row in lines]
    answers, remarks = find_answers(folder, result)
    benchmark = str(result.samples.made.get("benchmark") or result.benchmark.removesuffix("+"))
    sources = {name: one.sha256 for name, one in [*result.data.items()][:1]}  # the others are of the scoring
    ids = [identity for identity, _ in answers]
    tasks, more = load(sources, ids, benchmark) if answers else ({}, [])
    return Evaluation(place, result, start, verdicts, answers, tasks, remarks + more)


def find_answers(folder: Path, result: Result) -> tuple[dict[tuple[str, int], Answer], list[str]]:
    """The samples that were scored: where the result names them, or beside it."""
    named = Path(str(result.config.get("samples") or "samples.jsonl"))
    candidates = [path for path in (named, folder / named.name, folder.parent / named.name) if path.is_file()]
    for path in candidates:
        if sha256(path) == result.samples.sha256:
            return {(row.task_id, row.sample_id): row for _, row in read_rows(path)}, []
    if not candidates:
        return {}, [f"the answers are not here: {named}"]
    return {}, [f"{candidates[0]} has changed since it was scored: its answers are not shown"]


def pair(evaluations: Sequence[Evaluation]) -> None:
    """Give each evaluation the one before it that can be compared with it."""
    last: dict[Any, Evaluation] = {}
    for one in evaluations:
        one.before = last.get(one.family)
        last[one.family] = one


def reasons(verdict: Verdict, answer: Answer, task: Task) -> list[Reason]:
    """What a verdict says, with the reason of each number."""
    found = score(answer.completion, task.target)
    if verdict.passed is None:
        rewards = {"format": found.format, "es_star": found.es_star}
        total = (("reward", verdict.reward, "format + ES*"),)
        return [*explain(rewards, found, answer.completion, ""), *total]
    why = ": ".join(filter(None, (verdict.status, verdict.test, verdict.detail[-DETAIL:].strip())))
    rows: list[Reason] = [("passed", float(verdict.passed), why or ("passes" if verdict.passed else "fails"))]
    more: Mapping[str, Any] = verdict.model_extra or {}
    rows += [(name, float(yes), ANSWERS[name][not yes]) for name in ANSWERS if isinstance(yes := more.get(name), bool)]
    rows += [(name, float(more[name]), words) for name, words in MEASURES.items() if is_number(more.get(name))]
    if isinstance(more.get("format"), bool):
        rows.append(("format", found.format, explain_format(answer.completion)))
    return rows


def samples(one: Evaluation, problems: Sequence[str]) -> list[Sample]:
    """The answers to some problems, in their order."""
    by_task: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in one.verdicts:
        by_task[verdict.task_id].append(verdict)
    before = one.before.means() if one.before else {}
    out = []
    for identity in problems:
        task = one.tasks.get(identity, Task(identity))
        for verdict in by_task[identity]:
            if answer := one.answers.get((identity, verdict.sample_id)):
                out.append(sample(one, verdict, answer, task, before.get(identity)))
    return out


def sample(one: Evaluation, verdict: Verdict, answer: Answer, task: Task, before: float | None) -> Sample:
    """One answer; `before`: the mean of the evaluation before it on the same problem."""
    found = score(answer.completion, task.target)
    code = answer.code
    mine = value(verdict)
    named = tags(code, code is not None and parses(code), found.exact, task)
    named += ["cut at the length limit"] if answer.finish_reason == "length" else []
    if verdict.passed is not None:
        named.append("passes" if verdict.passed else "fails")
    if before is not None and mine is not None and abs(mine - before) > 1e-9:
        named.append("better than before" if mine > before else "worse than before")
    return Sample(
        place=one.place.name,
        path=(task.id, str(verdict.sample_id)),
        label=f"{task.id}, sample {verdict.sample_id + 1}",
        task=task,
        text=answer.completion,
        code=code,
        value=mine,
        parts=reasons(verdict, answer, task),
        tags=named,
    )


def check(evaluations: Sequence[Evaluation]) -> None:
    """Raise InputError for a verdict of a problem that its result does not have."""
    for one in evaluations:
        for verdict in one.verdicts:
            if verdict.task_id not in one.result.tasks:
                path = one.place.folder
                raise InputError(f"{path / VERDICTS}: task_id: {verdict.task_id} is not in {path / RESULTS}")
