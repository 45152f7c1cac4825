"""The checks against a candidate that meddles with its verdict: part of the programs of arena/ and migration/.

The candidate's code is in the test's process and can change whatever it can reach. Three things are checked:

- It leaves libraries unchanged. The functions and classes that tests rely on are compared before and after its module
  is run, before and after each of its calls, and at the end; a change (`numpy.allclose = …`) ends the test in Tampered,
  even if the test catches it. New names, and the attribute that the update itself patches, may be set.
- Its values are compared by their own rules only if these are sane: a value that equals everything is Tampered, too.
- It does not look at its callers, which hold the expected values: frames, the garbage collector, raw memory and code
  objects are refused to it by an audit hook, while libraries that it calls may use them. The test's text is not in a
  file, a module or a cache while it runs.

What stays open, to code that is written against this file: a value that rigs another operator than == (`-`, `<`), or ==
with one number alone; an array of objects that do; code that runs while the test compares (a generator, a thread, such
a value) and undoes its change before the end; a change deeper in a library than COMPARE; a library's function that
mentions frames and calls back; reading /proc by a relative path; a C extension that it brings along.
What fails although it may be honest: an answer that reads its own frame (sys._getframe, inspect.currentframe, cProfile,
f.__code__.replace), and one that returns an array class with its own __array_ufunc__ or __torch_function__.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import _signal
import _thread
import importlib
import os
import sys
import types
from collections.abc import Callable, Iterable

# By name: what runs after the candidate must not be looked up in a module that it, or the update, can change.
from contextlib import suppress
from functools import wraps
from itertools import islice
from operator import is_
from typing import Any

# Watched besides the modules that the test names: where comparisons are implemented, and what they use.
COMPARE = (
    *("builtins", "math", "cmath", "operator", "functools", "contextlib", "unittest", "unittest.case", "pytest"),
    *("_pytest.python_api", "_pytest.raises", "_pytest.outcomes", "numpy", "numpy.testing", "numpy._core.numeric"),
    *("numpy._core.fromnumeric", "numpy._core._methods", "numpy.core.numeric", "numpy.core.fromnumeric"),
    *("numpy.testing._private.utils", "torch", "torch.testing", "torch.testing._comparison", "torch._tensor"),
    *("torch.functional", "pandas", "pandas.testing", "pandas._testing", "pandas._testing.asserters", "sympy"),
    *("sympy.core.basic", "sympy.core.expr", "fractions", "decimal"),
)
ALWAYS = {name for name in COMPARE if name.partition(".")[0] not in ("numpy", "torch", "pandas", "sympy")}
MEMBERS = (property, classmethod, staticmethod, types.ModuleType)
PLAIN = (bool, int, float, complex, str, bytes, type(None))
IN_C = (types.WrapperDescriptorType, types.MethodDescriptorType, types.BuiltinFunctionType)
OVERRIDES = ("__array_function__", "__array_ufunc__", "__torch_function__")  # instead of the library's function
ODD = (8.125e200, -3.5)  # nothing honest equals both
HEAP_TYPE = 1 << 9  # of type.__flags__: a class whose attributes can be set
STANDARD = os.path.dirname(os.__file__)
FOLLOWS = {"torch.Storage"}  # torch itself replaces it when its default dtype changes
LIBRARY_FOLDERS = ("<frozen ", *{os.path.join(path, "") for path in (sys.prefix, sys.base_prefix, STANDARD)})
PASSES_ON = {os.path.join(STANDARD, *parts) for parts in (["inspect.py"], ["traceback.py"], ["ctypes", "__init__.py"])}
FORMATS, LOGS = os.path.join(STANDARD, "traceback.py"), os.path.join(STANDARD, "logging", "__init__.py")
WORDS = ("frame", "stack", "trace", "profile")  # in the names that code uses if it reads frames on purpose
FRAMES = {"tb_frame", "gi_frame", "cr_frame", "ag_frame"}
TRACES = {"sys._getframe", "sys._current_frames", "sys._current_exceptions", "sys.settrace", "sys.setprofile"}
SECRETS = {"gc.get_objects", "gc.get_referrers", "gc.get_referents", "code.__new__", *TRACES}
SECRETS |= {"sys.monitoring.register_callback", "sys.addaudithook"}


class Tampered(Exception):
    """The candidate changed what decides its verdict."""


def label(place: Any) -> str:
    """The name of a module or class."""
    return f"{place.__module__}.{place.__qualname__}" if issubclass(type(place), type) else place.__name__


def watched(given: dict, modules: list[str]) -> set[str]:
    """The names of the modules whose functions and classes the candidate must not change."""
    named = {*modules, *(value.__name__ for value in given.values() if isinstance(value, types.ModuleType))}
    roots = {name.partition(".")[0] for name in named}
    return named | ALWAYS | {name for name in COMPARE if name.partition(".")[0] in roots}


def owner(path: str) -> object:
    """The module or class that holds the last name of a dotted path."""
    first, *rest = path.split(".")[:-1]
    found = importlib.import_module(first)
    for i, name in enumerate(rest):
        if not hasattr(found, name):
            importlib.import_module(".".join([first, *rest[: i + 1]]))
        found = getattr(found, name)
    return found


def imported(aliases: dict[str, str]) -> dict:
    """The objects that the reference imports, by name: tests rely on the candidate importing the same."""
    found = {}
    for alias, path in aliases.items():
        first, _, last = path.rpartition(".")
        with suppress(ImportError, AttributeError):
            found[alias] = getattr(owner(path), last) if first else importlib.import_module(path)
    return found


class Watch:
    """A snapshot of the functions, classes and submodules of modules, and of the methods of their classes."""

    def __init__(self, names: set[str], exempt: set[str]) -> None:
        found = {name: sys.modules.get(name) for name in sorted(names)}
        modules = {name: one for name, one in found.items() if isinstance(one, types.ModuleType)}
        self.seen: list[tuple[str, Any, dict, tuple[type, ...]]] = [("sys.modules", sys.modules, modules, ())]
        self.seen += [(label(one), vars(one), dict(vars(one)), ()) for one in modules.values()]
        named = (value for one in modules.values() for value in vars(one).values())
        classes = {one for value in named if isinstance(value, type) for one in value.__mro__}
        heap = (one for one in classes if one.__flags__ & HEAP_TYPE)
        self.seen += [(label(one), vars(one), dict(vars(one)), one.__mro__[1:]) for one in heap]
        self.exempt = exempt

    def changes(self) -> set[str]:
        """The names of what has been replaced, removed, or overridden in a subclass since the snapshot."""
        found: set[str] = set()
        for place, now, then, bases in self.seen:
            if not all(map(is_, map(now.get, then), then.values())):
                old = ((name, value) for name, value in then.items() if now.get(name) is not value)
                found.update(f"{place}.{name}" for name, value in old if callable(value) or isinstance(value, MEMBERS))
            if bases and len(now) != len(then):
                added = (name for name in now.keys() - then.keys() if any(name in vars(base) for base in bases))
                found.update(f"{place}.{name}" for name in added)
        return found - self.exempt


def parts(value: Any) -> Iterable:
    """The first 1,000 elements of a container, read without calling its own methods."""
    base = next((one for one in (dict, list, tuple, set, frozenset) if issubclass(type(value), one)), None)
    return islice(dict.values(value) if base is dict else base.__iter__(value), 1000) if base else ()


def is_rigged(value: object, scope: dict, depth: int = 3) -> bool:
    """Whether a value, or one inside it, compares equal to everything."""
    kind = type(value)
    if kind in PLAIN:
        return False
    if depth and any(is_rigged(part, scope, depth - 1) for part in parts(value)):
        return True
    members = {name: member for base in reversed(kind.__mro__) for name, member in vars(base).items()}
    overrides = (members.get(name) for name in OVERRIDES)
    if any(getattr(getattr(one, "__func__", one), "__globals__", None) is scope for one in overrides):
        return True
    if isinstance(members["__eq__"], IN_C):
        return False
    with suppress(Exception):
        found = [value == other for other in (object(), *ODD)]
        if getattr(members["__eq__"], "__globals__", None) is not scope and any(type(one) is kind for one in found):
            return False  # a library's container, compared element by element: xarray's are true if they hold anything
        return bool(found[0]) or all(map(bool, found[1:]))
    return False


def guarded(function: Callable, watch: Watch, reasons: list[str], scope: dict) -> Callable:
    """The candidate's function as the test calls it. `reasons` keeps what it tampers with, even if that is caught."""

    @wraps(function)
    def call(*args, **settings):
        before = watch.changes()
        try:
            value = function(*args, **settings)
        finally:
            refuse(watch.changes() - before, reasons)
        if is_rigged(value, scope):
            refuse(["what values are equal"], reasons)
        return value

    return call


def refuse(changes: Iterable[str], reasons: list[str]) -> None:
    for change in sorted(changes)[:1]:
        reasons.append(f"the candidate changed {change}")
        raise Tampered(reasons[0]) from None


def secret_of(event: str, args: tuple, scopes: list[dict]) -> str | None:
    """What an audit event reveals, if the candidate may not cause it; else None."""
    if event == "object.__getattr__":
        is_test = args[1] == "__code__" and any(args[0].__globals__ is scope for scope in scopes)
        return args[1] if is_test or args[1] in FRAMES else None
    if event == "compile":  # under a library's name
        return event if str(args[1]).startswith(LIBRARY_FOLDERS) else None
    if event == "open":
        path = args[0].decode("utf-8", "replace") if isinstance(args[0], bytes) else str(args[0])
        return event if "/proc/" in path and path.endswith("/mem") else None
    return event if event in SECRETS or event.startswith("ctypes.") else None


def forbid(scopes: list[dict]) -> None:
    """From now on, only libraries and code in these namespaces can see frames and other memory."""
    getframe, install, ident, asking = sys._getframe, _signal.signal, _thread.get_ident, set()

    def is_foreign(secret: str, words: tuple[str, ...]) -> bool:
        frame: types.FrameType | None = getframe(2)
        while frame is not None and not any(frame.f_globals is scope for scope in scopes):
            code = frame.f_code
            file = code.co_filename
            if file in PASSES_ON or (file == LOGS and code.co_name in ("<lambda>", "currentframe")):
                frame = frame.f_back
                if secret == "tb_frame" and file == FORMATS and frame and frame.f_code.co_filename == file:
                    return False  # traceback's own formatting of an exception, as text
                continue
            named = not words or any(word in name for name in code.co_names for word in words)
            return not (file.startswith(LIBRARY_FOLDERS) and named)
        return False

    def hook(event: str, args: tuple) -> None:
        secret = secret_of(event, args, scopes)
        if secret is None or ident() in asking:
            return
        asking.add(ident())  # looking at frames is itself such an event
        try:
            foreign = is_foreign(secret, WORDS if event in TRACES else ())
        finally:
            asking.discard(ident())
        if foreign:
            raise RuntimeError(f"{secret} is refused to the candidate")

    def without_frame(number, handler):
        return install(number, (lambda number, _: handler(number, None)) if callable(handler) else handler)

    _signal.signal = without_frame  # a handler would be given the frame that it interrupts
    sys.addaudithook(hook)
