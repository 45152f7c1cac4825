"""Messages have one line for each argument of the error, whatever is in it."""

from __future__ import annotations

import pytest

from common.cli import fail
from common.errors import InputError


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (InputError("a.jsonl: id: x\ny"), ["a.jsonl: id: x\\ny"]),
        (InputError("a.jsonl:1: bad", "a.jsonl:2: b\nad"), ["a.jsonl:1: bad", "a.jsonl:2: b\\nad"]),
        (InputError(str(InputError("of\nanother")) + ": so"), ["of\\nanother: so"]),
        ("--config \r\n: no such file", ["--config \\r\\n: no such file"]),  # not an error but its message
        (InputError("a\x1b[31m\u2028b"), ["a\\x1b[31m\\u2028b"]),
        (InputError("http://user:pass\n@host/v1"), ["http://***@host/v1"]),
    ],
)
def test_lines_of_a_message(error, lines, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["src/program.py"])
    with pytest.raises(SystemExit) as end:
        fail(error)
    assert end.value.code == 2
    assert capsys.readouterr().err == "program: " + "\n".join(lines) + "\n"
