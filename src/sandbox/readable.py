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


class CannotImport(Exception):
    """A module that the run needs, and why it cannot be imported."""


def check(needs: list) -> None:
    print(os.getuid())
    for folder in sys.path:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for entry in os.scandir(folder or "."):
                read(entry.path)
                read(os.path.join(entry.path, "__init__.py"))
    for name in needs:
        try:
            importlib.import_module(name)
        except BaseException as error:  # whatever a module raises when it is imported
            text = " ".join(str(error).split())  # one line: numpy's has thirty
            raise CannotImport(f"{name}: {type(error).__name__}: {text[:500]}") from None
