"""Outputs are tried first: a run must not find out at its end that its results cannot be written."""

from __future__ import annotations

from pathlib import Path

from common.errors import InputError


def check_outputs(*paths: Path) -> None:
    """Make the folders of these files, and raise InputError if one of the files could not be written or replaced.

    No file is left behind or changed.
    """
    for path in paths:
        part = path.with_name(path.name + ".part")  # where common/files.py writes first
        try:
            if path.is_dir():
                raise InputError(f"{path}: cannot be written: it is a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            part.touch()
            part.unlink()
            if path.exists():
                open(path, "ab").close()
        except OSError as error:  # mkdir reports a file among the parents as FileExistsError or NotADirectoryError
            place = error.filename if error.filename != str(part) else path
            why = "it is a file" if isinstance(error, FileExistsError) else error.strerror
            raise InputError(f"{path}: cannot be written: {place}: {why}") from None
