"""What the sandbox runs for one answer: its code, then the check of its record, which the code cannot rig.

programs.py hands the texts of src/evaluation/tampering.py, src/curation/proof_program.py and this file, and a `job`, to
the sandbox in one program, which runs them one after the other in one namespace with builtins of its own. The check
gets what the code has bound, except that what its record's target imports, and Python's builtins that the target does
not replace, are the real ones. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import builtins
import importlib
import linecache
import os
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # in the sandbox the namespace holds these names already
    from curation.proof_program import UNDER_TEST, execute, install, report
    from evaluation.tampering import FOLLOWS, Watch, forbid, guarded, imported, is_rigged, refuse, watched

    job: dict = {}


def names_of_check(scope: dict, job: dict) -> dict:
    """The check's namespace (see the module's docstring)."""
    mine = {name: value for name, value in scope.items() if name in job["bound"] or not hasattr(builtins, name)}
    read = {name: path for name, path in job["aliases"].items() if name in job["read"] and name in mine}
    return {**mine, **imported(read), "__builtins__": builtins}


def changes(watch: Watch) -> set[str]:
    """What the code has replaced. Private names may be new: SQLAlchemy adds some to its classes at their first use."""
    return {name for name in watch.changes() if "__" in name or not name.rpartition(".")[2].startswith("_")}


@contextmanager
def quietly() -> Iterator[None]:
    """Looking at a library can warn: pydantic's deprecated classes do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def main(job: dict) -> None:
    file = str(sys.modules["__main__"].__file__)
    linecache.cache.pop(file, None)
    os.unlink(file)
    answer = sys.modules["__main__"] = types.ModuleType("__main__")
    scope: dict = vars(answer)
    test: dict = {}
    reasons: list[str] = []
    watches: list[Watch] = []
    scope["__builtins__"] = vars(builtins)
    UNDER_TEST.extend((scope, test))

    def run_code() -> None:
        for name in job["roots"]:
            with suppress(Exception):  # its import may need what the code does first
                importlib.import_module(name)
        if job["wrapper"]:
            install(job["wrapper"])
        with quietly():
            # torch._dynamo, which torch imports at the first use of some of its parts, replaces torch.manual_seed
            watches.append(Watch(watched({}, job["roots"]), {*FOLLOWS, "torch.manual_seed"}))
        forbid([globals(), test])
        execute("<record>", job["code"], scope)
        refuse(changes(watches[0]), reasons)

    def run_check() -> None:
        test.update(names_of_check(scope, job))
        for name in job["read"]:
            with quietly():
                rigged = is_rigged(test.get(name), scope)
            if rigged:
                refuse(["what values are equal"], reasons)
            if isinstance(test.get(name), types.FunctionType):
                test[name] = guarded(test[name], watches[0], reasons, scope)
        execute("<check>", job["check"], test)
        refuse(reasons or changes(watches[0]), [])

    report([("error", run_code), ("check", run_check)])


main(job)
