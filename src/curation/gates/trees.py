"""Names, lines and layout of code, as the gates compare them."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator

from rewards import syntax_tree

WORD = re.compile(r"[^\W\d]\w*")
QUOTED = re.compile(r"[\"']([\w.+-]{1,30})[\"']")


def parse(code: str) -> ast.Module:
    """The syntax tree of code that was checked to have one."""
    tree = syntax_tree(code)
    assert tree is not None, code
    return tree


def normalised(code: str) -> str | None:
    """The code in one layout, without comments; None if it does not parse."""
    tree = syntax_tree(code)
    return None if tree is None else ast.unparse(tree)


def has_tree(code: str, tree: ast.AST) -> bool:
    """Whether code parses to this tree."""
    found = syntax_tree(code)
    return found is not None and ast.dump(found) == ast.dump(tree)


def names_of(tree: ast.AST) -> Iterator[str]:
    """The identifiers that a tree reads or writes: names, attributes, keywords of calls, parts of imported paths."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.alias):
            yield from node.name.split(".")
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from node.module.split(".")


def words(note: str) -> set[str]:
    """Everything in a note that could be an identifier."""
    return set(WORD.findall(note))


def code_names(note: str) -> list[str]:
    """The identifiers that a note quotes as code, or that only code would spell so (snake_case, camelCase)."""
    quoted = [name for span in re.findall(r"`([^`]+)`", note) for name in WORD.findall(span)]
    spelled = [word for word in WORD.findall(note) if "_" in word.strip("_") or re.search(r"[a-z][A-Z]", word)]
    return list(dict.fromkeys(quoted + spelled))


def changed_lines(old: str, new: str) -> frozenset[int]:
    """The numbers of the new code's lines that the old code does not have."""
    matcher = difflib.SequenceMatcher(None, old.split("\n"), new.split("\n"), autojunk=False)
    blocks = [opcode for opcode in matcher.get_opcodes() if opcode[0] != "equal"]
    return frozenset(line for *_, start, end in blocks for line in range(start + 1, end + 1))


def difference(before: str, after: str) -> str:
    """The lines that two pieces of code do not share, in one line of text."""
    lines = list(difflib.unified_diff(before.split("\n"), after.split("\n"), lineterm="", n=0))[2:]
    return " | ".join(" ".join(line.split()) for line in lines if line[:1] in "+-")
