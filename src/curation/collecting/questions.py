"""Prompts kept as files: assets/prompts/NAME.md.

A file opens with a comment that says what it is for and lists its placeholders; a line `# system` or `# user` opens
each message. Placeholders are {names} from that list; any other brace is text.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from common.errors import InputError

FOLDER = Path(__file__).resolve().parents[3] / "assets" / "prompts"
HEADER = re.compile(r"\A<!--\n(?P<about>.*?)^Placeholders: (?P<names>[^\n]*)\n-->\n", re.DOTALL | re.MULTILINE)


def read(name: str, folder: Path = FOLDER) -> tuple[set[str], list[tuple[str, str]]]:
    """(placeholders, (role, text) of each message) of a prompt file. Raises InputError."""
    path = folder / f"{name}.md"
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from None
    header = HEADER.match(text)
    if not header or "What it is for:" not in header["about"]:
        raise InputError(f"{path}:1: expected a comment with 'What it is for:' and 'Placeholders:'")
    listed = set(re.findall(r"\{(\w+)\}", header["names"]))
    used = set(re.findall(r"\{(\w+)\}", text[header.end() :]))
    if listed != used:
        raise InputError(f"{path}: listed but not used, or used but not listed: {', '.join(sorted(listed ^ used))}")
    pieces = re.split(r"^# (system|user)$", text[header.end() :], flags=re.MULTILINE)
    if pieces[0].strip() or len(pieces) < 3:
        raise InputError(f"{path}: expected '# system' or '# user' after the comment")
    return listed, [(role, body.strip()) for role, body in zip(pieces[1::2], pieces[2::2], strict=True)]


def fingerprint(*names: str, folder: Path = FOLDER) -> str:
    """The sha256 of prompt files, read and checked."""
    return hashlib.sha256(json.dumps([read(name, folder)[1] for name in names]).encode()).hexdigest()


def messages(name: str, /, *, folder: Path = FOLDER, **values: object) -> list[dict[str, str]]:
    """The chat messages of a prompt with its placeholders filled; braces inside the values stay as they are."""
    listed, parts = read(name, folder)
    if listed != values.keys():
        raise InputError(f"{name}: placeholders {sorted(listed)}, got {sorted(values)}")

    def filled(text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: str(values[found[1]]), text)

    return [{"role": role, "content": filled(text)} for role, text in parts]
