"""Operators of mutation on calls, attributes and names: what a model writes that has half understood the note."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

import Levenshtein

from curation.gates.pair import Pair

Change = Callable[[Any], ast.AST]  # from a copy of the node to what replaces it
Changes = Iterator[tuple[str, Change]]  # with the operator's name
Value = str | bytes | bool | int | float | complex | None
SIBLINGS = 6  # other names of the note that are tried in place of one


def without_keyword(place: int) -> Change:
    def change(call: ast.Call) -> ast.AST:
        del call.keywords[place]
        return call

    return change


def with_value(place: int, value: Value) -> Change:
    def change(call: ast.Call) -> ast.AST:
        call.keywords[place].value = ast.Constant(value)
        return call

    return change


def other_values(value: ast.expr, pair: Pair) -> list[Value]:
    """Wrong values in place of one: the other bool, neighbouring numbers, other strings of the note."""
    if not isinstance(value, ast.Constant):
        return [None]
    found = value.value
    if isinstance(found, bool):
        return [not found]
    if isinstance(found, int | float):
        return [found + 1, -found if found else 2]
    if isinstance(found, str):
        return [*[text for text in pair.note_values if text != found][:2], "zz"]
    return [0]


def keywords(node: ast.AST, pair: Pair) -> Changes:
    """A new keyword is left out, or gets another value."""
    if not (isinstance(node, ast.Call) and pair.is_changed(node)):
        return
    for place, keyword in enumerate(node.keywords):
        if keyword.arg and (keyword.arg, ast.dump(keyword.value)) not in pair.old_keywords:
            yield "new keyword dropped", without_keyword(place)
            for value in other_values(keyword.value, pair):
                yield "new keyword's value changed", with_value(place, value)


def called(node: ast.Call) -> str | None:
    """The last name of what is called."""
    return getattr(node.func, "attr", getattr(node.func, "id", None))


def arguments(node: ast.AST, pair: Pair) -> Changes:
    """Positional arguments are swapped, or the last one is left out, where the old code has no such call."""
    if not (isinstance(node, ast.Call) and pair.is_changed(node)):
        return
    name, count = called(node), len(node.args)
    olds = [len(call.args) for call in ast.walk(pair.old) if isinstance(call, ast.Call) and called(call) == name]

    def swap(call: ast.Call) -> ast.AST:
        call.args[:2] = call.args[1::-1]
        return call

    def drop(call: ast.Call) -> ast.AST:
        call.args.pop()
        return call

    if count >= 2 and name not in pair.old_names:
        yield "arguments swapped", swap
    if count and max(olds, default=-1) < count:
        yield "last argument dropped", drop


def dropped_names(node: ast.AST, pair: Pair) -> Changes:
    """A new method, attribute or index is left out, or a new call is replaced by its first argument."""
    if not (pair.is_changed(node) and isinstance(getattr(node, "ctx", None), ast.Load | None)):
        return
    if isinstance(node, ast.Attribute) and node.attr not in pair.old_names:
        yield "new name dropped", lambda attribute: attribute.value
    elif isinstance(node, ast.Subscript) and pair.is_new(node):
        yield "new name dropped", lambda subscript: subscript.value
    elif isinstance(node, ast.Call) and called(node) not in pair.old_names:
        if node.args and not isinstance(node.args[0], ast.Starred):
            yield "new name dropped", lambda call: call.args[0]
        if isinstance(node.func, ast.Attribute):
            yield "new name dropped", lambda call: call.func.value


def siblings(name: str, pair: Pair) -> list[str]:
    """The names of the note, new to the code, that are most like this one."""
    others = [other for other in pair.note_names if other not in pair.old_names and other != name]
    return sorted(others, key=lambda other: -Levenshtein.ratio(name, other))[:SIBLINGS]


def renamed(field: str, name: str) -> Change:
    def change(node: ast.AST) -> ast.AST:
        setattr(node, field, name)
        return node

    return change


def renamed_everywhere(before: str, after: str) -> Change:
    """For the module: an imported name is another one, where it is imported and where it is used."""

    def change(module: ast.Module) -> ast.AST:
        for node in ast.walk(module):
            if isinstance(node, ast.Name) and node.id == before:
                node.id = after
            elif isinstance(node, ast.alias) and node.name == before:
                node.name = after
        return module

    return change


def other_names(node: ast.AST, pair: Pair) -> Changes:
    """Another name of the note stands in place of a new attribute, keyword or import."""
    if isinstance(node, ast.Module):
        imports = [one for one in ast.walk(node) if isinstance(one, ast.ImportFrom)]
        for name in {alias.name for one in imports for alias in one.names} - pair.old_names:
            for other in siblings(name, pair):
                yield "another name of the note", renamed_everywhere(name, other)
    elif isinstance(node, ast.Attribute) and node.attr not in pair.old_names and pair.is_changed(node):
        for other in siblings(node.attr, pair):
            yield "another name of the note", renamed("attr", other)
    elif isinstance(node, ast.keyword) and node.arg and node.arg not in pair.old_names:
        for other in siblings(node.arg, pair):
            yield "another name of the note", renamed("arg", other)


OPERATORS = (keywords, arguments, dropped_names, other_names)
