"""Command lines that fail early and in one line: the parts that every program shares."""

from __future__ import annotations

import argparse
import difflib
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from common.errors import ReCodeError
from common.redaction import without_logins

N = TypeVar("N", int, float)
# Packages of optional layers -> the requirements file that installs them.
LAYERS = {
    **dict.fromkeys(("torch", "transformers", "trl", "peft", "datasets", "accelerate"), "requirements.txt"),
    **dict.fromkeys(("Levenshtein", "yaml", "tqdm", "pydantic", "pyarrow", "gguf", "matplotlib"), "requirements.txt"),
    **dict.fromkeys(("verl", "ray", "omegaconf", "hydra", "tensordict"), "requirements/dapo.txt"),
    **dict.fromkeys(("wandb", "trackio", "liger_kernel"), "requirements/extras.txt"),
    "vllm": "requirements/vllm.txt",
    "deepspeed": "requirements/deepspeed.txt",
}


def printable(text: str) -> str:
    """The text with control characters, which could hide code or move the cursor, written as escapes."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def fail(message: object) -> NoReturn:
    """One line on stderr, exit status 2."""
    print(printable(without_logins(f"{Path(sys.argv[0]).stem}: {message}")), file=sys.stderr)
    raise SystemExit(2)


def in_range(kind: Callable[[str], N], accepted: str, holds: Callable[[N], bool]) -> Callable[[str], N]:
    """An argparse type: the numbers of which `holds` is true. nan is in no range."""

    def number(text: str) -> N:
        value = kind(text)
        if not holds(value):
            raise argparse.ArgumentTypeError(f"{text} is not {accepted}")
        return value

    number.__name__ = kind.__name__  # in argparse's message about a text that is not a number
    return number


def above_zero(kind: Callable[[str], N], most: float = math.inf) -> Callable[[str], N]:
    """An argparse type: finite numbers above 0, up to `most`."""
    limit = f" and at most {most}" if most < math.inf else " and finite" if kind is float else ""
    return in_range(kind, f"above 0{limit}", lambda value: 0 < value <= most and value < math.inf)


def between(kind: Callable[[str], N], low: float, high: float) -> Callable[[str], N]:
    """An argparse type: numbers from `low` to `high`."""
    return in_range(kind, f"between {low} and {high}", lambda value: low <= value <= high)


@contextmanager
def program(*outside: type[Exception]) -> Iterator[None]:
    """Decorates a program's main: an error that is not a bug of this project ends in one line and exit status 2.

    These are a ReCodeError, a file that the operating system refuses to open, a package of an optional layer that is
    not installed, and `outside`: the errors of modules that import nothing from this project. Any other error keeps
    its traceback and exit status 1.
    """
    expected: tuple[type[Exception], ...] = (ReCodeError, *outside)
    try:
        yield
    except expected as error:
        fail(error)
    except ModuleNotFoundError as error:
        if error.name not in LAYERS:  # a submodule that an installed package lacks is a bug
            raise
        fail(f"{error.name} is not installed: pip install -r {LAYERS[error.name]}")
    except OSError as error:
        if error.filename is None:
            raise
        fail(f"{error.filename}: {error.strerror}")


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The message about an unknown key, with the nearest known one."""
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"unknown key {key!r}" + (f": did you mean {near[0]!r}?" if near else "")


def require(package: str) -> None:
    """Exit with one line that names the requirements file if a package of LAYERS is not installed."""
    if find_spec(package) is None:
        fail(f"{package} is not installed: pip install -r {LAYERS[package]}")


def split_config(argv: Sequence[str]) -> tuple[list[str], str | None]:
    """(the flags without --config, its file)."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = fail  # type: ignore[method-assign]
    parser.add_argument("--config")
    args, rest = parser.parse_known_args(argv)
    return rest, args.config


def read_yaml(path: str) -> dict[str, Any]:
    """A YAML mapping. Numbers are returned as text, so that argparse checks them against the type of their key."""
    import yaml

    if not Path(path).is_file():
        fail(f"{path}: no such file")
    try:
        content = yaml.safe_load(Path(path).read_text("utf-8"))
    except yaml.YAMLError as error:
        fail(f"{path}: not YAML: {' '.join(str(error).split())}")
    if not isinstance(content, dict):
        fail(f"{path}: expected a mapping of keys to values")
    return {k: str(v) if isinstance(v, (int, float)) else v for k, v in content.items()}


def parse_flags(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse strictly: no abbreviated flags, errors in one line, and `--config FILE`.

    The keys of the YAML file are the flags without dashes; true and false switch a flag that takes no value; flags on
    the command line take precedence.
    """
    parser.allow_abbrev = False
    parser.add_argument("--config", help="YAML file with these keys; flags take precedence")
    parser.error = fail  # type: ignore[method-assign]
    flags, config = split_config(sys.argv[1:] if argv is None else argv)
    known = {action.dest: action for action in parser._actions if action.option_strings and action.dest != "config"}
    from_file: list[str] = []
    for key, value in read_yaml(config).items() if config else ():
        action = known.get(key)
        if action is None:
            fail(f"{config}: {unknown_key(key, known)}")
        flag = action.option_strings[-1]
        if action.nargs == 0:
            if value not in ("True", "False"):
                fail(f"{config}: {key}: expected true or false")
            from_file += [flag] if value == "True" else []
        elif value is not None:
            from_file += [flag, *map(str, value)] if isinstance(value, list) else [f"{flag}={value}"]
    return parser.parse_args([*from_file, *flags])
