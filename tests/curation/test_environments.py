"""Environments from pins, with the real pip: created once, held to the locks of a folder, refused in one line."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from conftest import ROOT
from pydantic import TypeAdapter, ValidationError
from wheels import only, write_wheel

from common.errors import InputError, ReCodeError
from curation.virtualenvs import Pins, environment, installed, read_locks, write_locks


@pytest.fixture
def index(tmp_path, monkeypatch):
    """quay 1.0 needs any buoy; there is buoy 1.0."""
    write_wheel(tmp_path / "index", "quay", "1.0", {"quay.py": ""}, requires=["buoy"])
    write_wheel(tmp_path / "index", "buoy", "1.0", {"buoy.py": ""})
    for name, value in only(tmp_path / "index").items():
        monkeypatch.setenv(name, value)
    return tmp_path / "index"


def holds(python) -> dict[str, str]:
    """What is installed, without what every new environment has."""
    return {name: version for name, version in (pin.split("==") for pin in installed(python)) if name != "setuptools"}


def test_what_pip_adds_is_put_on_record_and_held_to(index, tmp_path):
    first = environment(["quay==1.0"], tmp_path / "a")
    assert holds(first) == {"buoy": "1.0", "quay": "1.0"}
    write_locks(tmp_path, {("quay==1.0",): installed(first)})
    locks = read_locks(tmp_path)
    assert locks == {("quay==1.0",): tuple(installed(first))}

    write_wheel(index, "buoy", "2.0", {"buoy.py": ""})  # a release of the dependency
    free = environment(["quay==1.0"], tmp_path / "b")
    assert holds(free) == {"buoy": "2.0", "quay": "1.0"}
    locked = environment(["quay==1.0"], tmp_path / "b", locks)
    assert holds(locked) == {"buoy": "1.0", "quay": "1.0"}
    assert holds(free) == {"buoy": "2.0", "quay": "1.0"}  # it may be in use, so it is not changed


def test_an_environment_is_made_once(index, tmp_path, monkeypatch):
    first = environment(["quay==1.0"], tmp_path / "a")
    locks = {("quay==1.0",): installed(first)}
    assert environment(["quay==1.0"], tmp_path / "a", locks) == first  # its contents match the lock
    locked = environment(["quay==1.0"], tmp_path / "b", locks)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))  # so pip would fail
    assert environment(["quay==1.0"], tmp_path / "a") == first
    assert environment(["quay==1.0"], tmp_path / "b", locks) == locked
    (locked.parent.parent / "installed.txt").unlink()  # as after an interruption: created again, and pip fails
    with pytest.raises(ReCodeError, match="pip could not install"):
        environment(["quay==1.0"], tmp_path / "b", locks)


def test_everybody_may_read_an_environment_whatever_the_umask(index, tmp_path):
    """In the sandbox, programs of root run as another user: with umask 027 every reference failed to import."""
    before = os.umask(0o077)
    try:
        home = environment(["quay==1.0"], tmp_path / "envs").parent.parent
    finally:
        os.umask(before)
    paths = [home, *(path for path in home.rglob("*") if path.name != "installed.txt")]
    assert [path for path in paths if not path.is_symlink() and not path.stat().st_mode & 0o004] == []
    assert [path for path in paths if path.is_dir() and not path.stat().st_mode & 0o001] == []
    [module] = home.glob("lib/python*/site-packages/quay.py")
    assert module.stat().st_mode & 0o777 == 0o644
    assert (home / "bin" / "activate").stat().st_mode & 0o111 == 0


def test_no_program_of_the_packages_runs_while_an_environment_is_made(index, tmp_path):
    """A line of a .pth file runs whenever its interpreter starts: first in the sandbox."""
    mark = tmp_path / "ran"
    line = f"import pathlib; pathlib.Path({str(mark)!r}).touch()\n"
    write_wheel(index, "eager", "1.0", {"eager.py": "", "eager.pth": line})
    python = environment(["eager==1.0"], tmp_path / "envs")
    assert holds(python) == {"eager": "1.0"}
    assert not mark.exists()
    subprocess.run([python, "-c", ""], check=True)
    assert mark.exists()


def test_what_pip_cannot_install_is_one_line(index, tmp_path):
    for pins, locks, said in (
        (["quay==3.0"], {}, "quay==3.0"),
        (["quay==1.0"], {("quay==1.0",): ["buoy==9.0", "quay==1.0"]}, "quay==1.0"),  # gone from the index
    ):
        with pytest.raises(ReCodeError) as error:
            environment(pins, tmp_path / "envs", locks)
        assert str(error.value).startswith(f"pip could not install {said}: ERROR: ")
        assert "\n" not in str(error.value)
    assert not list((tmp_path / "envs").glob("*/installed.txt"))


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        (["numpy==2.0.0"], True),
        (["SQLAlchemy==2.0.0", "jax[cpu]==0.4.30", "torch==2.1.0+cpu"], True),
        ([], False),
        ("numpy==2.0.0", False),
        (["numpy"], False),
        (["numpy>=2"], False),
        (["numpy==2.*"], False),
        (["numpy @ git+https://192.0.2.1/numpy"], False),
        (["./numpy-2.0.0.whl"], False),
        (["--index-url=http://192.0.2.1"], False),
        (["numpy==2.0.0\n--pre"], False),
        ([2], False),
    ],
)
def test_exact_pins(value, accepted):
    if accepted:
        assert TypeAdapter(Pins).validate_python(value) == tuple(value)
    else:
        with pytest.raises(ValidationError, match="expected a list of exact pins"):
            TypeAdapter(Pins).validate_python(value)


def test_a_broken_record_of_environments_is_named(tmp_path):
    path = tmp_path / "environments.jsonl"
    path.write_text(json.dumps({"pins": ["quay==1.0"], "installed": ["quay"]}) + "\n")
    with pytest.raises(InputError, match=r"environments.jsonl:1: installed: expected a list of exact pins, such as"):
        read_locks(tmp_path)


def test_every_environment_of_our_records_is_on_record():
    """And contains the pins of the evidence."""
    locks = read_locks(ROOT / "data")
    rows = [json.loads(line) for line in (ROOT / "data" / "evidence.jsonl").read_text().splitlines()]
    used = {tuple(sorted(row[key])) for row in rows for key in ("old_env", "new_env")}
    assert used == locks.keys()

    def plain(pins):
        return {pin.lower().replace("_", "-") for pin in pins}

    assert [pins for pins, found in locks.items() if not plain(pins) <= plain(found)] == []
