"""Which parts of a program can be executed at all: dead code that is cheap to recognise is left out.

Left out are branches that a constant decides (`if False`, `while 0`, `x if True else y`, `False and x`); statements
after return, raise, break or continue in their block; statements that are only a name, an attribute, a constant or a
lambda; functions and lambdas, and classes without a base, that nothing reads.

Not recognised: a branch that some other expression decides, an except clause that no error reaches, a method that
nothing calls, a result that nothing reads.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LEAVES = (ast.Return, ast.Raise, ast.Break, ast.Continue)


def truth(test: ast.expr) -> bool | None:
    """The truth of a constant, also negated; None for any other expression."""
    negated = False
    while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test, negated = test.operand, not negated
    return bool(test.value) != negated if isinstance(test, ast.Constant) else None


def has_no_effect(statement: ast.AST) -> bool:
    """Whether a statement is only a name, an attribute of one, a constant or a lambda."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    while isinstance(value, ast.Attribute):
        value = value.value
    return isinstance(value, ast.Name | ast.Constant | ast.Lambda)


def reached(block: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The statements of a block up to the first that leaves it, without those that have no effect."""
    for statement in block:
        if not has_no_effect(statement):
            yield statement
        if isinstance(statement, LEAVES):
            return


def children(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node that can be executed."""
    test = truth(node.test) if isinstance(node, ast.If | ast.While | ast.IfExp) else None
    decided = isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or)  # the value that ends `or`, and `and`
    for field, value in ast.iter_fields(node):
        if (field, test) in (("body", False), ("orelse", True)):
            continue
        if isinstance(node, ast.BoolOp) and field == "values":
            for operand in node.values:
                yield operand
                if truth(operand) is decided:
                    break
        elif isinstance(value, list):
            yield from reached(part for part in value if isinstance(part, ast.AST))
        elif isinstance(value, ast.AST):
            yield value


def deferred(node: ast.AST) -> str | None:
    """The name that has to be read before a definition does anything; None if the node is no such definition."""
    if isinstance(node, FUNCTIONS) and not node.decorator_list:
        return node.name
    if isinstance(node, ast.ClassDef) and not (node.decorator_list or node.bases or node.keywords):
        return node.name
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda) and len(node.targets) == 1:
        return node.targets[0].id if isinstance(node.targets[0], ast.Name) else None
    return None


def live_nodes(tree: ast.Module, read: Iterable[str] | None) -> list[ast.AST]:
    """The nodes that can be executed. `read`: the names that other code reads; None if that code is unknown, so that
    every definition counts as read."""
    names, waiting = set(read or ()), dict[str, list[ast.AST]]()
    members: set[int] = set()  # definitions in a class body, which are read as attributes
    found: list[ast.AST] = []
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        name = None if read is None or id(node) in members else deferred(node)
        if name is not None and name not in names:
            waiting.setdefault(name, []).append(node)
            continue
        found.append(node)
        if isinstance(node, ast.ClassDef):
            members.update(map(id, node.body))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            names.add(node.id)
            todo += waiting.pop(node.id, [])
        todo += children(node)
    return found
