"""The page's tables: what ran, and the results of evaluations with the paper's numbers beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from common.provenance import Start
from common.run_logs import is_number
from evaluation.compare import conclusion, paired, score_rows, warnings
from evaluation.results import REWARDS
from evaluation.tables import in_paper, paper_rows, percent, title, with_error
from run_page.evaluations import Evaluation
from run_page.reference import Compared, compare, reference_of
from run_page.training import Training

HASH = 12  # characters of a hash or commit


@dataclass(frozen=True)
class Header:
    """What ran: of a run or an evaluation."""

    name: str
    kind: str
    facts: list[tuple[str, str]]
    reference: str = ""  # the configuration that it is compared with
    settings: list[Compared] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def differences(self) -> list[Compared]:
        return [row for row in self.settings if row.differs]


@dataclass(frozen=True)
class Table:
    """A table; the last `paper` rows are the paper's."""

    title: str
    header: list[str]
    rows: list[list[str]]
    theirs: list[list[str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # what is said below it


def machine(start: Start) -> str:
    """The hardware in words."""
    found = start.hardware
    gpus = [gpu.name for gpu in found.gpus]
    kinds = [f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus)]
    cpu = f"{found.cores or '?'} cores of {found.cpu or 'an unknown processor'}"
    return ", ".join([*kinds, cpu, *([f"{found.memory_gb:g} GB"] if found.memory_gb else [])])


def provenance(start: Start) -> Iterator[tuple[str, str]]:
    """What both kinds of header begin with."""
    extra = start.model_extra or {}
    dirty = {True: " with uncommitted changes", False: "", None: " (changes not known)"}[start.dirty]
    yield "started", str(extra.get("started", "not recorded"))
    yield "commit", f"{start.commit[:HASH]}{dirty}" if start.commit else "not recorded"
    for name, one in start.data.items():
        yield "data", f"{name}, sha256 {str(one.get('sha256', 'not recorded'))[:HASH]}"
    yield "hardware", machine(start)


def versions(start: Start) -> str:
    return ", ".join(f"{name} {version}" for name, version in start.versions.items() if version)


def duration(run: Training) -> str | None:
    """From the first logged step to the last, without the time that a stopped run was not running."""
    times = [row["time"] for _, row in run.metrics if is_number(row.get("time"))]
    keys = ("step_time", "timing_s/step")
    seconds = [row[key] for _, row in run.metrics for key in keys if is_number(row.get(key))]
    if seconds:
        return f"{timedelta(seconds=round(sum(seconds)))} in {len(seconds)} logged steps"
    if not times:
        return None
    return f"{timedelta(seconds=round(max(times) - min(times)))} from the first logged step to the last"


def of_run(run: Training) -> Header:
    """The header of a training run."""
    if not run.starts:
        return Header(run.place.name, "training run", [], remarks=["run.json: not there", *run.remarks])
    start = run.starts[-1]
    facts = [*provenance(start), ("seed", str(start.seed))]
    if taken := duration(run):
        facts.append(("time", taken))
    if len(run.starts) > 1:
        facts.append(("starts", f"{len(run.starts)}; shown is the last, resumed from {start.resumed_from}"))
    facts += [("versions", versions(start)), ("command", start.command or "not recorded")]
    reference = reference_of(start.config)
    kind = {"dapo.yaml": "DAPO run", "grpo.yaml": "GRPO run", "sft.yaml": "SFT run"}[reference]
    return Header(run.place.name, kind, facts, reference, compare(start.config, reference), run.remarks)


def of_evaluation(one: Evaluation) -> Header:
    """The header of an evaluation."""
    made, result = one.made, one.result
    model = str(made.get("model") or "samples of unknown origin")
    model += f" + {made['adapter']}" if made.get("adapter") else ""
    sampling = made.get("sampling", {})
    words = [f"{key} {value}" for key, value in sampling.items() if key != "stop"]
    facts = [
        ("model", model),
        ("asked", f"{result.problems} problems x {result.samples_per_problem} samples, prompt {made.get('prompt')}"),
        ("sampling", ", ".join(words) or "not recorded"),
        *provenance(one.start),
        ("versions", versions(one.start)),
        ("command", one.start.command or "not recorded"),
    ]
    return Header(one.place.name, f"{result.benchmark} evaluation", facts, remarks=one.remarks)


def families(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """Evaluations of the same problems together."""
    found: dict[Any, list[Evaluation]] = {}
    for one in evaluations:
        found.setdefault(one.family, []).append(one)
    return list(found.values())


def of_family(family: Sequence[Evaluation]) -> Table:
    """The results of evaluations of the same problems."""
    first = family[0].result
    what = f"{first.benchmark}, {len(first.tasks)} problems"
    return rewards_table(what, family) if first.rewards else scores_table(what, family)


def rewards_table(what: str, family: Sequence[Evaluation]) -> Table:
    """Training rewards on held-out records, with the baseline that returns the old code."""
    rows = [[one.place.name, *(with_error(one.result.rewards[key]) for key in REWARDS)] for one in family]
    copied = family[0].result.copy_baseline
    rows.append(["baseline: return the old code", *(with_error(copied[key]) for key in REWARDS)])
    lines = ["Mean over records ± its standard error; reward = format (±1) + ES*. Nothing was executed."]
    for one in family:
        if one.before:
            gain = paired(one.before.result, one.result, "reward")
            lines.append(f"After {one.before.place.name}, {conclusion(one.place.name, gain, len(one.result.tasks))}")
    return Table(what, ["evaluation", *REWARDS.values()], rows, lines=lines + cautions(family))


def scores_table(what: str, family: Sequence[Evaluation]) -> Table:
    """Pass@k with intervals, and the paper's numbers of the same benchmark."""
    metrics = list(dict.fromkeys(name for one in family for name in one.result.scores))
    rows = [
        [one.place.name, *(percent(one.result.scores[m]) if m in one.result.scores else "-" for m in metrics)]
        for one in family
    ]
    theirs = [
        [f"paper: {row['model']}, {row['method']}", *(in_paper(row["results"][benchmark].get(m)) for m in metrics)]
        for benchmark in (family[0].result.benchmark,)
        for row in paper_rows()
        if benchmark in row["results"]
    ]
    lines = ["Percent, with 95 % bootstrap intervals."]
    lines += ["The paper's numbers are for all of its problems and its own samples."] if theirs else []
    for one in family:
        if one.before:
            lines.append(f"{one.place.name} after {one.before.place.name}: {changes(one.before, one)}.")
    return Table(what, ["evaluation", *map(title, metrics)], rows, theirs, lines + cautions(family))


def changes(before: Evaluation, after: Evaluation) -> str:
    """The paired difference of each Pass@k, and how many problems changed."""
    updates = [task.get("update") for task in before.result.tasks.values()]
    clusters = None if None in updates else updates
    rows = sorted(score_rows([before.result, after.result], clusters))
    gains = [f"{name} changed by {difference}" for name, _, _, difference in rows]
    old, new = before.means(), after.means()
    up = sum(new[i] > old[i] for i in old.keys() & new.keys())
    down = sum(new[i] < old[i] for i in old.keys() & new.keys())
    return "; ".join([*gains, f"problems better: {up}, worse: {down}"])


def cautions(family: Sequence[Evaluation]) -> list[str]:
    """What makes the results hard to compare."""
    if len(family) < 2:
        return []
    return warnings([one.place.folder for one in family], [one.result for one in family])


def pairs(family: Sequence[Evaluation]) -> dict[str, Any]:
    """For each problem its mean in every evaluation of the family: what the page puts side by side."""
    means: list[Mapping[str, float]] = [one.means() for one in family]
    problems = [{"id": i, "means": [mean.get(i) for mean in means]} for i in family[0].result.tasks]
    return {"places": [one.place.name for one in family], "problems": problems}
