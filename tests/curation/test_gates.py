"""The gates: for each, a record that must fail it and one that passes."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from curation.evidence import Evidence
from curation.gates import margin, mutation, policy, seeding, sufficiency, uniqueness, variety
from curation.gates.entries import Entry, Finding
from curation.gates.mutants import mutants
from curation.gates.variants import IMPORT, NAMES, ORDER, QUOTES, variants
from curation.proof import ProofSettings
from records import Record

PYTHON = Path(sys.executable)
SETTINGS = ProofSettings(Path("unused"), seconds=20)
ENVS = {"old_env": ["toylib==1.0"], "new_env": ["toylib==2.0"]}


def entry(old: str, new: str, note: str = "", line: int = 1, **fields: object) -> Entry:
    record = Record("toylib", "2.0", "A toy.", note, old, new)
    row = {"id": record.id, "split": "train", "update": "toylib-2.0", "kind": "rename", **ENVS, **fields}
    return Entry("train.jsonl", line, record, Evidence.model_validate(row))


def codes(operator: str, old: str, new: str, note: str = "") -> list[str]:
    return [one.code for one in mutants(entry(old, new, note).record) if one.operator == operator]


@pytest.mark.parametrize(
    ("operator", "old", "new", "note", "expected"),
    [
        ("empty program", "x = f(1)", "x = g(1)", "", [""]),
        ("old code", "x = f(1)", "x = g(1)", "", ["x = f(1)"]),
        ("new keyword dropped", "x = f(b)", "x = f(a, unit=2)", "", ["x = f(a)"]),
        ("new keyword's value changed", "x = f(a)", "x = f(a, up=True)", "", ["x = f(a, up=False)"]),
        ("old keyword dropped", "x = f(a, b=1)", "x = h(a).g()", "", ["x = f(a)"]),
        ("another name of the note", "x = a.f()", "x = a.g()", "`g` and `h`", ["x = a.h()"]),
        ("arguments swapped", "x = f(a)", "x = g(a, b)", "", ["x = g(b, a)"]),
        ("last argument dropped", "x = f(a)", "x = g(a, b)", "", ["x = g(a)"]),
        ("new name dropped", "x = f(a)", "x = f(a).item()", "", ["x = f(a)()"]),
        ("new value changed", "x = a\ny = 1", "x = a == 1\ny = 1", "", ["x = a != 1\ny = 1"]),
        ("result None", "x = f(1)", "x = g(1)", "", ["x = None"]),
        ("statement deleted", "x = f(1)\ny = 2", "x = g(1)\ny = 2", "", ["pass\ny = 2"]),
        ("predicate always true or false", "x = f(1)", "x = g(1)", "", ["x = True", "x = False"]),
        ("half migrated", "x = f(1)\ny = f(2)", "x = g(1)\ny = g(2)", "", ["x = g(1)\ny = f(2)", "x = f(1)\ny = g(2)"]),
    ],
)
def test_what_an_operator_makes(operator, old, new, note, expected):
    assert sorted(codes(operator, old, new, note)) == sorted(expected)


def test_a_condition_under_a_changed_decorator_is_a_predicate():
    body = "\ndef f(v):\n    if v < 0:\n        raise ValueError\n    return v"
    found = codes("predicate always true or false", f"@old{body}", f"@new{body}")
    assert [ast.unparse(ast.parse(code).body[0].body[0].test) for code in found] == ["True", "False"]


OLD, NEW = "def is_even(n):\n    return n % 2 is 0", "def is_even(n):\n    return n % 2 == 0"


def test_a_check_that_sees_one_side_of_a_predicate_is_found():
    weak = entry(OLD, NEW, check="assert is_even(2)")
    strong = entry(OLD, NEW, check="assert is_even(2) and not is_even(3) and is_even(4) is True")
    first, second = mutation.try_all([(one.record, one.evidence) for one in (weak, strong)], PYTHON, SETTINGS)
    assert [survivor.code for survivor in first.survivors if "return True" in survivor.code]
    assert [survivor.code for survivor in second.survivors if "return True" in survivor.code] == []
    assert second.mutants["predicate always true or false"] == 2
    listed = {"mutant": "def is_even(n):\n\n    return True  # a comment", "reason": "the same"}
    known = Evidence.model_validate({**weak.evidence.to_row(), "equivalents": [listed]})
    left = [survivor.code for survivor in first.not_equivalent(known)]
    assert len(left) == len(first.survivors) - 1


def test_an_alternative_that_fails_and_a_target_that_does_not_use_the_new_name():
    one = entry("x = sum([1, 2])", "import math\nx = math.fsum([1, 2])", check="assert x == 3", use=["math.fsum"],
                alternatives=["import math\nx = math.fsum([1, 3])", "x = 3"])  # fmt: skip
    [tried] = mutation.try_all([(one.record, one.evidence)], PYTHON, SETTINGS)
    assert tried.alternatives == ["check: AssertionError", "does not use math.fsum"]
    assert "x = sum([1, 2])" not in [survivor.code for survivor in tried.survivors]  # passes the check, not the use
    assert tried.reference == ""


def test_sufficiency():
    old = "import toylib\nx = toylib.old(1)"
    new = "import math\nimport toylib\nx = math.sqrt(toylib.new(1)).real"
    assert [*sufficiency.objections(entry(old, new, "`old` is now `new`."))] == []
    assert [*sufficiency.objections(entry(old, new, "`old` is gone."))] == [
        ("update_info", "the target uses new: in neither the note nor the old code")
    ]


def test_margin():
    assert [*margin.objections(entry("x = f(1)", "x = g(1)"))] == []  # 3.5 / 8
    long = f"names = {list(range(40))!r}\n"
    [(field, what)] = margin.objections(entry(f"{long}x = f(1)", f"{long}x = g(1)"))
    assert field == "new_code" and what.endswith("less than the target, at least 0.1 needed")


@pytest.mark.parametrize(
    ("kind", "old", "new", "note", "check", "expected"),
    [
        (ORDER, "x = f(1, b=2)", "x = f(1, b=2, unit='é')", "", None, ["x = f(1, unit='é', b=2)"]),
        (ORDER, "x = f(1, b=2)", "x = f(1, u=3, v=4,\n      b=2)", "", None,
         ["x = f(1, b=2, u=3,\n      v=4)", "x = f(1, b=2, v=4,\n      u=3)"]),
        (ORDER, "x = f(1, b=2)", "x = f(1, c=2)", "", None, []),
        (ORDER, "x = f(b=2, c=3)", "x = f(d=2, c=3)", "", None, []),  # in the place of another one
        (ORDER, "x = f(a, b=2)", "x = f(x=a, b=2)", "", None, []),  # its place is that of the argument
        (QUOTES, "x = f('a')", "x = g('a', \"b\")", "", None, ["x = g('a', 'b')"]),
        (QUOTES, "x = f('a')", "x = f('it\\'s')", "", None, []),
        (IMPORT, "x = f(1)", "from math import gcd\nx = gcd(1, 2)", "", None, ["import math\nx = math.gcd(1, 2)"]),
        (IMPORT, "import math\nx = f(1)", "import math\nfrom math import gcd\nx = gcd(1, 2)", "", None,
         ["import math\nx = math.gcd(1, 2)"]),
        (IMPORT, "x = f(1)", "from os.path import join\nx = join('join')", "", None, []),  # the string would change
        (IMPORT, "x = f(1)", "from a.b import C\nx = C.d", "", None,
         ["import a.b\nx = a.b.C.d", "from a import b\nx = b.C.d"]),
        (IMPORT, "x = f(1)", "from a import b\nx = b.c(1)", "", None, []),  # b may be a module
        (IMPORT, "x = f(1)", "import math\nx = math.gcd(1, 2)", "", None, ["from math import gcd\nx = gcd(1, 2)"]),
        (IMPORT, "x = f(1)", "import math\nx = math.gcd(1, 2)", "Use `import math`.", None, []),
        (IMPORT, "from m import f\nx = f(1)", "from m import g\nx = g(1)", "", None, []),  # the form of the old code
        (NAMES, "x = f(1)", "rows = g(1)\nx = rows[0]", "", "assert x", ["result = g(1)\nx = result[0]"]),
        (NAMES, "x = f(1)", "rows = g(1)\nx = rows[0]", "", "assert rows", []),
        (NAMES, "x = f(1)", "rows = g(1)\nx = rows[0]", "Name it `rows`.", None, []),
        (NAMES, "x = f(1)", "x = g(lambda v: v + 1)", "", None, ["x = g(lambda result: result + 1)"]),
        (NAMES, "x = f(1)", "rows = g(1)\r\nx = rows[0]", "", None, []),  # not with other ends of lines
        (NAMES, "x = f(1)", "rows = g(1)\nx = h('rows')", "", None, []),
        (NAMES, "x = f(1)", "class A:\n    rows = 1\n    def g(self, b):\n        return b", "", None, []),
    ],
)  # fmt: skip
def test_other_right_forms(kind, old, new, note, check, expected):
    one = entry(old, new, note, check=check)
    assert [variant.code for variant in variants(one.record, one.evidence) if variant.kind == kind] == expected


def test_uniqueness():
    old, new = "x = f(1, second=2)", "x = f(1, unit=3, second=2)"
    one = entry(old, new)
    [(field, what)] = uniqueness.objections(one)
    assert field == "new_code"
    # 8 characters are inserted, of 26: 3.5 * 18 / 26 - 1.5; the variant has them at another place, twice as many edits
    assert what.startswith("a right answer with another form (keyword order) earns ")
    assert what.endswith("a copy of the old code 0.923: -x = f(1, unit=3, second=2) | +x = f(1, second=2, unit=3)")
    assert uniqueness.has_forms(one)
    assert [*uniqueness.objections(entry(old, new, alternatives=["x = f(1, second=2, unit=3)"]))] == []
    assert [*uniqueness.objections(entry("x = f(1)", new))] == []
    assert not uniqueness.has_forms(entry("x = f('a')", "x = g('b')"))


@pytest.mark.parametrize(
    ("code", "check", "found"),
    [
        ("import random\nx = random.choice([1, 2])", "", [("old_code", "random.choice")]),
        ("import random\nrandom.seed()\nx = random.choice([1, 2])", "", [("old_code", "random.choice")]),
        ("import random\nrandom.seed(0)\nx = random.choice([1, 2])", "", []),
        ("from random import Random\nx = Random(0).choice([1, 2])", "", []),
        ("import numpy as np\nx = np.random.rand(3)", "", [("old_code", "numpy.random.rand")]),
        ("import numpy as np\nnp.random.seed(0)\nx = np.random.rand(3)", "", []),
        ("import numpy as np\nx = np.random.default_rng().random()", "", [("old_code", "numpy.random.default_rng")]),
        ("import numpy as np\nx = np.random.default_rng(0).random()", "", []),
        ("from numpy.random import RandomState\nx = RandomState(seed=None)", "",
         [("old_code", "numpy.random.RandomState")]),
        ("import torch\nx = torch.randn(3)", "", [("old_code", "torch.randn")]),
        ("import torch\ntorch.manual_seed(0)\nx = torch.randn(3)", "", []),
        ("import torch\nx = torch.randn(3, generator=g)", "", []),
        ("import uuid\nf = uuid.uuid4", "", [("old_code", "uuid.uuid4")]),
        ("from datetime import datetime as clock\nx = clock.now()", "", [("old_code", "datetime.datetime.now")]),
        ("x = a.random()", "", []),
        ("import random\nx = 1", "assert random.random() < x", [("check", "random.random")]),
        ("import random\nrandom.seed(0)", "assert random.random() < 1", []),
    ],
)  # fmt: skip
def test_seeding(code, check, found):
    one = entry(code, f"{code}\ny = 1", check=check or None)
    why = "depends on chance or on the clock, without a seed: "
    assert [*seeding.objections(one)] == [(field, why + name) for field, name in found]


def test_variety():
    same = [entry(f"{name} = f({n})", f"{name} = g({n})", line=n) for n, name in enumerate("abc", start=1)]
    found = [what for _, (_, what) in variety.objections(same)]
    assert found[0] == "toylib-2.0 has 1 different edits in 3 records, not 3"
    assert found[1:] == ["similarity 0.89 to train.jsonl:1"] * 2  # 2 of 19 characters
    other = [same[0], entry("print(max(3, 4))", "print(g(3, 4, key=None))"), entry("y: int = [f]", "y: int = [len(g)]")]
    assert [*variety.few_edits(other)] == []


def test_policy():
    note = "`execute` is gone: use `connect` or `begin`."
    first = entry("a = e.execute(1)", "a = e.connect(1)", note)
    second = entry("b = e.execute(2)", "b = e.begin(2)", note, line=2)
    [(found, (field, what))] = policy.objections([first, second])
    assert (found.line, field, what) == (2, "new_code", "one note, two ways: begin here, connect in line 1")
    assert str(Finding(found, "policy", field, what)).startswith("train.jsonl:2: new_code: policy: one note")
    told = entry("b = e.execute(2)", "b = e.begin(2)", "`execute` is gone: use `begin`.", line=2)
    assert [*policy.objections([first, told])] == []
