"""Prove records by execution: run the old and the new code on both versions.

Every record has a line in the evidence.jsonl beside it (of data/invented.jsonl: in invented_evidence.jsonl), keyed by
`Record.id`, with two environments (lists of exact pins) and a `check`: assertions appended to the code. If a default or
a behaviour changed, only the check separates old from new. Old and new code run on both versions;
src/curation/proof.py lists what these four runs must show: the old code breaks (proof `break`), or the new code uses
something that was added (`adopt`). The programs run in the sandbox (src/sandbox/): no network, no display, limits on
time and memory.

    python src/check_data.py proofs                         # every record in data/; creates environments (slow)
    python src/check_data.py proofs out/records.jsonl       # other records: a file, or a folder, with evidence.jsonl
    python src/check_data.py proofs data/invented.jsonl     # invented updates, installed by the wrapper of the evidence
    python src/check_data.py proofs --log run.jsonl         # resumes after an interruption
    python src/check_data.py proofs --sample 20 --environments 5 --without PyTorch --seed "$(git rev-parse HEAD)"   # CI
    python src/check_data.py proofs --record 3f2a9c01b7de   # one record, with the outcome of each run
    python src/check_data.py proofs --write                 # store outcomes and installed packages beside the records

If environments.jsonl has a lock for a list of pins, pip is held to it. The exit status is 1 if a record is not proven.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from tqdm import tqdm

from common.cli import printable
from common.errors import InputError
from common.files import append_jsonl, read_log, require_writable, write_jsonl
from common.libraries import normalise_dependency
from common.rows import typed
from curation.evidence import SPLITS, Evidence, Runs, evidence_path, read_evidence
from curation.proof import ProofSettings, failures, programs, prove_all
from curation.virtualenvs import Locks, Pins, environment, environment_name, installed, read_locks, write_locks
from records import Record, load_records

Pairs = list[tuple[Record, Evidence]]


class LoggedRuns(BaseModel):
    """A line of --log: the runs of one record, and what they depend on."""

    id: str
    facts: dict[str, Any]
    installed: dict[str, list[str]]  # by the name of each environment
    runs: Runs


def some(ids: Sequence[str], shown: int = 10) -> str:
    """The first ids, and how many more there are."""
    return ", ".join(ids[:shown]) + (f", … and {len(ids) - shown:,} more" if len(ids) > shown else "")


def load(data: Path) -> Pairs:
    """Every record of a folder (train.jsonl, heldout.jsonl) or of one file, with its evidence."""
    path = data / "evidence.jsonl" if data.is_dir() else evidence_path(data)
    files = [data / f"{split}.jsonl" for split in SPLITS] if data.is_dir() else [data]
    present = [file for file in files if file.exists() or file == data]
    records = {record.id: (file.stem, record) for file in present for record in load_records(file)}
    evidence = read_evidence(path)
    lost = records.keys() ^ evidence.keys() if data.is_dir() else records.keys() - evidence.keys()
    if lost:
        raise InputError(f"{path}: record and evidence do not match: {some(sorted(lost))}")
    wrong = [i for i, (split, _) in records.items() if split in SPLITS and evidence[i].split != split]
    if wrong:
        raise InputError(f"{path}: split: not the one of the record's file: {some(wrong)}")
    return [(record, evidence[i]) for i, (_, record) in records.items()]


def draw(pairs: Pairs, size: int, environments: int | None, seed: str) -> Pairs:
    """`size` records chosen by the text `seed`.

    Pairs of environments are tried in a random order that favours few pins per record (quick to install, and many
    records each), and taken if they fit into `environments` in all. Every record can be drawn.
    """
    rng = random.Random(seed.encode("utf-8", "surrogateescape"))  # any bytes of the command line
    groups: dict[tuple[Pins, Pins], Pairs] = {}
    for record, evidence in pairs:
        groups.setdefault((evidence.old_env, evidence.new_env), []).append((record, evidence))
    for _ in range(100):
        used: set[Pins] = set()
        fit: Pairs = []
        for both in sorted(groups, key=lambda both: rng.random() * sum(map(len, both)) / len(groups[both])):
            if environments is None or len(used | {*both}) <= environments:
                used |= {*both}
                fit += groups[both]
        if len(fit) >= size:
            return rng.sample(fit, size)
    raise InputError(f"{size} records do not fit into {environments} environments")


def environments_of(pairs: Pairs) -> list[Pins]:
    """The lists of pins that these records need, each in one order."""
    return sorted({tuple(sorted(pins)) for _, evidence in pairs for pins in (evidence.old_env, evidence.new_env)})


def store(path: Path, seen: dict[str, Runs], locks: Locks) -> None:
    """Store these runs in the evidence, and the contents of their environments in the environments.jsonl beside it."""
    rows = {i: evidence.to_row() for i, evidence in read_evidence(path).items()}
    write_jsonl(path, [{**row, "seen": seen[i]} if i in seen else row for i, row in rows.items()])
    write_locks(path.parent, {**read_locks(path.parent), **locks})


def summary(runs: Sequence[Runs]) -> str:
    """How many records ended in which outcome, one line for each run; alternatives are counted together."""
    counts: dict[str, Counter[str]] = {}
    for name, run in (found for one in runs for found in one.items()):
        title = "alternatives on new" if name.startswith("alternative") else name.replace("_", " ")
        counts.setdefault(title, Counter())[run["outcome"]] += 1
    ends = {title: ", ".join(f"{n} {kind}" for kind, n in count.most_common()) for title, count in counts.items()}
    return "\n".join(f"  {title:<11} {end}" for title, end in ends.items())


def prove_records(
    chosen: Pairs, settings: ProofSettings, locks: Locks, log: Path | None
) -> tuple[dict[str, Runs], dict[Pins, list[str]]]:
    """(the runs of every record by id, the contents of their environments by pins).

    Runs are appended to `log`; those that it already has, of the same check and environments, are not run again.
    """
    facts: dict[str, dict[str, Any]] = {}
    for record, evidence in chosen:
        places = [environment_name(pins, locks) for pins in (evidence.old_env, evidence.new_env)]
        facts[record.id] = {"environments": places, "check": evidence.check, "programs": programs(record, evidence)}
        if evidence.wrapper:
            facts[record.id]["wrapper"] = evidence.wrapper
    rows = [typed(LoggedRuns, row, f"{log}:{line}") for line, row in enumerate(read_log(log) if log else [], start=1)]
    logged = [row for row in rows if row.facts == facts.get(row.id)]
    seen = {row.id: row.runs for row in logged}
    held = {name: pins for row in logged for name, pins in row.installed.items()}
    left = [(record, evidence) for record, evidence in chosen if record.id not in seen]
    for pins in tqdm(environments_of(left), desc="environments"):  # one after the other: pip writes to a shared cache
        found = installed(environment(pins, settings.envs, locks))
        if held.setdefault(environment_name(pins, locks), found) != found:
            raise InputError(f"{log}: its environments differ from those in {settings.envs}: use another --log")
    proven = prove_all(left, settings, locks)
    for record, evidence, runs in tqdm(proven, desc="records", total=len(chosen), initial=len(seen)):
        seen[record.id] = runs
        if log:
            both = {place: held[place] for place in facts[record.id]["environments"]}
            append_jsonl(log, {"id": record.id, "facts": facts[record.id], "installed": both, "runs": runs})
        for failure in failures(record, evidence, runs):
            tqdm.write(printable(f"{record.id} {evidence.update}: {failure}"), file=sys.stderr)
    return seen, {tuple(sorted(pins)): held[environment_name(pins, locks)] for pins in environments_of(chosen)}


def run(
    data: Path,
    record: str | None,
    sample: int | None,
    environments: int | None,
    without: Sequence[str],
    seed: str,
    log: Path | None,
    write: bool,
    settings: ProofSettings,
) -> int:
    """The exit status: 1 if a record is not proven."""
    if log:
        require_writable(log)
    pairs, left_out = load(data), {normalise_dependency(name) for name in without}
    if unknown := left_out - {one.dependency for one, _ in pairs}:
        raise InputError(f"--without {min(unknown)}: no record is of this library")
    chosen = [(one, proof) for one, proof in pairs if record in (None, one.id) and one.dependency not in left_out]
    if sample is not None:
        chosen = draw(chosen, min(sample, len(chosen)), environments, seed)
    if not chosen:
        raise InputError(f"{data}: no such record")
    folder = data if data.is_dir() else data.parent
    seen, held = prove_records(chosen, settings, read_locks(folder), log)
    if write:
        store(folder / "evidence.jsonl" if data.is_dir() else evidence_path(data), seen, held)
    if record:
        print(json.dumps(seen[record], indent=1))
    proven = sum(not failures(one, evidence, seen[one.id]) for one, evidence in chosen)
    print(f"{proven} of {len(chosen)} records reproduce, in {len(environments_of(chosen))} environments")
    print(summary([seen[one.id] for one, _ in chosen]))
    return int(proven < len(chosen))
