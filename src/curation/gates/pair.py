"""The two snippets of a record as trees, and what the operators of mutation ask about a node of the new one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from curation.gates.trees import QUOTED, changed_lines, code_names, names_of, parse


def keyword_values(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(name, value) of every keyword of a call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg:
            yield node.arg, ast.dump(node.value)


def header_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[int]:
    """The lines of a function from its first decorator to its first statement."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return set(range(first, node.body[0].lineno))


@dataclass(frozen=True)
class Pair:
    """The trees of both snippets, and what the new one has that the old one does not."""

    old: ast.Module
    new: ast.Module
    note_names: tuple[str, ...]  # identifiers that the note quotes
    note_values: tuple[str, ...]  # strings that it quotes
    changed: frozenset[int]  # lines of the new code
    reached: frozenset[int]  # these, and the bodies of functions whose header changed
    old_names: frozenset[str]
    old_dumps: frozenset[str]  # of every node of the old code
    old_keywords: frozenset[tuple[str, str]]

    def is_in(self, node: ast.AST, lines: frozenset[int]) -> bool:
        """Whether a node touches one of these lines."""
        start, end = getattr(node, "lineno", None), getattr(node, "end_lineno", None)
        return start is not None and end is not None and not lines.isdisjoint(range(start, end + 1))

    def is_changed(self, node: ast.AST) -> bool:
        return self.is_in(node, self.changed)

    def is_new(self, node: ast.AST) -> bool:
        """Whether a node is in a changed line, and nowhere in the old code."""
        return self.is_changed(node) and ast.dump(node) not in self.old_dumps


def read_pair(old_code: str, new_code: str, note: str) -> Pair:
    old, new = parse(old_code), parse(new_code)
    changed = reached = changed_lines(old_code, new_code)
    for node in ast.walk(new):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and changed & header_lines(node):
            reached |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return Pair(
        old=old,
        new=new,
        note_names=tuple(code_names(note)),
        note_values=tuple(dict.fromkeys(QUOTED.findall(note))),
        changed=changed,
        reached=reached,
        old_names=frozenset(names_of(old)),
        old_dumps=frozenset(ast.dump(node) for node in ast.walk(old)),
        old_keywords=frozenset(keyword_values(old)),
    )
