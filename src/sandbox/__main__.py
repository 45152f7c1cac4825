"""Run programs from the command line: `PYTHONPATH=src python -m sandbox --help`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import sandbox
from sandbox import InfrastructureError, add_flags, run_all, settings
from sandbox.client import CONTROLS


def main() -> int:
    parser = argparse.ArgumentParser(description=sandbox.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*", type=Path, metavar="FILE", help="programs (default: only the controls)")
    parser.add_argument("--python", default=sys.executable, help="interpreter (default: this one)")
    parser.add_argument("--preload", nargs="+", default=[], metavar="MODULE", help="modules to import once")
    add_flags(parser)
    args = parser.parse_args()
    try:
        texts = [path.read_text("utf-8") for path in args.programs]
        verdicts = run_all(texts or list(CONTROLS)[:1], python=args.python, preload=args.preload, **settings(args))
    except (InfrastructureError, OSError, UnicodeDecodeError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
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
