"""YAML files of settings: each key is the name of a flag, and its value is checked as that flag checks it."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import InputError, message_of

SWITCHES = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}  # YAML 1.1


@dataclass(frozen=True)
class Setting:
    """The value of one key: text as it was written, a list of texts, a mapping, or None for null."""

    key: str
    value: Any
    where: str  # FILE:LINE

    def error(self, message: str) -> InputError:
        return InputError(f"{self.where}: {self.key}: {message}")


def not_a_file(path: str | Path) -> InputError:
    """The error about a path that is not a file: a folder, a pipe, or nothing.

    It names the folder in which a relative path was looked for: launch scripts run in the repository's root, wherever
    they are called.
    """
    if Path(path).exists():
        return InputError(f"{path}: is a {'folder' if Path(path).is_dir() else 'pipe or a device'}; expected a file")
    if str(path).startswith("~"):
        return InputError(f"{path}: no such file: only a shell knows ~, outside of quotation marks")
    try:
        return InputError(f"{path}: no such file{'' if Path(path).is_absolute() else f' in {Path.cwd()}'}")
    except FileNotFoundError:  # the current folder was removed
        return InputError(f"{path}: no such file: the current folder was removed")


def read_yaml(path: str) -> list[Setting]:
    """The settings of a YAML mapping, without YAML's guesses at types: `save_strategy: no` is the text "no".

    Only mappings (`model_init_kwargs`) keep YAML's own types, because no flag declares types for their keys. Raises
    InputError.
    """
    import yaml

    if not Path(path).exists() or Path(path).is_dir():
        raise not_a_file(path)
    try:
        loader = yaml.SafeLoader(Path(path).read_text("utf-8-sig"))
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise InputError(f"{path}: expected a mapping of keys to values")
        refuse_repeated(path, [(str(key.value), key.start_mark.line + 1) for key, _ in node.value])
        loader.flatten_mapping(node)  # `<<: *anchor`
        if several := [key for key, _ in node.value if not isinstance(key, yaml.ScalarNode)]:
            raise InputError(f"{path}:{several[0].start_mark.line + 1}: a key is not a single value")
        return [
            Setting(str(key.value), as_written(loader, value), f"{path}:{key.start_mark.line + 1}")
            for key, value in {key.value: (key, value) for key, value in node.value}.values()
        ]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {message_of(error)}") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply") from None
    except InputError:
        raise
    except ValueError as error:  # from YAML's own types: a date such as 2026-13-45, an integer of 5,000 digits
        raise InputError(f"{path}: not YAML: {error}") from None


def refuse_repeated(path: str, keys: Collection[tuple[str, int]]) -> None:
    """Raise InputError if one of the (key, line) repeats a key: YAML would silently take the last value."""
    lines: dict[str, int] = {}
    for key, line in keys:
        if key in lines:
            raise InputError(f"{path}:{line}: {key}: given already in line {lines[key]}")
        lines[key] = line


def as_written(loader: Any, node: Any) -> Any:
    """The text of a scalar (None for null), a list of texts, or a mapping with YAML's types."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return [as_written(loader, item) for item in node.value]
    value = loader.construct_object(node, deep=True)  # rejects unknown tags, such as !!python/object
    return node.value if isinstance(node, yaml.ScalarNode) and value is not None else value


def flag_value(parser: argparse.ArgumentParser, action: argparse.Action, setting: Setting) -> Any:
    """What the flag of `action` makes of a setting that is not null. Raises InputError if the flag would reject it."""
    texts = setting.value if isinstance(setting.value, list) else [setting.value]
    several = action.nargs in ("+", "*")
    if not all(isinstance(text, str) for text in texts) or (isinstance(setting.value, list) and not several):
        raise setting.error(f"expected {'a list of single values' if several else 'one value'}, got {setting.value!r}")
    if action.nargs == 0 or getattr(action.type, "__name__", "") == "string_to_bool":  # transformers' type of a boolean
        if texts[0].lower() not in SWITCHES:
            raise setting.error(f"expected true or false, got {texts[0]!r}")
        return SWITCHES[texts[0].lower()] == "true"
    try:
        return parser._get_values(action, texts)
    except argparse.ArgumentError as error:
        raise setting.error(error.message) from None
