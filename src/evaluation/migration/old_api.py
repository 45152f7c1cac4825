"""Does an answer still use the old API? A static estimate: the names that the old code uses and the target does not.

Names are attributes and methods, imported names, the full paths of both as far as the imports show (`scipy.linalg.tri`,
however it was imported), keyword arguments, what a class body defines (an option of `class Meta`, an overridden
method), and string constants such as a frequency "M"; not the code's own variables and functions, no builtins, no
numbers. If an update changes a default or a behaviour, right answers may use every old name: then no name can be
checked, and the estimate is None.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache

from common.api_uses import imports
from rewards import dedent, syntax_tree

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _path(node: ast.expr, imported: dict[str, str]) -> str | None:
    """The dotted path of `np.linalg.norm`; None if it does not begin with an imported name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    root = imported.get(node.id) if isinstance(node, ast.Name) else None
    return root and ".".join([root, *reversed(parts)])


def _names(tree: ast.AST) -> Iterator[str | None]:
    imported = imports(tree)
    nodes = list(ast.walk(tree))
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute | ast.Expr)}  # of a path; docstrings
    for node in nodes:
        if isinstance(node, ast.Attribute):
            yield node.attr
            yield None if id(node) in inner else _path(node, imported)
        elif isinstance(node, ast.keyword):
            yield node.arg and f"{node.arg}="
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                yield from (name.name, f"{node.module or ''}.{name.name}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield repr(node.value)
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                yield part.name if isinstance(part, DEFINITIONS) else None
                targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", None)]
                yield from (target.id for target in targets if isinstance(target, ast.Name))


def names(code: str) -> frozenset[str] | None:
    """The names that the code uses but does not define, with keywords and strings. None if it does not parse."""
    tree = syntax_tree(dedent(code))
    return None if tree is None else frozenset(filter(None, _names(tree)))


@lru_cache(maxsize=4096)
def removed_names(old: str, target: str) -> frozenset[str]:
    """The names that a migration removes; empty if it removes none, or if one side does not parse."""
    before, after = names(old), names(target)
    return frozenset() if before is None or after is None else before - after


def uses_old_api(code: str | None, old: str, target: str) -> bool | None:
    """Whether the code uses a name that the migration removes; None if it does not parse or nothing is removed."""
    mine = None if code is None else names(code)
    removed = removed_names(old, target)
    return None if mine is None or not removed else bool(mine & removed)
