"""Mutants: wrong migrations, made from the target by its syntax tree, that a record's check must reject.

Whole programs: nothing at all, the imports alone, the old code. Halves: one of several changes is missing, or made
alone. Lazy: the old code without the keyword that the new version rejects. The others change one node of the target
(src/curation/gates/calls.py, statements.py), in lines that the migration changed.
"""

from __future__ import annotations

import ast
import copy
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from curation.gates import calls, statements
from curation.gates.calls import Change, Changes, without_keyword
from curation.gates.pair import Pair, keyword_values, read_pair
from curation.gates.trees import normalised, parse
from records import Record

TOKEN = re.compile(r"\w+|[ \t]+|\n|[^\w\s]")
OPERATORS = (*calls.OPERATORS, *statements.OPERATORS)


@dataclass(frozen=True)
class Mutant:
    """A wrong migration: how it was made, and its code in the layout of ast.unparse."""

    operator: str
    code: str


class _Replace(ast.NodeTransformer):
    def __init__(self, node: ast.AST, change: Change) -> None:
        self.node, self.change = node, change

    def visit(self, node: ast.AST) -> ast.AST:
        return self.change(node) if node is self.node else self.generic_visit(node)


def changed(tree: ast.Module, place: int, change: Change) -> str:
    """The code of a tree whose node number `place` (in the order of ast.walk) is changed."""
    whole = copy.deepcopy(tree)
    node = list(ast.walk(whole))[place]
    return ast.unparse(ast.fix_missing_locations(_Replace(node, change).visit(whole)))


def whole_programs(pair: Pair) -> Iterator[Mutant]:
    imports = [node for node in pair.new.body if isinstance(node, ast.Import | ast.ImportFrom)]
    yield Mutant("empty program", "")
    yield Mutant("imports only", ast.unparse(ast.Module(list(imports), [])))
    yield Mutant("old code", ast.unparse(pair.old))


def lazy(node: ast.AST, kept: frozenset[tuple[str, str]]) -> Changes:
    """A keyword of the old code that the new code does not have is left out."""
    for place, keyword in enumerate(node.keywords if isinstance(node, ast.Call) else ()):
        if keyword.arg and (keyword.arg, ast.dump(keyword.value)) not in kept:
            yield "old keyword dropped", without_keyword(place)


def halves(old: str, new: str) -> Iterator[Mutant]:
    """Each of several changes left out, and each made alone; changes are runs of tokens, then of lines."""
    for split in (TOKEN.findall, lambda text: text.splitlines(keepends=True)):
        before, after = split(old), split(new)
        opcodes = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        hunks = [opcode for opcode in opcodes if opcode[0] != "equal"]
        if len(hunks) < 2:
            continue
        for hunk in hunks:
            for made in ([hunk], [other for other in hunks if other is not hunk]):
                parts = [after[k:m] if tag == "equal" or (tag, i, j, k, m) in made else before[i:j]
                         for tag, i, j, k, m in opcodes]  # fmt: skip
                yield Mutant("half migrated", "".join(text for part in parts for text in part))


def candidates(record: Record) -> Iterator[Mutant]:
    """Every mutant, with repetitions; some do not parse."""
    pair = read_pair(record.old_code, record.new_code, record.update_info)
    yield from whole_programs(pair)
    kept = frozenset(keyword_values(pair.new))
    for place, node in enumerate(ast.walk(pair.new)):
        for made in OPERATORS:
            for operator, change in made(node, pair):
                yield Mutant(operator, changed(pair.new, place, change))
    for place, node in enumerate(ast.walk(pair.old)):
        yield from (Mutant(operator, changed(pair.old, place, change)) for operator, change in lazy(node, kept))
    yield from halves(record.old_code, record.new_code)  # last: what another operator also makes counts there


def mutants(record: Record) -> list[Mutant]:
    """Different wrong migrations of a record; those that do not parse are left out."""
    seen = {ast.unparse(parse(record.new_code))}
    found = []
    for mutant in candidates(record):
        code = normalised(mutant.code)
        if code is not None and code not in seen:
            seen.add(code)
            found.append(Mutant(mutant.operator, code))
    return found
