"""DM*: how much of the wanted change a completion makes, of the changes it makes. **Ours, not the paper's**; that it
trains better than ES* has not been shown.

ES* pays more than half of its maximum for returning the old code unchanged, because most of the text is right; DM*
pays the minimum. For the old code o, the target t and a completion c:

    B(x)     the pairs of adjacent tokens of ast.unparse(ast.parse(x)), counted, with a mark at either end; comments and
             layout are not tokens
    Need+    B(t) - B(o)     pairs that a right answer adds         Need-    B(o) - B(t)     ... and removes
    Did+     B(c) - B(o)     pairs that the completion adds         Did-     B(o) - B(c)     ... and removes
    ta = |Need+ & Did+|      ra = ta / |Need+| (1 if empty)         td = |Need- & Did-|
    F = 2 (ta + ra td) / (|Need+| + |Need-| + |Did+| + |Did-|)      in [0, 1]; 1 for t itself, 0 for o itself
    DM* = 3.5 F - 1.5

The factor ra pays for removals only as far as the additions are there: deleting the old call is half of a migration at
best, and `pass` is none. DM* is -2 where the completion holds no code or code that does not parse, and undefined (None)
where o and t do not differ in B, or one of them does not parse. It never raises, whatever the completion.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from rewards import MATCH, MISS, NO_PARSE, dedent, extract, syntax_tree, text_of

LAYOUT = {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT, tokenize.ENDMARKER}
Pairs = Counter[tuple[str | None, str | None]]


def token_pairs(code: str) -> Pairs | None:
    """B(x), or None where the code does not parse (or parses and is too deep to be written back)."""
    tree = syntax_tree(dedent(code))
    if tree is None:
        return None
    try:
        text = ast.unparse(tree)
        found = tokenize.generate_tokens(io.StringIO(text).readline)
        tokens = [token.string for token in found if token.type not in LAYOUT]
    # ValueError: an integer of more digits than Python writes.
    except (RecursionError, MemoryError, ValueError, SyntaxError, tokenize.TokenError):
        return None
    return Counter(pairwise([None, *tokens, None]))


_given_pairs = lru_cache(maxsize=4096)(token_pairs)  # one record serves a whole group of completions


def f_score(old: Pairs, target: Pairs, completion: Pairs) -> float | None:
    """F in [0, 1]; None where old and target do not differ."""
    need_add, need_remove = target - old, old - target
    if not (need_add or need_remove):
        return None
    add, remove = completion - old, old - completion
    right_add = (need_add & add).total()
    share = right_add / need_add.total() if need_add else 1.0
    right = right_add + share * (need_remove & remove).total()
    return 2 * right / sum(part.total() for part in (need_add, need_remove, add, remove))


def diff_match(code: str | None, old: str, target: str) -> float | None:
    """DM* of `code`: in [-1.5, 2], or -2 for None and for code that does not parse; None where it is undefined."""
    before, after = _given_pairs(old), _given_pairs(target)
    if before is None or after is None or before == after:
        return None
    mine = None if code is None else token_pairs(code)
    return NO_PARSE if mine is None else (MATCH - MISS) * f_score(before, after, mine) + MISS


def dm_star(
    completions: Sequence[Any], target: Sequence[str], old_code: Sequence[str], **columns: Any
) -> list[float | None]:
    """DM* as a reward for trl: of each completion's code (src/rewards.py `extract`); None leaves it out."""
    rows = zip(completions, target, old_code, strict=True)
    return [diff_match(extract(text_of(completion)), old, new) for completion, new, old in rows]
