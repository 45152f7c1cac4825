"""The questions to the model, read from prompts/NAME.md beside this file.

A prompt file starts with a comment that describes it and lists its placeholders; a line `# system` or `# user` starts
each message. Only those {placeholders} are filled; any other brace is text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).with_name("prompts")


def read(name: str) -> list[tuple[str, str]]:
    """(role, text) of each message of a prompt file."""
    text = (FOLDER / f"{name}.md").read_text("utf-8").partition("\n-->\n")[2]
    pieces = re.split(r"^# (system|user)$", text, flags=re.MULTILINE)
    return [(role, body.strip()) for role, body in zip(pieces[1::2], pieces[2::2], strict=True)]


def fingerprint(*names: str) -> str:
    """The sha256 of prompt files."""
    return hashlib.sha256(json.dumps([read(name) for name in names]).encode()).hexdigest()


def messages(name: str, values: Mapping[str, object]) -> list[dict[str, str]]:
    """The chat messages of a prompt with its placeholders filled; braces inside the values are text."""

    def filled(text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: str(values[found[1]]), text)

    return [{"role": role, "content": filled(text)} for role, text in read(name)]
