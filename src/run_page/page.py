"""The page: everything that was read, through one Jinja template into one file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from common.cli import printable
from run_page import curves, evaluations, tables, training
from run_page.evaluations import Evaluation
from run_page.find import Place
from run_page.samples import Sample, embedded, payload
from run_page.thinning import kept, size, strides
from run_page.training import Training

HERE = Path(__file__).parent
SCRIPTS = ("diff.js", "list.js", "sample.js", "pairs.js", "page.js")  # one script in the page


def escaped_controls(value: Any) -> Any:
    """What a template writes: control characters and lone surrogates as escapes. Jinja escapes the markup."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value)


def environment() -> Environment:
    loader = FileSystemLoader(HERE)
    return Environment(
        autoescape=True, undefined=StrictUndefined, finalize=escaped_controls, loader=loader, trim_blocks=True
    )


def read(places: Sequence[Place]) -> tuple[list[Training], list[Evaluation]]:
    """The runs and the evaluations. Raises InputError."""
    runs = [training.read(place) for place in places if not place.is_evaluation]
    found = [evaluations.read(place) for place in places if place.is_evaluation]
    evaluations.check(found)
    evaluations.pair(found)
    return runs, found


def choose(runs: Sequence[Training], families: Sequence[Sequence[Evaluation]]) -> tuple[list[Sample], list[str]]:
    """The samples of the page, and for each run and evaluation how many of them these are."""
    steps = [run.steps() for run in runs]
    sizes = [[sum(size(row.completion) for row in rows) for rows in by_step.values()] for by_step in steps]
    every = strides([*sizes, *map(sizes_of, families)])
    samples: list[Sample] = []
    lines = []
    for run, by_step, n in zip(runs, steps, every, strict=False):
        rows = [row for rows in kept(list(by_step.values()), n) for row in training.numbered(rows)]
        samples += training.samples(run, rows)
        if rows:
            lines.append(rule(run.place.name, len(rows), len(run.rows), n, "step", len(by_step)))
    for family, n in zip(families, every[len(runs) :], strict=True):
        problems = list(family[0].result.tasks)
        for one in family:
            answers = evaluations.samples(one, kept(problems, n))
            samples += answers
            lines.append(rule(one.place.name, len(answers), len(one.answers), n, "problem", len(problems)))
    return samples, lines


def sizes_of(family: Sequence[Evaluation]) -> list[int]:
    """Bytes of all answers to each problem in the page, about."""
    found = dict.fromkeys(family[0].result.tasks, 0)
    for one in family:
        for (identity, _), answer in one.answers.items():
            if identity in found:
                found[identity] += size(answer.completion)
    return list(found.values())


def rule(name: str, shown: int, there: int, every: int, unit: str, units: int) -> str:
    """Which samples of a run or an evaluation the page has."""
    if every == 1:
        return f"{name}: all {there:,} samples"
    which = f"one {unit} in {every} (of {units:,}), from the first on, and the last {unit}, whole"
    return f"{name}: {shown:,} of {there:,} samples: {which}"


def place_rows(runs: Sequence[Training], found: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """What the script knows of runs and evaluations."""
    rows: list[dict[str, Any]] = [{"name": run.place.name, "kind": "run", "unit": "reward"} for run in runs]
    for one in found:
        unit = "reward" if one.result.rewards else "passed"
        before = one.before.place.name if one.before else ""
        rows.append({"name": one.place.name, "kind": "evaluation", "unit": unit, "before": before})
    return rows


def render(places: Sequence[Place], checkpoint_curves: Sequence[Path], title: str, weight: float) -> str:
    """The whole page."""
    runs, found = read(places)
    families = tables.families(found)
    samples, rules = choose(runs, families)
    together = [family for family in families if len(family) > 1]
    data = payload(samples, place_rows(runs, found), [tables.pairs(family) for family in together])
    script = "\n".join((HERE / name).read_text("utf-8") for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        environment()
        .get_template("page.html")
        .render(
            title=title,
            style=Markup((HERE / "page.css").read_text("utf-8")),
            script=Markup(script),
            script_digest=digest,
            headers=[*map(tables.of_run, runs), *map(tables.of_evaluation, found)],
            run_names=[run.place.name for run in runs],
            panels=[*curves.panels(runs, weight), *map(curves.checkpoints, checkpoint_curves)],
            longest=max((len(run.metrics) for run in runs), default=0),
            points=curves.POINTS,
            weight=weight,
            results=[tables.of_family(family) for family in families],
            rules=rules,
            data=embedded(data),
            has_samples=bool(samples),
            has_pairs=bool(together),
        )
    )
