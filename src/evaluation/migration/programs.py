"""The programs that the sandbox runs for migration answers, and the status of an answer.

Unlike the programs of the proofs (src/curation/proof.py), whose code is ours, these do not trust the code: an answer
that replaces what its check calls, returns values that equal everything, or reads the check from its callers' frames is
`tampered` (src/evaluation/tampering.py). So is one that mentions an operator which neither its record's old code nor
its target mentions: a check is made of operators. An operator whose name is put together at run time is not seen,
and a right answer that mentions one without need, such as `self.__class__`, is rejected.
"""

from __future__ import annotations

import ast
import builtins
import re
from pathlib import Path

import sandbox
from common.api_uses import imports
from curation import proof
from curation.evidence import Evidence
from curation.similarity import bound
from curation.use import loaded, missing_uses
from records import Record

FOLDER = Path(__file__).parent
PARTS = (
    (FOLDER.parent / "tampering.py").read_text("utf-8"),
    proof.PROGRAM,
    (FOLDER / "runner.py").read_text("utf-8"),
)
NAMED = {"SystemExit": "exit", "AssertionError": "assertion", "MemoryError": "memory", "Tampered": "tampered"}
OPERATORS = {
    *("eq", "ne", "lt", "le", "gt", "ge", "bool", "len", "contains", "hash", "abs", "round", "int", "float", "index"),
    *("complex", "neg", "pos", "invert", "getattr", "getattribute", "getitem", "instancecheck", "subclasscheck"),
    *("class", "array", "array_ufunc", "array_function", "torch_function"),
    *(
        f"{side}{name}"
        for side in ("", "r", "i")
        for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")
    ),
}


def own_operators(code: str, record: Record) -> list[str]:
    """The operators that only the answer mentions."""
    mine, ours = (set(re.findall(r"__(\w+?)__", text)) for text in (code, record.old_code + record.new_code))
    return sorted((mine - ours) & OPERATORS)


def program(code: str, record: Record, check: str, wrapper: str | None = None) -> str:
    """The source of the program that runs an answer's code, then the check of its record.

    `wrapper` installs the update first, if it is invented (src/curation/proof.py).
    """
    target, asserted = ast.parse(record.new_code), ast.parse(check)
    aliases = imports(target)
    paths = [*aliases.values(), *imports(asserted).values()]
    job = {
        "code": code,
        "check": check,
        "wrapper": wrapper,
        "aliases": aliases,
        "bound": sorted(set(bound(target)) | {*aliases}),
        "read": sorted(loaded(check) - set(dir(builtins))),
        "roots": sorted({path.partition(".")[0] for path in paths}),
    }
    parts = "".join(f"exec(compile({part!r}, '<runner>', 'exec', dont_inherit=True), space)\n" for part in PARTS[:-1])
    last = f"compile({PARTS[-1]!r}, '<runner>', 'exec', dont_inherit=True)"
    return (
        f"import builtins\nspace = {{'__builtins__': dict(vars(builtins)), '__name__': 'runner', 'job': {job!r}}}\n"
        f"{parts}exec({last}, vars().pop('space'))\n"  # the answer could read __main__'s names
    )


def status(verdict: sandbox.Verdict, code: str, record: Record, evidence: Evidence) -> tuple[str, str]:
    """(status, message) of one run."""
    if found := own_operators(code, record):
        return "tampered", f"only the answer mentions __{found[0]}__"
    said = proof.outcome(verdict)
    kind, text = said["outcome"], said["text"]
    named = NAMED.get(text.partition(":")[0].rpartition(".")[2])
    if named == "tampered":
        kind = named
    elif kind in ("error", "limit"):  # seen by the program itself, or by the sandbox
        kind = verdict.status if text == verdict.detail else named or "error"
    if kind == "ok" and (missing := missing_uses(code, evidence.use, evidence.check)):
        kind, text = "unused", f"does not use {', '.join(missing)}"
    return {"ok": "pass", "warning": "deprecated"}.get(kind, kind), text
