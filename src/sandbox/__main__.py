"""Run programs from the command line: `PYTHONPATH=src python -m sandbox --help`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

import sandbox
from sandbox import InfrastructureError, add_flags, run_all, settings
from sandbox.client import CONTROLS


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(stopped(message))


def stopped(why: object) -> int:
    """One line on stderr; exit status 2."""
    print(f"sandbox: {why}", file=sys.stderr)
    return 2


def main() -> int:
    how = argparse.RawDescriptionHelpFormatter
    parser = Parser("python -m sandbox", description=sandbox.__doc__, formatter_class=how, allow_abbrev=False)
    parser.add_argument("programs", nargs="*", type=Path, metavar="FILE", help="programs (default: only the controls)")
    parser.add_argument("--python", default=sys.executable, help="interpreter (default: this one)")
    parser.add_argument("--preload", nargs="+", default=[], metavar="MODULE", help="modules to import once")
    add_flags(parser)
    args = parser.parse_args()
    try:
        texts = [path.read_text("utf-8") for path in args.programs]
        verdicts = run_all(texts or list(CONTROLS)[:1], python=args.python, preload=args.preload, **settings(args))
    except OSError as error:
        return stopped(f"{error.filename}: {error.strerror}" if error.filename else error)
    except (InfrastructureError, UnicodeDecodeError) as error:
        return stopped(error)
    except KeyboardInterrupt:
        stopped("interrupted")
        return 130
    if not texts:
        print("the sandbox works: a passing and a failing program got their verdicts")
        return 0
    for path, verdict in zip(args.programs, verdicts, strict=True):
        print(f"{path}: {verdict.status} in {verdict.seconds:.2f} s")
        for text in filter(None, (verdict.detail, verdict.output)):  # shown without control characters and surrogates
            print("".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text.rstrip("\n")))
    return int(not all(verdict.passed for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
