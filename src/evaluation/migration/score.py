"""Migration by execution: samples of held-out records -> verdicts -> numbers, for src/score.py.

A sample passes when its code, then the record's check, runs on the record's new environment, in the sandbox, without an
exception and without a deprecation warning, also one that the code tries to silence, and the code uses every name that
the record's `use` asks for: what src/curation/proof.py asks of a record's new code. If the update is invented, its
`wrapper` is installed first. So every reference passes, and the old code never does. Checks are assertions on the
snippet's variables: an answer that renames them fails.

Statuses: pass, deprecated (it ran and its check held, but it warned), unused (it ran and its check held, but it does
not use what it must), check (the check failed), tampered (src/evaluation/migration/programs.py), no code, syntax,
error, assertion, exit, and the sandbox's limits (timeout, memory, processes, crash).

Every mean is over records (the samples of one are averaged first), every interval a 95 % bootstrap over updates, since
the records of one update are alike. A part that has a single update gets no interval.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sandbox
from common.api_uses import modules
from common.estimates import mean_and_interval
from common.markdown import table
from curation.evidence import Evidence, evidence_path
from curation.virtualenvs import Pins, environment, installed, read_locks
from diff_match import diff_match
from evaluation.migration.old_api import uses_old_api
from evaluation.migration.problems import Migration, load_evidence
from evaluation.migration.programs import program, status
from evaluation.results import Scored
from evaluation.samples import Identity, Sample, mean_tokens
from evaluation.tables import (
    by_part,
    counted,
    headline,
    number,
    per_task,
    percent,
    rates,
    scores,
    task_means,
    title,
)
from records import Record
from rewards import NO_PARSE, clean, is_well_formed, parses, scaled, similarity

SECONDS = 120.0  # a program: a reference takes 11 to 13 s on a busy machine, and once took more than 30
WAYS = ("passed",)
MEASURES = {
    "em": "exact match, %",
    "es": "edit similarity, 0 to 1",
    "es_star": "ES*, -2 to 2",
    "dm_star": "DM* (ours), -2 to 2",
    "is_copy": "returns the old code, %",
    "old_api": "still uses the old API, %",
}
ENVS = Path(".venvs")  # where the proofs make them too
FLAGS: dict[str, dict[str, Any]] = {
    "--evidence": {"type": Path, "help": "the records' proofs (default: the evidence beside the data)"},
    "--no-run": {"action": "store_true", "help": "execute nothing: the training rewards, with standard errors"},
    "--envs": {"type": Path, "help": f"where environments are kept (default: {ENVS})"},
}


def judging(args: argparse.Namespace, data: Path) -> dict[str, Any]:
    """The keywords of `score` that the flags ask for, for records in `data`."""
    proofs = args.evidence or evidence_path(data)
    return {"options": sandbox.settings(args), "proofs": proofs, "envs": args.envs or ENVS}


def measures(code: str | None, record: Record, proof_kind: str, is_deprecated: bool) -> dict[str, Any]:
    """What is measured of one answer without running it.

    `em`: equals the target, comments and layout aside. `es`: edit similarity to it in [0, 1], 0 without code.
    `es_star`: the reward (src/rewards.py). `dm_star`: src/diff_match.py. `is_copy`: equals the old code as `em` does
    the target. `old_api`: uses a name that the migration removes (src/evaluation/migration/old_api.py), or warned; None
    if the code does not parse, no name is removed, or the record is an addition (proof `adopt`), where the old API
    stays right.
    """
    old, target = record.old_code, record.new_code
    mine, is_python = clean(code or "")
    theirs, before = clean(target)[0], clean(old)[0]
    es = 0.0 if code is None else similarity(mine, theirs)
    named = None if proof_kind == "adopt" else uses_old_api(code, old, target)
    return {
        "em": code is not None and is_python and mine == theirs,
        "es": es,
        "es_star": scaled(es) if code is not None and is_python else NO_PARSE,
        "dm_star": diff_match(code, old, target),
        "is_copy": code is not None and mine == before,
        "old_api": None if named is None else named or is_deprecated,
    }


def needs(records: Mapping[str, Record], evidence: Mapping[str, Evidence]) -> dict[Pins, list[str]]:
    """By environment, the modules that the references of its records import: without them no answer could pass."""
    found: dict[Pins, set[str]] = {}
    for identity, record in records.items():
        found.setdefault(evidence[identity].new_env, set()).update(modules(ast.parse(record.new_code)))
    return {pins: sorted(names) for pins, names in found.items()}


def run_answers(
    samples: Sequence[tuple[str, str | None]],
    records: Mapping[str, Record],
    evidence: Mapping[str, Evidence],
    interpreters: Mapping[Pins, Path],
    **options: Any,
) -> list[tuple[str, str]]:
    """(status, message) of each (record id, code), in order; equal samples run once."""
    from tqdm import tqdm

    found: dict[tuple[str, str | None], tuple[str, str]] = {}
    by_env: dict[Pins, list[tuple[str, str]]] = {}
    for identity, code in dict.fromkeys(samples):
        if not code:
            found[identity, code] = ("no code", "")
        elif not parses(code):
            found[identity, code] = ("syntax", "")
        else:
            by_env.setdefault(evidence[identity].new_env, []).append((identity, code))
    with tqdm(total=sum(map(len, by_env.values())), desc="programs") as bar:
        for pins, jobs in by_env.items():
            proofs = [(code, records[identity], evidence[identity]) for identity, code in jobs]
            programs = [program(code, record, one.check or "", one.wrapper) for code, record, one in proofs]
            verdicts = sandbox.run_all(programs, python=interpreters[pins], progress=False, **options)
            for (identity, code), verdict in zip(jobs, verdicts, strict=True):
                found[identity, code] = status(verdict, code, records[identity], evidence[identity])
            bar.update(len(jobs))
    return [found[sample] for sample in samples]


def summarise(
    records: Mapping[str, Record],
    evidence: Mapping[str, Evidence],
    verdicts: Sequence[Mapping[str, Any]],
    ks: Sequence[int],
) -> dict[str, Any]:
    """Every number of one run."""
    counts, means = per_task(verdicts, WAYS), task_means(verdicts, MEASURES)
    update_of = {identity: evidence[identity].update for identity in records}
    parts = {
        "kind": {identity: evidence[identity].kind for identity in records},
        "library": {identity: record.dependency for identity, record in records.items()},
    }
    measures: dict[str, Any] = {}
    for name in MEASURES:
        values = {i: means[i][name] for i in records if means[i][name] is not None}
        updates = [update_of[i] for i in values]
        measures[name] = {"problems": len(values), **mean_and_interval([*values.values()], updates)} if values else None
    return {
        "problems": len(records),
        "updates": len(set(update_of.values())),
        "samples_per_problem": len(verdicts) // len(records),
        "scores": scores([counts[i] for i in records], ks, WAYS, list(update_of.values())),
        "measures": measures,
        **{f"by_{key}": by_part(part_of, counts, ks[:1], WAYS, update_of) for key, part_of in parts.items()},
        "rates": rates(verdicts, ["syntax", "no_code", "format", "truncated"]),
        "verdicts": dict(Counter(row["status"] for row in verdicts).most_common()),
        "tasks": {
            i: {**counts[i], "update": update_of[i], **{key: part_of[i] for key, part_of in parts.items()}, **means[i]}
            for i in records
        },
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The table of one run; 95 % intervals in brackets."""
    rows = [(f"{title(name)}, %", str(result["problems"]), percent(value)) for name, value in result["scores"].items()]
    for name, words in MEASURES.items():
        if value := result["measures"][name]:
            rows.append((words, str(value["problems"]), percent(value) if words.endswith("%") else number(value)))
    header = [f"mean over records, interval over {result['updates']} updates", "records", "here"]
    sizes = {"updates": "updates", "problems": "records"}
    blocks = [headline(result), table(header, rows), *counted(result, ("by_kind", "by_library"), sizes)]
    return "\n\n".join(blocks)


def score(
    tasks: Sequence[Migration],
    rows: Sequence[Sample],
    ks: Sequence[int],
    made: Identity | None,
    *,
    options: Mapping[str, Any],
    proofs: Path,
    envs: Path,
) -> Scored:
    """Execute the samples and count. `options` go to sandbox.run_all, `proofs` is the file of the evidence."""
    from tqdm import tqdm

    records = {task.id: task.record for task in tasks}
    evidence = load_evidence(proofs, list(records))
    locks = read_locks(proofs.parent)
    with tqdm(sorted({one.new_env for one in evidence.values()}), desc="environments") as bar:
        places = {pins: environment(pins, envs, locks) for pins in bar}
    for pins, names in needs(records, evidence).items():  # of all environments, before any sample runs
        sandbox.check_ready(python=places[pins], needs=names, **options)
    samples = [(row.task_id, row.code) for row in rows]
    seen = run_answers(samples, records, evidence, places, **options)
    verdicts = []
    for row, (ending, message) in zip(rows, seen, strict=True):
        record = records[row.task_id]
        verdicts.append(
            {
                "task_id": record.id,
                "sample_id": row.sample_id,
                "passed": ending == "pass",
                "status": ending,
                "detail": message,
                **measures(row.code, record, evidence[record.id].proof, ending == "deprecated"),
                "format": is_well_formed(row.completion),
                "truncated": row.finish_reason == "length",
            }
        )
    used = {" ".join(pins): dict(pin.split("==") for pin in installed(python)) for pins, python in places.items()}
    executed_with = {"python": sys.version.split()[0], "environments": used}
    numbers = {
        **summarise(records, evidence, verdicts, ks),
        "mean_tokens": mean_tokens(rows),
        "executed_with": executed_with,
    }
    return Scored(verdicts, numbers, markdown, {str(proofs): proofs})
