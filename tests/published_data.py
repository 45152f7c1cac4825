"""The published data sets, which are not in this repository: RECODE_PUBLISHED names a folder with their files."""

from __future__ import annotations

import os
from pathlib import Path


def published(name: str) -> Path | None:
    """A file of that folder; None if the variable is not set or the file does not exist."""
    folder = os.environ.get("RECODE_PUBLISHED")
    path = Path(folder) / name if folder else None
    return path if path and path.is_file() else None
