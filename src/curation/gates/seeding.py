"""Seeding: a record's runs do not depend on chance or on the clock.

Chance is the functions of `random`, of the old interface of `numpy.random` and of torch, where nothing seeds them
first, generators that are created without a seed, and random bytes. Not seen: generators inside of libraries, such as
those of scikit-learn's estimators without `random_state`, or the initial weights of a layer.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from curation.gates.entries import Entry, Objection
from curation.gates.trees import parse
from curation.use import Paths

# What draws -> what seeds it. Full dotted paths.
DRAWS = {
    re.compile(
        r"random\.(random|uniform|triangular|randint|randrange|randbytes|getrandbits|choices?|shuffle|sample|gauss"
        r"|\w+variate)"
    ): ("random.seed",),
    # What is left out are names that begin with a capital, and those that do not draw.
    re.compile(r"numpy\.random\.(?!seed$|default_rng$|[gs]et_state$|[gs]et_bit_generator$)[a-z]\w*"): (
        "numpy.random.seed",
        "numpy.random.set_state",
    ),
    re.compile(r"torch\.(rand|randn|randint|rand_like|randn_like|randint_like|randperm)"): (
        "torch.manual_seed",
        "torch.random.manual_seed",
    ),
}
GENERATORS = re.compile(
    r"random\.Random|numpy\.random\.(default_rng|RandomState|SeedSequence|PCG64|PCG64DXSM|MT19937|Philox|SFC64)"
)
NEVER_SEEDED = re.compile(
    r"uuid\.uuid[14]|os\.urandom|secrets\.\w+|random\.SystemRandom|time\.time(_ns)?"
    r"|datetime\.(datetime\.(now|utcnow|today)|date\.today)|pandas\.Timestamp\.(now|today|utcnow)"
)


def has_value(call: ast.Call) -> bool:
    """Whether a call passes anything but None."""
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(not (isinstance(value, ast.Constant) and value.value is None) for value in values)


def unseeded(tree: ast.Module) -> list[str]:
    """The paths by which a program depends on chance or on the clock."""
    paths = Paths(tree)

    def path(node: ast.AST) -> str:
        return ".".join(paths.of(node) or ())

    nodes = list(ast.walk(tree))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    names = {path(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute)}
    seeds = {path(call.func) for call in calls if has_value(call)}
    own_generator = {path(call.func) for call in calls if any(word.arg == "generator" for word in call.keywords)}
    found = {name for name in names if NEVER_SEEDED.fullmatch(name)}
    for draws, seeding in DRAWS.items():
        if seeds.isdisjoint(seeding):
            found |= {name for name in names - own_generator if draws.fullmatch(name)}
    found |= {path(call.func) for call in calls if not has_value(call) and GENERATORS.fullmatch(path(call.func))}
    return sorted(found)


def objections(entry: Entry) -> Iterator[Objection]:
    """One at most. The check runs after the code, so a seed of the code also counts for it."""
    check = parse(entry.evidence.check or "")
    for field in ("old_code", "new_code"):
        code = parse(getattr(entry.record, field))
        program = ast.Module([*code.body, *check.body], [])
        for where, tree in ((field, code), ("check", program)):
            if found := unseeded(tree):
                yield where, f"depends on chance or on the clock, without a seed: {', '.join(found)}"
                return
