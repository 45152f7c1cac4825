"""The tables of a study: every run's scores, their paired differences, and what its answers are like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from common.estimates import mean_and_interval
from common.markdown import table
from evaluation.compare import defined, gains, measure_gain, of_same_problems, updates_of
from evaluation.results import Result
from evaluation.tables import number, percent, title

NO_NOTE = "-no-note"  # ends the name of a measure without the update note in the prompt; the rest names that with it
ANSWERS = {  # of migration: measure -> its words; shares are written in percent
    "es_star": "ES*",
    "dm_star": "DM*",
    "em": "exact match, %",
    "is_copy": "returns the old code, %",
    "old_api": "uses the old API, %",
}
RATES = {"format": "well formed, %", "no_code": "no code, %", "truncated": "cut, %"}
OTHER = "other problems"  # the cell of two results that cannot be paired
Results = Mapping[str, Mapping[str, Result]]  # run -> measure -> its result, as far as they are there
Column = tuple[str, str]  # measure, metric


def columns(results: Results) -> list[Column]:
    """Every measure and Pass@k that a run has, HumanEval+'s base tests too; UPass stays in the results."""
    found: dict[Column, None] = {}
    for measured in results.values():
        for measure, result in measured.items():
            found |= {(measure, metric): None for metric in result.scores if not metric.startswith("u")}
    return list(found)


def heading(measure: str, metric: str) -> str:
    return f"{measure.removesuffix(NO_NOTE)} {title(metric)}{', no note' if measure.endswith(NO_NOTE) else ''}"


def gain(before: Result, after: Result, metric: str) -> str:
    """What `after` has over `before`, paired by problem, in points with its 95 % interval."""
    if not of_same_problems(before, after):
        return OTHER
    return percent(mean_and_interval(gains(before, after, metric), updates_of(before)))


def by_run(first: str, shown: Sequence[Column], results: Results, cell: Callable[[str, Column], str]) -> str:
    """A table with a row for each run and a column for each measure; `first` is the corner."""
    rows = [[run, *(cell(run, column) for column in shown)] for run in results]
    return table([first, *(heading(*column) for column in shown)], rows)


def score_table(results: Results) -> str:
    """Pass@k of each run in percent, with 95 % intervals."""

    def cell(run: str, column: Column) -> str:
        measure, metric = column
        score = results[run][measure].scores.get(metric) if measure in results[run] else None
        return percent(score) if score else ""

    return by_run("Pass@k, %", columns(results), results, cell)


def gain_table(results: Results, base: str) -> str:
    """What each run has over the run `base`, in points."""

    def cell(run: str, column: Column) -> str:
        measure, metric = column
        return gain(results[base][measure], results[run][measure], metric) if measure in results[run] else ""

    others = {run: measured for run, measured in results.items() if run != base}
    return by_run(f"points over {base}, paired", columns({base: results[base]}), others, cell)


def note_gains(measured: Mapping[str, Result], column: Column) -> dict[str, float] | None:
    """Problem -> Pass@k with the note minus Pass@k without; None if one of them is not there."""
    measure, metric = column
    without, with_note = measured.get(f"{measure}{NO_NOTE}"), measured.get(measure)
    if not without or not with_note or not of_same_problems(without, with_note):
        return None
    return dict(zip(without.tasks, gains(without, with_note, metric), strict=True))


def note_tables(results: Results, base: str) -> list[str]:
    """What the note is worth to each run, and how much more than to the run `base`: does a run *follow* it more?"""
    pairs = [pair for pair in columns(results) if any(note_gains(measured, pair) for measured in results.values())]

    def own(run: str, column: Column) -> str:
        values = note_gains(results[run], column)
        return percent(mean_and_interval([*values.values()], clusters(run, column))) if values else ""

    def more(run: str, column: Column) -> str:
        before, after = note_gains(results[base], column), note_gains(results[run], column)
        if not before or not after:
            return ""
        if before.keys() != after.keys():
            return OTHER
        return percent(mean_and_interval([after[i] - value for i, value in before.items()], clusters(base, column)))

    def clusters(run: str, column: Column) -> list[str] | None:
        return updates_of(results[run][f"{column[0]}{NO_NOTE}"])

    found = [by_run("points with the note over without, paired", pairs, results, own)]
    if base in results and len(results) > 1:
        others = {run: measured for run, measured in results.items() if run != base}
        found.append(by_run(f"... and more than {base}, paired", pairs, others, more))
    return found


def answer_cell(value: Mapping[str, float | None] | None, words: str) -> str:
    """A value of ANSWERS; empty if it is defined for no record."""
    return "" if not value else percent(value) if words.endswith("%") else number(value)


def answer_table(results: Results, measure: str) -> str:
    """What the answers of each run are like, for a measure of migration; each mean is over what is defined."""
    rows = []
    for run, measured in results.items():
        if result := measured.get(measure):
            more: Mapping[str, Any] = result.model_extra or {}
            cells = [answer_cell(result.measures.get(name), words) for name, words in ANSWERS.items()]
            shares = [f"{100 * more['rates'][name]:.1f}" for name in RATES]
            tokens = more.get("mean_tokens")
            rows.append([run, *cells, *shares, "" if tokens is None else f"{tokens:.0f}"])
    return table([f"answers to {measure_words(measure)}", *ANSWERS.values(), *RATES.values(), "tokens"], rows)


def answer_gain(name: str, before: Result, after: Result) -> dict[str, float | None] | None:
    """What a measure of migration gained, over the records for which both define it; None without any."""
    records = defined(name, [before, after])
    return measure_gain(name, before, after, records) if records else None


def answer_gain_table(results: Results, measure: str, base: str) -> str:
    """The same measures, each run's minus those of the run `base`, over the records for which both define them."""
    rows = []
    before = results[base][measure]
    for run, measured in results.items():
        if run != base and (after := measured.get(measure)):
            cells = [OTHER] * len(ANSWERS)
            if of_same_problems(before, after):
                cells = [answer_cell(answer_gain(name, before, after), words) for name, words in ANSWERS.items()]
            rows.append([run, *cells])
    return table([f"answers to {measure_words(measure)}, over {base}, paired", *ANSWERS.values()], rows)


def measure_words(measure: str) -> str:
    return f"{measure.removesuffix(NO_NOTE)}{' without the note' if measure.endswith(NO_NOTE) else ''}"


def markdown(results: Results, base: str) -> str:
    """All tables, with gains over the run `base`; a part for which nothing was measured is left out."""
    how = "95 % intervals in brackets: bootstrap over problems, of migration records over updates."
    blocks = [how, score_table(results)]
    if base in results and len(results) > 1:
        blocks.append(gain_table(results, base))
    if any(measure.endswith(NO_NOTE) for measured in results.values() for measure in measured):
        blocks += note_tables(results, base)
    for measure in dict.fromkeys(name for measured in results.values() for name in measured):
        of = {run: measured[measure] for run, measured in results.items() if measure in measured}
        if next(iter(of.values())).benchmark == "migration":
            blocks.append(answer_table(results, measure))
            if base in of and len(of) > 1:
                blocks.append(answer_gain_table(results, measure, base))
    return "\n\n".join(blocks)
