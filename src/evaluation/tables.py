"""Verdicts -> numbers -> tables: what src/score.py writes, the paired comparison of two runs, the paper beside ours."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.estimates import mean_and_interval, pass_at_k
from evaluation.arena.problems import Task

PAPER = Path(__file__).parents[2] / "results" / "paper.json"
DRAWN = ("prompt", "docs", "sampling", "backend", "dtype")  # what two runs should share to be compared
LIMITS = ("min_time_limit", "gt_time_limit_factor", "sample_seconds")  # evalplus's, in its part of the results
RATES = {
    "syntax": "code does not parse",
    "no_code": "no code",
    "format": "well formed",
    "truncated": "cut at the length limit",
    "calls_update": "calls the updated API",
}


def per_task(verdicts: Sequence[Mapping[str, Any]], second: str = "u") -> dict[str, dict[str, int]]:
    """Task id -> {"n": samples, "passed": …, "upassed": …}. `second`: the prefix of the other way to pass."""
    ways = ("passed", f"{second}passed")
    found: dict[str, dict[str, int]] = {}
    for row in verdicts:
        mine = found.setdefault(row["task_id"], dict.fromkeys(("n", *ways), 0))
        mine["n"] += 1
        for way in ways:
            mine[way] += row[way]
    return found


def scores(counts: Collection[Mapping[str, int]], ks: Sequence[int], second: str = "u") -> dict[str, dict[str, float]]:
    """pass@k and upass@k over problems, each with its bootstrap interval; `second` as in `per_task`."""
    return {
        f"{prefix}pass@{k}": mean_and_interval([pass_at_k(task["n"], task[f"{prefix}passed"], k) for task in counts])
        for prefix in ("", second)
        for k in ks
    }


def summarise(
    tasks: Mapping[str, Task], verdicts: Sequence[Mapping[str, Any]], ks: Sequence[int], errata: Collection[str]
) -> dict[str, Any]:
    """Every number of one run: scores with and without the errata, breakdowns, rates over samples, counts per task."""
    counts = per_task(verdicts)

    def by(group: Callable[[Task], str]) -> dict[str, Any]:
        names = sorted({group(task) for task in tasks.values()})
        parts = {name: [counts[i] for i, task in tasks.items() if group(task) == name] for name in names}
        return {name: {"problems": len(part), **scores(part, ks[:1])} for name, part in parts.items()}

    flags = {"syntax": lambda row: row["status"] == "syntax", "no_code": lambda row: row["status"] == "no code"}
    flags |= {name: (lambda row, name=name: row[name]) for name in ("format", "truncated", "calls_update")}
    sound = [count for identity, count in counts.items() if identity not in errata]
    return {
        "problems": len(tasks),
        "samples_per_problem": len(verdicts) // len(tasks),
        "scores": scores(counts.values(), ks),
        "problems_without_errata": len(sound),
        "scores_without_errata": scores(sound, ks) if sound else {},
        "by_package": by(lambda task: task.updates[0].package),
        "by_update_type": by(lambda task: task.updates[0].type),
        "by_kind": by(lambda task: task.kind),
        "rates": {name: sum(map(test, verdicts)) / len(verdicts) for name, test in flags.items()},
        "verdicts": dict(Counter(row["status"] for row in verdicts).most_common()),
        "tasks": counts,
    }


def number(value: Mapping[str, float | None], factor: float = 1, digits: int = 2) -> str:
    """The mean, its interval in brackets where it has one."""
    shown = [None if value[key] is None else f"{factor * value[key]:.{digits}f}" for key in ("mean", "low", "high")]
    mean, *ends = shown
    return mean if None in ends else f"{mean} ({ends[0]} to {ends[1]})"


def percent(value: Mapping[str, float | None]) -> str:
    return number(value, 100, 1)


def title(metric: str) -> str:
    """Pass@1, UPass@1, base Pass@1 for pass@1, upass@1, base_pass@1."""
    return metric.replace("pass", "Pass").replace("uP", "UP").replace("_", " ")


def paper_labels() -> list[str]:
    """Every MODEL/METHOD that the paper has numbers for."""
    return [row["label"] for row in json.loads(PAPER.read_text("utf-8"))["rows"]]


def paper_row(label: str | None, benchmark: str) -> dict[str, float]:
    """The paper's numbers for MODEL/METHOD on a benchmark, in percent; empty where it has none."""
    rows = json.loads(PAPER.read_text("utf-8"))["rows"]
    return next((row["results"].get(benchmark, {}) for row in rows if row["label"] == label), {})


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def headline(result: Mapping[str, Any]) -> str:
    """What was run, in a line."""
    made = result["samples"]["made"]
    model = made.get("model", "samples of unknown origin") + (f" + {made['adapter']}" if made.get("adapter") else "")
    told = [f"{made[key]} {key}" for key in ("prompt", "backend") if made.get(key)]
    sampling = ", ".join(f"{key} {value}" for key, value in made.get("sampling", {}).items())
    return (
        f"{model}: {result['benchmark']}, {result['problems']} problems x {result['samples_per_problem']} samples"
        f"{''.join(', ' + part for part in told)}{', update withheld' if made.get('docs') is False else ''}. {sampling}"
    )


def markdown(result: Mapping[str, Any]) -> str:
    """The table of one run; percentages, 95 % intervals in brackets."""
    paper = paper_row(result["label"], result["benchmark"])
    sound = result["scores_without_errata"]
    rows = [
        (
            title(name),
            percent(value),
            percent(sound[name]) if sound else "-",
            f"{paper[name]:.1f}" if name in paper else "-",
        )
        for name, value in result["scores"].items()
    ]
    first = next(iter(result["scores"]))
    groups = [
        (name, str(group["problems"]), percent(group[first]))
        for part in ("by_package", "by_update_type", "by_kind")
        for name, group in result[part].items()
        if len(result[part]) > 1
    ]
    blocks = [
        headline(result),
        table(["metric", "all problems", f"without errata ({result['problems_without_errata']})", "paper"], rows),
        table(
            ["rate over samples", "%"],
            [(RATES[name], "-" if v is None else f"{100 * v:.1f}") for name, v in result["rates"].items()],
        ),
        table(["verdict", "samples"], [(name, str(count)) for name, count in result["verdicts"].items()]),
    ]
    if groups:
        blocks.append(table(["part", "problems", title(first)], groups))
    return "\n\n".join(blocks)


def read_result(folder: Path) -> dict[str, Any]:
    path = folder if folder.suffix == ".json" else folder / "results.json"
    if not path.is_file():
        raise InputError(f"{path}: not there")
    return json.loads(path.read_text("utf-8"))


def limits(result: Mapping[str, Any]) -> dict[str, float | None]:
    """The time limits that a run was judged with, in seconds or as a factor; None where it does not tell."""
    seconds = result.get("config", {}).get("seconds")
    evalplus = result.get("evalplus", {})
    return {"seconds": None if seconds is None else float(seconds), **{key: evalplus.get(key) for key in LIMITS}}


def compare(before: Path, after: Path, shown: int = 30) -> str:
    """after - before on the same problems, with the difference's bootstrap interval, and the tasks that changed.

    Where the tasks name their update (migration), whole updates are drawn.
    """
    a, b = read_result(before), read_result(after)
    hashes = [{entry["sha256"] for entry in result["data"].values()} for result in (a, b)]
    if a["tasks"].keys() != b["tasks"].keys() or hashes[0] != hashes[1] or a["benchmark"] != b["benchmark"]:
        raise InputError(f"{before} and {after} are not of the same problems")
    other_libraries = a.get("executed_with") != b.get("executed_with")
    made = [result.get("samples", {}).get("made", {}) for result in (a, b)]
    drawn = [key for key in DRAWN if made[0].get(key) != made[1].get(key)]
    judged = [limits(result) for result in (a, b)]
    other = [f"{key} {old} and {judged[1][key]}" for key, old in judged[0].items() if old != judged[1][key]]
    failing = [(path, result.get("references_that_fail")) for path, result in ((before, a), (after, b))]
    clusters = [task["update"] for task in a["tasks"].values()] if a["benchmark"] == "migration" else None
    rows = []
    for name in a["scores"].keys() & b["scores"].keys():
        key, _, k = name.partition("@")
        part = f"{key}ed"  # passed, upassed, base_passed

        def value(task: Mapping[str, int], part: str = part, k: str = k) -> float:
            return pass_at_k(task["n"], task[part], int(k))

        gain = mean_and_interval([value(b["tasks"][i]) - value(task) for i, task in a["tasks"].items()], clusters)
        means = [f"{100 * result['scores'][name]['mean']:.1f}" for result in (a, b)]
        rows.append((title(name), *means, percent(gain)))
    for name in a.get("measures", {}):
        both = [i for i, task in a["tasks"].items() if task[name] is not None and b["tasks"][i][name] is not None]
        if both:
            gains = [b["tasks"][i][name] - a["tasks"][i][name] for i in both]
            gain = mean_and_interval(gains, [a["tasks"][i]["update"] for i in both])
            means = [f"{sum(result['tasks'][i][name] for i in both) / len(both):.3f}" for result in (a, b)]
            rows.append((f"{name} ({len(both)} problems)", *means, number(gain, digits=3)))
    share = {
        i: b["tasks"][i]["passed"] / b["tasks"][i]["n"] - task["passed"] / task["n"] for i, task in a["tasks"].items()
    }
    changed = sorted((i for i in share if share[i]), key=lambda i: (share[i], i))
    up = sum(share[i] > 0 for i in changed)
    lines = [
        f"{len(share)} problems: {up} better, {len(changed) - up} worse, {len(share) - len(changed)} equal",
        *(["The two ran with other versions of the libraries."] if other_libraries else []),
        *([f"The two were drawn with another {', '.join(drawn)}."] if drawn else []),
        *([f"The two were judged with other limits: {', '.join(other)}."] if other else []),
        *(
            f"Do not believe the difference: {len(tasks)} reference solutions did not pass in {path}: "
            f"{', '.join(tasks)}."
            for path, tasks in failing
            if tasks
        ),
        "",
        table(["metric", str(before), str(after), "difference"], sorted(rows)),
        "",
        *(f"{share[i]:+.2f}  {i}" for i in changed[:shown]),
        *([f"… {len(changed) - 2 * shown} more"] if len(changed) > 2 * shown else []),
        *(f"{share[i]:+.2f}  {i}" for i in changed[shown:][-shown:]),
    ]
    return "\n".join(lines)
