"""Why each reward of a completion has its value: the arithmetic, from the same functions that scored it."""

from __future__ import annotations

from collections.abc import Mapping

from rewards import MATCH, MISS, Score, format_fault

TOLERANCE = 1e-4  # a logged value has float32's precision
Reason = tuple[str, float | None, str]  # name of the reward, its value, why


def explain_similarity(score: Score, checked: bool) -> str:
    """ES* (`checked`: code must parse) or ES."""
    if score.code is None or (checked and not score.parses):
        return score.reason
    return f"{MATCH - MISS:g} x similarity {score.similarity:.3f} - {-MISS:g}"


def explain_match(score: Score, checked: bool) -> str:
    """EM* or EM."""
    if score.code is None or (checked and not score.parses):
        return score.reason
    return "equals the target" if score.exact else "differs from the target"


def explain_format(completion: str) -> str:
    return format_fault(completion) or "one think part, then one answer part"


def expected(name: str, score: Score, completion: str, is_verl: bool) -> tuple[float, str] | None:
    """(value, why) of a reward of this project as today's code computes it; None for a reward of someone else."""
    if name in ("format", "format_reward"):
        return score.format, explain_format(completion)
    if is_verl and name == "syntax":
        return float(score.parses), "the code parses" if score.parses else score.reason
    if is_verl and name == "em":
        return float(score.exact), explain_match(score, checked=False)
    if is_verl and name == "es":
        return score.similarity, "edit similarity to the target, without comments and blank lines"
    known = {
        "em": (score.em, explain_match(score, checked=False)),
        "em_star": (score.em_star, explain_match(score, checked=True)),
        "es": (score.es, explain_similarity(score, checked=False)),
        "es_star": (score.es_star, explain_similarity(score, checked=True)),
    }
    return known.get(name)


def explain(rewards: Mapping[str, float | None], score: Score, completion: str, logged: str) -> list[Reason]:
    """Every reward with its reason. `logged`: the reason in the log, if a reward of someone else gave one."""
    is_verl = "score" in rewards
    rows: list[Reason] = []
    for name, value in rewards.items():
        found = expected(name, score, completion, is_verl)
        if found is None:
            why = {"score": "what is trained on", "correctness": f"the rewards besides the format: {score.reason}"}
            rows.append((name, value, why.get(name, logged) if is_verl else logged))
        elif value is not None and abs(value - found[0]) > TOLERANCE:
            today = f"today's src/rewards.py gives {found[0]:+.3f}: {found[1]}"
            rows.append((name, value, f"{logged or 'logged'}; {today}"))
        else:
            rows.append((name, value, found[1]))
    return rows
