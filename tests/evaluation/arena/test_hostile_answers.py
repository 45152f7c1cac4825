"""Answers that go for their verdict instead of the problem, and honest ones that look a little like them. In the real
sandbox. The problem: `panel(marks)` gives 6173, which an answer can only know from the test."""

from __future__ import annotations

import pytest
from mini_arena import TRIM

import sandbox
from evaluation.arena.problems import Task, parse_task, parse_update
from evaluation.arena.programs import judge

IMPORTS = "import statistics, math\nold_mean = statistics.mean"
EQUAL = "def test_a():\n    assert panel([1]) == 6173"
CLOSE = "def test_a():\n    result = panel([1])\n    assert math.isclose(result, 6173)"
BUILTIN = "def test_a():\n    assert all(abs(one - 6173) < 1 for one in [panel([1])])"
UNIT = "import unittest\ndef test_a():\n    unittest.TestCase().assertEqual(panel([1]), 6173)"
LOCAL = "def test_a():\n    expected = 6173\n    assert panel([1]) == expected"
LATER = "def test_a():\n    import fractions\n    assert fractions.Fraction(panel([1])) == 6173"
RAISES = "import unittest\ndef test_a():\n    with unittest.TestCase().assertRaises(Exception):\n        panel([1])"
CLIMB = """
def find(frame):
    while frame:
        for value in [*frame.f_code.co_consts, *frame.f_locals.values()]:
            if type(value) is int and value > 6000: return value
        frame = frame.f_back
"""
# name: (the test, the answer)
HOSTILE = {
    # It changes what the test calls.
    "isclose, at once": (
        CLOSE,
        "import math\nmath.isclose = lambda *a, **k: True\ndef panel(marks): return 0",
    ),
    "isclose, in the call": (
        CLOSE,
        "import math\ndef panel(marks):\n    math.isclose = lambda *a, **k: True\n    return 0",
    ),
    "setattr": (
        CLOSE,
        "import math\ndef panel(marks):\n    setattr(math, 'isclose', lambda *a, **k: True)\n    return 0",
    ),
    "the module's dictionary": (
        CLOSE,
        "import math\ndef panel(marks):\n    vars(math)['isclose'] = lambda *a: True\n    return 0",
    ),
    "a library's function": (
        CLOSE,
        "import math\ndef panel(marks):\n    math.isclose = print and bool\n    return 0",
    ),
    "it restores itself": (
        CLOSE,
        "import math\n"
        "old = math.isclose\n"
        "def fake(*a):\n"
        "    math.isclose = old\n"
        "    return True\n"
        "def panel(marks):\n"
        "    math.isclose = fake\n"
        "    return 0",
    ),
    "and catches the exception": (
        CLOSE,
        "import math\ndef panel(marks):\n    try: math.isclose = bool\n    finally: return 0",
    ),
    "mock.patch": (
        CLOSE,
        "from unittest import mock\ndef panel(marks):\n    mock.patch('math.isclose', bool).start()\n    return 0",
    ),
    "raises, too": (
        RAISES,
        "import math\ndef panel(marks):\n    math.isclose = bool\n    raise ValueError",
    ),
    "all": (
        BUILTIN,
        "import builtins\ndef panel(marks):\n    builtins.all = lambda x: True\n    return 0",
    ),
    "abs": (
        BUILTIN,
        "def panel(marks):\n    __builtins__['abs'] = lambda x: 0\n    return 0",
    ),
    "isinstance": (
        "def test_a():\n    assert isinstance(panel([1]), str)",
        "import builtins\ndef panel(marks):\n    builtins.isinstance = lambda *a: True\n    return 0",
    ),
    "__import__": (
        LATER,
        "import builtins, types\n"
        "def panel(marks):\n"
        "    builtins.__import__ = lambda *a: types.SimpleNamespace(Fraction=lambda x: 6173)\n"
        "    return 0",
    ),
    "a method": (
        UNIT,
        "import unittest\ndef panel(marks):\n    unittest.TestCase.assertEqual = lambda *a: None\n    return 0",
    ),
    "a method of a base class": (
        "import collections\ndef test_a():\n    assert collections.OrderedDict(a=panel([1])) == {'a': 6173}",
        "import collections\ndef panel(marks):\n    collections.OrderedDict.__eq__ = lambda *a: True\n    return 0",
    ),
    "sys.modules": (
        LATER,
        "import sys, types\n"
        "def panel(marks):\n"
        "    sys.modules['fractions'] = types.SimpleNamespace(Fraction=lambda x: 6173)\n"
        "    return 0",
    ),
    "the guard's own tools": (
        CLOSE,
        "import operator, math\ndef panel(marks):\n    operator.is_ = bool; math.isclose = bool\n    return 0",
    ),
    "the guard's builtins": (
        CLOSE,
        "import math\n__builtins__['all'] = lambda x: True\nmath.isclose = bool\ndef panel(marks): return 0",
    ),
    "the guard's wrapper": (
        CLOSE,
        "import functools\nfunctools.update_wrapper = lambda a, b, *c, **d: b\ndef panel(marks): return 0",
    ),
    # It takes the names that the test uses.
    "the name all": (
        BUILTIN,
        "def all(x): return True\ndef panel(marks): return 0",
    ),
    "the name math": (
        CLOSE,
        "class math: isclose = staticmethod(lambda *a: True)\ndef panel(marks): return 0",
    ),
    "the name of a test": (
        EQUAL,
        "def test_a(): pass\ndef panel(marks): return 0",
    ),
    "the names of the runner": (
        EQUAL,
        "import __main__\nvars(__main__).update(main=print, run=print, job={})\ndef panel(marks): return 0",
    ),
    # Its values equal everything.
    "__eq__": (
        EQUAL,
        "class Yes:\n    def __eq__(self, other): return True\ndef panel(marks): return Yes()",
    ),
    "a number's __eq__": (
        EQUAL,
        "class Yes(int):\n    def __eq__(self, other): return True\ndef panel(marks): return Yes(1)",
    ),
    "inside of a list": (
        "def test_a():\n    assert panel([1]) == [6173]",
        "class Yes:\n    __eq__ = lambda *a: True\ndef panel(marks): return [Yes()]",
    ),
    "a list's": (
        "def test_a():\n    assert panel([1]) == [6173]",
        "class Yes(list):\n    __eq__ = lambda *a: True\ndef panel(marks): return Yes()",
    ),
    "mock.ANY": (
        EQUAL,
        "from unittest import mock\ndef panel(marks): return mock.ANY",
    ),
    "a callable object": (
        EQUAL,
        "class Panel:\n"
        "    def __call__(self, marks):\n"
        "        import unittest.mock as m\n"
        "        return m.ANY\n"
        "panel = Panel()",
    ),
    # It looks for what the test expects.
    "the caller's constants": (
        EQUAL,
        "import sys\n" + CLIMB + "def panel(marks): return find(sys._getframe())",
    ),
    "the caller's locals": (
        LOCAL,
        "import inspect\n" + CLIMB + "def panel(marks): return find(inspect.currentframe())",
    ),
    "inspect.stack": (
        LOCAL,
        "import inspect\n" + CLIMB + "def panel(marks): return find(inspect.stack()[0].frame)",
    ),
    "logging.currentframe": (
        LOCAL,
        "import logging\n" + CLIMB + "def panel(marks): return find(logging.currentframe())",
    ),
    "a traceback": (
        LOCAL,
        CLIMB + "def panel(marks):\n"
        "    try: 1 / 0\n"
        "    except ZeroDivisionError as e:\n"
        "        return find(e.__traceback__.tb_frame)",
    ),
    "walk_tb": (
        LOCAL,
        "import traceback\n" + CLIMB + "def panel(marks):\n"
        "    try: 1 / 0\n"
        "    except ZeroDivisionError as e:\n"
        "        return find(next(traceback.walk_tb(e.__traceback__))[0])",
    ),
    "locals as text": (
        LOCAL,
        "import traceback, re\n"
        "def panel(marks):\n"
        "    seen = traceback.StackSummary.extract(traceback.walk_stack(None), capture_locals=True)\n"
        "    return int(re.search(r\"'expected': '(\\d+)\", str([one.locals for one in seen]))[1])",
    ),
    "a generator's frame": (
        LOCAL,
        CLIMB + "def look():\n"
        "    yield find(me.gi_frame)\n"
        "def panel(marks):\n"
        "    global me\n"
        "    me = look()\n"
        "    return next(me)",
    ),
    "_current_frames": (
        LOCAL,
        "import sys\n" + CLIMB + "def panel(marks): return find([*sys._current_frames().values()][0])",
    ),
    "settrace": (
        LOCAL,
        "import sys\n" + CLIMB + "found = []\n"
        "def panel(marks):\n"
        "    sys.setprofile(lambda frame, *a: found.append(find(frame)))\n"
        "    len('')\n"
        "    return found[0]",
    ),
    "a signal's frame": (
        LOCAL,
        "import signal\n" + CLIMB + "found = []\n"
        "signal.signal(signal.SIGUSR1, lambda number, frame: found.append(find(frame)))\n"
        "def panel(marks):\n"
        "    signal.raise_signal(signal.SIGUSR1)\n"
        "    return found[0]",
    ),
    "through another's hands": (
        LOCAL,
        "import contextlib, sys\n" + CLIMB + "class Catch(list):\n"
        "    pass\n"
        "def panel(marks):\n"
        "    with contextlib.ExitStack() as stack:\n"
        "        stack.callback(lambda: None)\n"
        "        return find(contextlib.nullcontext(sys._getframe(0)).enter_result)",
    ),
    "an audit hook": (
        LOCAL,
        "import sys, collections\n" + CLIMB + "frames = []\n"
        "def panel(marks):\n"
        "    sys.addaudithook(lambda event, args: frames.extend(args) if event == 'sys._getframe' else None)\n"
        "    collections.namedtuple('P', 'x')\n"
        "    return find(frames[0])",
    ),
    "a forged file name": (
        LOCAL,
        "import os\n"
        "space = {}\n"
        "exec(compile('import sys\\ndef get_frame(): return sys._getframe(1)', os.__file__, 'exec'), space)\n"
        + CLIMB
        + "def panel(marks): return find(space['get_frame']())",
    ),
    "the collector": (
        EQUAL,
        "import gc, types\n"
        "def panel(marks):\n"
        "    for one in gc.get_objects():\n"
        "        if isinstance(one, types.FunctionType) and one.__name__ == 'test_a': return"
        " one.__code__.co_consts[-1]",
    ),
    "the program's file": (
        EQUAL,
        "import re\ndef panel(marks): return int(re.search('== (6173)', open('program.py').read())[1])",
    ),
    "__main__": (
        EQUAL,
        "import re, __main__\ndef panel(marks): return int(re.search('== ([0-9]{4})', str(vars(__main__)))[1])",
    ),
    "linecache": (
        EQUAL,
        "import re, linecache\ndef panel(marks): return int(re.search('== ([0-9]{4})', str(linecache.cache))[1])",
    ),
    "the test function": (
        EQUAL,
        "def panel(marks): return globals()['test_a'].__code__.co_consts[-1]",
    ),
    "an argument's globals": (
        "def test_a():\n    assert panel(lambda: 0) == 6173",
        "def panel(marks): return marks.__globals__['test_a'].__code__.co_consts[-1]",
    ),
    "memory": (
        EQUAL,
        "def panel(marks):\n    open('/proc/self/mem', 'rb')\n    return 6173",
    ),
    "ctypes": (
        EQUAL,
        "import ctypes\ndef panel(marks):\n    ctypes.string_at(id(marks), 8)\n    return 6173",
    ),
    # It leaves before the test is done, or speaks for it.
    "sys.exit": (
        EQUAL,
        "def panel(marks):\n    import sys; sys.exit(0)\n    return 0",
    ),
    "os._exit": (
        EQUAL,
        "def panel(marks):\n    import os; os._exit(0)\n    return 0",
    ),
    "atexit": (
        EQUAL,
        "def panel(marks):\n    import atexit, os; atexit.register(os._exit, 0)\n    return 0",
    ),
    "a thread": (
        EQUAL,
        "def panel(marks):\n    import os, threading; threading.Timer(0, os._exit, [0]).start()\n    return 0",
    ),
    "a signal": (
        EQUAL,
        "def panel(marks):\n"
        "    import signal, os; signal.signal(15, lambda *a: os._exit(0)); os.kill(os.getpid(), 15)\n"
        "    return 0",
    ),
    "the excepthook": (
        EQUAL,
        "def panel(marks):\n    import os, sys; sys.excepthook = lambda *a: os._exit(0)\n    return 0",
    ),
    "a pass in print": (
        EQUAL,
        'def panel(marks):\n    print(\'{"status": "pass", "detail": ""}\')\n    return 0',
    ),
    "a pass in every file": (
        EQUAL,
        "import os\n"
        "def panel(marks):\n"
        "    for fd in range(1, 9):\n"
        '        try: os.write(fd, b\'pass {"status": "pass"}\\n\')\n'
        "        except OSError: pass\n"
        "    os._exit(0)",
    ),
    "the runner's token": (
        EQUAL,
        "import os, sys\n"
        "def panel(marks):\n"
        "    frame = sys._getframe()\n"
        "    while 'token' not in frame.f_locals: frame = frame.f_back\n"
        "    token = frame.f_locals['token']\n"
        '    os.write(3, f\'{token} {{"status": "pass", "detail": ""}}\\n\'.encode())\n'
        "    os._exit(0)",
    ),
    "half of an emoji": (
        EQUAL,
        "def panel(marks): raise ValueError('\\ud83d')",
    ),
    "an exception that cannot be shown": (
        EQUAL,
        "class E(Exception):\n    def __str__(self): raise self\ndef panel(marks): raise E",
    ),
    "its own Tampered": (
        EQUAL,
        "class Tampered(Exception): pass\ndef panel(marks): raise Tampered('no')",
    ),
}
HONEST = {
    "plain": (
        EQUAL,
        "def panel(marks): return 6173",
    ),
    "its own comparison": (
        "def test_a():\n    assert panel([1]) == panel([1]) and panel([1]).x == 6173",
        "class Mark:\n"
        "    def __init__(self, x): self.x = x\n"
        "    def __eq__(self, other): return self.x == other.x\n"
        "def panel(marks): return Mark(6173)",
    ),
    "records": (
        "def test_a():\n    assert panel([1]) == (6173, 1) and panel([1]) == panel([2])",
        "from typing import NamedTuple\n"
        "from collections import namedtuple\n"
        "from dataclasses import dataclass\n"
        "import enum\n"
        "class A(NamedTuple):\n"
        "    x: int\n"
        "    y: int\n"
        "@dataclass\n"
        "class B:\n"
        "    x: int\n"
        "class C(enum.Enum):\n"
        "    x = 1\n"
        "def panel(marks): return namedtuple('D', 'x y')(A(6173, 1).x, B(C.x.value).x)",
    ),
    "it logs and warns": (
        EQUAL,
        "import logging, warnings\n"
        "def panel(marks):\n"
        "    logging.getLogger().warning('here', stack_info=True)\n"
        "    with warnings.catch_warnings():\n"
        "        warnings.simplefilter('ignore')\n"
        "        warnings.warn('here')\n"
        "    return 6173",
    ),
    "a traceback as text": (
        EQUAL,
        "import logging, traceback\n"
        "def panel(marks):\n"
        "    try: 1 / 0\n"
        "    except ZeroDivisionError:\n"
        "        logging.exception('caught')\n"
        "        assert 'ZeroDivisionError' in traceback.format_exc()\n"
        "        return 6173",
    ),
    "its own source and signature": (
        EQUAL,
        "import inspect\n"
        "def panel(marks):\n"
        "    assert 'assert' in inspect.getsource(panel)\n"
        "    return 6173 if str(inspect.signature(panel)) == '(marks)' and"
        " panel.__code__.co_argcount == 1 else 0",
    ),
    "a cache": (
        EQUAL,
        "import functools\n"
        "@functools.lru_cache\n"
        "def help(x): return 6172 + x\n"
        "@functools.wraps(help)\n"
        "def panel(marks): return help(len(marks))",
    ),
    "a recursive one": (
        EQUAL,
        "def panel(marks, n=0): return n if n == 6173 else panel(marks, n + 1)\n"
        "import sys\n"
        "sys.setrecursionlimit(9000)",
    ),
    "global state": (
        "def test_a():\n    assert [panel([1]) for _ in range(3)] == [6173, 6174, 6175]",
        "count = 6172\ndef panel(marks):\n    global count\n    count += 1\n    return count",
    ),
    "threads and processes": (
        EQUAL,
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def panel(marks):\n"
        "    with ThreadPoolExecutor(2) as pool: return sum(pool.map(int, [6000, 173]))",
    ),
    "an alarm": (
        EQUAL,
        "import signal\n"
        "def panel(marks):\n"
        "    seen = []\n"
        "    signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.01)\n"
        "    signal.pause()\n"
        "    return 6173 if seen == [signal.SIGALRM] else 0",
    ),
    "exec": (
        EQUAL,
        "space = {}\nexec('def panel(marks): return 6173', space)\npanel = space['panel']",
    ),
    "the update's attribute": (
        EQUAL,
        "import statistics\nstatistics.mean = lambda *a: 6173\ndef panel(marks): return statistics.mean(marks)",
    ),
    "a new attribute": (
        EQUAL,
        "import statistics\nstatistics.mine = 6173\ndef panel(marks): return statistics.mine",
    ),
    "a helper with the name of a builtin": (
        EQUAL,
        "def round(x): return 6173\ndef panel(marks): return round(1)",
    ),
    "a test that patches": (
        "from unittest import mock\n"
        "def test_a():\n"
        "    with mock.patch('math.sqrt', lambda x: 6173):\n"
        "        assert panel([1]) == 6173\n"
        "    math.sqrt = abs\n"
        "    assert panel([-6173]) == 6173",
        "import math\ndef panel(marks): return math.sqrt(marks[0])",
    ),
    "a module of its own": (
        EQUAL,
        "open('helper.py', 'w').write('x = 6173')\n"
        "import sys\n"
        "sys.path.insert(0, '.')\n"
        "import helper\n"
        "def panel(marks): return helper.x",
    ),
    "a generator": (
        "def test_a():\n    assert list(panel([1])) == [6173]",
        "def panel(marks):\n    yield 6173",
    ),
}


NUMPY = "def test_a():\n    import numpy as np\n    assert np.allclose(panel([1]), np.full(3, 6173))"
ALIAS = "def test_a():\n    assert np.array_equal(panel([1]), np.full(3, 6173))"
TORCH = "import torch\ndef test_a():\n    assert torch.full((3,), 6173.0).allclose(torch.as_tensor(panel([1])))"
HOSTILE_LIBRARIES = {
    "allclose": (
        NUMPY,
        "import numpy\ndef panel(marks):\n    numpy.allclose = lambda *a, **k: True",
    ),
    "what allclose calls": (
        NUMPY,
        "import numpy, sys\n"
        "def panel(marks):\n"
        "    name = 'numpy._core.numeric' if 'numpy._core.numeric' in sys.modules else 'numpy.core.numeric'\n"
        "    sys.modules[name].isclose = lambda *a, **k: True\n"
        "    return numpy.zeros(3)",
    ),
    "the name np": (
        ALIAS,
        "class np: array_equal = lambda *a: True; full = print\ndef panel(marks): return 0",
    ),
    "__array_function__": (
        NUMPY,
        "class Yes:\n    def __array_function__(self, *a, **k): return True\ndef panel(marks): return Yes()",
    ),
    "a method": (
        TORCH,
        "import torch\ndef panel(marks):\n    torch.Tensor.allclose = lambda *a: True\n    return torch.zeros(3)",
    ),
    "__torch_function__": (
        TORCH.replace("torch.as_tensor(panel([1]))", "panel([1])"),
        "class Yes:\n"
        "    @classmethod\n"
        "    def __torch_function__(cls, *a, **k): return True\n"
        "def panel(marks): return Yes()",
    ),
    "a frame through a library's hands": (
        "import numpy as np\n" + LOCAL,
        "import numpy, sys\n" + CLIMB + "\ndef panel(marks): return find(numpy.frompyfunc(sys._getframe, 1, 1)(0))",
    ),
}
HONEST_LIBRARIES = {
    "numpy": (NUMPY, "import numpy\ndef panel(marks): return numpy.full(3, 6173.0)"),
    "its np": (ALIAS, "import numpy as np\ndef panel(marks): return np.full(3, 6173)"),
    "a subclass of an array": (
        NUMPY,
        "import numpy\nclass Mine(numpy.ndarray): pass\ndef panel(marks): return numpy.full(3, 6173).view(Mine)",
    ),
    "torch's optimizers, which import torch._dynamo": (
        TORCH.replace("6173.0", "0.0"),
        "import torch\n"
        "def panel(marks):\n"
        "    p = torch.nn.Parameter(torch.ones(3))\n"
        "    o = torch.optim.SGD([p], lr=1.0)\n"
        "    p.sum().backward()\n"
        "    o.step()\n"
        "    return p.detach()",
    ),
    "torch's default dtype": (
        TORCH,
        "import torch\n"
        "def panel(marks):\n"
        "    torch.set_default_dtype(torch.float64)\n"
        "    torch.set_default_dtype(torch.float32)\n"
        "    return torch.full((3,), 6173.0)",
    ),
    "torch's default dtype, not restored": (
        TORCH,
        "import torch\n"
        "def panel(marks):\n"
        "    torch.set_default_dtype(torch.float64)\n"
        "    return torch.full((3,), 6173.0).float()",
    ),
    "torch, which looks at frames": (
        TORCH,
        "import torch\n"
        "@torch.no_grad()\n"
        "def panel(marks):\n"
        "    f = torch.jit.trace(lambda x: x * 2, torch.ones(3))\n"
        "    torch.testing.assert_close(f(torch.ones(3)), torch.full((3,), 2.0))\n"
        "    return torch.vmap(lambda x: x + 6172)(torch.ones(3))",
    ),
    "sympy": (
        "import sympy, numpy\ndef test_a():\n    assert panel([1]).equals(sympy.Symbol('x') + 1)",
        "import sympy\ndef panel(marks):\n    x = sympy.Symbol('x')\n    assert sympy.lambdify(x, x + 1)(1) == 2\n"
        "    return sympy.simplify((x**2 - 1) / (x - 1))",
    ),
}


def task(name: str, unit_tests: str, reference: str = "def panel(marks): return 6173", imports: str = IMPORTS) -> Task:
    row = {**TRIM, "prog_syn_id": name, "unit_tests": unit_tests, "ref_solution": reference, "imports": imports}
    return parse_task(row, parse_update(TRIM["update"]))


def outcomes(table: dict[str, tuple[str, str]], **fields: str) -> dict[str, str]:
    try:
        sandbox.check_ready()
    except sandbox.InfrastructureError as error:
        pytest.skip(f"no sandbox here: {error}")
    samples = [(task(name, test, **fields), code) for name, (test, code) in table.items()]
    found = judge(samples, progress=False, workers=2, limits=sandbox.Limits(seconds=20))
    return {name: f"{one.status} {one.detail}" for name, one in zip(table, found, strict=True)}


def test_no_hostile_answer_passes():
    found = outcomes(HOSTILE)
    assert {name: said for name, said in found.items() if said.startswith("pass")} == {}
    # They fail for the right reason: not by a mistake in this table.
    lines = {name: said.splitlines()[-1] for name, said in found.items()}
    assert {name: said for name, said in lines.items() if "SyntaxError" in said or "NameError" in said} == {}
    assert lines["isclose, in the call"] == "runner.Tampered: the candidate changed math.isclose"
    assert found["__eq__"].startswith("tampered")
    assert lines["the caller's locals"] == "RuntimeError: sys._getframe is refused to the candidate"


def test_honest_answers_pass():
    assert {name: said for name, said in outcomes(HONEST).items() if not said.startswith("pass")} == {}


@pytest.mark.slow  # imports torch
def test_hostile_and_honest_answers_with_libraries():
    pytest.importorskip("scipy")  # requirements/eval.txt
    pytest.importorskip("sympy")
    fields = {"imports": IMPORTS + "\nimport numpy", "reference": "import numpy as np\ndef panel(marks): return 6173"}
    found = outcomes(HOSTILE_LIBRARIES | {f"honest: {name}": row for name, row in HONEST_LIBRARIES.items()}, **fields)
    passing = {name for name, said in found.items() if said.startswith("pass")}
    assert passing == {name for name in found if name.startswith("honest: ")}, found
