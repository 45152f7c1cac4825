"""Command lines that fail early and in one line: the parts that every program shares."""

from __future__ import annotations

import argparse
import difflib
import errno
import io
import math
import os
import re
import select
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from common.errors import ReCodeError
from common.ranges import Range
from common.redaction import without_logins
from common.settings import flag_value, read_yaml

N = TypeVar("N", int, float)
FULL = {errno.ENOSPC, errno.EDQUOT}
SRC = str(Path(__file__).resolve().parent.parent) + os.sep
# Packages of optional layers -> the requirements file that installs them.
LAYERS = {
    **dict.fromkeys(("torch", "transformers", "trl", "peft", "datasets", "accelerate", "jinja2"), "requirements.txt"),
    **dict.fromkeys(("Levenshtein", "yaml", "tqdm", "pydantic", "pyarrow", "gguf", "matplotlib"), "requirements.txt"),
    **dict.fromkeys(("verl", "ray", "omegaconf", "hydra", "tensordict"), "requirements/dapo.txt"),
    **dict.fromkeys(("wandb", "trackio", "liger_kernel"), "requirements/extras.txt"),
    "vllm": "requirements/vllm.txt",
    "deepspeed": "requirements/deepspeed.txt",
}


def printable(text: str) -> str:
    """The text with control characters, which could hide code or move the cursor, written as escapes."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: object) -> str:
    """The text, with line breaks too written as escapes: for names of files and fields, which can contain anything."""
    return printable(str(text)).replace("\n", "\\n")


def fail(message: object) -> NoReturn:
    """One line on stderr, exit status 2; a ReCodeError can have several."""
    text = without_logins(f"{Path(sys.argv[0]).stem}: {message}")
    print(printable(text) if isinstance(message, ReCodeError) else one_line(text), file=sys.stderr)
    raise SystemExit(2)


class Parser(argparse.ArgumentParser):
    """The parser of every program: no abbreviated flags, usage errors in one line, descriptions as they are written."""

    def __init__(self, **settings: Any) -> None:
        how: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**(how | settings))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        for word in sys.argv[1:] if args is None else args:
            if re.fullmatch(r"--\w[\w-]*=--", word):  # argparse gives such a flag an empty list, whatever its type
                self.error(f"argument {word[:-3]}: expected one argument")
        return super().parse_known_args(args, namespace)

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if "" in arg_strings and action.nargs != argparse.PARSER:  # Path("") would be the current folder
            raise argparse.ArgumentError(action, "expected a value, got an empty text")
        return super()._get_values(action, arg_strings)

    def error(self, message: str) -> NoReturn:
        fail(one_line(message))

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, rest = self.parse_known_args(args, namespace)
        if rest:  # the value of a misspelt flag is not shown: it may be a secret
            flags = [word.partition("=")[0] for word in rest if word.startswith("-")]
            known = [flag for flag in self._option_string_actions if flag.startswith("--")]
            near = difflib.get_close_matches(flags[0].replace("_", "-"), known, n=1) if flags else []
            hint = f": did you mean {near[0]}?" if near else ""
            self.error(f"unrecognized arguments: {' '.join(flags or rest)}{hint}")
        return found


def in_range(kind: Callable[[str], N], accepted: Range) -> Callable[[str], N]:
    """An argparse type: the numbers of a range."""

    def number(text: str) -> N:
        value = kind(text)
        if value not in accepted:
            raise argparse.ArgumentTypeError(f"{text} is not {accepted}")
        return value

    number.__name__ = kind.__name__  # in argparse's message about a text that is not a number
    return number


def above_zero(kind: Callable[[str], N], most: float = math.inf) -> Callable[[str], N]:
    """An argparse type: finite numbers above 0, up to `most`."""
    return in_range(kind, Range(0, most, above=True))


def between(kind: Callable[[str], N], low: float, high: float) -> Callable[[str], N]:
    """An argparse type: numbers from `low` to `high`."""
    return in_range(kind, Range(low, high))


def reader_is_gone() -> bool:
    """Whether stdout is a pipe that nobody reads any more, as after `| head`."""
    try:
        poll = select.poll()
        poll.register(sys.stdout, 0)
        return bool(poll.poll(0))  # it reports only errors: no events were asked for
    except (OSError, ValueError, AttributeError):  # closed, not a file, or None
        return False


def discard_stdout() -> None:
    """Keep the interpreter, which flushes stdout once more when it exits, from raising the same error again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _flush() -> None:
    if sys.stdout:  # None if it is closed
        sys.stdout.flush()


def raised_by_a_package(error: BaseException) -> bool:
    """Whether an installed package, not this project, called the function that raised the error."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        file = frame.f_code.co_filename
        if file.startswith(SRC) or "site-packages" in file:
            return not file.startswith(SRC)
    return False


@contextmanager
def program(*outside: type[Exception]) -> Iterator[None]:
    """Decorates a program's main: an error that is not a bug of this project ends in one line and exit status 2.

    These are a ReCodeError, a package of an optional layer that is not installed, and `outside`: the errors of modules
    that import nothing from this project. So is an OSError about a file that this project opened, because users name
    these files; a file that an installed package opened is not theirs. Any other error keeps its traceback and exit
    status 1. Ctrl-C ends in one line and status 130, and a reader that stops early, such as `| head`, quietly with 141.

    Characters that the encoding of stdout or stderr lacks (LANG=C, latin-1) are written as escapes, and bytes of stdin
    that are not text are read as U+FFFD.
    """
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    expected: tuple[type[Exception], ...] = (ReCodeError, *outside)
    try:
        try:
            yield
        except SystemExit:  # --help
            _flush()
            raise
        _flush()
    except expected as error:
        fail(error)
    except ModuleNotFoundError as error:
        if error.name not in LAYERS:  # a submodule that an installed package lacks is a bug
            raise
        fail(f"{error.name} is not installed: pip install -r {LAYERS[error.name]}")
    except KeyboardInterrupt:
        print(f"{Path(sys.argv[0]).stem}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as error:
        quiet = isinstance(error, BrokenPipeError) and reader_is_gone()
        if quiet or error.errno in FULL:  # stdout may be what is full
            discard_stdout()
        if quiet:
            raise SystemExit(141) from None
        if error.errno in FULL and error.filename is None:
            fail(f"{error.strerror}")
        if error.filename is None or raised_by_a_package(error):
            raise
        fail(f"{one_line(error.filename)}: {error.strerror}")


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
    parser = Parser(add_help=False)
    parser.add_argument("--config")
    args, rest = parser.parse_known_args(argv)
    return rest, args.config


def parse_flags(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags and `--config FILE`.

    The keys of the YAML file are the flags without dashes; true and false switch a flag that takes no value, and null
    leaves a flag at its default; flags on the command line take precedence.
    """
    parser.add_argument("--config", help="YAML file with these keys; flags take precedence")
    flags, config = split_config(sys.argv[1:] if argv is None else argv)
    known = {action.dest: action for action in parser._actions if action.option_strings}
    for own in ("config", "help"):
        known.pop(own, None)
    from_file: list[str] = []
    for setting in read_yaml(config) if config else ():
        action = known.get(setting.key)
        if action is None:
            fail(f"{setting.where}: {unknown_key(setting.key, known)}")
        if setting.value is None:
            continue
        value, flag = flag_value(parser, action, setting), action.option_strings[-1]
        if action.nargs == 0:
            from_file += [flag] if value else []
        else:
            from_file += [flag, *setting.value] if isinstance(setting.value, list) else [f"{flag}={setting.value}"]
    return parser.parse_args([*from_file, *flags])
