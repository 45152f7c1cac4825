"""What the sandbox runs for one unit test of one candidate.

programs.py hands the texts of tampering.py and of this file, and a `job`, to the sandbox in one program, which runs
them one after the other in one namespace with builtins of its own. The test gets the names that were bound before the
candidate, and Python's builtins, as they were then; of the candidate's names it gets the others. tampering.py checks
that the candidate does not meddle with the verdict. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import builtins
import importlib
import io
import linecache
import os
import random
import sys
import types
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # in the sandbox the namespace holds these names already
    from evaluation.tampering import (
        FOLLOWS,
        Tampered,
        Watch,
        forbid,
        guarded,
        imported,
        label,
        owner,
        refuse,
        watched,
    )

    job: dict = {}


def module(name: str) -> dict:
    sys.modules[name] = made = types.ModuleType(name)
    scope = vars(made)
    scope["__builtins__"] = vars(builtins)  # not this file's own
    return scope


def show(part: str, source: str) -> None:
    """Let tracebacks quote a part's source."""
    file = f"<{part}>"
    linecache.cache[file] = len(source), None, io.StringIO(source, newline=None).readlines(), file


def run(part: str, source: str, scope: dict) -> None:
    exec(compile(source, f"<{part}>", "exec", dont_inherit=True), scope)


def put_in_force(job: dict) -> tuple[dict, set[str]]:
    """Run imports, implementations and patches: (the candidate's namespace, the attributes that the updates patch)."""
    solution = module("solution")
    updates = job["updates"]
    scopes = [solution] if len(updates) == 1 else [module(f"update_{i}") for i in range(len(updates))]
    pairs = list(zip(updates, scopes))  # noqa: B905 (Python 3.9 knows no strict)
    show("imports", job["imports"])
    run("imports", job["imports"], solution)
    for update, scope in pairs:
        run("imports", update["imports"], scope)
    for update, scope in pairs:
        show("update", update["implementation"])
        run("update", update["implementation"], scope)
    patched = set()
    for update, scope in pairs:
        place, old = owner(update["path"]), update["path"].rpartition(".")[2]
        patched |= {f"{label(place)}.{name}" for name in (old, update["name"])}
        if update["in_force"]:
            if update["renames"]:
                delattr(place, old)
            setattr(place, update["name"], scope[update["name"]])
    return solution, patched


def seed() -> None:
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def names_of_test(given: dict, imports: dict, solution: dict, asked: list[str]) -> dict:
    """The test's namespace (see the module's docstring)."""
    mine = {name: value for name, value in solution.items() if name in asked or not hasattr(builtins, name)}
    same = {name: value for name, value in imports.items() if name in mine}
    kept = {name: value for name, value in given.items() if name not in asked}
    return {**mine, **same, **kept, "__builtins__": builtins}


def main(job: dict) -> None:
    solution, patched = put_in_force(job)
    if not job["call"]:
        return
    for name in job["modules"]:
        with suppress(ImportError):  # then the test itself fails
            importlib.import_module(name)
    if "torch" in sys.modules:
        with suppress(ImportError):  # it replaces torch.manual_seed: before the snapshot, not during an honest answer
            importlib.import_module("torch._dynamo")
    imports = imported(job["aliases"])
    seed()
    given = dict(solution)
    watch = Watch(watched(given, job["modules"]), patched | FOLLOWS)
    reasons: list[str] = []
    test: dict = {}
    show("candidate", job["candidate"])
    file = str(sys.modules["__main__"].__file__)
    linecache.cache.pop(file, None)
    os.unlink(file)
    forbid([globals(), test])

    run("candidate", job["candidate"], solution)
    refuse(watch.changes(), reasons)
    test.update(names_of_test(given, imports, solution, job["asked"]))
    for name in job["asked"]:
        if callable(test.get(name)) and not issubclass(type(test[name]), type):
            test[name] = guarded(test[name], watch, reasons, solution)
    try:
        run("test", job["test"], test)
        run("call", job["call"], test)
    except BaseException:
        if not reasons:
            show("test", job["test"])
            raise
    if not job["patches"]:  # else the test itself changes libraries
        refuse(watch.changes(), reasons)
    if reasons:
        raise Tampered(reasons[0])


main(job)
