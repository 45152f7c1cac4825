"""What the tables of all benchmarks share: scores with their intervals, numbers as Markdown, the paper's numbers."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.estimates import mean_and_interval, pass_at_k
from common.markdown import table

PAPER = Path(__file__).parents[2] / "results" / "paper.json"
RATES = {
    "syntax": "code does not parse",
    "no_code": "no code",
    "format": "well formed",
    "truncated": "cut at the length limit",
    "calls_update": "calls the updated API",
}


def per_task(verdicts: Sequence[Mapping[str, Any]], ways: Sequence[str]) -> dict[str, dict[str, int]]:
    """Task id -> {"n": samples, and how many passed in each of these ways}."""
    found: dict[str, dict[str, int]] = {}
    for row in verdicts:
        mine = found.setdefault(row["task_id"], dict.fromkeys(("n", *ways), 0))
        mine["n"] += 1
        for way in ways:
            mine[way] += row[way]
    return found


def task_means(verdicts: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Task id -> the mean of each measure over the samples for which it is defined, None if it is for none."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in verdicts:
        mine = found.setdefault(row["task_id"], {name: [] for name in names})
        for name, values in mine.items():
            values += [] if row[name] is None else [float(row[name])]
    return {
        identity: {name: sum(values) / len(values) if values else None for name, values in mine.items()}
        for identity, mine in found.items()
    }


def scores(
    counts: Collection[Mapping[str, Any]], ks: Sequence[int], ways: Sequence[str], clusters: Sequence[str] | None = None
) -> dict[str, dict[str, float | None]]:
    """pass@k, upass@k, … over problems (for passed, upassed, …), each with its bootstrap interval."""
    return {
        f"{way.removesuffix('ed')}@{k}": mean_and_interval([pass_at_k(t["n"], t[way], k) for t in counts], clusters)
        for way in ways
        for k in ks
    }


def by_part(
    part_of: Mapping[str, str],
    counts: Mapping[str, Mapping[str, Any]],
    ks: Sequence[int],
    ways: Sequence[str],
    update_of: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Part -> its scores, for the part of each task; with `update_of`, intervals are over updates."""
    parts: dict[str, list[str]] = {}
    for identity, name in sorted(part_of.items(), key=lambda item: item[1].lower()):
        parts.setdefault(name, []).append(identity)
    found = {}
    for name, ids in parts.items():
        updates = [update_of[i] for i in ids] if update_of else None
        found[name] = {"problems": len(ids), **scores([counts[i] for i in ids], ks, ways, updates)}
        found[name] |= {"updates": len(set(updates))} if updates else {}
    return found


def rates(verdicts: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, float | None]:
    """The share of samples that each of RATES describes: by a flag of their rows, otherwise by their status."""

    def holds(row: Mapping[str, Any], name: str) -> bool:
        return row[name] if name in row else row["status"] == name.replace("_", " ")

    return {name: sum(holds(row, name) for row in verdicts) / len(verdicts) for name in names}


def number(value: Mapping[str, float | None], factor: float = 1, digits: int = 2) -> str:
    """The mean, its interval in brackets if it has one."""
    known = [part for key in ("mean", "low", "high") if (part := value[key]) is not None]
    mean, *ends = (f"{factor * part:.{digits}f}" for part in known)
    return f"{mean} ({ends[0]} to {ends[1]})" if ends else mean


def percent(value: Mapping[str, float | None]) -> str:
    return number(value, 100, 1)


def with_error(value: Mapping[str, float]) -> str:
    """The mean and its standard error."""
    return f"{value['mean']:.2f} ± {value['standard_error']:.2f}"


def title(metric: str) -> str:
    """Pass@1, UPass@1, base Pass@1 for pass@1, upass@1, base_pass@1."""
    return metric.replace("pass", "Pass").replace("uP", "UP").replace("_", " ")


def counted(result: Mapping[str, Any], parts: Sequence[str], sizes: Mapping[str, str]) -> list[str]:
    """The tables of the rates, of the verdicts, and of those parts that there are several of, with their sizes."""
    first = next(iter(result["scores"]))
    shares = [(RATES[name], "-" if v is None else f"{100 * v:.1f}") for name, v in result["rates"].items()]
    verdicts = [(name, str(count)) for name, count in result["verdicts"].items()]
    groups = [
        (name, *(str(group[size]) for size in sizes), percent(group[first]))
        for part in parts
        for name, group in result[part].items()
        if len(result[part]) > 1
    ]
    return [
        table(["rate over samples", "%"], shares),
        table(["verdict", "samples"], verdicts),
        *([table(["part", *sizes.values(), f"{title(first)}, %"], groups)] if groups else []),
    ]


def headline(result: Mapping[str, Any]) -> str:
    """What was run, in a line."""
    made = result["samples"]["made"]
    model = made.get("model") or "samples of unknown origin"
    parts = [f"{made[key]} {key}" for key in ("prompt", "backend", "dtype") if made.get(key)]
    sampling = ", ".join(f"{key} {value}" for key, value in made.get("sampling", {}).items() if key != "stop")
    return (
        f"{model}{' + ' + made['adapter'] if made.get('adapter') else ''}: {result['benchmark']}, "
        f"{result['problems']} problems x {result['samples_per_problem']} samples{''.join(', ' + p for p in parts)}"
        f"{', update withheld' if made.get('docs') is False else ''}. {sampling}"
    )


@functools.cache
def paper_rows() -> list[dict[str, Any]]:
    """A row per model and method: label, model, method, results (benchmark -> metric -> percent)."""
    return json.loads(PAPER.read_text("utf-8"))["rows"]


def paper_row(label: str | None, benchmark: str) -> dict[str, float]:
    """The paper's numbers for MODEL/METHOD on a benchmark, in percent; empty if it has none."""
    return next((row["results"].get(benchmark, {}) for row in paper_rows() if row["label"] == label), {})


def in_paper(number: float | None) -> str:
    return "-" if number is None else f"{number:.1f}"
