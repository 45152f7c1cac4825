"""The programs that the sandbox runs for a sample, and how their verdicts become one outcome.

One program per unit test, so that each starts from a freshly patched library. It runs in CodeUpdateArena's order: the
imports (they save the old function as `old_X`), the updated implementation, the patch, the candidate, one test, its
call. Importing again after the patch would save the *new* function as old: endless recursion. As in the benchmark, one
namespace holds all of it, so the implementation is also visible by its bare name (references rely on that), and updates
named like a builtin (`sum`, `max`, `pow`, `compile`) shadow it. But the test runs in a copy of it, in which the
candidate has not replaced what the test calls (src/evaluation/arena/runner.py). With several updates, each has its own
namespace, because their helpers may clash.

Random generators are seeded after the patch. A control without the update runs the same program without the patch.
"""

from __future__ import annotations

import ast
import builtins
import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sandbox
from common.api_uses import imports as imported_paths
from evaluation.arena.problems import ApiUpdate, Task
from rewards import parses

# Imported once by the sandbox's server, not by each program; the memory limit counts from there. torch.optim and
# others import torch._dynamo at their first use, which replaces torch.manual_seed.
LIBRARIES = ("numpy", "torch", "torch._dynamo", "scipy.special", "sympy", "pandas", "pytest")

FOLDER = Path(__file__).parent
PARTS = tuple(path.read_text("utf-8") for path in (FOLDER.parent / "tampering.py", FOLDER / "runner.py"))
TAMPERED = "runner.Tampered: "  # raised against a candidate that meddles with its verdict


@dataclass(frozen=True)
class Outcome:
    """The result of a sample. `status`: pass, no code, syntax, tampered, or the sandbox's on the first failing test."""

    status: str
    test: str = ""
    detail: str = ""

    @property
    def passed(self) -> bool:
        return self.status == "pass"


def preload(tasks: Iterable[Task]) -> tuple[str, ...]:
    """The modules to import once: LIBRARIES, or none if the tasks stay within the standard library.

    Not only those that the tasks name, because seeding reaches only what is imported before the candidate. pandas only
    if named: it draws no random numbers of its own, and it may start pyarrow's threads, which are not fork-safe.
    """
    texts = [text for task in tasks for text in (task.imports, *(update.imports for update in task.updates))]
    roots = {path.partition(".")[0] for text in texts for path in imported_paths(ast.parse(text)).values()}
    if not roots & {name.partition(".")[0] for name in LIBRARIES}:
        return ()
    return tuple(name for name in LIBRARIES if name != "pandas" or name in roots)


def program(task: Task, code: str, test: int | None, in_force: Collection[int]) -> str:
    """The source of the program that runs `code` and one unit test with some of the task's updates in force.

    `test=None`: only imports, implementation and patch; neither candidate nor test.
    """
    names = ("path", "name", "renames", "imports", "implementation")  # what src/evaluation/arena/runner.py reads
    updates = [
        {**{name: getattr(update, name) for name in names}, "in_force": i in in_force}
        for i, update in enumerate(task.updates)
    ]
    job: dict[str, Any] = {"imports": task.imports, "updates": updates, "candidate": code, "call": ""}
    if test is not None:
        name, source = task.tests[test].name.rpartition(".")[2], task.tests[test].source
        job |= {"test": source, "call": f"{name}()", **_facts(task.reference, source)}
    checks, runner = (f"compile({part!r}, '<runner>', 'exec', dont_inherit=True)" for part in PARTS)
    return (
        f"import builtins\nspace = {{'__builtins__': dict(vars(builtins)), '__name__': 'runner', 'job': {job!r}}}\n"
        f"exec({checks}, space)\nexec({runner}, vars().pop('space'))\n"  # the candidate could read __main__'s names
    )


@functools.cache
def _reference(code: str) -> tuple[list[str], dict[str, str]]:
    """(the names that a reference defines, imported name -> dotted path); both empty if it does not parse."""
    body = ast.parse(code).body if parses(code) else []
    defined = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    assigned = {target.id for target in targets if isinstance(target, ast.Name)}
    imported: list[ast.stmt] = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    return sorted(defined | assigned), imported_paths(ast.Module(imported, []))


@functools.cache
def _facts(reference: str, test: str) -> dict[str, Any]:
    """What a test needs of a candidate, and what else it uses (src/evaluation/arena/runner.py)."""
    tree = ast.parse(test)
    asked, aliases = _reference(reference)
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute)]
    words = {node.id if isinstance(node, ast.Name) else node.attr for node in names}
    sets = any(isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load) for node in names)
    return {
        "asked": asked,
        "aliases": aliases,
        "modules": sorted({path.partition(".")[0] for path in imported_paths(tree).values()}),
        "patches": sets or bool(words & {"setattr", "delattr", "patch", "MonkeyPatch"}),
    }


def judge(
    samples: Sequence[tuple[Task, str | None]], in_force: Collection[int] | None = None, **options: Any
) -> list[Outcome]:
    """The outcome of each (task, code), in order; a sample passes if all of its task's tests pass.

    `in_force`: the updates that are patched in, all of them by default. Equal samples run once. One test of each sample
    runs first, then the other tests of those that passed it, so that most failures cost one program. `options` go to
    sandbox.run_all, which raises sandbox.InfrastructureError.
    """
    outcomes: dict[tuple[str, str | None], Outcome] = {}
    open_jobs: dict[tuple[str, str], Task] = {}
    for task, code in samples:
        if not code:
            outcomes[task.id, code] = Outcome("no code")
        elif not parses(code):
            outcomes[task.id, code] = Outcome("syntax")
        else:
            open_jobs[task.id, code] = task
    modules = preload(task for task, _ in samples)
    for later in (False, True):
        runs = [
            (key, test)
            for key, task in open_jobs.items()
            for test in range(len(task.tests))
            if (test > 0) == later and key not in outcomes
        ]
        programs = [
            program(open_jobs[key], key[1], test, range(len(open_jobs[key].updates)) if in_force is None else in_force)
            for key, test in runs
        ]
        verdicts = sandbox.run_all(programs, preload=modules, **options) if programs else []
        for (key, test), verdict in zip(runs, verdicts, strict=True):
            if verdict.status != "pass" and key not in outcomes:
                tampered = sandbox.last_line(verdict.detail).startswith(TAMPERED)
                status = "tampered" if tampered else verdict.status
                outcomes[key] = Outcome(status, open_jobs[key].tests[test].name, verdict.detail)
    return [outcomes.get((task.id, code), Outcome("pass")) for task, code in samples]


def broken_updates(tasks: Sequence[Task], **options: Any) -> Mapping[str, str]:
    """Ids of the tasks whose updates cannot be put in force here (a library is missing, say) -> the error."""
    by_update: dict[tuple[str, ...], list[Task]] = {}
    for task in tasks:
        by_update.setdefault((task.imports, *(update.id for update in task.updates)), []).append(task)
    groups = list(by_update.values())
    programs = [program(group[0], "", None, range(len(group[0].updates))) for group in groups]
    verdicts = sandbox.run_all(programs, preload=preload(tasks), **options)
    return {
        task.id: verdict.detail
        for group, verdict in zip(groups, verdicts, strict=True)
        if verdict.status != "pass"
        for task in group
    }


def called_functions(code: str, imports: str = "") -> set[str]:
    """The dotted paths of the functions that `code`, which parses, calls: aliases and imported names are resolved.

    A method of an unknown object is `.name`, a bare name that is not imported is itself.
    """
    tree = ast.parse(code)
    names = imported_paths(ast.parse(imports)) | imported_paths(tree)

    def dotted(node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return names.get(node.id, node.id)
        return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""

    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    methods = {f".{node.attr}" for node in called if isinstance(node, ast.Attribute)}
    return {dotted(node) for node in called} | methods


def calls(code: str | None, update: ApiUpdate, imports: str = "") -> bool:
    """Whether `code` calls the updated function. An estimate from the source: a call through a variable is missed.

    A method counts by its name alone, whatever its object. The bare name counts too (the benchmark's namespace has it),
    unless it is also a builtin's.
    """
    if not code or not parses(code):
        return False
    called = called_functions(code, imports)
    is_method = update.path.split(".")[-2][:1].isupper()
    bare = update.name in called and not hasattr(builtins, update.name)
    return update.new_path in called or bare or (is_method and f".{update.name}" in called)
