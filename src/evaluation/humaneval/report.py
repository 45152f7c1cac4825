"""evalplus's results -> Pass@k over problems -> a table beside the paper's numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import InputError
from evaluation.samples import Sample
from evaluation.tables import headline, in_paper, paper_row, per_task, percent, rates, scores, table, title

NAMES = {"humaneval+": ("HumanEval", "HumanEval+"), "mbpp+": ("MBPP", "MBPP+")}
UNPASSABLE = ("HumanEval/32",)  # src/evaluation/humaneval/score.py gives the reason
WAYS = ("passed", "base_passed")  # the base and plus tests; HumanEval's own alone
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
    if {task: len(mine) for task, mine in found.items()} != {task: n + has_controls for task, n in counts.items()}:
        raise InputError("evalplus did not judge every sample")
    left = {task: iter(mine) for task, mine in found.items()}
    rows = []
    for row in samples:
        statuses = statuses_of(next(left[row.task_id]))
        rows.append(
            {
                "task_id": row.task_id,
                "sample_id": row.sample_id,
                "base_passed": statuses["base"] == PASS,
                "passed": set(statuses.values()) == {PASS},  # evalplus's rule: plus counts both
                **statuses,
                "no_code": row.code is None,
                "truncated": row.finish_reason == "length",
            }
        )
    references = {task: statuses_of(mine[-1]) for task, mine in found.items()}
    failing = {task: statuses for task, statuses in references.items() if set(statuses.values()) != {PASS}}
    return rows, {task: statuses for task, statuses in failing.items() if task not in UNPASSABLE}


def statuses_of(judged: Mapping[str, Any]) -> dict[str, str]:
    return {"base": judged["base_status"], "plus": judged["plus_status"]}


def summarise(verdicts: Sequence[Mapping[str, Any]], ks: Sequence[int]) -> dict[str, Any]:
    """Every number of one run: scores with and without the problem that no answer passes, rates, counts per task."""
    counts = per_task(verdicts, WAYS)
    passable = [count for task, count in counts.items() if task not in UNPASSABLE]
    return {
        "problems": len(counts),
        "samples_per_problem": len(verdicts) // len(counts),
        "scores": scores(counts.values(), ks, WAYS),
        "unpassable": sorted(counts.keys() & set(UNPASSABLE)),
        "scores_without_unpassable": scores(passable, ks, WAYS) if passable else {},
        "rates": rates(verdicts, ["no_code", "truncated"]),
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
