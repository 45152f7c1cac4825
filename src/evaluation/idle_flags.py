"""Flags that do nothing in the chosen mode are refused, in src/generate.py and src/score.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence

from common.errors import InputError

Users = Mapping[str, Collection[str]]  # flag -> the modes in which it has an effect


def users_of(flags: Mapping[str, Iterable[str]]) -> Users:
    """Mode -> its flags, the other way round."""
    found: dict[str, list[str]] = {}
    for mode, own in flags.items():
        for flag in own:
            found.setdefault(flag, []).append(mode)
    return found


def given(
    parser: argparse.ArgumentParser,
    args: argparse.Namespace,
    argv: Sequence[str] | None,
    choosing: Collection[str] = (),
) -> set[str]:
    """The flags on the command line, and those that --config sets to another value than their default.

    The keys of --config do not count if the command line chooses the mode with one of `choosing`: the file was written
    for another one.
    """
    words = {word.partition("=")[0] for word in (sys.argv[1:] if argv is None else argv)}
    flags = {action.option_strings[-1]: action.dest for action in parser._actions if action.option_strings}
    typed = words & flags.keys()
    if typed & set(choosing):
        return typed
    return typed | {flag for flag, dest in flags.items() if getattr(args, dest, None) != parser.get_default(dest)}


def refuse_idle(flags: Collection[str], users: Users, mode: str) -> None:
    """Raise InputError for the first of `flags` that has no effect in `mode`; flags without an entry always have."""
    for flag in sorted(flags):
        if mode not in users.get(flag, (mode,)):
            raise InputError(f"{flag}: not for {mode}, only for {', '.join(users[flag])}")
