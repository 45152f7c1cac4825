"""Outputs are tried first: a run must not find out at its end that its results cannot be written."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from common.errors import InputError


def check_outputs(*paths: Path) -> None:
    """Raise InputError if one of these files could not be written or replaced. No file or folder is left behind."""
    for path in paths:
        part = path.with_name(path.name + ".part")  # where common/files.py writes first
        try:
            if path.is_dir():
                raise InputError(f"{path}: cannot be written: it is a folder")
            missing = [folder for folder in path.parents if not folder.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            part.touch()
            part.unlink()
            if path.exists():
                open(path, "ab").close()
            with suppress(OSError):  # another process may have written there
                for folder in missing:
                    folder.rmdir()
        except OSError as error:  # mkdir reports a file among the parents as FileExistsError or NotADirectoryError
            place = error.filename if error.filename != str(part) else path
            why = "it is a file" if isinstance(error, FileExistsError) else error.strerror
            raise InputError(f"{path}: cannot be written: {place}: {why}") from None
