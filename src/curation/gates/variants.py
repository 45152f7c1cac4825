"""Variants: other forms of a target that are as right as it is, by construction.

    keyword order   keywords that a call adds to those of the old code come after them, or before them
    quotes          strings of changed lines have the other quotes
    import form     a new `from a import b` is `import a` with `a.b`, or the reverse (import_forms.py)
    own names       variables and functions that only the target has are called otherwise

What the note, the old code or the check fixes has no variant. Each variant is an edit of the text, since rewards
compare text; its tree must be the one that the change gives, so an edit that would also change a string or an attribute
is left out.
"""

from __future__ import annotations

import ast
import builtins
import copy
import difflib
import io
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from curation.evidence import Evidence
from curation.gates.calls import called
from curation.gates.import_forms import import_forms
from curation.gates.pair import Pair, keyword_values, read_pair
from curation.gates.trees import has_tree, words
from curation.similarity import bound
from curation.use import members
from records import Record

ORDER, QUOTES, IMPORT, NAMES = "keyword order", "quotes", "import form", "own names"
OTHER_NAMES = ("result", "value", "item", "entry", "element", "part", "output", "other", "current", "field")
PLAIN_STRING = re.compile(r"([a-zA-Z]*)(['\"])([^'\"\\]*)\2")


@dataclass(frozen=True)
class Variant:
    """Another right form of a target."""

    kind: str
    code: str


def reordered(code: str, before: Sequence[ast.keyword], after: Sequence[ast.keyword]) -> str:
    """The code with each keyword of a call replaced by another one of it."""
    text = code.encode()  # columns count bytes
    starts = [0, *(found.end() for found in re.finditer(rb"\n", text))]

    def span(node: ast.keyword) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    parts, end = [], 0
    for place, keyword in zip(before, after, strict=True):
        start, stop = span(place)
        parts += [text[end:start], text[slice(*span(keyword))]]
        end = stop
    return b"".join([*parts, text[end:]]).decode()


def free_keywords(call: ast.Call, pair: Pair) -> list[int]:
    """The places of the keywords that a changed call adds.

    One that stands where the old call has another one replaces it; one whose value the old code passes by position, or
    by a name that is gone, has its place from there.
    """
    olds = [node for node in ast.walk(pair.old) if isinstance(node, ast.Call)]
    before = [[word.arg for word in old.keywords] for old in olds if called(old) == called(call)]
    names = [word.arg for word in call.keywords]
    nearest = max(before, key=lambda old: len({*old} & {*names}), default=[])
    opcodes = difflib.SequenceMatcher(None, nearest, names, autojunk=False).get_opcodes()
    added = [at for tag, *_, start, end in opcodes if tag == "insert" for at in range(start, end)]
    known = {name for name, _ in pair.old_keywords}
    moved = {value for _, value in pair.old_keywords - {*keyword_values(pair.new)}}
    moved |= {ast.dump(argument) for old in olds for argument in old.args}
    return [at for at in added if names[at] not in known and ast.dump(call.keywords[at].value) not in moved]


def keyword_orders(record: Record, pair: Pair) -> Iterator[str]:
    """The keywords that a call adds come last, first, or last in the reverse order."""
    for place, call in enumerate(ast.walk(pair.new)):
        if not (isinstance(call, ast.Call) and pair.is_changed(call) and all(word.arg for word in call.keywords)):
            continue
        places, added = range(len(call.keywords)), free_keywords(call, pair)
        kept = [at for at in places if at not in added]
        for order in ([*kept, *added], [*added, *kept], [*kept, *reversed(added)]):
            tree = copy.deepcopy(pair.new)
            copied = list(ast.walk(tree))[place]
            assert isinstance(copied, ast.Call)
            copied.keywords = [copied.keywords[at] for at in order]
            code = reordered(record.new_code, call.keywords, [call.keywords[at] for at in order])
            if order != [*places] and has_tree(code, tree):
                yield code


def other_quotes(record: Record, pair: Pair) -> Iterator[str]:
    """Strings that the old code writes in the same way keep their quotes, as do those with quotes or escapes inside."""
    lines = record.new_code.split("\n")
    try:
        tokens = [*tokenize.generate_tokens(io.StringIO(record.new_code).readline)]
    except (tokenize.TokenError, SyntaxError):  # accepted by the parser only
        return
    for token in reversed(tokens):
        (row, start), (_, end) = token.start, token.end
        plain = PLAIN_STRING.fullmatch(token.string) if token.type == tokenize.STRING else None
        if plain and row in pair.changed and token.string not in record.old_code:
            prefix, quote, text = plain.groups()
            other = {"'": '"', '"': "'"}[quote]
            lines[row - 1] = f"{lines[row - 1][:start]}{prefix}{other}{text}{other}{lines[row - 1][end:]}"
    code = "\n".join(lines)
    if code != record.new_code and has_tree(code, pair.new):
        yield code


def own_new_names(record: Record, evidence: Evidence, pair: Pair) -> list[str]:
    """The variables and functions of the target whose names are free.

    Not the parameters of functions, methods, classes, what class bodies assign and decorated functions: libraries find
    these by name.
    """
    found: dict[str, None] = {}
    taken = {*bound(pair.old), *words(record.update_info), *words(evidence.check or "")}
    for node in ast.walk(pair.new):
        if isinstance(node, ast.ClassDef):
            taken |= {node.name, *members(node.body)}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found[node.id] = None
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = {one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)}
            taken |= arguments | ({node.name} if node.decorator_list else set())
            found[node.name] = None
        elif isinstance(node, ast.Lambda):
            found |= {one.arg: None for one in node.args.args}
    return [name for name in found if name not in taken and not name.startswith("_")]


def renamed(code: str, tree: ast.Module, names: Mapping[str, str]) -> str | None:
    """The code with its own names renamed; None if this would also rename something else."""
    tree = copy.deepcopy(tree)
    for node in ast.walk(tree):
        for field in ("id", "arg", "name"):
            if getattr(node, field, None) in names and not isinstance(node, ast.alias | ast.keyword):
                setattr(node, field, names[getattr(node, field)])
    text = re.sub(r"[^\W\d]\w*", lambda word: names.get(word[0], word[0]), code)
    return text if has_tree(text, tree) else None


def other_names(record: Record, evidence: Evidence, pair: Pair) -> Iterator[str]:
    """All free names at once are other ones."""
    used = {*words(record.new_code), *words(evidence.check or ""), *dir(builtins)}
    free = [name for name in own_new_names(record, evidence, pair) if renamed(record.new_code, pair.new, {name: "_"})]
    names = dict(zip(free, (name for name in OTHER_NAMES if name not in used), strict=False))
    code = renamed(record.new_code, pair.new, names)
    if names and code:
        yield code


def variants(record: Record, evidence: Evidence) -> list[Variant]:
    """Different right forms of a target; none if its lines do not all end in a newline, which edits count on."""
    if "\r" in record.new_code:
        return []
    pair = read_pair(record.old_code, record.new_code, record.update_info)
    made = {
        ORDER: keyword_orders(record, pair),
        QUOTES: other_quotes(record, pair),
        IMPORT: import_forms(record, pair),
        NAMES: other_names(record, evidence, pair),
    }
    kinds = {code: kind for kind, codes in made.items() for code in codes}
    return [Variant(kind, code) for code, kind in kinds.items()]
