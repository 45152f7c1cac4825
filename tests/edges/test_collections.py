"""What src/collect.py and src/review.py read: release notes, and the logs of a collection."""

from __future__ import annotations

from edges.adversarial import as_file, damaged_text, rows_file
from edges.checker import check_ended, check_files, contents, count, effort, run_main, scratch
from hypothesis import given
from hypothesis import strategies as st
from mini_migration import PROOFS
from tidemark import NOTES

import collect
import review
from curation.collecting.proposals import as_row
from curation.evidence import Evidence

ENVS = {"old_env": ["gizmo==1.0"], "new_env": ["gizmo==2.0"]}
ROUNDS = [
    {
        "round": "3f2a9c01#1",
        "job": "3f2a9c01",
        "role": "update",
        "cause": "start",
        "verdict": "accepted",
        "problems": [],
    }
    | {"answer": "<name>gizmo.area</name>", "update": {"name": "gizmo.area", "kind": "rename", "update_info": "x"}}
]
for number, (record, (update, kind, check)) in enumerate(PROOFS.items(), start=1):
    key, job = f"3f2a9c01/{number}#1", f"3f2a9c01/{number}"
    evidence = Evidence.model_validate({"id": record.id, "update": update, "kind": kind, "check": check, **ENVS})
    end = {"verdict": "accepted", "problems": [], "proposed": as_row(key, "gizmo.area", record, evidence)}
    ROUNDS.append({"round": key, "job": job, "role": "pair", "cause": "start", "answer": "x", **end})
FEEDBACK = [{"proposal": "3f2a9c01/1#1", "decision": "reject", "feedback": "shorter", "time": "2026-01-01T00:00:00"}]
ANSWERS = st.lists(st.sampled_from(["a", "r", "s", "q", "", "words", "\x1b", "\ud800"]), max_size=6).map("\n".join)


@effort(30, 4_000)
@given(rows_file(ROUNDS, most=4), rows_file(FEEDBACK, most=2), ANSWERS)
def test_review(rounds, feedback, answers):
    count("collections")
    with scratch({"run/rounds.jsonl": rounds, "run/feedback.jsonl": feedback}) as folder:
        ended = run_main(review.main, "review", "run", "--data", "data", stdin=answers)
        check_ended(ended, "review")
        check_files(folder / "data")
        assert (folder / "run/rounds.jsonl").read_bytes() == rounds


@st.composite
def notes(draw: st.DrawFn) -> bytes:
    """Release notes with some faults."""
    text = NOTES
    for _ in range(draw(st.integers(0, 4))):
        text = draw(damaged_text(text))
    return draw(as_file(text))


@effort(40, 5_000)
@given(notes())
def test_notes(content):
    count("release notes")
    with scratch({"notes.md": content}) as folder:
        ended = run_main(collect.main, "collect", "--notes", "notes.md", "--dry-run")
        check_ended(ended, "collect")
        assert contents(folder) == {"notes.md": content}
