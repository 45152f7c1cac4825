"""DM*: a reward for the required changes that a completion makes, relative to all of its changes.

**Not in the paper**; it has not been shown to train better than ES*. ES* gives more than half of its maximum for the
unchanged old code, because most of the text is right; DM* gives it the least of all code that parses. For old code o,
target t and completion c:

    B(x)     the pairs of adjacent tokens of ast.unparse(ast.parse(x)), counted, with a mark at either end; comments and
             layout are not tokens
    Need+    B(t) - B(o)     pairs that a right answer adds         Need-    B(o) - B(t)     ... and removes
    Did+     B(c) - B(o)     pairs that the completion adds         Did-     B(o) - B(c)     ... and removes
    ta = |Need+ & Did+|      ra = ta / |Need+| (1 if empty)         td = |Need- & Did-|
    F = 2 (ta + ra td) / (|Need+| + |Need-| + |Did+| + |Did-|)      in [0, 1]; 1 for t itself, 0 for o itself
    DM* = 3.5 F - 1.5

The factor ra counts removals only in proportion to the additions: deleting the old call is at best half a migration,
and `pass` is none. DM* is -2 if the completion holds no statement, or code that does not parse, and undefined (None) if
o and t do not differ in B or one of them does not parse. It never raises, whatever the completion.

trl gets `dm_star` (src/grpo.py --reward format,dm_star). verl loads this file by path and calls `compute_score`:

    python src/dapo.py reward.custom_reward_function.path=src/diff_match.py \\
        "reward.custom_reward_function.reward_kwargs.reward='format,dm_star'"
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import rewards
from common.syntax_trees import too_large
from rewards import MATCH, MISS, NO_PARSE, compute_score_with, dedent, extract, has_statement, syntax_tree, text_of

LAYOUT = {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT, tokenize.ENDMARKER}
Pairs = Counter[tuple[str | None, str | None]]


def token_pairs(code: str) -> Pairs | None:
    """B(x), or None if the code does not parse, or parses but is too deep for ast.unparse (`too_large`)."""
    tree = syntax_tree(dedent(code))
    if tree is None or too_large(tree):
        return None
    try:
        text = ast.unparse(tree)
        found = tokenize.generate_tokens(io.StringIO(text).readline)
        tokens = [token.string for token in found if token.type not in LAYOUT]
    except (MemoryError, ValueError, SyntaxError, tokenize.TokenError):  # ValueError: f-strings with backslashes
        return None
    return Counter(pairwise([None, *tokens, None]))


_given_pairs = lru_cache(maxsize=4096)(token_pairs)  # a group of completions shares one record


def diff_match(code: str | None, old: str, target: str) -> float | None:
    """DM* of `code`: in [-1.5, 2], or -2 for None, comments and code that does not parse; None if it is undefined."""
    before, after = _given_pairs(old), _given_pairs(target)
    if before is None or after is None or before == after:
        return None
    mine = token_pairs(code) if code is not None and has_statement(dedent(code)) else None
    if mine is None:
        return NO_PARSE
    need_add, need_remove, add, remove = after - before, before - after, mine - before, before - mine
    right_add = (need_add & add).total()
    share = right_add / need_add.total() if need_add else 1.0
    right = right_add + share * (need_remove & remove).total()
    f = 2 * right / sum(part.total() for part in (need_add, need_remove, add, remove))
    return (MATCH - MISS) * f + MISS


def best_match(code: str | None, old: str, targets: Sequence[str]) -> float | None:
    """The highest DM* over several right targets; None if it is undefined for the first."""
    first, *others = [diff_match(code, old, target) for target in targets]
    return None if first is None else max([first, *(value for value in others if value is not None)])


def dm_star(
    completions: Sequence[Any], target: Sequence[str], old_code: Sequence[str], **columns: Any
) -> list[float | None]:
    """DM* as a reward for trl, of each completion's code (src/rewards.py `extract`); trl leaves None out of the sum.

    With the column `alternatives` it is the highest over the target and these.
    """
    others = columns.get("alternatives") or [()] * len(completions)
    rows = zip(completions, target, old_code, others, strict=True)
    return [best_match(extract(text_of(completion)), old, [new, *more]) for completion, new, old, more in rows]


REWARDS: dict[str, Callable[..., list[Any]]] = {**rewards.REWARDS, "dm_star": dm_star}


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any],
    *,
    reward: str | Sequence[str] = "format,dm_star",
    weights: Sequence[float] | None = None,
    **kwargs: Any,
) -> dict[str, float]:
    """verl's reward entry: that of src/rewards.py with `dm_star` as one more name and one more key of the result.

    An undefined DM* counts 0, for every completion of the record alike. `extra_info` must hold the record's old_code.
    """
    own, columns = {"dm_star": dm_star}, {"old_code": [extra_info["old_code"]]}
    return compute_score_with(own, solution_str, ground_truth, extra_info, columns, reward, weights)
