"""A control that runs as a program in the sandbox: can it read, and import, what its interpreter has?

A program may be another user than the one who installed the packages (root, with umask 027), and than the fork server,
which has imported the preloaded modules.
"""

import contextlib
import importlib
import os
import sys


def read(path: str) -> None:
    """Fail if a folder or module file exists but cannot be read."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if os.path.isdir(path):
            os.listdir(path)
        elif path.endswith((".py", ".so", ".pth")):
            open(path, "rb").close()


def check(needs: list) -> None:
    for folder in sys.path:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for entry in os.scandir(folder or "."):
                read(entry.path)
                read(os.path.join(entry.path, "__init__.py"))
    for name in needs:
        importlib.import_module(name)
