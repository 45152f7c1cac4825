"""Which code uses an API: patterns of evidence.jsonl on real snippets."""

from __future__ import annotations

import pytest

from curation.use import missing_uses, pattern

USED = [
    ("numpy.unique_counts", "import numpy as np\nc = np.unique_counts(x)"),
    ("numpy.unique_counts", "from numpy import unique_counts as uc\nc = uc(x)"),
    ("numpy.unique_counts", "from numpy import *\nc = unique_counts(x)"),
    ("unique_counts", "import numpy\nc = numpy.unique_counts(x)"),
    ("linalg.norm", "from numpy import linalg\nn = linalg.norm(v)"),
    ("numpy.linalg.norm", "import numpy.linalg as la\nf = la.norm\nn = f(v)"),  # a variable that holds the function
    ("numpy.linalg", "import numpy as np\nn = np.linalg.norm(v)"),
    ("DataFrame.sum(min_count=)", "t = frame.groupby('a').sum(min_count=1)"),
    ("sum(min_count=)", "t = frame['a'].sum(**{'min_count': 1})"),
    ("DataFrame.sum(min_count=)", "import pandas as pd\nt = pd.DataFrame.sum(frame, min_count=1)"),
    ("numpy.sum(where=)", "import numpy as np\nfrom functools import partial\ntotal = partial(np.sum, where=mask)"),
    ("FastAPI.get(deprecated=)", "@app.get('/', deprecated=True)\ndef index(): ..."),
    ("JSONProvider.sort_keys", "app.json.sort_keys = False"),  # an attribute that is set
    ("Spider.start", "import scrapy\nclass Tea(scrapy.Spider):\n    async def start(self): yield 1"),
    ("Schema.from_dict", "from marshmallow import Schema\nclass Tea(Schema): pass\nCup = Tea.from_dict({})"),
    ("SQLModel(table=)", "from sqlmodel import SQLModel\nclass Tea(SQLModel, table=True): pass"),
    ("numpy.unique_counts", "import numpy as np\ndef f(x):\n    return np.unique_counts(x)"),
    ("numpy.unique_counts", "import numpy as np\nwhile True:\n    c = np.unique_counts(x)\n    break"),
]


@pytest.mark.parametrize(("wanted", "code"), USED)
def test_used(wanted, code):
    assert missing_uses(code, [wanted]) == []


NP = "import numpy as np\n"
NOT_USED = [
    ("numpy.unique_counts", f"{NP}c = np.unique(x, return_counts=True)  # np.unique_counts"),
    ("numpy.unique_counts", f"{NP}c = 'np.unique_counts(x)'"),
    ("unique_counts", "from numpy import unique_counts"),
    ("unique_counts", "from numpy import unique_counts\ndef unique_counts(x): return x\nc = unique_counts(x)"),
    ("unique_counts", "def unique_counts(x): return x\nc = unique_counts(x)"),
    ("numpy.unique_counts", "class Fake: unique_counts = len\nc = Fake.unique_counts(x)"),
    ("numpy.unique_counts", f"{NP}np.unique_counts = np.unique"),
    ("numpy.unique_counts", f"{NP}np.unique_counts\nc = old(x)"),
    ("numpy.unique_counts", f"{NP}lambda: np.unique_counts(x)"),
    ("numpy.unique_counts", f"{NP}if False:\n    c = np.unique_counts(x)"),
    ("numpy.unique_counts", f"{NP}if not True:\n    c = np.unique_counts(x)"),
    ("numpy.unique_counts", f"{NP}if 1:\n    c = old(x)\nelse:\n    c = np.unique_counts(x)"),
    ("numpy.unique_counts", f"{NP}while 0:\n    c = np.unique_counts(x)"),
    ("numpy.unique_counts", f"{NP}c = old(x) if True else np.unique_counts(x)"),
    ("numpy.unique_counts", f"{NP}c = True or np.unique_counts(x)"),
    ("numpy.unique_counts", f"{NP}def f(x):\n    return old(x)\n    np.unique_counts(x)"),
    ("numpy.unique_counts", f"{NP}for x in y:\n    continue\n    np.unique_counts(x)"),
    ("numpy.sum(where=)", f"{NP}t = np.sum(x)"),
    ("DataFrame.sum(min_count=)", f"{NP}t = np.sum(x, min_count=1)"),  # NumPy's own
    ("count", "c = unique_counts(x)"),
    ("numpy.unique_counts", "c = ("),
]


@pytest.mark.parametrize(("wanted", "code"), NOT_USED)
def test_not_used(wanted, code):
    assert missing_uses(code, [wanted]) == [wanted]


FUNCTION = f"{NP}def f(x):\n    return np.unique_counts(x)\n"


@pytest.mark.parametrize(
    ("code", "check", "is_used"),
    [
        (FUNCTION, "assert f([1]).counts == [1]", True),  # the check calls it
        (f"{FUNCTION}c = f([1])", "assert c", True),
        (f"{FUNCTION}def g(x):\n    return f(x)\n", "assert g([1])", True),
        (f"{NP}f = lambda x: np.unique_counts(x)\nc = f([1])", "assert c", True),
        (f"{NP}class A:\n    def f(self, x): return np.unique_counts(x)\nc = A().f([1])", "assert c", True),
        (f"{NP}@cache\ndef f(x):\n    return np.unique_counts(x)\n", "assert c", True),  # a decorator may call it
        (f"{FUNCTION}c = old([1])", "assert c", False),
        (f"{NP}def f(x):\n    f(np.unique_counts(x))\nc = old([1])", "assert c", False),  # read by itself alone
        (f"{NP}f = lambda x: np.unique_counts(x)\nc = old([1])", "assert c", False),
        (f"{NP}class A:\n    def f(self, x): return np.unique_counts(x)\nc = old([1])", "assert c", False),
    ],
)
def test_a_function_that_neither_code_nor_check_reads_does_not_count(code, check, is_used):
    assert missing_uses(code, ["numpy.unique_counts"], check) == ([] if is_used else ["numpy.unique_counts"])


def test_the_missing_ones_of_several():
    code = "import numpy as np\nc = np.sum(x, where=y)"
    assert missing_uses(code, ["sum", "sum(axis=)", "numpy.sum(where=)", "trapz"]) == ["sum(axis=)", "trapz"]
    assert missing_uses("c = (", []) == []


@pytest.mark.parametrize("text", ["", "numpy.", "sum(axis)", "sum(axis=0)", "sum(axis=, out=)", "a b", ".sum", "1.x"])
def test_what_is_not_a_pattern(text):
    with pytest.raises(ValueError, match="expected a name or a call"):
        pattern(text)
