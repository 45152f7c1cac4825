"""samples.jsonl, its note, results.json and evidence.jsonl: what src/score.py and src/check_data.py proofs read."""

from __future__ import annotations

import hashlib
import json
from functools import cache

from edges.adversarial import json_file, rows_file
from edges.checker import check_ended, check_files, check_message, contents, count, effort, run_main, scratch
from hypothesis import given
from hypothesis import strategies as st
from mini_migration import ANSWERS, PROOFS, sample_rows

import check_data
import report
import score
from common.errors import InputError
from common.rows import typed
from evaluation.samples import Sample, read_rows

RECORDS = list(PROOFS)[:3]
IDS = [record.id for record in RECORDS]
DATA = "".join(json.dumps(record.to_row()) + "\n" for record in RECORDS).encode()
SAMPLES = [row for row in sample_rows() if row["task_id"] in IDS and row["sample_id"] < 2]
IDENTITY = {
    **{"benchmark": "migration", "data": "data.jsonl", "data_sha256": hashlib.sha256(DATA).hexdigest(), "limit": None},
    **{"backend": "transformers", "model": "m", "prompt": "zero-shot", "docs": True},
    "sampling": {"temperature": 0.8, "top_p": 0.7, "max_new_tokens": 64, "seed": 42},
}
NOTE = {"identity": IDENTITY, "problems": IDS, "starts": [{"command": "python src/generate.py"}]}
WHOLE = "".join(json.dumps(row) + "\n" for row in SAMPLES).encode()
assert len(SAMPLES) == 2 * len(IDS) and set(RECORDS) <= set(ANSWERS)


@st.composite
def samples_files(draw: st.DrawFn) -> dict[str, bytes]:
    """samples.jsonl and the note beside it, one of them with faults."""
    files = {"data.jsonl": DATA, "samples.jsonl": WHOLE, "samples.json": json.dumps(NOTE).encode() + b"\n"}
    match draw(st.integers(0, 3)):
        case 0:
            files["samples.jsonl"] = draw(rows_file(SAMPLES, most=6))
        case 1:
            at = draw(st.integers(0, len(SAMPLES) - 1))
            lines = WHOLE.splitlines(keepends=True)
            files["samples.jsonl"] = b"".join([*lines[:at], draw(json_file(SAMPLES[at], most=2)), *lines[at + 1 :]])
        case 2:
            files["samples.json"] = draw(json_file(NOTE, most=2))
        case _:
            files["data.jsonl"] = draw(rows_file([record.to_row() for record in RECORDS]))
    return files


def score_files(files: dict[str, bytes], *flags: object) -> dict[str, bytes]:
    """Run src/score.py over the samples; what it wrote."""
    with scratch(files) as folder:
        before = contents(folder)
        ended = run_main(score.main, "score", "--samples", "samples.jsonl", "--out", "out", *flags)
        check_ended(ended, "score")
        check_files(folder / "out")
        after = contents(folder)
        assert {name: after[name] for name in before} == before
        written = {name: text for name, text in after.items() if name not in before}
        assert ended.status == 2 or set(written) == {"out/results.json", "out/table.md", "out/verdicts.jsonl"}
        return written


@effort(25, 4_000)
@given(samples_files())
def test_score(files):
    count("samples files")
    score_files(files, "--no-run")


@effort(60, 10_000)
@given(rows_file(SAMPLES, most=3))
def test_every_sample_that_is_read_is_typed(content):
    with scratch({"samples.jsonl": content}) as folder:
        try:
            rows = [row for _, row in read_rows(folder / "samples.jsonl")]
        except InputError as error:
            check_message(error)
            return
    count("samples", len(rows))
    for row in rows:
        assert typed(Sample, row.model_dump(), "again") == row


@cache
def results() -> tuple[dict, dict]:
    """results.json of two folders: of rewards, and of scores as src/score.py writes them after it has run programs."""
    files = {"data.jsonl": DATA, "samples.jsonl": WHOLE, "samples.json": json.dumps(NOTE).encode() + b"\n"}
    rewards = json.loads(score_files(files, "--no-run")["out/results.json"])
    for key in ("wall_seconds", "started", "commit", "dirty", "versions", "hardware", "command"):
        del rewards[key]  # they differ from run to run, and nothing reads them
    measures = ("em", "es", "dm_star", "is_copy", "old_api")
    interval = {"mean": 0.5, "low": 0.0, "high": 1.0}
    scores = {key: value for key, value in rewards.items() if key not in ("rewards", "copy_baseline")}
    scores |= {
        "scores": {"pass@1": interval},
        "measures": {name: {"problems": 3, **interval} for name in measures},
        "tasks": {i: {"n": 2, "passed": 1, "update": f"u{i}", **dict.fromkeys(measures, 0.5)} for i in IDS},
        "executed_with": {"python": "3.11", "environments": {}},
    }
    return rewards, scores


@effort(15, 1_500)
@given(st.data(), st.integers(0, 1))
def test_compare(data, which):
    whole = results()[which]
    faulty = data.draw(json_file(whole, most=2))
    count("results files")
    with scratch({"a/results.json": json.dumps(whole).encode(), "b/results.json": faulty}) as folder:
        for flags in (("--compare", "a", "b"), ("--paper", "b")):
            ended = run_main(score.main, "score", *flags, "--out", "out/table.md")
            check_ended(ended, "score")
        check_files(folder / "out")


VERDICTS = [
    {
        "task_id": row["task_id"],
        "sample_id": row["sample_id"],
        "passed": True,
        "status": "pass",
        "detail": "",
        "em": False,
    }
    for row in SAMPLES
]


@effort(15, 1_500)
@given(st.data(), rows_file(VERDICTS, most=3))
def test_the_page_of_an_evaluation(data, verdicts):
    """Two of the same problems, one of them with faults in its result or in its verdicts."""
    count("pages of evaluations")
    whole = json.dumps(results()[1]).encode()
    result = data.draw(json_file(results()[1], most=2) | st.none())
    rows = b"".join(json.dumps(row).encode() + b"\n" for row in VERDICTS)
    files = {"a/results.json": whole, "a/verdicts.jsonl": rows, "a/samples.jsonl": WHOLE, "data.jsonl": DATA}
    files |= {"b/results.json": result or whole, "b/verdicts.jsonl": rows if result else verdicts}
    with scratch(files) as folder:
        ended = run_main(report.main, "report", "a", "b", "--out", "page.html")
        check_ended(ended, "report")
        assert set(contents(folder)) == {*files, *([] if ended.status else ["page.html"])}


EVIDENCE = [
    {"id": record.id, "split": "train", "update": update, "kind": kind, "check": check}
    | {"source": "made up", "address": "none", "old_env": ["gizmo==1.0"], "new_env": ["gizmo==2.0"]}
    | {"seen": {"new_on_new": {"outcome": "ok", "text": ""}}}
    for record, (update, kind, check) in PROOFS.items()
    if record in RECORDS
]


@effort(40, 4_000)
@given(rows_file(EVIDENCE, most=3))
def test_proofs(evidence):
    """No record is chosen, so that nothing runs."""
    count("evidence files")
    with scratch({"data/train.jsonl": DATA, "data/evidence.jsonl": evidence}):
        ended = run_main(check_data.main, "check_data", "proofs", "data", "--record", "none")
        check_ended(ended, "check_data", (2,))
