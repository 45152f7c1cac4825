"""evalplus's results -> Pass@k over problems -> a table beside the paper's numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import InputError
from evaluation.samples import Sample
from evaluation.tables import headline, in_paper, paper_row, per_task, percent, scores, table, title

NAMES = {"humaneval+": ("HumanEval", "HumanEval+"), "mbpp+": ("MBPP", "MBPP+")}
UNPASSABLE = ("HumanEval/32",)  # src/evaluation/humaneval/score.py gives the reason
BASE = "base_"  # passed is plus; base_passed is HumanEval's own tests alone
PASS = "pass"  # evalplus's word; the others are fail and timeout


def verdict_rows(
    samples: Sequence[Sample], found: Mapping[str, Sequence[Mapping[str, Any]]], *, has_controls: bool = True
) -> tuple[list[dict[str, Any]], dict[str, dict[str, str]]]:
    """(one row a sample, task -> statuses of its reference if that does not pass and could).

    `found`: evalplus's `eval`, whose lists are in the order in which the samples were handed over, the reference last
    if the run `has_controls`; without, the samples are the references.
    Raises InputError if evalplus did not answer for everything.
    """
    counts = Counter(row.task_id for row in samples)
    if {task: count + has_controls for task, count in counts.items()} != {
        task: len(mine) for task, mine in found.items()
    }:
        raise InputError("evalplus did not judge every sample")
    rest = {task: iter(mine) for task, mine in found.items()}
    rows = []
    for row in samples:
        seen = next(rest[row.task_id])
        base, plus = seen["base_status"], seen["plus_status"]
        rows.append(
            {
                "task_id": row.task_id,
                "sample_id": row.sample_id,
                "base_passed": base == PASS,
                "passed": base == plus == PASS,  # evalplus's rule: plus counts both
                "base": base,
                "plus": plus,
                "no_code": row.code is None,
                "truncated": row.finish_reason == "length",
            }
        )
    if has_controls:
        controls = {task: next(mine) for task, mine in rest.items()}
        statuses = {task: {"base": seen["base_status"], "plus": seen["plus_status"]} for task, seen in controls.items()}
    else:
        statuses = {row["task_id"]: {"base": row["base"], "plus": row["plus"]} for row in rows}
    failing = {task: seen for task, seen in statuses.items() if set(seen.values()) != {PASS}}
    return rows, {task: seen for task, seen in failing.items() if task not in UNPASSABLE}


def summarise(verdicts: Sequence[Mapping[str, Any]], ks: Sequence[int]) -> dict[str, Any]:
    """Every number of one run: scores with and without the problem that no answer passes, rates, counts per task."""
    counts = per_task(verdicts, BASE)
    passable = [count for task, count in counts.items() if task not in UNPASSABLE]
    return {
        "problems": len(counts),
        "samples_per_problem": len(verdicts) // len(counts),
        "scores": scores(counts.values(), ks, BASE),
        "unpassable": sorted(counts.keys() & set(UNPASSABLE)),
        "scores_without_unpassable": scores(passable, ks, BASE) if passable else {},
        "rates": {name: sum(row[name] for row in verdicts) / len(verdicts) for name in ("no_code", "truncated")},
        "verdicts": {part: dict(Counter(row[part] for row in verdicts).most_common()) for part in ("base", "plus")},
        "tasks": counts,
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The table of one run; percentages, 95 % intervals in brackets."""
    base, plus = NAMES[result["benchmark"]]
    paper = paper_row(result["label"], result["benchmark"])
    header = ["metric", base, plus]
    other = result["scores_without_unpassable"] if result["unpassable"] else {}
    if other:
        left = result["problems"] - len(result["unpassable"])
        header += [f"{name} without {', '.join(result['unpassable'])} ({left})" for name in (base, plus)]
    rows = []
    for name in (name for name in result["scores"] if not name.startswith("base_")):
        row = [title(name)]
        for part in filter(None, (result["scores"], other)):
            row += [percent(part[f"base_{name}"]), percent(part[name])]
        rows.append([*row, in_paper(paper.get(name))])
    passed = {key: sum(task[key] for task in result["tasks"].values()) for key in ("base_passed", "passed")}
    total = result["problems"] * result["samples_per_problem"]
    shares = {name: f"{100 * share:.1f} %" for name, share in result["rates"].items()}
    lines = [
        headline(result),
        "",
        table([*header, f"paper, {plus}"], rows),
        "",
        f"Samples that pass: {passed['base_passed']} base, {passed['passed']} plus, of {total}; without code "
        f"{shares['no_code']}, cut at the length limit {shares['truncated']}; "
        f"evalplus {result['executed_with']['evalplus']}.",
    ]
    if failing := result["references_that_fail"]:
        names = ", ".join(f"{task} ({seen['base']}, {seen['plus']})" for task, seen in sorted(failing.items()))
        lines.append(
            f"\n**Do not trust these scores**: {len(failing)} reference solutions did not pass here: "
            f"{names}. A busy machine? --workers 1, a longer --min-time-limit."
        )
    if unsanitized := result["evalplus"]["unsanitized"]:
        lines.append(f"{unsanitized} answers were too much for evalplus's sanitiser and were judged as they are.")
    return "\n".join(lines)
