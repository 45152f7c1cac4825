"""Names of libraries and version numbers in one spelling each."""

from __future__ import annotations

import re

# The names that libraries give themselves, for the spellings in the published rows and the names of packages.
LIBRARIES = (
    "JAX Matplotlib NetworkX NumPy pandas Pillow Polars Pydantic PyTorch scikit-learn SciPy Scrapy seaborn SQLAlchemy"
)
IMPORTED_AS = {"sklearn": "scikit-learn", "torch": "PyTorch"}


def _key(name: str) -> str:
    return re.sub(r"[\s_.-]", "", name).lower()


SPELLING = {_key(name): name for name in LIBRARIES.split()} | IMPORTED_AS


def normalise_dependency(name: str) -> str:
    """One spelling per library; a name that is not in SPELLING is only stripped."""
    return SPELLING.get(_key(name), name.strip())


def normalise_version(version: str) -> str:
    """`==2.2.0`, `2.2.0`, ` >= 2.2.0`, `v2.2.0` -> `2.2.0`; `==1.3.x` -> `1.3.x`."""
    return re.sub(r"^[\s=<>~!^]*v?", "", version).strip()


def release(version: str) -> tuple[int, ...]:
    """`1.3.x` -> (1, 3), `2.0.0` -> (2,): numbers to compare by, so that 2.0 and 2.0.0 are equal."""
    numbers = [int(part[:18]) for part in re.findall(r"\d+", version)]  # Python converts at most 4,300 digits
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
