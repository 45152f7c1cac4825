"""Gates: could a wrong migration pass, is the note sufficient, does a copy earn less, is the set varied?

A proven record is true; the gates say whether it can be fooled (src/curation/gates/):
  mutation      every mutant of the target (wrong migrations made by syntax tree, constant predicates among them) fails
                its check or its `use`, unless `equivalents` of the evidence lists it; each of `alternatives` passes
  sufficiency   every API name of the target is in the note, the old code or Python itself
  margin        a copy of the old code earns at least 0.1 less ES* than the target
  uniqueness    other right forms of the target (order of new keywords, quotes, form of new imports, own new names) earn
                more ES* than a copy, or are listed in `alternatives`
  seeding       neither snippet nor the check depends on chance that nothing seeds, or on the clock
  variety       an update with three records or more shows three different edits; no two records have a similarity above
                0.8, within a split or across the splits
  policy        records with the same note take the same one of the ways that it offers
Records without the fourth run (new code on the old version), without `facts`, or with a right form that differs in
more than quotes are counted, not rejected.

    python src/check_data.py gates                            # every record in data/; needs its new environments
    python src/check_data.py gates --log run.jsonl            # resumes after an interruption
    python src/check_data.py gates --record 3f2a9c01b7de      # one record

Prints `file:line: field: gate: what` for each finding, then the counts by gate and the share of mutants that were
killed, by operator, without equivalent ones. The exit status is 1 if there are findings.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from pydantic import BaseModel
from tqdm import tqdm

from common.errors import InputError
from common.files import append_jsonl, read_log, require_writable
from common.markdown import table
from common.rows import typed
from curation.check_proofs import load
from curation.evidence import SPLITS
from curation.gates import margin, mutation, policy, seeding, sufficiency, uniqueness, variety
from curation.gates.entries import Entry, Finding, placed
from curation.gates.mutants import mutants
from curation.gates.mutation import Tried
from curation.proof import ProofSettings
from curation.virtualenvs import Locks, Pins, environment, environment_name, read_locks

EACH: dict[str, ModuleType] = {
    "sufficiency": sufficiency,
    "margin": margin,
    "uniqueness": uniqueness,
    "seeding": seeding,
}
WHOLE: dict[str, ModuleType] = {"variety": variety, "policy": policy}
GATES = ("mutation", *EACH, *WHOLE)
COUNTED: dict[str, Callable[[Entry], bool]] = {
    "no fourth run": lambda entry: "new_on_old" not in (entry.evidence.seen or {}),
    "no facts": lambda entry: not entry.evidence.facts,
    "several right forms": uniqueness.has_forms,
}
CHUNK = 25  # records that run before they are written


class LoggedGates(BaseModel):
    """A line of --log."""

    id: str
    key: str  # a hash of everything that the runs depend on
    tried: Tried


def key_of(entry: Entry, locks: Locks) -> str:
    """A hash of what runs: mutants, check, used names, alternatives, environment."""
    record, evidence = entry.record, entry.evidence
    made = [(one.operator, one.code) for one in mutants(record)]
    parts = [evidence.check, evidence.use, evidence.alternatives, environment_name(evidence.new_env, locks)]
    parts += [evidence.wrapper] if evidence.wrapper else []
    return hashlib.sha256(json.dumps([record.new_code, made, parts]).encode()).hexdigest()[:16]


def try_entries(entries: Sequence[Entry], settings: ProofSettings, locks: Locks, log: Path | None) -> dict[str, Tried]:
    """The runs of every record by id; what the log has is not run again."""
    keys = {entry.record.id: key_of(entry, locks) for entry in entries}
    rows = [typed(LoggedGates, row, f"{log}:{line}") for line, row in enumerate(read_log(log) if log else [], start=1)]
    tried = {row.id: row.tried for row in rows if keys.get(row.id) == row.key}
    groups: dict[Pins, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.record.id not in tried:
            groups[tuple(sorted(entry.evidence.new_env))].append(entry)
    with tqdm(total=len(entries), initial=len(tried), desc="records") as bar:
        for pins, mine in sorted(groups.items()):
            python = environment(pins, settings.envs, locks)
            for start in range(0, len(mine), CHUNK):
                chunk = mine[start : start + CHUNK]
                found = list(mutation.try_all([(one.record, one.evidence) for one in chunk], python, settings))
                for entry, one in zip(chunk, found, strict=True):
                    identity = entry.record.id
                    tried[identity] = one
                    if log:
                        append_jsonl(log, {"id": identity, "key": keys[identity], "tried": one.model_dump()})
                bar.update(len(chunk))
    return tried


def findings(entries: Sequence[Entry], chosen: Sequence[Entry], tried: dict[str, Tried]) -> Iterator[Finding]:
    """What the gates object to in the chosen records, which are among `entries`."""
    names = {entry.record.id for entry in chosen}
    for entry in chosen:
        for field, what in mutation.objections(entry.record, entry.evidence, tried[entry.record.id]):
            yield Finding(entry, "mutation", field, what)
        for gate, module in EACH.items():
            yield from (Finding(entry, gate, *one) for one in module.objections(entry))
    for gate, module in WHOLE.items():
        for entry, one in module.objections(entries):
            if entry.record.id in names:
                yield Finding(entry, gate, *one)


def gate_table(chosen: Sequence[Entry], found: Sequence[Finding]) -> str:
    """Records with findings and findings, by gate and split."""
    splits = list(dict.fromkeys(entry.split for entry in chosen))
    head = ["gate", *(f"{split}: {what}" for split in splits for what in ("records", "findings"))]
    rows: list[list[object]] = []
    for gate in GATES:
        row: list[object] = [gate]
        for split in splits:
            mine = [one for one in found if one.gate == gate and one.entry.split == split]
            row += [len({one.entry.record.id for one in mine}), len(mine)]
        rows.append(row)
    for name, is_one in COUNTED.items():
        counts = [sum(is_one(entry) for entry in chosen if entry.split == split) for split in splits]
        rows.append([f"{name} (counted only)", *(cell for count in counts for cell in (count, "-"))])
    return table(head, rows)


def operator_table(chosen: Sequence[Entry], tried: dict[str, Tried]) -> str:
    """Mutants that are not equivalent, and how many were killed, by operator and split."""
    splits = list(dict.fromkeys(entry.split for entry in chosen))
    made: Counter[tuple[str, str]] = Counter()
    passed: Counter[tuple[str, str]] = Counter()
    for entry in chosen:
        one = tried[entry.record.id]
        listed = Counter(survivor.operator for survivor in one.survivors)
        left = Counter(survivor.operator for survivor in one.not_equivalent(entry.evidence))
        counts = Counter(one.mutants)
        counts.subtract(listed - left)  # equivalent ones
        for total, part in ((made, counts), (passed, left)):
            for operator, count in part.items():
                total[entry.split, operator] += count
                total[entry.split, "all"] += count
    operators = sorted({operator for _, operator in made} - {"all"})
    head = ["operator", *(f"{split}: {what}" for split in splits for what in ("mutants", "killed", "%"))]
    rows: list[list[object]] = []
    for operator in [*operators, "all"]:
        row: list[object] = [operator]
        for split in splits:
            count = made[split, operator]
            killed = count - passed[split, operator]
            row += [count, killed, f"{100 * killed / count:.1f}" if count else "-"]
        rows.append(row)
    return table(head, rows)


def run(data: Path, record: str | None, log: Path | None, settings: ProofSettings) -> int:
    """The exit status: 1 if there are findings."""
    if log:
        require_writable(log)
    folder = data if data.is_dir() else data.parent
    files = (
        [path for path in (folder / f"{split}.jsonl" for split in SPLITS) if path.exists()] if data.is_dir() else [data]
    )
    entries = placed(files, load(data))
    chosen = [entry for entry in entries if record in (None, entry.record.id)]
    if not chosen:
        raise InputError(f"{data}: no such record")
    tried = try_entries(chosen, settings, read_locks(folder), log)
    found = list(findings(entries, chosen, tried))
    for one in found:
        print(one)
    print(f"\n{gate_table(chosen, found)}\n\n{operator_table(chosen, tried)}")
    return int(bool(found))
