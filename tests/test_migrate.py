"""src/migrate.py: what an answer may do to the user's file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import migrate

OLD = "import numpy as np\narea = np.trapz(area)\n"


def answer(code: str) -> str:
    return f" ok </think>\n<answer>\n```python\n{code}```\n</answer>\n"


def write(monkeypatch, path: Path, completion: str, *flags: str) -> int:
    """The exit status of `migrate.py --write`; the completion is given, in the place of the model."""
    monkeypatch.setattr(migrate, "migrate", lambda *_: completion)
    argv = ["migrate.py", "--model", "m", "--update", "trapz was renamed.", "--write", str(path), *flags]
    monkeypatch.setattr(sys, "argv", argv)
    return migrate.main()


@pytest.mark.parametrize(
    "code",
    [
        "",
        "\n\n",
        "# as before\n",
        "x = = 1\n",
        "pass\n",
        "...\n",
        "import numpy as np\n",
        "async def f(): pass\n",
        "if True:\n    pass\n",
    ],
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


def test_the_prompt_has_the_wording_of_the_model_s_run(monkeypatch, tmp_path):
    (tmp_path / "run.json").write_text('{"starts": [{"config": {"prompt": "precise"}}]}')
    path = tmp_path / "old.py"
    path.write_text(OLD)
    asked = []
    monkeypatch.setattr(migrate, "migrate", lambda model, adapter, record, prompt, *_: asked.append(prompt) or "")
    for flags in (["--model", str(tmp_path)], ["--model", str(tmp_path), "--prompt", "paper"], ["--model", "m"]):
        monkeypatch.setattr(sys, "argv", ["migrate.py", *flags, "--update", "trapz was renamed.", str(path)])
        migrate.main()
    assert asked == ["precise", "paper", "paper"]


def test_a_file_of_imports_may_stay_one(monkeypatch, tmp_path):
    path = tmp_path / "old.py"
    path.write_text("from numpy import trapz\n")
    assert write(monkeypatch, path, answer("from numpy import trapezoid\n")) == 0
    assert path.read_text() == "from numpy import trapezoid\n"


def test_a_model_that_cannot_be_loaded_is_one_line(capsys, monkeypatch, tmp_path):
    (tmp_path / "old.py").write_text(OLD)
    (tmp_path / "empty").mkdir()
    for model, said in (("runs/nope", "no such folder"), (str(tmp_path / "empty"), "model ")):
        argv = ["migrate.py", "--model", model, "--update", "a note", str(tmp_path / "old.py")]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as stopped:
            migrate.main()
        progress, _, error = capsys.readouterr().err.partition("\n")
        assert progress == f"migrate: {tmp_path / 'old.py'}: asking {model}; this can take minutes"
        assert (stopped.value.code, error.count("\n"), said in error) == (2, 1, True), error


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"area = f(x)\r\nprint(area)\r\n", b"area = g(x)\r\nprint(area)\r\n"),
        (b"area = f(x)\nprint(area)", b"area = g(x)\nprint(area)"),
        (b"\xef\xbb\xbfarea = f(x)\nprint(area)\n", b"\xef\xbb\xbfarea = g(x)\nprint(area)\n"),
        (b"# coding: latin-1\narea = f('\xe9')\nprint(area)\n", b"area = g(x)\nprint(area)\n"),
    ],
    ids=["crlf", "no final newline", "byte order mark", "latin-1"],
)
def test_a_file_keeps_how_it_is_stored(monkeypatch, tmp_path, old, new):
    path, link = tmp_path / "old.py", tmp_path / "link.py"
    path.write_bytes(old)
    path.chmod(0o755)
    link.symlink_to(path)
    assert write(monkeypatch, link, answer("area = g(x)\nprint(area)\n")) == 0
    assert (path.read_bytes(), path.stat().st_mode & 0o777, link.is_symlink()) == (new, 0o755, True)


def test_a_coding_comment_that_stays_is_followed(monkeypatch, tmp_path):
    (tmp_path / "old.py").write_bytes(b"# coding: latin-1\nx = f('\xe9')\n")
    assert write(monkeypatch, tmp_path / "old.py", answer("# coding: latin-1\nx = g('é')\n")) == 0
    assert (tmp_path / "old.py").read_bytes() == b"# coding: latin-1\nx = g('\xe9')\n"


@pytest.mark.parametrize(
    ("old", "diff"),
    [
        (b"x = 1", "-x = 1\n\\ No newline at end of file\n+x = 2\n\\ No newline at end of file\n"),
        (b"x = 1\n\n", "-x = 1\n-\n+x = 2\n"),
        (b"x = 1\r\n", "-x = 1\r\n+x = 2\r\n"),
        (b"x = 1\n\x0c\n", "-x = 1\n-\x0c\n+x = 2\n"),
    ],
)
def test_the_diff_has_the_lines_of_both_files(monkeypatch, capsys, tmp_path, old, diff):
    (tmp_path / "old.py").write_bytes(old)
    assert write(monkeypatch, tmp_path / "old.py", answer("x = 2\n")) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"--- {tmp_path}/old.py\n+++ {tmp_path}/old.py (migrated)\n@@ ")
    assert out.partition(" @@\n")[2] == f"{diff}wrote {tmp_path}/old.py\n"


def test_an_answer_without_a_change_says_so(monkeypatch, capsys, tmp_path):
    (tmp_path / "old.py").write_bytes(b"x = 1\r\n\r\n")
    assert write(monkeypatch, tmp_path / "old.py", answer("x = 1\n")) == 0
    assert capsys.readouterr().out == "no change\n"
    assert (tmp_path / "old.py").read_bytes() == b"x = 1\r\n\r\n"


@pytest.mark.parametrize(
    ("old", "flags", "message"),
    [
        (b"# A title\n\nwith text\n", [], "old.py: not Python code: line 3: "),
        (b"\x7fELF\x02\x01\x00", [], "old.py: not Python code: "),
        (b"\x89PNG\r\n\xff", [], "old.py: not Python code: "),
        (b"# coding: nonsense\nx = 1\n", [], "old.py: not Python code: unknown encoding: nonsense"),
        (b"x = '\xe9'\n", [], "old.py: not Python code: "),
        (b"", [], "old.py: nothing to migrate: the file is empty"),
        (None, [], "old.py: no such file"),
        (b"x = 1\n", ["--update", "notes.txt"], "--update notes.txt: no such file, and one word is not a note"),
        (b"x = 1\n", ["--update", " "], "--update: the note is empty"),
        (b"x = 1\n", ["--update", "/"], "/: is a folder; expected a file"),
        (b"x = 1\n", ["--update", sys.executable], f"{sys.executable}: not UTF-8: "),
        (b"x = 1\n", ["--temperature", "nan"], "argument --temperature: nan is not between 0 and 100"),
        (b"x = 1\n", ["--temperature=-1"], "argument --temperature: -1 is not between 0 and 100"),
        (b"x = 1\n", ["--max-new-tokens", "0"], "argument --max-new-tokens: 0 is not above 0"),
        (b"x = 1\n", ["--seed", "1e3"], "argument --seed: invalid int value: '1e3'"),
        (b"x = 1\n", ["--update", "caf\udce9 was renamed"], "--update: not UTF-8 text"),
        (b"x = 1\n", ["--adapter", "no/such"], "adapter no/such: no adapter_config.json there"),
    ],
)
def test_input_that_cannot_be_used_is_one_line_before_a_model_is_loaded(
    monkeypatch, capsys, tmp_path, old, flags, message
):
    path = tmp_path / "old.py"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(SystemExit) as stopped:
        write(monkeypatch, path, "no answer", *flags)
    error = capsys.readouterr().err
    assert (stopped.value.code, error.count("\n"), message in error) == (2, 1, True), error
    assert old is None or path.read_bytes() == old


@pytest.mark.parametrize(
    "code", ["x = " + "(" * 5000, "x = " + "-" * 2000 + "1", "if a:\n    pass\n" + "elif b: pass\n" * 2000]
)
def test_an_answer_of_any_depth_leaves_the_file_alone_or_is_written(monkeypatch, tmp_path, code):
    (tmp_path / "old.py").write_text(OLD)
    assert write(monkeypatch, tmp_path / "old.py", answer(code + "\n")) in (0, 1)
    assert (tmp_path / "old.py").read_text() in (OLD, code + "\n")


def test_a_file_in_a_folder_that_cannot_be_written_is_found_first(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        write(monkeypatch, Path("/proc/self/comm"), "no answer")
    assert "asking" not in capsys.readouterr().err
