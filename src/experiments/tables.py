"""The tables of a study: every run's scores, their paired differences, and what its answers are like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.errors import InputError
from common.estimates import mean_and_interval, pass_at_k
from common.markdown import table
from evaluation.results import Result
from evaluation.tables import number, percent, title
from experiments.grid import UNTRAINED

NO_NOTE = "-no-note"  # ends the name of a measure without the update in the prompt; the rest names that with it
ANSWERS = {  # of migration: measure -> its words; shares are written in percent
    "es_star": "ES*",
    "dm_star": "DM*",
    "em": "exact match, %",
    "is_copy": "returns the old code, %",
    "old_api": "uses the old API, %",
}
Results = Mapping[str, Mapping[str, Result]]  # run -> measure -> its result, as far as they are there


def passed(result: Result, metric: str) -> dict[str, float]:
    """Problem -> its Pass@k. `metric`: pass@k or base_pass@k."""
    way, _, k = metric.partition("@")
    return {i: pass_at_k(task["n"], task[f"{way}ed"], int(k)) for i, task in result.tasks.items()}


def gain(before: Result, after: Result, metric: str) -> dict[str, float | None]:
    """`after` - `before`, paired by problem, with its 95 % interval; over updates if the problems name theirs."""
    old, new = passed(before, metric), passed(after, metric)
    if old.keys() != new.keys():
        raise InputError(f"{before.benchmark}: two runs answered different problems")
    updates = [task.get("update") for task in before.tasks.values()]
    return mean_and_interval([new[i] - old[i] for i in old], None if None in updates else updates)


def columns(results: Results) -> list[tuple[str, str]]:
    """(measure, metric) of every column: Pass@k, HumanEval+'s base tests too; UPass stays in the results."""
    found: dict[tuple[str, str], None] = {}
    for mine in results.values():
        for measure, result in mine.items():
            found |= {(measure, metric): None for metric in result.scores if not metric.startswith("u")}
    return list(found)


def heading(measure: str, metric: str) -> str:
    return f"{measure.removesuffix(NO_NOTE)} {title(metric)}{', no note' if measure.endswith(NO_NOTE) else ''}"


def score_table(results: Results) -> str:
    """Pass@k of each run in percent, with 95 % intervals."""
    shown = columns(results)
    rows = []
    for run, mine in results.items():
        cells = [percent(mine[m].scores[k]) if m in mine and k in mine[m].scores else "" for m, k in shown]
        rows.append([run, *cells])
    return table(["Pass@k, %", *(heading(*column) for column in shown)], rows)


def gain_table(results: Results) -> str:
    """What each run gained over the untrained model, in points."""
    base, shown = results[UNTRAINED], columns({UNTRAINED: results[UNTRAINED]})
    rows = []
    for run, mine in results.items():
        if run != UNTRAINED:
            rows.append([run, *(percent(gain(base[m], mine[m], k)) if m in mine else "" for m, k in shown)])
    return table(["points over untrained, paired", *(heading(*column) for column in shown)], rows)


def note_table(results: Results) -> str:
    """What the note is worth to each run: Pass@k with it, minus Pass@k without, in points."""
    pairs = [(m, k) for m, k in columns(results) if any(f"{m}{NO_NOTE}" in mine for mine in results.values())]
    rows = []
    for run, mine in results.items():
        known = [m in mine and f"{m}{NO_NOTE}" in mine for m, _ in pairs]
        cells = [
            percent(gain(mine[f"{m}{NO_NOTE}"], mine[m], k)) if is_known else ""
            for (m, k), is_known in zip(pairs, known, strict=True)
        ]
        rows.append([run, *cells])
    return table(["points with the note over without, paired", *(heading(*pair) for pair in pairs)], rows)


def answer_values(result: Result) -> list[str]:
    """The cells of ANSWERS; empty if a measure is not defined for any problem."""
    known = [(result.measures.get(name), words) for name, words in ANSWERS.items()]
    return [("" if not value else percent(value) if words.endswith("%") else number(value)) for value, words in known]


def answer_rows(results: Results, measure: str) -> list[list[str]]:
    """What the answers of each run are like, for a measure of migration."""
    rows = []
    for run, mine in results.items():
        if result := mine.get(measure):
            rates: Mapping[str, Any] = result.model_extra or {}
            shares = [f"{100 * rates['rates'][name]:.1f}" for name in ("format", "no_code", "truncated")]
            rows.append([run, *answer_values(result), *shares, f"{rates['mean_tokens']:.0f}"])
    return rows


def markdown(results: Results) -> str:
    """All tables; parts for which nothing was measured are left out."""
    how = "95 % intervals in brackets: bootstrap over problems, of migration records over updates."
    blocks = [how, score_table(results)]
    if UNTRAINED in results and len(results) > 1:
        blocks.append(gain_table(results))
    if any(measure.endswith(NO_NOTE) for mine in results.values() for measure in mine):
        blocks.append(note_table(results))
    for measure in dict.fromkeys(m for mine in results.values() for m in mine):
        if any(measure in mine and mine[measure].benchmark == "migration" for mine in results.values()):
            name = heading(measure, "").replace(" ", "", 1)
            header = [f"answers to {name}", *ANSWERS.values(), "well formed, %", "no code, %", "cut, %", "tokens"]
            blocks.append(table(header, answer_rows(results, measure)))
    return "\n\n".join(blocks)
