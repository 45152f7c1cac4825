"""The rewards of ReCode (paper §3.3): format, EM, ES, EM*, ES*. Standard library and Levenshtein only.

One file serves both trainers: trl gets the functions of `REWARDS`, verl loads this file by path and calls
`compute_score`. Every reward is a pure function of the completion and the target code, in four steps:

    extract    the last closed ```python fence of the answer       completion -> code or None
               (also ```py, ```python3, ```py3, or more backticks; an untagged fence if none is tagged)
    parse      ast.parse, warnings silenced                        code -> bool
    normalise  no comments, blank lines or trailing white space    code -> text
    compare    equality and edit similarity, on characters         (text, text) -> [0, 1]

    reward     does not parse   no code   otherwise
    format     +1 for <think>…</think><answer>…</answer>, else -1
    em_star    -2               -2        +2 if the code equals the target, else -1.5
    es_star    -2               -2        3.5 * similarity - 1.5, in [-1.5, 2]
    em, es     as otherwise     -2        the same maps without the syntax check (paper Table 2; constants: ours)

A reward never raises, whatever the completion. To explain the rewards of one completion:

    python src/rewards.py --target target.py completion.txt
"""

# No `from __future__ import annotations` here: verl loads this file by path without adding it to sys.modules, where a
# dataclass looks up postponed annotations.
import argparse
import ast
import io
import os
import re
import sys
import threading
import tokenize
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

try:
    import Levenshtein
except ModuleNotFoundError:
    if __name__ != "__main__":
        raise
    print("rewards: Levenshtein is not installed: pip install -r requirements.txt", file=sys.stderr)
    raise SystemExit(2) from None

MATCH, MISS, NO_PARSE = 2.0, -1.5, -2.0  # paper §3.3: EM*, and the range of ES*
MAX_CODE = 200_000  # ours: characters; longer code scores as code that does not parse
MAX_PARTS = 100_000  # ours: of a chat list
PYTHON_TAGS = {"python", "py", "python3", "py3"}  # compared in lower case
# End-of-turn tokens of the supported model families; the format check treats them as white space.
END_OF_TURN = re.compile(
    r"<\|im_end\|>|<\|endoftext\|>|<\|EOT\|>|<\|eot_id\|>|<\|end_of_text\|>|<｜end▁of▁sentence｜>|<\|return\|>|</s>"
)


@dataclass(frozen=True)
class Score:
    """Every reward of one completion; the table above gives their ranges. The defaults are those of missing code."""

    format: float
    em: float = NO_PARSE
    es: float = NO_PARSE
    em_star: float = NO_PARSE
    es_star: float = NO_PARSE
    code: str | None = None  # the extracted code, before normalising
    parses: bool = False
    exact: bool = False
    similarity: float = 0.0  # in [0, 1]
    reason: str = ""


# --- extract ---------------------------------------------------------------------------------------------------------


def text_of(completion: Any) -> str:
    """The text of a completion: a string, or a chat list whose messages' contents are joined. Never raises."""
    texts, left = [], [completion]
    try:
        for _ in range(MAX_PARTS):  # no recursion: a list can be nested deeply, or contain itself
            if not left:
                break
            part = left.pop()
            if isinstance(part, str):
                texts.append(str.__str__(part))  # a plain str: a subclass can redefine anything
            elif isinstance(part, (bytes, bytearray)):
                texts.append(part.decode("utf-8", "replace"))
            elif isinstance(part, dict):
                left.append(part.get("content", part.get("text", "")))
            elif isinstance(part, (list, tuple)):
                left += reversed(part)
            elif part is not None:
                texts.append(str(part))
    except Exception:  # of an object's own methods
        pass
    return "".join(texts)


def format_fault(completion: str) -> str | None:
    """Why the format reward is -1; None for one think part, then one answer part, with only white space around them.

    The completion starts inside think, because the prompt ends with <think>.
    """
    _, closed, rest = completion.partition("</think>")
    rest = END_OF_TURN.sub(" ", rest).strip()
    if not closed:
        return "no </think>"
    if "<think>" in completion or "</think>" in rest:
        return "more than one think part"
    if rest.count("<answer>") != 1:
        return "no <answer>" if "<answer>" not in rest else "more than one <answer>"
    if rest.count("</answer>") != 1:
        return "no </answer>" if "</answer>" not in rest else "more than one </answer>"
    if not rest.startswith("<answer>"):
        return "text between </think> and <answer>"
    return None if rest.endswith("</answer>") else "text after </answer>"


def is_well_formed(completion: str) -> bool:
    """Whether the format reward is +1."""
    return format_fault(completion) is None


def last_answer(completion: str) -> str | None:
    """The body of the last answer part after the first </think>; an unclosed answer extends to the end."""
    at = completion.find("</think>") + 1  # 0 if there is none: the whole completion is searched
    body = None
    while (start := completion.find("<answer>", at)) >= 0:
        start += len("<answer>")
        end = completion.find("</answer>", start)
        at = len(completion) if end < 0 else end
        body = completion[start:at]
    return body


def last_python_fence(text: str) -> str | None:
    """The content of the last closed fence tagged as Python, or of the last untagged one if none is tagged.

    Models often show the program's output in an untagged fence after the code. As in CommonMark, a fence opens with at
    least three backticks and closes with at least as many. A regular expression takes quadratic time on unclosed ones.
    """
    tagged, untagged, opened, tag = None, None, 0, ""
    block: list[str] = []
    for line in text.split("\n"):
        mark = line.strip()
        ticks = len(mark) - len(mark.lstrip("`"))
        if not opened:
            tag = mark[ticks:].strip().lower()
            if ticks >= 3 and "`" not in tag:
                opened, block = ticks, []
        elif ticks >= opened and ticks == len(mark):
            if tag in PYTHON_TAGS:
                tagged = "\n".join(block)
            elif not tag:
                untagged = "\n".join(block)
            opened = 0
        else:
            block.append(line)
    return untagged if tagged is None else tagged


def extract(completion: str) -> str | None:
    """The code to score: the last Python fence (`last_python_fence`) of the last answer, or None."""
    answer = last_answer(completion)
    return None if answer is None else last_python_fence(answer.replace("\r\n", "\n").replace("\r", "\n"))


# --- parse -----------------------------------------------------------------------------------------------------------

_warnings_lock = threading.Lock()  # catch_warnings changes global state, and verl scores in several threads


def syntax_tree(code: str, longest: int | None = MAX_CODE) -> ast.Module | None:
    """The syntax tree; None if the parser rejects the code or the code has more than `longest` characters.

    A SyntaxWarning (for example, for an invalid escape) is not an error.
    """
    if longest is not None and len(code) > longest:
        return None
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(code)
        # ValueError: null bytes, lone surrogates. SystemError: CPython 3.11 raises it on very deep nesting.
        except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
            return None


def parses(code: str) -> bool:
    return syntax_tree(code) is not None


def has_statement(code: str) -> bool:
    """Whether code parses and is more than blank lines and comments."""
    tree = syntax_tree(code)
    return tree is not None and bool(tree.body)


# --- normalise -------------------------------------------------------------------------------------------------------


def dedent(code: str) -> str:
    """Remove the indent that all non-blank lines share. (textwrap.dedent also changes blank lines inside strings.)"""
    lines = code.split("\n")
    blanks = [line[: len(line) - len(line.lstrip())] for line in lines if line.strip()]
    margin = os.path.commonprefix(blanks)  # noqa: RUF071 (a prefix by characters is intended)
    return "\n".join(line.removeprefix(margin) for line in lines) if margin else code


def scan(code: str) -> tuple[dict[int, int], set[int]]:
    """(row -> column of its comment, rows that end inside a string) of code that parses; rows count from 1."""
    # tokenize is most of a reward's cost. If every string ends on its line, the first # of a line without quotes starts
    # a comment. (Since Python 3.12, a replacement field of an f-string can span lines.)
    multiline = any(mark in code for mark in ('"""', "'''", "\\\n")) or (sys.version_info >= (3, 12) and "{" in code)
    hashed = [(row, line) for row, line in enumerate(code.split("\n"), start=1) if "#" in line]
    if not multiline and not any("'" in line or '"' in line for _, line in hashed):
        return {row: line.index("#") for row, line in hashed}, set()
    comments: dict[int, int] = {}
    inside: set[int] = set()
    starts: list[int] = []  # rows of the open f-strings (Python 3.12 splits them into several tokens)
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            name = tokenize.tok_name[token.type]
            if name == "COMMENT" and not starts:
                comments[token.start[0]] = token.start[1]
            elif name == "STRING":
                inside.update(range(token.start[0], token.end[0]))
            elif name in ("FSTRING_START", "TSTRING_START"):
                starts.append(token.start[0])
            elif name in ("FSTRING_END", "TSTRING_END"):
                inside.update(range(starts.pop(), token.end[0]))
    except (tokenize.TokenError, SyntaxError):  # accepted by the parser only: keep what was found
        pass
    return comments, inside


def normalise(code: str, is_python: bool) -> str:
    """Remove comments, trailing white space and blank lines, except inside strings; docstrings stay.

    Code that does not parse keeps its comments, because their extent is unknown.
    """
    comments, inside = scan(code) if is_python else ({}, set())
    kept: list[str] = []
    for row, line in enumerate(code.split("\n"), start=1):
        line = line[: comments.get(row)]
        if row in inside:
            kept.append(line)
        elif line.strip():
            kept.append(line.rstrip())
        elif is_python:  # a backslash that continued onto the removed line would now join the next one
            while kept and kept[-1].endswith("\\"):
                kept[-1] = kept[-1][:-1].rstrip()
                if kept[-1]:
                    break
                kept.pop()
    return "\n".join(kept)


def clean(code: str) -> tuple[str, bool]:
    """(normal form, whether it parses) of one side of the comparison."""
    code = dedent(code.replace("\r\n", "\n").replace("\r", "\n"))
    is_python = parses(code)
    return dedent(normalise(code, is_python)), is_python  # without its comments, code can share an indent of form feeds


_clean_target = lru_cache(maxsize=4096)(clean)  # one target serves a whole group of completions


# --- compare ---------------------------------------------------------------------------------------------------------


def similarity(a: str, b: str) -> float:
    """Edit similarity 1 - Levenshtein(a, b) / max(len a, len b), in [0, 1]; 1 if both are empty (paper §3.3)."""
    longest = max(len(a), len(b))
    return 1.0 - Levenshtein.distance(a, b) / longest if longest else 1.0


def scaled(share: float) -> float:
    """A similarity in [0, 1] as a reward in [MISS, MATCH]: 3.5 x - 1.5 (paper §3.3)."""
    return (MATCH - MISS) * share + MISS


def score(completion: Any, target: str) -> Score:
    """Score one completion (text or chat list) against the target code. Never raises."""
    completion, target = text_of(completion), text_of(target)
    form = 1.0 if is_well_formed(completion) else -1.0
    code = extract(completion)
    if code is None:
        no_answer = last_answer(completion) is None
        return Score(form, reason="no <answer>" if no_answer else "no closed python fence in the answer")
    if len(code) > MAX_CODE:
        return Score(form, code=code, reason=f"the code is longer than {MAX_CODE:,} characters")
    (ours, is_python), (theirs, _) = clean(code), _clean_target(target)
    exact, close = ours == theirs, similarity(ours, theirs)
    em, es = MATCH if exact else MISS, scaled(close)
    em_star, es_star = (em, es) if is_python else (NO_PARSE, NO_PARSE)
    rewards = {"format": form, "em": em, "es": es, "em_star": em_star, "es_star": es_star}
    found = "equals the target" if exact else f"parses, similarity {close:.3f}"
    reason = found if is_python else "the code does not parse"
    return Score(**rewards, code=code, parses=is_python, exact=exact, similarity=close, reason=reason)


def best_score(completion: Any, targets: Sequence[str]) -> Score:
    """The score against the target that the completion is most similar to: no reward is higher against another."""
    return max((score(completion, target) for target in targets), key=lambda found: found.similarity)


# --- trl -------------------------------------------------------------------------------------------------------------


def format_reward(completions: Sequence[Any], **columns: Any) -> list[float]:
    """+1 for each completion of the form …</think><answer>…</answer>, else -1."""
    return [1.0 if is_well_formed(text_of(completion)) else -1.0 for completion in completions]


def _scores(name: str, completions: Sequence[Any], target: Sequence[str], columns: dict[str, Any]) -> list[float]:
    """The values of one reward; trl's log_extra gets their reasons, so that nothing is scored again to explain it.

    The column `alternatives` (the key of src/grpo.py) holds other right targets of each record.
    """
    others = columns.get("alternatives") or [()] * len(completions)
    rows = zip(completions, target, others, strict=True)
    found = [best_score(completion, [code, *more]) for completion, code, more in rows]
    if "log_extra" in columns:
        columns["log_extra"](f"{name} reason", [each.reason for each in found])
    return [getattr(each, name) for each in found]


def em(completions: Sequence[Any], target: Sequence[str], **columns: Any) -> list[float]:
    """Exact match without the syntax check: +2 or -1.5; -2 if there is no code."""
    return _scores("em", completions, target, columns)


def es(completions: Sequence[Any], target: Sequence[str], **columns: Any) -> list[float]:
    """Edit similarity without the syntax check, scaled to [-1.5, 2]; -2 if there is no code."""
    return _scores("es", completions, target, columns)


def em_star(completions: Sequence[Any], target: Sequence[str], **columns: Any) -> list[float]:
    """EM*: +2 on a match, -1.5 if the code parses, -2 if it does not."""
    return _scores("em_star", completions, target, columns)


def es_star(completions: Sequence[Any], target: Sequence[str], **columns: Any) -> list[float]:
    """ES*: -2 if the code does not parse, else 3.5 * similarity - 1.5."""
    return _scores("es_star", completions, target, columns)


REWARDS: dict[str, Callable[..., list[float]]] = {
    "format": format_reward,
    "em": em,
    "es": es,
    "em_star": em_star,
    "es_star": es_star,
}


def reward_names(names: str | Sequence[str], known: Collection[str] = tuple(REWARDS)) -> list[str]:
    """ "format,es_star" (or a list) as a list of `known` names; ValueError on an unknown or repeated one."""
    chosen = [name.strip() for name in (names.split(",") if isinstance(names, str) else names)]
    for name in chosen:
        if name not in known:
            raise ValueError(f"unknown reward {name!r}: choose from {', '.join(known)}, separated by commas")
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"rewards must be named once each, got {','.join(chosen)!r}")
    return chosen


# --- verl ------------------------------------------------------------------------------------------------------------


def alternatives_of(extra_info: Mapping[str, Any] | None) -> list[str]:
    """Other right targets that came with verl's row."""
    found = (extra_info or {}).get("alternatives")
    return [] if found is None else list(found)  # verl may pass an array


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    *,
    reward: str | Sequence[str] = "format,es_star",
    weights: Sequence[float] | None = None,
    **kwargs: Any,
) -> dict[str, float]:
    """verl's entry point. `reward` and `weights` mean what they mean for src/grpo.py: the score is the weighted sum.

    Its keys are always the same: `score`; `format` (+-1); `correctness` (the unweighted sum of the other chosen
    rewards); `syntax` (1 if the code parses); `em` (1 on a match); `es` (similarity in [0, 1]). `alternatives` of
    extra_info (the key recode.alternatives) are other right targets. Raises ValueError for an invalid `reward` or
    `weights`, never because of a completion.
    """
    names = reward_names(reward)
    result = best_score(solution_str, [ground_truth, *alternatives_of(extra_info)])
    return {
        **_sums({name: getattr(result, name) for name in names}, weights),
        "format": result.format,
        "syntax": float(result.parses),
        "em": float(result.exact),
        "es": result.similarity,
    }


def compute_score_with(
    own: Mapping[str, Callable[..., Sequence[float | None]]],
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any],
    columns: Mapping[str, Sequence[Any]],
    reward: str | Sequence[str],
    weights: Sequence[float] | None,
) -> dict[str, float]:
    """`compute_score` with rewards of another file: each is one more name, and one more key of the result.

    `columns`: what they need besides target and alternatives. An undefined value counts 0.
    """
    known = {**REWARDS, **own}
    names = reward_names(reward, known)
    columns = {"target": [ground_truth], "alternatives": [alternatives_of(extra_info)], **columns}
    values = {name: float(known[name]([solution_str], **columns)[0] or 0.0) for name in {*names, *own}}  # each once
    return {
        **compute_score("", solution_str, ground_truth, extra_info),
        **_sums({name: values[name] for name in names}, weights),
        **{name: values[name] for name in own},
    }


def _sums(values: Mapping[str, float], weights: Sequence[float] | None) -> dict[str, float]:
    """The weighted sum of the chosen rewards, and the plain one without the format."""
    factors = [1.0] * len(values) if weights is None else [float(weight) for weight in weights]
    if len(factors) != len(values):
        raise ValueError(f"{len(values)} rewards ({', '.join(values)}) but {len(factors)} weights")
    return {
        "score": float(sum(factor * value for factor, value in zip(factors, values.values(), strict=True))),
        "correctness": float(sum(value for name, value in values.items() if name != "format")),
    }


# --- command line ----------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """Usage errors in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"rewards: {printable(message)}".replace("\n", "\\n"), file=sys.stderr)
        raise SystemExit(2)


def printable(text: str) -> str:
    """The text with control characters written as escapes."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def _file(text: str) -> Path:
    if not text:  # Path("") is the current folder
        raise argparse.ArgumentTypeError("expected a file, got an empty name")
    return Path(text)


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    formatter = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=__doc__, formatter_class=formatter, allow_abbrev=False)
    parser.add_argument("--target", required=True, type=_file, help="file with the target code")
    parser.add_argument(
        "completion", type=_file, metavar="FILE", help="file with one completion, as the model wrote it"
    )
    args = parser.parse_args()
    if not args.target:  # argparse gives --target=-- an empty list
        parser.error("argument --target: expected one argument")
    texts = []
    for path in (args.completion, args.target):
        try:
            texts.append(path.read_text("utf-8-sig"))
        except UnicodeDecodeError as error:
            parser.error(f"{path}: not UTF-8: {error.reason} at byte {error.start}")
        except OSError as error:
            parser.error(f"{path}: {error.strerror}")
    result = score(*texts)
    print("code that was scored:\n" + ("(none)" if result.code is None else printable(result.code)) + "\n")
    for name, value in asdict(result).items():
        if name != "code":
            print(f"{name:<11}{round(value, 4) if isinstance(value, float) else value}")
    print(f"total      {result.format + result.es_star:+.4f}  (format + es_star, in [-3, 3])")


if __name__ == "__main__":
    main()
