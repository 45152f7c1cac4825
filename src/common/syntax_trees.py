"""Which syntax trees can be walked: Python's parser accepts trees on which ast.dump and ast.unparse fail."""

from __future__ import annotations

import ast

# Levels of a syntax tree. Python's parser accepts 1,000 and more; code that walks trees by recursion fails at 250
# (ast.dump of elif branches, in Python 3.11), earlier if called from deep inside a trainer. Published rows have
# up to 13.
MAX_DEPTH = 150
MAX_BITS = 14_000  # of an integer: Python prints up to 4,300 digits; the parser reads longer ones in hexadecimal


def depth(tree: ast.AST) -> int:
    """Levels of a syntax tree, counted without recursion."""
    levels, nodes = 0, [tree]
    while nodes:
        nodes = [child for node in nodes for child in ast.iter_child_nodes(node)]
        levels += 1
    return levels


def too_large(tree: ast.AST) -> str | None:
    """Why a tree must not be given to ast.dump, ast.unparse or a recursive function; None if it may."""
    levels = depth(tree)
    if levels > MAX_DEPTH:
        return f"nested too deeply: {levels} levels, at most {MAX_DEPTH}"
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    if any(isinstance(value, int) and value.bit_length() > MAX_BITS for value in constants):
        return "an integer with too many digits"
    return None


def syntax_error(code: str) -> str:
    """Where and why code does not parse, as `: line 3: invalid syntax`; empty if it parses."""
    try:
        ast.parse(code)
    except SyntaxError as error:
        return f": line {error.lineno}: {error.msg}"
    # SystemError: CPython 3.11 raises it on very deep nesting
    except (ValueError, RecursionError, MemoryError, SystemError) as error:
        return f": {error}"
    return ""
