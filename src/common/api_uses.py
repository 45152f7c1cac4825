"""The functions and attributes that a piece of code uses, as dotted paths."""

from __future__ import annotations

import ast
from collections import Counter
from typing import Any


def imports(tree: ast.AST) -> dict[str, str]:
    """Imported name -> its dotted path."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                top = name.name.partition(".")[0]
                found[name.asname or top] = name.name if name.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
    return found


def modules(tree: ast.Module) -> set[str]:
    """The modules that code needs to run at all: those that its top level imports."""
    plain = {name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names}
    return plain | {node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.module}


def uses(tree: ast.AST) -> Counter[tuple[Any, ...]]:
    """(path, positional arguments, keywords) of every call, (path,) of every import and attribute.

    Paths start at an import (`numpy.linalg.norm`) or are `.name`; calls of other bare names are left out.
    """
    names = imports(tree)

    def path(node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return names.get(node.id, "")
        if not isinstance(node, ast.Attribute):
            return ""
        attributes = []
        while isinstance(node, ast.Attribute):  # no recursion: a chain can be deeper than Python's stack
            attributes.append(node.attr)
            node = node.value
        base = path(node)
        return ".".join([base, *reversed(attributes)]) if base else f".{attributes[0]}"

    found: Counter[tuple[Any, ...]] = Counter((name,) for name in names.values() if "." in name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and path(node.func):
            found[path(node.func), len(node.args), tuple(sorted(word.arg or "**" for word in node.keywords))] += 1
        elif isinstance(node, ast.Attribute):
            found[(path(node),)] += 1
    return found
