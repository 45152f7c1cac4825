"""A control that runs as a program in the sandbox: can its user read, and import, what its interpreter has?"""

import contextlib
import importlib
import os
import sys


def read(path: str) -> None:
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
