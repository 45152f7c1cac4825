"""Strategies of what users, servers and models send: a valid input with a few faults.

Pure noise is rejected at once and finds little. So every strategy starts from a value that the programs accept and
drops, repeats, retypes, nests, renames or damages parts of it; then it writes the value as bytes, and may damage these.
"""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

# Characters that break readers, writers, terminals or line counts.
ODD = [
    *("\x00", "\x07", "\x1b[31m", "\x7f", "\x85", "\r", "\n", "\r\n", "\t", "\x0c", "\x1c", "\u2028", "\u2029"),
    *("\ufeff", "\ud800", "\udfff", "\U0001f600", "\u202e", "\u0130", "ﬁ", "é", "１"),
    *("'", '"', "\\", "`", "```", "~~~", "{", "}", "[", "]", "%", "$x$", "{{ x }}", "{% x %}", "<!--", "#", "---"),
    *("</think>", "<think>", "<answer>", "</answer>", "<|im_end|>", "[PYTHON]", "../", "/", "://", "a@b", "nan", "-1"),
]
STRINGS = st.one_of(
    st.sampled_from(["", " ", "\n", "0", "true", "null", "None", "no", "1e999", "x" * 5000, *ODD]),
    st.text(max_size=8),
)
NUMBERS = st.sampled_from(
    [
        *(0, 1, -1, 2, 5, 2**31, 2**63, -(2**63) - 1, 10**30, 10**4000),
        *(0.0, -0.0, 0.5, 1.5, 1e-320, 1e308, float("nan"), float("inf"), float("-inf")),
    ]
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, STRINGS)


def deep(levels: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


VALUES = st.one_of(
    SCALARS,
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(STRINGS, SCALARS, max_size=3),
    st.sampled_from([deep(50), deep(99), deep(150), {"a": deep(300)}, [{}], [[]], {"": {}}]),
)


@st.composite
def damaged_text(draw: st.DrawFn, text: str) -> str:
    """A text with one fault."""
    at, end = sorted(draw(st.integers(0, len(text))) for _ in range(2))
    match draw(st.integers(0, 5)):
        case 0:
            return text[:at] + draw(st.sampled_from(ODD)) + text[at:]
        case 1:
            return text[:at] + text[end:]
        case 2:
            return text[:at]
        case 3:
            return text[:end] + text[at:end] + text[end:]
        case 4:
            return text.replace("\n", draw(st.sampled_from(["\r\n", "\r", "\u2028", "\x0b", "\\\n", ""])))
        case _:
            return text[:at] + draw(STRINGS) + text[end:]


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything inside a value."""
    found, left = [], [value]
    while left:
        container = left.pop()
        inner = container.items() if isinstance(container, dict) else enumerate(container)
        for key, child in inner:
            found.append((container, key))
            if isinstance(child, (dict, list)):
                left.append(child)
    return found


@st.composite
def faulty(draw: st.DrawFn, value: Any, most: int = 3) -> Any:
    """A copy of a JSON value with up to `most` faults."""
    value = [copy.deepcopy(value)]
    for _ in range(draw(st.integers(0, most))):
        container, key = draw(st.sampled_from(places(value)))
        child = container[key]
        match draw(st.integers(0, 7)):
            case 0:
                container[key] = copy.deepcopy(draw(VALUES))  # a later fault may be inside it
            case 1:
                container[key] = draw(SCALARS)
            case 2 if isinstance(container, dict) or len(container) > 1:
                del container[key]
            case 3:
                container[key] = [child]
            case 4:
                container[key] = {"content": child}
            case 5 if isinstance(container, dict):
                container[draw(STRINGS)] = container.pop(key)
            case 5 if container is not value:
                container.insert(key, copy.deepcopy(child))
            case _ if isinstance(child, str):
                container[key] = draw(damaged_text(child))
            case _:
                container[key] = str(child)
        if not places(value):
            break
    return value[0]


RAW = [
    "NaN",
    "1e999",
    "-Infinity",
    "9" * 5000,
    "[" * 3000,
    '{"a":' * 3000,
    "[" * 150 + "]" * 150,
    '"\\ud83d"',
    "''",
    "",
]


@st.composite
def as_json(draw: st.DrawFn, value: Any) -> str:
    """A JSON text of a value; sometimes with a key given twice, or a token that few parsers accept."""
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    fault = draw(st.integers(0, 29))
    if fault == 0 and text.startswith('{"'):
        key = text[: text.index(":") + 1] if ":" in text else '{"a":'
        text = f"{key} {draw(st.sampled_from([*RAW[:3], 'null', '[]', '{}']))}, {text[1:]}"
    elif fault == 1 and ": " in text:
        head, _, rest = text.partition(": ")
        text = f"{head}: {draw(st.sampled_from(RAW))}{rest[rest.find(', ') :] if ', ' in rest else '}'}"
    return text


def to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


ENCODINGS: list[Callable[[str], bytes]] = [
    lambda text: b"\xef\xbb\xbf" + to_bytes(text),
    lambda text: text.encode("utf-16", "replace"),
    lambda text: text.encode("latin-1", "replace"),
    lambda text: text.encode("gbk", "replace"),
    lambda text: gzip.compress(to_bytes(text), mtime=0),
    lambda text: gzip.compress(to_bytes(text), mtime=0)[:-9],
    lambda text: to_bytes(text.replace("\n", "\r\n")),
    lambda text: to_bytes(text).rstrip(b"\n"),
]


@st.composite
def as_file(draw: st.DrawFn, text: str) -> bytes:
    """The bytes of a text: mostly plain UTF-8, else another encoding or damaged bytes."""
    kind = draw(st.integers(0, 49))
    if kind < len(ENCODINGS):
        return ENCODINGS[kind](text)
    content = to_bytes(text)
    if kind == 8:
        return content[: draw(st.integers(0, len(content)))]
    if kind == 9:
        at = draw(st.integers(0, len(content)))
        return content[:at] + draw(st.binary(min_size=1, max_size=4)) + content[at:]
    return content


@st.composite
def json_file(draw: st.DrawFn, value: Any, most: int = 3) -> bytes:
    """A file with one faulty JSON value."""
    return draw(as_file(draw(as_json(draw(faulty(value, most)))) + "\n"))


@st.composite
def rows_file(draw: st.DrawFn, rows: Sequence[Any], most: int = 12) -> bytes:
    """A file of some of these rows, every third with up to two faults: JSONL, rarely with odd lines, or an array."""
    chosen = draw(
        st.lists(st.sampled_from(rows), min_size=draw(st.sampled_from([0, 1, min(2, most), most // 2])), max_size=most)
    )
    lines = [draw(as_json(draw(faulty(row, 2)))) if draw(st.integers(0, 2)) == 0 else json.dumps(row) for row in chosen]
    match draw(st.integers(0, 19)):
        case 0 | 1:
            text = "[" + ",\n".join(lines) + "]"
        case 2:
            text = "[" + ",\n".join(lines) + "]" + "[" + ",".join(lines[:1]) + "]"
        case 3 | 4:
            odd = draw(st.sampled_from(["", " ", "\x0c", "null", "{}", "[]", "//", "---", *RAW]))
            text = "\n".join([*lines[:1], odd, *lines[1:]]) + "\n"
        case 5:
            text = "".join(lines)
        case _:
            text = "".join(f"{line}\n" for line in lines)
    return draw(as_file(text))
