"""Text of models, programs and data that no check may fail on: depth, length, and what is not Unicode."""

from __future__ import annotations

import ast
from dataclasses import replace

import pytest

from common.api_uses import uses
from common.libraries import release
from common.syntax_trees import MAX_DEPTH, depth, syntax_error, too_large
from curation.check_proofs import draw, some
from curation.collecting.proposals import check_objections, lacking, read_update, record_objections
from curation.proof import outcome
from curation.similarity import canonical
from records import Record
from sandbox import Verdict

HOSTILE = {
    "sum": "x = 1" + " + 1" * 1500,
    "elif": "if a:\n    pass\n" + "elif b:\n    pass\n" * 1000,
    "attributes": "y = x" + ".a" * 2000,
    "parentheses": "(" * 5000,
    "minus": "x = " + "-" * 5000 + "1",
    "lambda": "x = " + "lambda: " * 900 + "1",
    "hexadecimal": "x = 0x" + "f" * 10_000,
    "decimal": "x = " + "9" * 10_000,
    "surrogate": "x = '\ud83d'",
    "null": "x = '\0'",
    "tabs": "if a:\n\tx\n        y",
    "backslash": "\\",
}


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE)
def test_no_check_of_code_raises(code):
    record = Record("NumPy", "2.0.0", "d", "u", code, "area = np.trapezoid(y)")
    for one in (record, replace(record, old_code=record.new_code, new_code=code)):
        assert [*record_objections(one, "trapz")]
    assert [*check_objections(record, code)]
    assert isinstance(canonical(code), str)
    assert isinstance(syntax_error(code), str)


@pytest.mark.parametrize("answer", [*HOSTILE.values(), "<name>" * 5000, "</name>" * 5000, "<none>\ud83d</none>", ""])
def test_no_answer_raises(answer):
    assert read_update(answer, answer)[0] is None
    assert lacking(answer, ("name", "check"))


@pytest.mark.parametrize(
    "detail",
    [
        *("SystemExit: ('ok', '')", "SystemExit: ('warning', 3)", "SystemExit: (['error'], '')", "SystemExit: {}"),
        *("SystemExit: " + "(" * 5000, "SystemExit: " + "-" * 5000 + "1", "SystemExit: ('error',)", "\ud83d", ""),
    ],
)
def test_a_program_may_raise_anything(detail):
    assert outcome(Verdict("error", detail, 0.1)) == {"outcome": "error", "text": detail}


def test_what_the_program_of_a_proof_reports():
    detail = "SystemExit: ('warning', 'FutureWarning: x')"
    assert outcome(Verdict("error", detail, 0.1)) == {"outcome": "warning", "text": "FutureWarning: x"}


def test_trees_that_can_be_walked():
    assert depth(ast.parse("x = 1")) == 4  # module, assignment, name, its context
    assert too_large(ast.parse("x = " + "-" * (MAX_DEPTH - 3) + "1")) is None
    assert too_large(ast.parse("x = " + "-" * (MAX_DEPTH - 2) + "1")) == "nested too deeply: 151 levels, at most 150"
    assert too_large(ast.parse("x = 0x" + "f" * 3500)) is None
    assert too_large(ast.parse("x = 0x" + "f" * 3501)) == "an integer with too many digits"


def test_a_chain_of_attributes_has_one_path_per_attribute():
    tree = ast.parse("import numpy as np\nnp.linalg.norm(a.b.c)\nf().d.e")
    found = set(uses(tree))
    assert found == {
        *(("numpy.linalg.norm", 1, ()), ("numpy.linalg.norm",), ("numpy.linalg",)),
        *((".b",), (".c",), (".d",), (".e",)),
    }
    assert len(uses(ast.parse("x" + ".a" * 900))) == 1


def test_versions_and_seeds_of_any_length():
    assert release("9" * 10_000) == (10**18 - 1,)
    assert release("2.0." + "1" * 5000) > release("2.0.5")
    assert draw([], 0, None, "caf\udce9") == []
    assert some([str(n) for n in range(1000)], 3) == "0, 1, 2, … and 997 more"
