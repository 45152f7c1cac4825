"""Does code use an API? Patterns of names, looked up in the syntax tree with imports resolved.

    unique_counts               any name, attribute or overridden method that is called so
    numpy.unique_counts         one whose full path ends so, however it was imported
    DataFrame.sum               a class before the last name also stands for its instances: `anything.sum`, unless the
                                imports show that it is something else, such as `numpy.sum`
    DataFrame.sum(min_count=)   a call of it that passes this keyword

Names in comments, strings and imports do not count, nor does dead code (src/curation/live_code.py). A variable that
holds a function (`f = numpy.sum`) and a class with one base are followed. A name that is imported and also assigned,
defined or a parameter is not; a name that is imported twice is the last of the two. Not seen: getattr, exec, a keyword
that is passed by position or in a dictionary that has a name. The types of objects are not known.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from common.api_uses import imports
from common.syntax_trees import too_large
from curation.live_code import FUNCTIONS, live_nodes
from curation.similarity import bound
from rewards import syntax_tree

PATTERN = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*)(?:\(([^\W\d]\w*)=\))?")
Path = tuple[str, ...]  # ("numpy", "linalg", "norm"), ("?", "sum")
Use = tuple[Path, frozenset[str]]  # with the keywords of a call
UNKNOWN = "?"  # the first part of a path that starts at an object of the code's own


def pattern(text: str) -> str:
    """The pattern itself. Raises ValueError if it is none."""
    if not PATTERN.fullmatch(text):
        raise ValueError(f"expected a name or a call, such as numpy.sum or DataFrame.sum(min_count=), got {text!r}")
    return text


def loaded(code: str) -> set[str]:
    """The names that code reads."""
    tree = syntax_tree(code)
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)] if tree else []
    return {name.id for name in names if isinstance(name.ctx, ast.Load)}


class Paths:
    """The dotted paths of the names of a tree."""

    def __init__(self, tree: ast.Module) -> None:
        self.own = Counter(bound(tree))
        self.names = {name: path for name, path in imports(tree).items() if name not in self.own}
        self.star = self.names.pop("*", "")[:-1]  # `numpy.` after `from numpy import *`
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                self.follow(node.targets[0], node.value)
            elif isinstance(node, ast.ClassDef) and len(node.bases) == 1:
                self.follow(ast.Name(node.name), node.bases[0])

    def follow(self, target: ast.expr, value: ast.expr) -> None:
        """Resolve a name that is bound once, to something that is imported."""
        path = self.of(value)
        if isinstance(target, ast.Name) and self.own[target.id] == 1 and path and path[0] != UNKNOWN:
            self.names[target.id] = ".".join(path)

    def of(self, node: ast.AST) -> Path | None:
        """The path of a name or an attribute; None for anything else, and for a name of the code's own."""
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.append(node.attr)
            node = node.value
        root = None
        if isinstance(node, ast.Name):
            root = self.names.get(node.id)
            if root is None and self.star and node.id not in self.own:
                root = self.star + node.id
        if root is None:
            return (UNKNOWN, *reversed(attributes)) if attributes else None
        return (*root.split("."), *reversed(attributes))


def keywords(node: ast.Call | ast.ClassDef) -> frozenset[str]:
    """The keywords of a call, with those of a dictionary that is written out in it."""
    spread = [word.value.keys for word in node.keywords if word.arg is None and isinstance(word.value, ast.Dict)]
    keys = [key.value for part in spread for key in part if isinstance(key, ast.Constant)]
    return frozenset(filter(None, [word.arg for word in node.keywords])) | {key for key in keys if isinstance(key, str)}


def members(body: Sequence[ast.stmt]) -> Iterator[str]:
    """What a class body defines."""
    for node in body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            yield node.name
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def uses_of(node: ast.AST, paths: Paths) -> Iterator[tuple[Path | None, frozenset[str]]]:
    """What one node uses: a name that is read, a call, an attribute that is set, a base class and what overrides it."""
    if isinstance(node, ast.Name | ast.Attribute):
        path = paths.of(node)
        if isinstance(node.ctx, ast.Load) or (isinstance(node.ctx, ast.Store) and path and path[0] == UNKNOWN):
            yield path, frozenset()
    elif isinstance(node, ast.Call):
        path = paths.of(node.func)
        yield path, keywords(node)
        if path and path[-1] == "partial" and node.args:
            yield paths.of(node.args[0]), keywords(node)
    elif isinstance(node, ast.ClassDef):
        for base in filter(None, map(paths.of, node.bases)):
            yield base, keywords(node)
            yield from (((*base, name), frozenset()) for name in members(node.body))


def matches(wanted: str, use: Use) -> bool:
    """Whether a use satisfies a pattern."""
    found = PATTERN.fullmatch(wanted)
    assert found
    names, (path, passed) = tuple(found[1].split(".")), use
    if found[2] and found[2] not in passed:
        return False
    is_instance = path[0] == UNKNOWN and len(names) > 1 and names[-2][0].isupper()
    return path[-len(names) :] == names or (is_instance and path[-1] == names[-1])


def missing_uses(code: str, patterns: Sequence[str], check: str | None = None) -> list[str]:
    """The patterns that code does not satisfy: all of them if it does not parse.

    With `check`, the assertions on the code's results, a function that neither of them reads does not count.
    """
    tree = syntax_tree(code)
    if not patterns or tree is None or too_large(tree):
        return list(patterns)
    paths = Paths(tree)
    live = live_nodes(tree, None if check is None else loaded(check))
    uses = {(path, words) for node in live for path, words in uses_of(node, paths) if path}
    return [wanted for wanted in patterns if not any(matches(wanted, use) for use in uses)]
