"""src/migrate.py: what an answer may do to the user's file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import migrate

OLD = "import numpy as np\narea = np.trapz(area)\n"


def answer(code: str) -> str:
    return f" ok </think>\n<answer>\n```python\n{code}```\n</answer>\n"


def write(monkeypatch, path: Path, completion: str) -> int:
    """The exit status of `migrate.py --write`; the completion is given, in the place of the model."""
    monkeypatch.setattr(migrate, "migrate", lambda *_: completion)
    monkeypatch.setattr(sys, "argv", ["migrate.py", "--model", "m", "--update", "note", "--write", str(path)])
    return migrate.main()


@pytest.mark.parametrize(
    "code",
    ["", "\n\n", "# as before\n", "x = = 1\n", "pass\n", "...\n", "import numpy as np\n", "async def f(): pass\n"],
)
def test_an_answer_without_code_leaves_the_file_alone(monkeypatch, capsys, tmp_path, code):
    path = tmp_path / "old.py"
    path.write_text(OLD)
    assert write(monkeypatch, path, answer(code)) == 1
    assert path.read_text() == OLD
    assert capsys.readouterr().out == (
        "migrate: the answer has no code that parses and does something (--show-thinking prints it)\n"
    )


def test_an_answer_with_code_is_written(monkeypatch, capsys, tmp_path):
    path = tmp_path / "old.py"
    path.write_text(OLD)
    assert write(monkeypatch, path, answer(OLD.replace("trapz", "trapezoid"))) == 0
    assert path.read_text() == "import numpy as np\narea = np.trapezoid(area)\n"
    assert "+area = np.trapezoid(area)\n" in capsys.readouterr().out


def test_a_file_of_imports_may_stay_one(monkeypatch, tmp_path):
    path = tmp_path / "old.py"
    path.write_text("from numpy import trapz\n")
    assert write(monkeypatch, path, answer("from numpy import trapezoid\n")) == 0
    assert path.read_text() == "from numpy import trapezoid\n"


def test_a_model_that_cannot_be_loaded_is_one_line(capsys, monkeypatch, tmp_path):
    (tmp_path / "old.py").write_text(OLD)
    (tmp_path / "empty").mkdir()
    for model, said in (("runs/nope", "no such folder"), (str(tmp_path / "empty"), "model ")):
        argv = ["migrate.py", "--model", model, "--update", "note", str(tmp_path / "old.py")]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as stopped:
            migrate.main()
        error = capsys.readouterr().err
        assert (stopped.value.code, error.count("\n"), said in error) == (2, 1, True), error
