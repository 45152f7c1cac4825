"""Operators of mutation on values, predicates and statements."""

from __future__ import annotations

import ast

from curation.gates.calls import Change, Changes, Value
from curation.gates.pair import Pair

OTHER = {
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In},
}
LONG_STRING = 40
COMPOUND = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.With, ast.AsyncWith),
    *(ast.For, ast.AsyncFor, ast.While, ast.If, ast.Try, ast.Match),
)
PREDICATE = "predicate always true or false"


def constant(value: Value) -> Change:
    return lambda _: ast.Constant(value)


def values(node: ast.AST, pair: Pair) -> Changes:
    """A new number, string or bool is another one; a new comparison is its neighbour; a new `not` is left out."""
    if not pair.is_new(node):
        return
    operator = "new value changed"
    if isinstance(node, ast.Constant):
        found = node.value
        if isinstance(found, bool):
            yield operator, constant(not found)
        elif isinstance(found, int | float):
            yield operator, constant(found + 1)
            yield operator, constant(found * 10 or 5)
        elif isinstance(found, str) and len(found) < LONG_STRING:
            yield operator, constant("zz")
    elif isinstance(node, ast.Compare):

        def flip(compare: ast.Compare) -> ast.AST:
            compare.ops[0] = OTHER[type(compare.ops[0])]()
            return compare

        yield operator, flip
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield operator, lambda unary: unary.operand


def with_field(name: str, value: Value) -> Change:
    def change(node: ast.AST) -> ast.AST:
        setattr(node, name, ast.Constant(value))
        return node

    return change


def results(node: ast.AST, pair: Pair) -> Changes:
    """What a changed line assigns or returns is None."""
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.Return) and node.value and pair.is_changed(node):
        yield "result None", with_field("value", None)


def predicates(node: ast.AST, pair: Pair) -> Changes:
    """A condition is always true, or always false.

    Conditions are the tests of `if`, of conditional expressions and of comprehensions, in changed lines and in
    functions whose header changed (a validator under a new decorator); and what changed lines assign or return, if it
    can be a bool: then the check has to see both sides of it.
    """
    if isinstance(node, ast.If | ast.IfExp) and pair.is_in(node.test, pair.reached):
        yield PREDICATE, with_field("test", True)
        yield PREDICATE, with_field("test", False)
    elif isinstance(node, ast.comprehension) and node.ifs and pair.is_in(node.ifs[0], pair.reached):
        for value in (True, False):
            yield PREDICATE, with_filter(value)
    elif (
        isinstance(node, ast.Assign | ast.AnnAssign | ast.Return)
        and isinstance(node.value, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Call)
        and pair.is_in(node, pair.reached)
    ):
        yield PREDICATE, with_field("value", True)
        yield PREDICATE, with_field("value", False)


def with_filter(value: bool) -> Change:
    def change(node: ast.comprehension) -> ast.AST:
        node.ifs[0] = ast.Constant(value)
        return node

    return change


def deletions(node: ast.AST, pair: Pair) -> Changes:
    """A changed statement or decorator is deleted."""
    if isinstance(node, ast.stmt) and not isinstance(node, COMPOUND) and pair.is_changed(node):
        yield "statement deleted", lambda _: ast.Pass()
    for place, decorator in enumerate(getattr(node, "decorator_list", ())):
        if pair.is_changed(decorator):
            yield "statement deleted", without_decorator(place)


def without_decorator(place: int) -> Change:
    def change(node: ast.FunctionDef) -> ast.AST:
        del node.decorator_list[place]
        return node

    return change


OPERATORS = (values, results, predicates, deletions)
