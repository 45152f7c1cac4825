"""What a model proposes: its answers read, checked, and proven by running them.

Answers are parts in tags (<name>, <kind>, <update_info>; <description>, <old_code>, <new_code>, <check>), code in a
fence or bare. `read_update` and `examine` return what is wrong as sentences that can go back to the model, with the
stage that found it:

    format     a part is missing, or the answer was cut
    validate   the record's own checks (src/records.py), and what a check must be
    prove      the three runs of src/curation/proof.py, in the sandbox; the check on an empty program
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.api_uses import imports
from curation.proof import execute_all, problems, prove
from curation.virtualenvs import environment
from records import Record, check_rows, does_nothing, normalise_dependency
from rewards import dedent, last_python_fence, syntax_tree

KINDS = ("rename", "move", "signature", "default", "removal", "behaviour")
UPDATE_PARTS = ("name", "kind", "update_info")
PAIR_PARTS = ("description", "old_code", "new_code", "check")
CODE = ("old_code", "new_code", "check")
ACCEPTED = "accepted"
# Paths that tell versions: numpy.__version__, sys.version_info, numpy.version.full_version, django.VERSION, …
VERSIONS = re.compile(
    r"(^|\.)(__version(_info)?__|version_info|hexversion|python_version(_tuple)?)$"
    r"|\.(version|VERSION|get_version)(\.|$)|^(importlib[._]metadata|pkg_resources|packaging)(\.|$)"
)


@dataclass(frozen=True)
class Upgrade:
    """What all proposals of one run share: the library, the environments before and after, where the notes are."""

    library: str
    old_env: tuple[str, ...]
    new_env: tuple[str, ...]
    source: str
    address: str

    @property
    def versions(self) -> tuple[str, str]:
        """The library's version in each environment: that of the first pin."""
        return self.old_env[0].partition("==")[2], self.new_env[0].partition("==")[2]


@dataclass(frozen=True)
class Update:
    """One API update, as the first role states it."""

    name: str
    kind: str
    update_info: str


@dataclass(frozen=True)
class Verdict:
    """`stage` is "accepted", "none" (no update in this paragraph), or the stage that rejected, with what it found."""

    stage: str
    problems: tuple[str, ...] = ()


def part(answer: str, name: str) -> str | None:
    """The content of the last <name>…</name> of an answer, without its fence; None where there is none."""
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
    """A sentence for each part that an answer does not have."""
    return [f"<{name}> is missing or not closed" for name in names if not part(answer, name)]


def last_name(name: str) -> str:
    """`numpy.trapz()` -> `trapz`: what a snippet calls it."""
    return re.split(r"\W+", name.partition("(")[0].strip(" `"))[-1]


def slug(upgrade: Upgrade, update: Update) -> str:
    """The update's name in the side table: numpy-2.0-trapz."""
    release = ".".join(upgrade.versions[1].split(".")[:2])
    words = (upgrade.library, release, last_name(update.name))
    return "-".join(re.sub(r"[^a-z0-9.]+", "-", word.lower()).strip("-") for word in words)


def read_update(answer: str, paragraph: str) -> tuple[Update | None, Verdict]:
    """The update that an answer of the first role states."""
    if (why := part(answer, "none")) and not part(answer, "update_info"):
        return None, Verdict("none", (why,))
    if found := lacking(answer, UPDATE_PARTS):
        return None, Verdict("format", tuple(found))
    name, kind, update_info = (part(answer, field) or "" for field in UPDATE_PARTS)
    name, kind = name.strip("`"), kind.lower()
    wrong = []
    if not last_name(name).isidentifier():
        wrong.append(f"<name> is no dotted name: {name[:80]}")
    elif last_name(name) not in paragraph:
        wrong.append(f"<name>: the paragraph does not mention {last_name(name)}")
    if kind not in KINDS:
        wrong.append(f"<kind> is none of {', '.join(KINDS)}: {kind[:80]}")
    if len(update_info) < 40:
        wrong.append(f"<update_info> is no paragraph: it has {len(update_info)} characters")
    if wrong:
        return None, Verdict("validate", tuple(wrong))
    return Update(name, kind, update_info), Verdict(ACCEPTED)


def bound_names(tree: ast.Module) -> set[str]:
    """What code sets itself: variables, functions, classes; no imports."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names | {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}


def check_problems(record: Record, check: str) -> Iterator[str]:
    """What a check lacks before anything is run."""
    tree = syntax_tree(check)
    if tree is None:
        yield f"<check> does not parse as Python{syntax_error(check)}"
        return
    if not any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
        yield "<check> holds no assert statement"
        return
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    for field in ("old_code", "new_code"):
        code = syntax_tree(getattr(record, field))
        if code is not None and not read & bound_names(code):
            yield f"<check> reads no variable that <{field}> sets"
    for field, text in (("old_code", record.old_code), ("new_code", record.new_code), ("check", check)):
        if looks_at_versions(text):
            yield f"<{field}> looks at versions"


def looks_at_versions(code: str) -> bool:
    """Whether code seems to ask for a version, of the library, of Python or of anything else; by the usual names."""
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


def syntax_error(code: str) -> str:
    """Where and why code does not parse, as `: line 3: invalid syntax`; empty where Python does not say."""
    try:
        ast.parse(code)
    except SyntaxError as error:
        return f": line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f": {error}"
    return ""


def record_problems(record: Record, name: str) -> Iterator[str]:
    """The record's own checks as sentences about the answer's parts."""
    for problem in check_rows([(1, record.to_row())], "answer").errors:
        detail = syntax_error(getattr(record, problem.field)) if problem.check == "parse" else ""
        yield f"<{problem.field}>: {problem.message}{detail}"
    if last_name(name) not in record.old_code and last_name(name) not in record.new_code:
        yield f"neither snippet uses {last_name(name)}"
    new = syntax_tree(record.new_code)
    if new is not None and new.body and does_nothing(new.body):
        yield "<new_code>: only imports, pass or empty definitions"


def build(answer: str, update: Update, upgrade: Upgrade) -> tuple[Record, dict[str, Any]]:
    """The record and its evidence out of an answer that has all parts; a corrected <update_info> counts."""
    fields = {name: part(answer, name) or "" for name in PAIR_PARTS}
    check = fields.pop("check")
    record = Record(
        dependency=normalise_dependency(upgrade.library),
        new_version=upgrade.versions[1],
        update_info=part(answer, "update_info") or update.update_info,
        **fields,
    )
    evidence = {
        "id": record.id,
        "split": None,  # src/review.py decides it, by update
        "update": slug(upgrade, update),
        "kind": update.kind,
        "source": upgrade.source,
        "address": upgrade.address,
        "old_env": list(upgrade.old_env),
        "new_env": list(upgrade.new_env),
        "check": check,
    }
    return record, evidence


def examine(
    record: Record, evidence: dict[str, Any], name: str, envs: Path, seconds: float, *, unsafe: bool = False
) -> Verdict:
    """Validate a pair, then prove it; what the runs said goes into `evidence["seen"]`.

    `name` is the API's. Raises EnvironmentFailed and InfrastructureError, which say nothing about the pair.
    """
    try:
        found = [*record_problems(record, name), *check_problems(record, evidence["check"])]
    except RecursionError:  # what parses may still be too deep to walk
        found = ["the code is nested too deeply"]
    if found:
        return Verdict("validate", tuple(found))
    evidence["seen"] = prove(record, evidence, envs, seconds, unsafe=unsafe)
    found = problems(evidence["seen"])
    python = environment(evidence["new_env"], envs)
    [alone] = execute_all(python, [("", evidence["check"])], seconds, unsafe=unsafe)
    if alone["outcome"] in ("ok", "warning"):
        found.append("the check passes without the code: it must fail on an empty program")
    return Verdict("prove", tuple(found)) if found else Verdict(ACCEPTED)


def as_row(key: str, name: str, record: Record, evidence: dict[str, Any]) -> dict[str, Any]:
    """A line of proposed.jsonl: which answer it is, the API's name, the record as published, its evidence."""
    return {"proposal": key, "name": name, "record": record.to_row(), "evidence": evidence}


def from_row(row: dict[str, Any]) -> tuple[Record, dict[str, Any]]:
    """The record and the evidence of a line of proposed.jsonl."""
    [record] = check_rows([(1, row["record"])], row["proposal"]).records
    return record, row["evidence"]


def to_json(value: Update | Verdict) -> dict[str, Any]:
    return asdict(value)
