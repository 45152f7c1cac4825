"""Import forms: `from a import b` against `import a` with `a.b`, for imports whose form nothing fixes.

The note fixes a form that it writes out. The old code fixes it by an import of the same form that the new one replaces,
or by one of the same form from the same module.
"""

from __future__ import annotations

import ast
import builtins
import copy
import re
from collections.abc import Iterator, Mapping

from common.api_uses import imports
from curation.gates.pair import Pair
from curation.gates.trees import has_tree
from curation.similarity import bound
from records import Record

Import = ast.Import | ast.ImportFrom


class _Change(ast.NodeTransformer):
    """Other imports in place of one, and other expressions in place of names and attributes."""

    def __init__(self, statement: Import, after: str, uses: Mapping[str, str]) -> None:
        self.statement, self.after = ast.dump(statement), after
        self.uses = {ast.dump(ast.parse(before, mode="eval").body): path for before, path in uses.items()}

    def visit(self, node: ast.AST) -> ast.AST | list[ast.stmt]:
        dump = ast.dump(node)
        if dump == self.statement:
            return ast.parse(self.after).body
        return ast.parse(self.uses[dump], mode="eval").body if dump in self.uses else self.generic_visit(node)


def changed(code: str, tree: ast.Module, statement: Import, after: str, uses: Mapping[str, str]) -> str | None:
    """The code with another import (or none) and other uses; None if the edit would change anything else."""
    pattern = re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, uses))})(?!\w)")
    lines = code.split("\n")
    start, end = statement.lineno - 1, statement.end_lineno or statement.lineno
    edited = [pattern.sub(lambda found: uses[found[0]], line) for line in lines]
    indent = " " * statement.col_offset
    text = "\n".join([*edited[:start], *([indent + after] if after else []), *edited[end:]])
    expected = _Change(statement, after, uses).visit(copy.deepcopy(tree))
    return text if isinstance(expected, ast.AST) and has_tree(text, expected) else None


def origin(statement: Import) -> set[str | None]:
    """The modules that a statement imports, or imports from."""
    if isinstance(statement, ast.ImportFrom):
        return {statement.module}
    return {alias.name for alias in statement.names}


def is_fixed(statement: Import, record: Record, pair: Pair) -> bool:
    if ast.unparse(statement) in " ".join(record.update_info.split()):
        return True
    kept = {ast.unparse(node) for node in ast.walk(pair.new) if isinstance(node, Import)}
    olds = [node for node in ast.walk(pair.old) if type(node) is type(statement)]
    return any(ast.unparse(node) not in kept or origin(node) & origin(statement) for node in olds)


def may_be_module(name: str, tree: ast.AST) -> bool:
    """Whether code reads nothing of a name but its attributes: `import a.b` is another thing if it is a module."""
    bases = [node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == name]
    return name.islower() and all(node in bases for node in uses)


def as_modules(statement: ast.ImportFrom, record: Record, pair: Pair) -> Iterator[str | None]:
    """`from a.b import c` as `import a.b` with `a.b.c`, and as `from a import b` with `b.c`."""
    names, module = [alias.name for alias in statement.names], statement.module
    if not module or statement.level or any(alias.asname for alias in statement.names):
        return
    if {*names} & {"*", *bound(pair.new)} or any(may_be_module(name, pair.new) for name in names):
        return
    known = {path: name for name, path in imports(pair.new).items()}  # module -> the name that it already has
    parent, _, last = module.rpartition(".")
    forms = [(f"import {module}", module)]
    if module in known:
        forms = [("", known[module])]
    elif parent and last not in {*imports(pair.new), *bound(pair.new)}:
        forms.append((f"from {parent} import {last}", last))
    for after, prefix in forms:
        yield changed(record.new_code, pair.new, statement, after, {name: f"{prefix}.{name}" for name in names})


def as_names(statement: ast.Import, record: Record, pair: Pair) -> Iterator[str | None]:
    """`import a` as `from a import b` with `b`, if nothing else of `a` is used."""
    module = statement.names[0].name
    if len(statement.names) > 1 or statement.names[0].asname:
        return
    nodes = list(ast.walk(pair.new))
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) == module}
    taken = {node.id for node in nodes if isinstance(node, ast.Name)} | {*imports(pair.new), *bound(pair.new)}
    if not names or names & {*taken, *dir(builtins)}:
        return
    uses = {f"{module}.{name}": name for name in sorted(names)}
    code = changed(record.new_code, pair.new, statement, f"from {module} import {', '.join(sorted(names))}", uses)
    root = module.partition(".")[0]
    if code and not any(isinstance(node, ast.Name) and node.id == root for node in ast.walk(ast.parse(code))):
        yield code


def import_forms(record: Record, pair: Pair) -> Iterator[str]:
    for node in ast.walk(pair.new):
        if isinstance(node, Import) and pair.is_new(node) and not is_fixed(node, record, pair):
            found = as_names(node, record, pair) if isinstance(node, ast.Import) else as_modules(node, record, pair)
            yield from filter(None, found)
