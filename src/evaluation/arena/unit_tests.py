"""The unit tests of a CodeUpdateArena problem, split into one program each."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True)
class UnitTest:
    """One test function, with the code outside of all tests before it."""

    name: str
    source: str


def _outside_functions(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Every node of these statements, including classes and branches, but not the inside of functions."""
    left = list(body)
    for node in left:  # no recursion: the parser accepts deeper trees than Python's stack
        yield node
        if not isinstance(node, FUNCTIONS):
            left.extend(ast.iter_child_nodes(node))


def _why_not_run(test: ast.FunctionDef | ast.AsyncFunctionDef, body: Sequence[ast.stmt]) -> str | None:
    """Why calling a test function of the file `body` without arguments would not run it; None if it would."""
    if test not in body:
        return "is in a class or a branch: only tests at the top level are run"
    if isinstance(test, ast.AsyncFunctionDef):
        return "is asynchronous: only plain functions are run"
    if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in _outside_functions(test.body)):
        return "is a generator: only plain functions are run"
    if len(test.args.posonlyargs + test.args.args) > len(test.args.defaults) or None in test.args.kw_defaults:
        return "needs arguments"
    return None


def split_tests(source: str) -> tuple[UnitTest, ...]:
    """The test functions of `source`, each with the code outside of all of them.

    Raises ValueError if there is none, or if calling one would not run it (asynchronous, in a class, with a fixture);
    SyntaxError if it is not Python.
    """
    body = ast.parse(source).body
    lines = re.split(r"\r\n?|\n", source)  # as the parser counts them; str.splitlines also splits at a form feed

    def text(node: ast.stmt) -> str:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        return "\n".join(lines[first - 1 : node.end_lineno])

    functions = (node for node in _outside_functions(body) if isinstance(node, FUNCTIONS[:2]))
    tests = [node for node in functions if node.name.startswith("test")]
    for node in tests:
        if why := _why_not_run(node, body):
            raise ValueError(f"{node.name} {why}")
    if not tests:
        raise ValueError("no test function")
    shared = "".join(text(node) + "\n\n" for node in body if node not in tests)
    return tuple(UnitTest(node.name, shared + text(node)) for node in tests)
