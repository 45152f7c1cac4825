"""SIGTERM ends a program like an exception: temporary folders are removed, and the processes that it started end."""

from __future__ import annotations

import signal
import sys


def exit_on_sigterm() -> None:
    """From now on SIGTERM raises SystemExit in the main thread, with the status that a shell reports for it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
