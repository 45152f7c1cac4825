"""What ends a program in one line, and what keeps its traceback."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from common.cli import program
from common.errors import InputError, ReCodeError


class Outside(Exception):
    """An error of a module that imports nothing of this project."""


@program(Outside)
def main(error: BaseException | None = None, path: Path | None = None, module: str | None = None) -> int:
    if path:
        path.read_text()
    if module:
        importlib.import_module(module)
    if error:
        raise error
    return 0


def test_a_main_without_errors_returns_its_value():
    assert main() == 0


@pytest.mark.parametrize("error", [ReCodeError("the server is gone"), InputError("no rows"), Outside("no sandbox")])
def test_errors_outside_of_the_code_are_one_line(error, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(error)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith(f": {error}\n")


def test_a_file_that_cannot_be_opened_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(path=tmp_path / "absent.txt")
    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith(f": {tmp_path / 'absent.txt'}: No such file or directory\n")


def test_a_missing_layer_names_its_requirements_file(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trackio", None)  # as if it were not installed
    with pytest.raises(SystemExit) as stopped:
        main(module="trackio")
    assert stopped.value.code == 2
    expected = ": trackio is not installed: pip install -r requirements/extras.txt\n"
    assert capsys.readouterr().err.endswith(expected)


@pytest.mark.parametrize("module", ["torch.no_such_submodule", "no_such_package"])
def test_a_module_that_an_installed_package_lacks_is_a_bug(module):
    with pytest.raises(ModuleNotFoundError):
        main(module=module)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), OSError("without a file")])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        main(error)
