"""Files of records: whatever they hold, the checks end, and what they accept can be trained on and written."""

from __future__ import annotations

import json
import re
from contextlib import redirect_stderr, suppress
from io import StringIO

from conftest import TINY_ROWS
from edges.adversarial import rows_file
from edges.checker import check_ended, check_files, check_message, contents, count, effort, run_main, scratch
from hypothesis import given
from hypothesis import strategies as st

import check_data
from common.errors import InputError
from prompts import migration_messages, reference_completion
from records import check_file, load_records
from rewards import MATCH, score

LONG_SUM = {**TINY_ROWS[0], "new_code": "x = " + " + ".join("1" * 400)}
FENCED = {**TINY_ROWS[1], "new_code": 'x = """\n```\n"""'}
EXTRA = {**TINY_ROWS[2], "note": "seen", "old_code": "x = 1\nwith f() as g: pass"}
ROWS = [*TINY_ROWS, LONG_SUM, FENCED, EXTRA]
FILES = rows_file(ROWS)


@effort(60, 9_000)
@given(FILES, st.sampled_from([["--json"], ["--table"], ["--clean", "parses"], ["--against", "in/rows.jsonl"]]))
def test_check_data_rows(content, flags):
    with scratch({"in/rows.jsonl": content}) as folder:
        before = contents(folder / "in")
        ended = run_main(
            check_data.main, "check_data", "rows", "in/rows.jsonl", "--write-clean", "out/good.jsonl", *flags
        )
        check_ended(ended, "check_data", (0, 1, 2), before=r"wrote \d+ rows to .*")
        check_files(folder / "out")
        assert contents(folder / "in") == before
        if summary := re.search(r": (\d+) rows, \d+ good", ended.stdout):
            count("rows", int(summary[1]))
        if ended.status < 2 and flags == ["--json"]:
            [found] = json.loads(ended.stdout)["files"]
            count("rows", found["rows"])
            assert found["good"] == (folder / "out/good.jsonl").read_bytes().count(b"\n")
            if found["good"]:  # what is written is accepted
                assert len(load_records("out/good.jsonl")) == found["good"]


@effort(40, 16_000)
@given(FILES)
def test_what_the_trainers_load(content):
    loaded = {}
    with scratch({"rows.jsonl": content}):
        with suppress(InputError):
            count("rows", check_file("rows.jsonl").rows)
        for bad_rows in ("stop", "drop", "keep"):
            try:
                with redirect_stderr(StringIO()):
                    loaded[bad_rows] = load_records("rows.jsonl", bad_rows)
            except InputError as error:
                check_message(error)
    if "stop" in loaded:
        assert loaded["stop"] == loaded["drop"] == loaded["keep"]
    for record in loaded.get("drop", ()):
        assert record in loaded["keep"]
        best = score(reference_completion(record.new_code), record.new_code)
        assert (best.format, best.em_star) == (1.0, MATCH)
    for record in loaded.get("keep", ()):
        json.dumps([migration_messages(record), record.to_row()], ensure_ascii=False).encode()


@effort(15, 2_000)
@given(FILES, FILES)
def test_leakage(training, test):
    with scratch({"training.jsonl": training, "test.jsonl": test}):
        ended = run_main(check_data.main, "check_data", "leakage", "training.jsonl", "--test", "test.jsonl")
        check_ended(ended, "check_data", (0, 1, 2), before=r".*: bad_rows: .*| +\w+ .*|\d+ rows, .*")
