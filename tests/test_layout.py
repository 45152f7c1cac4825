"""The rule of imports: which part of src/ may import which."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"
FOLDERS = {path.parent.name for path in SRC.glob("*/__init__.py")}
PAPER = {"records", "prompts", "rewards", "diff_match", "adapters"}  # the paper's modules; every other one is a program
SHARED = {"paper", "sandbox", "common"}
MAY_IMPORT = {
    "program": {"paper", *FOLDERS},
    "paper": {"paper", "common"},
    "common": {"common"},
    "sandbox": {"sandbox"},
    "trl_training": {"trl_training", *SHARED},
    "verl_training": {"verl_training", *SHARED},
    "curation": {"curation", *SHARED},
    "evaluation": {"evaluation", "curation", *SHARED},
}


def part_of(module: str) -> str | None:
    """The part of src/ that a module is in; None for other people's modules."""
    first = module.partition(".")[0]
    if first in FOLDERS:
        return first
    if (SRC / f"{first}.py").is_file():
        return "paper" if first in PAPER else "program"
    return None


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, *, at_import: bool = False) -> Iterator[str]:
    """The modules that a file imports; only those imported with it, if `at_import`."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from [name for name in submodules if (SRC / f"{name.replace('.', '/')}.py").is_file()] or [
                node.module
            ]


FILES = sorted(SRC.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_file_imports_what_its_part_may(path):
    part = part_of(module_of(path))
    for module in imports(path):
        imported = part_of(module)
        assert imported is None or imported in MAY_IMPORT[part], f"{module_of(path)} imports {module}"


def test_the_rewards_import_nothing_of_the_project():
    """verl loads the file by its path, without the folder around it."""
    assert not [module for module in imports(SRC / "rewards.py") if part_of(module)]


def test_no_modules_import_each_other_in_a_circle():
    modules = {module_of(path): set(imports(path, at_import=True)) for path in FILES}
    edges = {name: {module for module in found if module in modules} for name, found in modules.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above, name])
        if name not in done:
            for module in sorted(edges[name]):
                visit(module, (*above, name))
            done.add(name)

    for name in sorted(edges):
        visit(name, ())


def test_every_folder_says_what_it_is():
    """A folder without __init__.py would lose to an installed package of its name."""
    for folder in {path.parent for path in FILES} - {SRC}:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))), folder
