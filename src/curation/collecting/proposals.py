"""The proposals of a model: its answers are read, checked, and proven by running them.

Answers have parts in tags (<name>, <kind>, <update_info>; <description>, <old_code>, <new_code>, <check>), with code in
a fence or bare. `read_update` and `check_proposal` return objections as sentences that can be sent to the model, with
the stage that found them:

    format     a part is missing, or the answer was truncated
    validate   the record's own checks (src/records.py), and the requirements on a check
    prove      the runs of src/curation/proof.py, in the sandbox; the check on an empty program
    gates      what one record can be asked of src/curation/gates/: mutation, sufficiency, margin, seeding
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from common.api_uses import imports
from common.syntax_trees import syntax_error
from curation.evidence import Evidence, Runs
from curation.gates import margin, mutation, seeding, sufficiency
from curation.gates.entries import Entry
from curation.proof import ProofSettings, execute_all, failures, prove_all
from curation.similarity import bound
from curation.virtualenvs import environment
from records import Record, check_rows, does_nothing
from rewards import dedent, last_python_fence, syntax_tree

KINDS = ("rename", "move", "signature", "default", "removal", "behaviour")
UPDATE_PARTS = ("name", "kind", "update_info")
PAIR_PARTS = ("description", "old_code", "new_code", "check")
CODE = ("old_code", "new_code", "check")
ACCEPTED = "accepted"
# Paths that read versions: numpy.__version__, sys.version_info, numpy.version.full_version, django.VERSION, …
VERSIONS = re.compile(
    r"(^|\.)(__version(_info)?__|version_info|hexversion|python_version(_tuple)?)$"
    r"|\.(version|VERSION|get_version)(\.|$)|^(importlib[._]metadata|pkg_resources|packaging)(\.|$)"
)


@dataclass(frozen=True)
class Upgrade:
    """What all proposals of a run have in common: the library, the environments before and after, the notes."""

    library: str  # as records name it
    old_env: tuple[str, ...]
    new_env: tuple[str, ...]
    source: str
    address: str

    @property
    def versions(self) -> tuple[str, str]:
        """The library's version in each environment: that of the first pin."""
        return self.old_env[0].partition("==")[2], self.new_env[0].partition("==")[2]


@dataclass(frozen=True)
class ProposedUpdate:
    """An API update as the model states it in its first role."""

    name: str
    kind: str
    update_info: str


@dataclass(frozen=True)
class CheckResult:
    """`stage` is "accepted", "none" (no update in this paragraph), or the stage that objected."""

    stage: str
    objections: tuple[str, ...] = ()


def part(answer: str, name: str) -> str | None:
    """The content of the last <name>…</name> of an answer, without its fence; None if it has none."""
    text = answer.rpartition("</think>")[2].replace("\r\n", "\n")
    end = text.rfind(f"</{name}>")
    start = text.rfind(f"<{name}>", 0, max(end, 0))
    if end < 0 or start < 0:
        return None
    inside = text[start + len(name) + 2 : end]
    if name not in CODE:
        return " ".join(inside.split())
    fenced = last_python_fence(inside)
    return dedent(inside if fenced is None else fenced).strip("\n").rstrip()


def lacking(answer: str, names: tuple[str, ...]) -> list[str]:
    """A sentence for each part that is missing from an answer."""
    return [f"<{name}> is missing or not closed" for name in names if not part(answer, name)]


def last_name(name: str) -> str:
    """`numpy.trapz()` -> `trapz`: the name in a snippet."""
    return re.split(r"\W+", name.partition("(")[0].strip(" `"))[-1]


def slug(upgrade: Upgrade, update: ProposedUpdate) -> str:
    """The update's name in the evidence: numpy-2.0-trapz."""
    release = ".".join(upgrade.versions[1].split(".")[:2])
    words = (upgrade.library, release, last_name(update.name))
    return "-".join(re.sub(r"[^a-z0-9.]+", "-", word.lower()).strip("-") for word in words)


def read_update(answer: str, paragraph: str) -> tuple[ProposedUpdate | None, CheckResult]:
    """The update that an answer of the first role states."""
    if (why := part(answer, "none")) and not part(answer, "update_info"):
        return None, CheckResult("none", (why,))
    if found := lacking(answer, UPDATE_PARTS):
        return None, CheckResult("format", tuple(found))
    name, kind, update_info = (part(answer, field) or "" for field in UPDATE_PARTS)
    name, kind = name.strip("`"), kind.lower()
    wrong = []
    if not last_name(name).isidentifier():
        wrong.append(f"<name> is not a dotted name: {name[:80]}")
    elif last_name(name) not in paragraph:
        wrong.append(f"<name>: the paragraph does not mention {last_name(name)}")
    if kind not in KINDS:
        wrong.append(f"<kind> is not one of {', '.join(KINDS)}: {kind[:80]}")
    if len(update_info) < 40:
        wrong.append(f"<update_info> is not a paragraph: it has {len(update_info)} characters")
    if wrong:
        return None, CheckResult("validate", tuple(wrong))
    return ProposedUpdate(name, kind, update_info), CheckResult(ACCEPTED)


def check_objections(record: Record, check: str) -> Iterator[str]:
    """Objections to a check before anything is run."""
    tree = syntax_tree(check)
    if tree is None:
        yield f"<check> does not parse as Python{syntax_error(check)}"
        return
    if not any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
        yield "<check> has no assert statement"
        return
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    for field in ("old_code", "new_code"):
        code = syntax_tree(getattr(record, field))
        if code is not None and read.isdisjoint(bound(code)):
            yield f"<check> reads no variable that <{field}> sets"
    for field, text in (("old_code", record.old_code), ("new_code", record.new_code), ("check", check)):
        if reads_version(text):
            yield f"<{field}> reads a version"


def reads_version(code: str) -> bool:
    """Whether code seems to read a version, of the library, of Python or of anything else, by the usual names."""
    tree = syntax_tree(code)
    if tree is None:
        return False
    modules = imports(tree)
    paths = set(modules.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            paths |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute):
            paths.add(node.attr)
            if isinstance(node.value, ast.Name) and node.value.id in modules:
                paths.add(f"{modules[node.value.id]}.{node.attr}")
        elif isinstance(node, ast.Name):
            paths.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            paths.add(node.value)  # getattr(np, "__version__")
    return any(VERSIONS.search(path) for path in paths)


def record_objections(record: Record, name: str) -> Iterator[str]:
    """The record's own checks as sentences about the parts of the answer."""
    for problem in check_rows([(1, record.to_row())], "answer").errors:
        detail = syntax_error(getattr(record, problem.field)) if problem.check == "parse" else ""
        yield f"<{problem.field}>: {problem.message}{detail}"
    if last_name(name) not in record.old_code and last_name(name) not in record.new_code:
        yield f"neither snippet uses {last_name(name)}"
    new = syntax_tree(record.new_code)
    if new is not None and new.body and does_nothing(new.body):
        yield "<new_code>: only imports, pass or empty definitions"


def build(answer: str, update: ProposedUpdate, upgrade: Upgrade) -> tuple[Record, Evidence]:
    """The record and its evidence from an answer that has all parts; a corrected <update_info> is used."""
    fields = {name: part(answer, name) or "" for name in PAIR_PARTS}
    check = fields.pop("check")
    record = Record(
        dependency=upgrade.library,
        new_version=upgrade.versions[1],
        update_info=part(answer, "update_info") or update.update_info,
        **fields,
    )
    evidence = Evidence(
        id=record.id,
        split=None,  # src/review.py decides it, by update
        update=slug(upgrade, update),
        kind=update.kind,
        source=upgrade.source,
        address=upgrade.address,
        old_env=upgrade.old_env,
        new_env=upgrade.new_env,
        check=check,
    )
    return record, evidence


def check_proposal(
    record: Record, evidence: Evidence, name: str, settings: ProofSettings
) -> tuple[CheckResult, Runs | None]:
    """Validate a pair of snippets for the API `name`, then prove it: the result, and the runs if there were any."""
    check = evidence.check or ""
    if found := [*record_objections(record, name), *check_objections(record, check)]:
        return CheckResult("validate", tuple(found)), None
    [(_, _, runs)] = prove_all([(record, evidence)], settings)
    found = failures(record, evidence, runs)
    [alone] = execute_all(environment(evidence.new_env, settings.envs), [("", check)], settings)
    if alone["outcome"] in ("ok", "warning"):
        found.append("the check passes without the code: it must fail on an empty program")
    if found:
        return CheckResult("prove", tuple(found)), runs
    found = list(gate_objections(record, evidence, settings))
    return CheckResult("gates", tuple(found)) if found else CheckResult(ACCEPTED), runs


def gate_objections(record: Record, evidence: Evidence, settings: ProofSettings) -> Iterator[str]:
    """What the gates object to in a proven record, as sentences about the parts of the answer."""
    entry = Entry("answer", 1, record, evidence)
    python = environment(evidence.new_env, settings.envs)
    [tried] = mutation.try_all([(record, evidence)], python, settings)
    for field, why in mutation.objections(record, evidence, tried):
        yield f"<{field}>: {why}"
    for gate in (sufficiency, margin, seeding):
        for field, why in gate.objections(entry):
            yield f"<{field}>: {why}"


def as_row(key: str, name: str, record: Record, evidence: Evidence) -> dict[str, Any]:
    """A line of proposed.jsonl: which answer it is, the API's name, the record as published, its evidence."""
    return {"proposal": key, "name": name, "record": record.to_row(), "evidence": evidence.to_row()}


def from_row(row: dict[str, Any]) -> tuple[Record, Evidence]:
    """The record and the evidence of a line of proposed.jsonl."""
    return Record(**row["record"]).normalised(), Evidence.model_validate(row["evidence"])
