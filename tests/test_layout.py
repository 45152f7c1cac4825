"""The structure of src/: which part may import which, and how long and complex files and functions may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src"
FOLDERS = {path.parent.name for path in SRC.glob("*/__init__.py")}
PAPER = {
    "records",
    "prompts",
    "rewards",
    "diff_match",
    "adapters",
    "dora",
    "rollouts",
}  # the paper's modules; every other one is a program
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
    "run_page": {"run_page", "evaluation", *SHARED},
    "experiments": {"experiments", "run_page", "evaluation", "curation", *SHARED},
}


def part_of(module: str) -> str | None:
    """The part of src/ that a module belongs to; None for the modules of other projects."""
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
    """verl loads the file by path, without src/ on its module path."""
    assert not [module for module in imports(SRC / "rewards.py") if part_of(module)]


def test_there_is_no_import_cycle():
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


def test_every_folder_has_a_docstring_of_one_line():
    """A folder without __init__.py would lose to an installed package of its name."""
    for folder in {path.parent for path in FILES} - {SRC}:
        docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))
        assert docstring, folder
        assert folder.name == "sandbox" or "\n" not in docstring, folder  # sandbox's is the help of `python -m sandbox`


# --- length and complexity -------------------------------------------------------------------------------------------

FILE_LINES, FUNCTION_LINES = 300, 60  # of a function: from its def line to its last
ONE_FILE = {"rewards.py"}  # verl loads it by path: it cannot be split


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    """(place, function, its def line with the comment) of every function of a file."""
    text = path.read_text("utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            header = " ".join(lines[node.lineno - 1 : node.body[0].lineno])
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node, header


def test_no_file_is_too_long():
    lengths = {path.relative_to(SRC): len(path.read_text("utf-8").splitlines()) for path in FILES}
    long = [f"{path}: {lines}" for path, lines in lengths.items() if lines > FILE_LINES and str(path) not in ONE_FILE]
    assert not long, f"over {FILE_LINES} lines: " + ", ".join(long)


def test_no_function_is_too_long_without_a_reason():
    """The reason is a comment on the def line: `# long: …`."""
    long = []
    for place, node, header in (found for path in FILES for found in functions(path)):
        assert node.end_lineno
        lines = node.end_lineno - node.lineno + 1
        if lines > FUNCTION_LINES and not re.search(r"# .*\blong: \w", header):
            long.append(f"{place}: {lines}")
    assert not long, f"over {FUNCTION_LINES} lines:\n" + "\n".join(long)


def test_no_function_is_too_complex_without_a_reason():
    """ruff's C901, which pyproject.toml sets to 15; `# noqa: C901` needs a reason after it."""
    command = [sys.executable, "-m", "ruff", "check", "--select", "C901", "--no-cache", "--output-format", "concise"]
    done = subprocess.run([*command, str(SRC)], cwd=ROOT, capture_output=True, text=True, check=False)
    bare = [
        f"{place}: noqa: C901 without a reason"
        for path in FILES
        for place, _, header in functions(path)
        if "C901" in header and not re.search(r"noqa: C901\W+\w", header)
    ]
    assert not done.returncode and not bare, "\n".join([done.stdout, *bare])
