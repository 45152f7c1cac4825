"""A tiny library in two versions, as wheels made here, its release notes, and a model that writes pairs for it.

tidemark 2.0 removes level_at (now level), deprecates mean_of (now mean), and changes rounded's default of digits.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from wheels import write_wheel

VERSIONS = {
    "1.0": """
def level_at(place, hour):
    return 3 + hour

def mean_of(levels):
    return sum(levels) / len(levels)

def rounded(level, digits=0):
    return round(level, digits)
""",
    "2.0": """
import warnings

def level(place, hour):
    return 3 + hour

def mean_of(levels):
    warnings.warn("mean_of is deprecated: use mean", DeprecationWarning, stacklevel=2)
    return mean(levels)

def mean(levels):
    return sum(levels) / len(levels)

def rounded(level, digits=2):
    return round(level, digits)
""",
}
PINS = ("--old", "tidemark==1.0", "--new", "tidemark==2.0")

NOTES = """\
# tidemark 2.0

## API changes

- `tidemark.level_at` has been removed. Use `tidemark.level` instead.
- `tidemark.mean_of` is deprecated, use `tidemark.mean` instead.
- The default of `digits` in `tidemark.rounded` changed from 0 to 2.
- `tidemark.fast_path` is no longer slow.
- Better words everywhere.

## Contributors

- `octo_cat` removed a typo.
"""


def make_wheels(folder: Path) -> Path:
    """tidemark 1.0 and 2.0 as wheels."""
    for version, code in VERSIONS.items():
        write_wheel(folder, "tidemark", version, {"tidemark.py": code})
    return folder


def update(name: str, kind: str) -> str:
    info = f"`tidemark.{name}` has changed in 2.0: use `level`, `mean` or `digits` instead."
    return f"<name>tidemark.{name}</name>\n<kind>{kind}</kind>\n<update_info>\n{info}\n</update_info>"


def pair(old: str, new: str, check: str | None, description: str = "Reads the tide.") -> str:
    parts = {"old_code": old, "new_code": new, "check": check}
    fenced = [f"<{name}>\n```python\n{code}\n```\n</{name}>" for name, code in parts.items() if code]
    return "\n".join([f"<description>{description}</description>", *fenced])


IMPORT = "import tidemark\n"
LEVEL = (f"{IMPORT}high = tidemark.level_at('quay', 2)", f"{IMPORT}high = tidemark.level('quay', 2)")
MEAN, MEAN_NEW = f"{IMPORT}middle = tidemark.mean_of([1, 2])", f"{IMPORT}middle = tidemark.mean([1, 2])"
ROUNDED = (f"{IMPORT}shown = tidemark.rounded(3.14159)", f"{IMPORT}shown = tidemark.rounded(3.14159, digits=0)")

# API -> the answers of each role, round by round.
ANSWERS: dict[str, dict[str, list[str]]] = {
    "level_at": {
        "update": [update("level_at", "rename")],
        "pair": [
            pair(*LEVEL, None),  # format: no check
            pair(LEVEL[0], f"# migrated\n{LEVEL[0]}", "assert high == 5"),  # validate: the same program
            pair(*LEVEL, "assert high == 5", "The level at two o'clock."),  # 3 + 2
        ],
        "review": [
            pair(LEVEL[0].replace("quay", "pier"), LEVEL[1].replace("quay", "pier"), "assert high == 5", "At the pier.")
        ],
    },
    "mean_of": {
        "update": [update("mean_of", "renaming"), update("mean_of", "rename")],  # validate: no such kind
        "pair": [
            pair(MEAN, MEAN.replace("mean_of", "average"), "assert middle == 1.5"),  # prove: 2.0 has no average
            # prove: no old way in the old code
            pair(f"{MEAN_NEW}  # mean_of", f"x = 0\n{MEAN_NEW}", "assert middle == 1.5"),
            pair(MEAN, MEAN_NEW, "assert middle == 2"),  # prove: (1 + 2) / 2 is no 2
        ],
    },
    "rounded": {
        "update": ["Certainly! " + update("rounded", "default")],
        "pair": [
            # prove: this check holds without the code
            pair(*ROUNDED, "try:\n    shown\nexcept NameError:\n    shown = 3.0\nassert shown == 3.0"),
            pair(*ROUNDED, "assert shown == 3.0", "Rounds a level for the board."),
        ],
    },
    "fast_path": {"update": ["<none>it only got faster</none>"]},
}


def behave(_: int, body: dict[str, Any]) -> tuple:
    """What the model of tests/test_collect.py answers: the next of ANSWERS, or the same again where they end."""
    messages = body["messages"]
    role = "update" if messages[0]["content"].startswith("You read") else "pair"
    paragraph = re.search(r"<paragraph>\n(.*?)\n</paragraph>", messages[1]["content"], re.DOTALL)[1]
    api = next(name for name in ANSWERS if f".{name}`" in paragraph)
    answers = ANSWERS[api][role]
    text = answers[0]
    if len(messages) == 4:
        if "A reviewer says" in messages[3]["content"]:
            text = ANSWERS[api]["review"][0]
        else:
            text = answers[min(answers.index(messages[2]["content"]) + 1, len(answers) - 1)]
    message = {"content": text}
    return 200, {}, {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}, 0


def command(notes: Path, url: str, out: Path, envs: Path) -> list[object]:
    flags = ["--notes", notes, *PINS, "--url", url, "--model", "big", "--out", out, "--envs", envs]
    return [*flags, "--pairs", 1, "--concurrency", 1, "--jobs", 1]


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
