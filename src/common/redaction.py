"""Keeps secrets out of what is printed and recorded: API keys, hub tokens, the login and the signature of a URL.

Servers and libraries repeat keys in their messages, and every run records its command line.
"""

from __future__ import annotations

import json
import re
import shlex
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlsplit

HIDDEN = "***"
LOGIN = re.compile(r"([a-z][a-z0-9+.-]*://)[^/?#\s]*@", re.IGNORECASE)
WORDS = "token|api[_-]?key|access[_-]key|secret[_-]key|password|passwd|secret|authorization"
NAMES = re.compile(rf"(^|_)({WORDS})$")
TOKENS = re.compile(r"(^|_)(eos|bos|pad|unk|sep|cls|mask|image|audio|video)_token$")  # a tokenizer's, not secrets
PARAMETER = re.compile(r"([?&;])([^=&#\s]+)=([^&#\s'\"]+)")  # of a URL's query
SIGNED = re.compile(r"(^|_)(key|sig|signature|credential|auth)$")  # in a query, names of what gives access
# A key with its value in JSON, also in JSON inside a JSON string, or in a mapping of Hydra ({token: x}).
VALUE = r"""("(?:\\.|[^"\\])*"|'[^']*'|\\+"[^"\\]*\\+"|[^\s,{}\[\]"'\\]+)"""
PAIR = re.compile(rf"""([\w.-]*(?:{WORDS}))(\\*["']?\s*:\s*){VALUE}""", re.IGNORECASE)
SHORT = 8  # characters


def is_secret(name: str) -> bool:
    """Whether a flag or a configuration key holds a secret, judging by its name."""
    name = re.sub(r"[-.]", "_", name.lower())
    return bool(NAMES.search(name)) and not TOKENS.search(name)


def without_logins(text: str) -> str:
    """The text with `***@` in place of the user:password@ of its URLs, and `***` for the secrets of their queries."""

    def hide(found: re.Match[str]) -> str:
        name = found[2].lower().replace("-", "_")
        return f"{found[1]}{found[2]}={HIDDEN}" if is_secret(name) or SIGNED.search(name) else found[0]

    return PARAMETER.sub(hide, LOGIN.sub(rf"\1{HIDDEN}@", text))


def without_secrets(text: str) -> str:
    """A flag or a value without the secrets of its URLs and, if it is a mapping (JSON, Hydra), of its keys."""

    def hide(found: re.Match[str]) -> str:
        name, separator, value = found.groups()
        [quote] = re.findall(r"""\A\\*["']""", value) or [""]
        return f"{name}{separator}{quote}{HIDDEN}{quote}" if is_secret(name) else found[0]

    return without_logins(PAIR.sub(hide, text) if "{" in text else text)


def command_line(words: Sequence[str]) -> str:
    """A command as shell text, without the secrets in its flags and URLs."""
    shown = []
    for before, word in zip(("", *words), words, strict=False):
        name, equals, _ = word.partition("=")
        if equals and is_secret(name):
            word = f"{name}={HIDDEN}"
        elif before.startswith("--") and is_secret(before):
            word = HIDDEN
        shown.append(without_secrets(word))
    return shlex.join(shown)


def recorded(value: Any, name: str = "") -> Any:
    """A configuration (nested dicts and lists) without its secrets."""
    if isinstance(value, Mapping):
        return {key: recorded(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [recorded(inner, name) for inner in value]
    if isinstance(value, str) and value:
        return HIDDEN if is_secret(name) else without_secrets(value)
    return value


def secrets_of(key: str | None, url: str) -> list[str]:
    """The key and the login of a URL, in every spelling in which a server may repeat them, longest first."""
    login = urlsplit(url).netloc.rpartition("@")[0]
    user, _, password = (unquote(part) for part in login.partition(":"))
    basic = b64encode(f"{user}:{password}".encode()).decode() if login else ""
    found = {key or "", login, password or user, basic} - {""}
    quoted = {json.dumps(secret)[1:-1] for secret in found}
    found |= quoted | {text.replace("/", "\\/") for text in quoted} | {quote(secret, safe="") for secret in found}
    return sorted(found, key=lambda secret: (-len(secret), secret))


def is_unmistakable(secret: str) -> bool:
    """Whether a model would not write this text by chance, as it may write EMPTY, none or password."""
    return len(secret) >= SHORT and not secret.isalpha()


def hider(secrets: Iterable[str]) -> Callable[[str], str]:
    """A function that replaces these secrets with ***; short ones (x, none) only as whole words."""
    patterns = [re.escape(text) if len(text) >= SHORT else rf"(?<!\w){re.escape(text)}(?!\w)" for text in secrets]
    pattern = re.compile("|".join(patterns) or "(?!)")  # which matches nothing
    return lambda text: pattern.sub(HIDDEN, text)
