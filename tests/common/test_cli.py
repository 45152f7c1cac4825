"""What ends a program in one line, and what keeps its traceback."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common import cli
from common.cli import Parser, program
from common.errors import InputError, ReCodeError

SRC = Path(__file__).parent.parent.parent / "src"


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


# --- the streams -----------------------------------------------------------------------------------------------------

PROGRAM = """
import os, sys, time
sys.path.insert(0, sys.argv.pop(1))
from common.cli import Parser, program
@program()
def main():
    parser = Parser(description="Prints.")
    parser.add_argument("--limit", type=int)
    parser.add_argument("what")
    what = parser.parse_args().what
    if what == "words":
        print("ES* \\u2192 0.5", "\\ud83d")
    if what == "many":
        for number in range(100_000):
            print(number)
    if what == "read":
        print(ascii(sys.stdin.read()))
    if what == "wait":
        print("started", flush=True)
        time.sleep(60)
main()
"""


def start(*args: str, **env: str) -> subprocess.Popen[str]:
    # A shell starts its background jobs with SIGINT ignored, and this run of the tests may be one.
    command = ["env", "--default-signal=INT", sys.executable, "-c", PROGRAM, str(SRC), *args]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env={**os.environ, **env}, stdout=pipe, stderr=pipe, encoding="latin-1")


@pytest.mark.parametrize(
    "env",
    [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}],
    ids=lambda env: next(iter(env)),
)
def test_an_encoding_that_lacks_a_character_gets_its_escape(env):
    process = start("words", **{"PYTHONIOENCODING": "", **env})
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out in ("ES* \\u2192 0.5 \\ud83d\n", "ES* \xe2\x86\x92 0.5 \\ud83d\n")  # the latter: LC_ALL=C is UTF-8


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_bytes_of_stdin_that_are_not_text_do_not_end_a_program(encoding):
    command = [sys.executable, "-c", PROGRAM, str(SRC), "read"]
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, input=b"a\xe9\n", capture_output=True, env=env, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"'a\\ufffd\\n'\n", b"")


@pytest.mark.parametrize("words", [["--data", ""], ["--data="], ["--out", "a", ""], [""], ["x", "verb", ""]])
def test_an_empty_value_is_not_a_path(words, capsys):
    """From "$DATA" of a variable that is not set."""
    parser = Parser()
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--out", nargs="+")
    if "verb" in words:
        parser.add_subparsers().add_parser("verb").add_argument("files", nargs="+")
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(words)
    name = {"--": words[0].rstrip("="), "": "file", "x": "files"}[words[0][:2]]
    assert capsys.readouterr().err.endswith(f": argument {name}: expected a value, got an empty text\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_ends_a_program_without_a_traceback(number, status):
    """A shell reports the latter as 143."""
    process = start("wait")
    assert process.stdout
    process.stdout.readline()
    process.send_signal(number)
    assert process.communicate()[1] == ("-c: interrupted\n" if status == 130 else "")
    assert process.returncode == status


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("what", ["many", "--help"])
def test_a_reader_that_stops_early_ends_a_program_quietly(what, unbuffered):
    process = start(what, PYTHONUNBUFFERED=unbuffered)
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == ""
    assert process.wait() == 141 or (what == "--help" and process.returncode == 0)  # argparse ignores the error


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_one_line(unbuffered):
    command = [sys.executable, "-c", PROGRAM, str(SRC), "words"]
    with open("/dev/full", "w") as full:
        env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=env, check=False)
    assert (done.returncode, done.stderr) == (2, "-c: No space left on device\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: what"),
        (["a", "--lim", "3"], "unrecognized arguments: --lim: did you mean --limit?"),
        (["a", "secret"], "unrecognized arguments: secret"),
        (["a", "--b\nc\x1b[2J"], r"unrecognized arguments: --b\nc\x1b[2J"),
        (["a", "--limit=--"], "argument --limit: expected one argument"),
        (["a", "--limit", "\ud83d"], r"argument --limit: invalid int value: '\ud83d'"),
    ],
)
def test_a_usage_error_is_one_line(argv, message, capsys):
    parser = cli.Parser()
    parser.add_argument("--limit", type=int)
    parser.add_argument("what")
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(argv)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith(f": {message}\n")


def test_every_program_has_the_shared_parser_and_wrapper():
    """Except rewards.py, which imports nothing of the project; trl's programs have a subclass of trl's parser."""
    for path in SRC.glob("*.py"):
        text = path.read_text("utf-8")
        if 'if __name__ == "__main__"' in text and path.name != "rewards.py":
            assert "\n@program(" in text, path
            assert "ArgumentParser(" not in text, path


def test_a_file_that_an_installed_package_cannot_open_keeps_its_traceback(tmp_path):
    """It is not one that the user named."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "a_package.py").write_text("def work():\n    open('/no/such/file')\n")
    path = sys.path.copy()
    sys.path.insert(0, str(folder))
    try:
        work = importlib.import_module("a_package").work
    finally:
        sys.path[:] = path
    with pytest.raises(FileNotFoundError):
        cli.program()(work)()


def test_the_value_of_a_misspelt_flag_is_not_shown(capsys):
    """It may be a secret."""
    for words in (["--api-kye", "sk-secret"], ["--api-kye=sk-secret"]):
        with pytest.raises(SystemExit):
            Parser().parse_args(words)
        assert capsys.readouterr().err.endswith(": unrecognized arguments: --api-kye\n")
