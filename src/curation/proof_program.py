"""The program of one run in the sandbox: the wrapper of an invented update if there is one, code, then its check.

src/curation/proof.py sends the text of this file with a call of `run` appended; the file is never imported. Outcomes
other than `ok` are reported by SystemExit, whose argument the sandbox returns; `ok` is what the sandbox calls a pass.
"""

import functools
import sys
import traceback
import types
import warnings

DEPRECATIONS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
UNDER_TEST: list[dict] = []  # the namespaces of the code and of its check


def keep_warnings():
    """Let no filter, catch_warnings or replaced function of the code under test hide a deprecation warning."""
    add, frame = warnings.simplefilter, sys._getframe

    def called_by_code():
        """Whether the caller of the caller is code under test."""
        caller = frame(2).f_globals
        return any(caller is scope for scope in UNDER_TEST)

    def always():
        for kind in DEPRECATIONS:
            add("always", kind)

    def kept(function):
        @functools.wraps(function)
        def wrapped(*args, **settings):
            function(*args, **settings)
            if called_by_code():
                always()

        return wrapped

    class catch_warnings(warnings.catch_warnings):
        def __init__(self, *args, **settings):
            super().__init__(*args, **settings)
            self._is_sample = called_by_code()

        def __enter__(self):
            self._seen = super().__enter__()
            if self._is_sample:
                always()
            return self._seen

        def __exit__(self, *error):
            super().__exit__(*error)
            for seen in (self._is_sample and self._seen) or ():
                warnings.warn_explicit(seen.message, seen.category, seen.filename, seen.lineno)

    class Module(types.ModuleType):
        def __setattr__(self, name, value):
            if not called_by_code():
                super().__setattr__(name, value)

    for name in ("simplefilter", "filterwarnings", "resetwarnings"):
        setattr(warnings, name, kept(getattr(warnings, name)))
    warnings.catch_warnings = catch_warnings  # type: ignore[misc, assignment]  # replaced on purpose
    warnings.__class__ = Module


def holders(owner, name):
    """The class, or the modules of a module's package, that have its `name`."""
    if isinstance(owner, type):
        return [owner]
    kept, package = getattr(owner, name), owner.__name__.partition(".")[0]
    modules = [module for path, module in list(sys.modules.items()) if path.partition(".")[0] == package]
    return [module for module in modules if module and vars(module).get(name) is kept]


def replace(owner, name, make):
    """`make(original)` takes the place of a function or method, however it is imported from now on."""
    original = getattr(owner, name)
    updated = make(original)
    for about in ("__module__", "__name__", "__qualname__"):
        if isinstance(updated, types.FunctionType) and hasattr(original, about):
            setattr(updated, about, getattr(original, about))
    for place in holders(owner, name):
        setattr(place, name, updated)


def rename(owner, old, new):
    """A function or method has another name."""
    original = getattr(owner, old)
    for place in holders(owner, old):
        setattr(place, new, original)
        delattr(place, old)


def add(owner, name, value):
    """A new function or method."""
    setattr(owner, name, value)


def install(wrapper):
    """Execute the wrapper of an invented update. Its closures keep the originals, for which an answer has no name."""
    names = {"__name__": "wrapper", "replace": replace, "rename": rename, "add": add}
    execute("<wrapper>", wrapper, names)


def report(steps):
    """Take the steps, pairs (the outcome if it fails, a function); raise SystemExit((outcome, text)) unless all are
    clean."""
    keep_warnings()
    outcome, text = "error", ""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            for outcome, step in steps:  # noqa: B007 (the last one is the outcome)
                step()
            outcome = "ok"
        except BaseException as error:
            text = traceback.format_exception_only(type(error), error)[-1].strip()
            # torch reports out-of-memory as a RuntimeError
            if isinstance(error, MemoryError) or "can't allocate memory" in text or "can't start new thread" in text:
                outcome = "limit"
    old = [warning for warning in seen if issubclass(warning.category, DEPRECATIONS)]
    if old and outcome == "ok":
        outcome, text = "warning", f"{old[0].category.__name__}: {old[0].message}"
    if outcome != "ok":  # an ImportError contains the path of the environment: evidence is the same on every machine
        raise SystemExit((outcome, text.replace(sys.prefix, "ENV")[:300]))


def execute(name, source, scope):
    """Execute source code that tracebacks call `name`."""
    exec(compile(source, name, "exec", dont_inherit=True), scope)


def run(code, check, wrapper=None):
    """Execute the code, then its check. The update that `wrapper` installs is in force from the code's first line."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    UNDER_TEST.append(vars(main))
    steps = [("error", lambda: install(wrapper))] if wrapper else []
    steps.append(("error", lambda: execute("<record>", code, vars(main))))
    if check:
        steps.append(("check", lambda: execute("<check>", check, vars(main))))
    report(steps)
