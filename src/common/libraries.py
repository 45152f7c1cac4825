"""Names of libraries and version numbers in one spelling each."""

from __future__ import annotations

import re

# Spellings in the published rows, import names and package names -> the name that a library gives itself.
LIBRARIES = {
    "jax": "JAX",
    "matplotlib": "Matplotlib",
    "networkx": "NetworkX",
    "numpy": "NumPy",
    "pandas": "pandas",
    "pillow": "Pillow",
    "polars": "Polars",
    "pydantic": "Pydantic",
    "pytorch": "PyTorch",
    "torch": "PyTorch",
    "scikitlearn": "scikit-learn",
    "sklearn": "scikit-learn",
    "scipy": "SciPy",
    "scrapy": "Scrapy",
    "seaborn": "seaborn",
    "sqlalchemy": "SQLAlchemy",
}


def normalise_dependency(name: str) -> str:
    """One spelling per library; a name that is not in LIBRARIES is only stripped."""
    return LIBRARIES.get(re.sub(r"[\s_.-]", "", name).lower(), name.strip())


def normalise_version(version: str) -> str:
    """`==2.2.0`, `2.2.0`, ` >= 2.2.0`, `v2.2.0` -> `2.2.0`; `==1.3.x` -> `1.3.x`."""
    return re.sub(r"^[\s=<>~!^]*v?", "", version).strip()


def release(version: str) -> tuple[int, ...]:
    """`1.3.x` -> (1, 3), `2.0.0` -> (2,): numbers to compare by, so that 2.0 and 2.0.0 are equal."""
    numbers = [int(part) for part in re.findall(r"\d+", version)]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
