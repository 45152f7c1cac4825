"""The training rewards of answers to held-out records, nothing executed: for src/score.py --no-run.

Beside them is the baseline that returns the old code unchanged. Standard errors are over records: the samples of one
record are averaged first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import InputError
from common.estimates import mean_and_error
from common.markdown import table
from evaluation.migration.problems import Migration
from evaluation.results import Scored
from evaluation.samples import Identity, Sample, mean_tokens
from evaluation.tables import headline, rates, task_means, with_error
from prompts import reference_completion
from records import Record
from rewards import score

PARTS = {
    "format_rate": "well formed",
    "es_star": "ES*",
    "em": "exact match",
    "reward": "reward = format (±1) + ES*",
    "is_copy": "returns the old code",
}


def parts(completion: str, record: Record) -> dict[str, float]:
    """What is reported of one completion; `em` is 1 on an exact match."""
    result = score(completion, record.new_code)
    old = score(reference_completion(record.old_code), result.code or "")
    return {
        "format_rate": float(result.format > 0),
        "es_star": result.es_star,
        "em": float(result.exact and result.parses),
        "reward": result.format + result.es_star,
        "is_copy": float(result.code is not None and old.exact),
    }


def score_unexecuted(
    tasks: Sequence[Migration], rows: Sequence[Sample], ks: Sequence[int], made: Identity | None
) -> Scored:
    """Score the completions as in training."""
    if len(tasks) < 2:
        raise InputError("--no-run needs at least 2 records for a standard error")
    records = {task.id: task.record for task in tasks}
    verdicts = [
        {
            "task_id": row.task_id,
            "sample_id": row.sample_id,
            **parts(row.completion, records[row.task_id]),
            "completion_tokens": row.completion_tokens,
            "truncated": row.finish_reason == "length",
        }
        for row in rows
    ]
    means = task_means(verdicts, PARTS)
    copies = [parts(reference_completion(record.old_code), record) for record in records.values()]
    numbers = {
        "problems": len(records),
        "samples_per_problem": len(rows) // len(records),
        "rewards": {name: mean_and_error([row[name] for row in means.values()]) for name in PARTS},
        "copy_baseline": {name: mean_and_error([row[name] for row in copies]) for name in PARTS},
        "mean_tokens": mean_tokens(rows),
        "rates": rates(verdicts, ["truncated"]),
        "tasks": means,
    }
    return Scored(verdicts, numbers, markdown)


def markdown(result: Mapping[str, Any]) -> str:
    """The table of one run."""
    rows = [
        (words, with_error(result["rewards"][name]), with_error(result["copy_baseline"][name]))
        for name, words in PARTS.items()
    ]
    tokens = "" if result["mean_tokens"] is None else f"{result['mean_tokens']:.1f} tokens on average, "
    return "\n\n".join(
        [
            headline(result),
            table(["mean over records ± standard error", "here", "a copy of the old code"], rows, aligned=True),
            f"{tokens}{100 * result['rates']['truncated']:.1f} % cut at the length limit; nothing was executed.",
        ]
    )
