"""Results of the same problems side by side, the last two paired; and the numbers of the paper beside ours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.estimates import mean_and_error, mean_and_interval, pass_at_k
from common.markdown import table
from evaluation.results import REWARDS, Result, read_result
from evaluation.tables import number, paper_rows, percent, title, with_error

DRAWN = ("prompt", "docs", "sampling", "backend", "dtype")  # what runs should share to be compared
LIMITS = ("min_time_limit", "gt_time_limit_factor", "sample_seconds")  # evalplus's, in its part of the results
BENCHMARKS = {"arena": "CodeUpdateArena", "multi": "multi-update (ours: other questions)", "humaneval+": "HumanEval+"}
FEW = 10  # ours: with fewer problems, normal errors and bootstrap intervals are far too narrow (t = 12.7 with two)
SHOWN = 30  # changed problems at each end of the list


def compare(folders: Sequence[Path]) -> str:
    """The comparison of results by execution, or of results with rewards (--no-run). Raises InputError."""
    results = [read_result(folder) for folder in folders]
    first = results[0]
    for folder, result in zip(folders, results, strict=True):
        if bool(result.rewards) != bool(first.rewards):
            raise InputError(f"{folders[0]} and {folder}: one was run, the other was scored with --no-run")
        if not of_same_problems(first, result):
            raise InputError(f"{folders[0]} and {folder} are not of the same problems")
    return (compare_rewards if first.rewards else compare_scores)(folders, results)


def of_same_problems(before: Result, after: Result) -> bool:
    """Whether two results can be paired."""
    one, other = ((r.benchmark, set(r.tasks), {entry.sha256 for entry in r.data.values()}) for r in (before, after))
    return one == other


def updates_of(result: Result) -> list[str] | None:
    """The update of each problem, if all problems name theirs (migration): whole updates are drawn then."""
    updates = [str(task["update"]) for task in result.tasks.values() if "update" in task]
    return updates if len(updates) == len(result.tasks) else None


def gains(before: Result, after: Result, metric: str) -> list[float]:
    """Problem by problem, the Pass@k of `after` minus that of `before`. `metric`: pass@k, upass@k, base_pass@k."""
    part, _, k = metric.partition("@")

    def value(task: Mapping[str, Any]) -> float:
        return pass_at_k(task["n"], task[f"{part}ed"], int(k))

    return [value(after.tasks[i]) - value(task) for i, task in before.tasks.items()]


def defined(name: str, results: Sequence[Result]) -> list[str]:
    """The problems for which all results define a measure (migration); an older version may have measured fewer."""
    return [i for i in results[0].tasks if all(result.tasks[i].get(name) is not None for result in results)]


def measure_gain(name: str, before: Result, after: Result, problems: Sequence[str]) -> dict[str, float | None]:
    """What a measure gained, over these problems."""
    values = [after.tasks[i][name] - before.tasks[i][name] for i in problems]
    return mean_and_interval(values, [before.tasks[i]["update"] for i in problems])


def distinct(values: Iterable[Any]) -> list[Any]:
    """The values, each once; they need not be hashable."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def warnings(folders: Sequence[Path], results: Sequence[Result]) -> list[str]:
    """What makes the results hard to compare, a line each."""
    limits: dict[str, Iterable[Any]] = {"seconds": (r.config.get("seconds") for r in results)}
    limits |= {key: [result.evalplus.get(key) for result in results] for key in LIMITS}
    judged = {key: distinct(values) for key, values in limits.items()}
    other = [f"{key} {' and '.join(map(str, values))}" for key, values in judged.items() if len(values) > 1]
    drawn = [key for key in DRAWN if len(distinct(result.samples.made.get(key) for result in results)) > 1]
    counts = distinct(result.samples_per_problem for result in results)
    lines = []
    if len(results[0].tasks) < FEW:
        lines.append(f"Only {len(results[0].tasks)} problems: too few for a standard error or an interval to hold.")
    if len(counts) > 1:
        lines.append(f"They have different numbers of samples per problem: {', '.join(map(str, counts))}.")
    if len(distinct(result.executed_with for result in results)) > 1:
        lines.append("They ran with different versions of the libraries.")
    if drawn:
        lines.append(f"They were drawn with a different {', '.join(drawn)}.")
    if other:
        lines.append(f"They were judged with different limits: {', '.join(other)}.")
    for folder, result in zip(folders, results, strict=True):
        if tasks := result.references_that_fail:
            what = f"{len(tasks)} reference solutions did not pass in {folder}: {', '.join(tasks)}"
            lines.append(f"Do not trust the difference: {what}.")
    return lines


def score_rows(results: Sequence[Result], clusters: Sequence[Any] | None) -> list[tuple[str, ...]]:
    """A row for each Pass@k that all results have: the means, and the difference of the last two."""
    before, after = results[-2:]
    rows = []
    for name in set.intersection(*(set(result.scores) for result in results)):
        means = [percent({**result.scores[name], "low": None, "high": None}) for result in results]
        rows.append((title(name), *means, percent(mean_and_interval(gains(before, after, name), clusters))))
    return rows


def measure_rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """A row for each measure (migration), over the problems for which it is defined in all results."""
    before, after = results[-2:]
    rows = []
    for name in before.measures:
        if shared := defined(name, results):
            gain = measure_gain(name, before, after, shared)
            means = [f"{sum(result.tasks[i][name] for i in shared) / len(shared):.3f}" for result in results]
            rows.append((f"{name} ({len(shared)} problems)", *means, number(gain, digits=3)))
    return rows


def compare_scores(folders: Sequence[Path], results: Sequence[Result]) -> str:
    """Pass@k of each result; for the last two the paired difference with its bootstrap interval, and what changed.

    If the problems name their update (migration), whole updates are drawn.
    """
    before, after = results[-2:]
    clusters = updates_of(before)
    share = {i: after.tasks[i]["passed"] / after.tasks[i]["n"] - t["passed"] / t["n"] for i, t in before.tasks.items()}
    changed = sorted((i for i in share if share[i]), key=lambda i: (share[i], i))
    up = sum(share[i] > 0 for i in changed)
    lines = [
        f"{len(share)} problems: {up} better, {len(changed) - up} worse, {len(share) - len(changed)} equal",
        *warnings(folders, results),
        "",
        table(
            ["metric", *map(str, folders), "difference" if len(folders) == 2 else "difference of the last two"],
            sorted(score_rows(results, clusters) + measure_rows(results)),
        ),
        "",
        *(f"{share[i]:+.2f}  {i}" for i in changed[:SHOWN]),
        *([f"… {len(changed) - 2 * SHOWN} more"] if len(changed) > 2 * SHOWN else []),
        *(f"{share[i]:+.2f}  {i}" for i in changed[SHOWN:][-SHOWN:]),
    ]
    return "\n".join(lines)


def paired(before: Result, after: Result, name: str) -> dict[str, float]:
    """Mean and standard error over records of after - before."""
    return mean_and_error([after.tasks[i][name] - task[name] for i, task in before.tasks.items()])


def conclusion(name: str, gain: Mapping[str, float], records: int) -> str:
    """What the change in held-out reward means, in plain words."""
    if records < FEW:
        change = f"changed the held-out reward by {gain['mean']:.2f}"
        return f"{name} {change}: {records} records do not show that it learned."
    error = gain["standard_error"]
    ratio = gain["mean"] / error if error else math.copysign(math.inf, gain["mean"]) if gain["mean"] else 0.0
    if abs(ratio) > 2:
        verb = "raised" if ratio > 0 else "LOWERED"
        size = f"{ratio:.1f}" if abs(ratio) <= 100 else "more than 100"
        return f"{name} {verb} the held-out reward by {with_error(gain)}: {size} standard errors."
    return (
        f"{name} changed the held-out reward by {with_error(gain)}: within two standard errors, so this does NOT show "
        "that it learned. More training steps may."
    )


def compare_rewards(folders: Sequence[Path], results: Sequence[Result]) -> str:
    """The training rewards of each result and of a copy of the old code; what the last one changed."""
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = list(map(str, folders))
    before, after = results[-2:]
    sampling = before.samples.made.get("sampling", {})
    settings = "".join(f", {key} {sampling[key]}" for key in ("temperature", "seed") if key in sampling)
    rows = dict(zip(names, (result.rewards for result in results), strict=True))
    rows["copy the old code"] = before.copy_baseline
    parts = {words: paired(before, after, key) for key, words in REWARDS.items()}
    return "\n".join(
        [
            f"{before.problems} held-out records x {before.samples_per_problem} samples{settings}; "
            "± is the standard error over records.",
            *warnings(folders, results),
            "",
            table(
                ["result", *REWARDS.values()],
                [[name, *(with_error(values[key]) for key in REWARDS)] for name, values in rows.items()],
                aligned=True,
            ),
            "",
            conclusion(names[-1], parts["reward"], len(before.tasks)),
            f"Its parts: format rate {with_error(parts['format rate'])}, ES* {with_error(parts['ES*'])}.",
            "Copying the old code earns most of ES*: read the EM and the copies column before trusting a reward.",
            "reward = format (±1) + ES*.",
        ]
    )


def paper_table(results: Sequence[Result]) -> str:
    """Every number of the paper with ours: of the result that was scored with --label for this row."""
    ours = {(result.label, result.benchmark): result.scores for result in results}
    rows = []
    for row in paper_rows():
        for benchmark, metrics in row["results"].items():
            found = ours.get((row["label"], benchmark), {})
            for metric, theirs in metrics.items():
                here = percent(found[metric]) if metric in found else "not run"
                rows.append((row["model"], row["method"], BENCHMARKS[benchmark], title(metric), f"{theirs:.1f}", here))
    return table(["model", "method", "benchmark", "metric", "paper", "here (95 % interval)"], rows)
