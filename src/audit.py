"""Run the rows of a file that has no evidence, such as the published one: which new code runs, where does the old fail?

    python src/audit.py recode-train-data.jsonl --out verdicts.jsonl
    python src/validate.py recode-train-data.jsonl --clean gold --verdicts verdicts.jsonl --write-clean gold.jsonl

Published rows name a library and the version migrated to, but no old version and no check, so this is a weaker test
than src/verify.py: old and new code run once each, both on the *new* version, and nothing tells whether they do the
same. The rule for that version: the first environment of ENVIRONMENTS whose version of the row's library is the stated
one or a later one. Many stated versions have no wheel for Python 3.11; their rows run on the first that has. Rows with
errors (src/validate.py) and rows of libraries that no environment holds are left out.

A row *runs* when its new code comes to its end, and is *gold* when that emits no deprecation warning either while the
old code raises or emits one. Programs run in the sandbox (src/sandbox/), forked from an interpreter that has
imported the environment's libraries: a warning at import is the library's own, not the row's (pandas 2.2.0 emits one).
No network: rows that download data fail.

OUT has a line for the file (sha256, environments, commit), then one for each row: line, id, the environment's place in
the list, whether its version is the stated one, and how each snippet ended. It quotes no text of the rows. Killed and
started again, it goes on.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from common.cli import fail, program
from common.errors import InputError
from common.files import append_jsonl, read_jsonl, read_log
from common.provenance import git_state, sha256
from common.rows import resolve
from curation.levels import level
from curation.proof import execute_all
from curation.virtualenvs import EnvironmentFailed, environment
from records import Record, check_file, normalise_dependency
from sandbox import InfrastructureError

# In the order in which they are tried. The scientific libraries depend on each other, so they come as sets of one time.
ENVIRONMENTS = (
    "numpy==1.23.5 scipy==1.9.3 pandas==1.5.3 matplotlib==3.6.3 scikit-learn==1.1.3 seaborn==0.12.0 pyparsing==3.1.4",
    "numpy==1.25.0 scipy==1.11.1 pandas==2.1.0 matplotlib==3.8.0 scikit-learn==1.3.0 seaborn==0.13.0 pyparsing==3.1.4",
    "numpy==2.0.0 scipy==1.13.0 pandas==2.2.3 matplotlib==3.9.4 scikit-learn==1.5.2 seaborn==0.13.2 pyparsing==3.1.4",
    "numpy==2.2.0 scipy==1.15.0 pandas==2.2.3 matplotlib==3.10.0 scikit-learn==1.6.0 seaborn==0.13.2 pyparsing==3.1.4",
    "Scrapy==2.12.0 w3lib==2.3.1 Twisted==24.10.0 pyOpenSSL==24.2.1 cryptography==43.0.3 lxml==5.3.0",
    "jax==0.6.0 jaxlib==0.6.0 numpy==2.2.0 scipy==1.15.0",
    "torch==2.13.0 numpy==2.2.0",
)
CHUNK = 50  # rows that are run, then written
MODULES = {  # package -> what a fork server imports of it
    "numpy": ("numpy",),
    "scipy": ("scipy.stats", "scipy.signal", "scipy.sparse", "scipy.optimize"),
    "pandas": ("pandas",),
    "matplotlib": ("matplotlib.pyplot",),
    "seaborn": ("seaborn",),
    "scikit-learn": ("sklearn.model_selection",),
    "jax": ("jax.numpy",),
    "torch": ("torch",),
    "Scrapy": ("scrapy",),
}


def release(version: str) -> tuple[int, ...]:
    """`1.3.x` -> (1, 3), `2.0.0` -> (2,): numbers to compare by, so that 2.0 and 2.0.0 are one."""
    numbers = [int(part) for part in re.findall(r"\d+", version)]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def choose(record: Record) -> tuple[int, bool] | None:
    """(place of the environment that a record runs in, whether its version is the stated one); None without any."""
    for place, pins in enumerate(ENVIRONMENTS):
        for package, version in (pin.split("==") for pin in pins.split()):
            if normalise_dependency(package) == record.dependency and release(version) >= release(record.new_version):
                return place, release(version) == release(record.new_version)
    return None


def ending(run: dict[str, str]) -> str:
    """`ok`, `warning FutureWarning`, `error NameError`, `limit`, `limit MemoryError`: no more of the text."""
    name = re.match(r"(?:\w+\.)*(\w+)(?::|$)", run["text"])
    return f"{run['outcome']} {name[1]}" if name else run["outcome"]


def table(records: list[Record], verdicts: list[dict[str, Any]]) -> str:
    """Markdown: how many rows of each library ran and how; then why new code failed."""
    head = ["library", "good rows", "tried", "on the stated version", "new code runs", "of these clean", "gold"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    library = {record.id: record.dependency for record in records}
    rows = Counter(record.dependency for record in records)
    for name in [*sorted(rows, key=str.lower), "all"]:
        mine = [verdict for verdict in verdicts if name in ("all", library[verdict["id"]])]
        runs = [verdict for verdict in mine if level(verdict) != "real-change"]
        counts = (
            *(rows[name] or len(records), len(mine), sum(verdict["exact"] for verdict in mine), len(runs)),
            *(sum(verdict["new"] == "ok" for verdict in runs), sum(level(verdict) == "gold" for verdict in runs)),
        )
        lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
    why = Counter(verdict["new"] for verdict in verdicts if level(verdict) == "real-change").most_common()
    return "\n".join([*lines, "", "new code fails: " + ", ".join(f"{kind} {count}" for kind, count in why)])


@program(InfrastructureError)
def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("file", metavar="FILE", help="rows: JSONL, JSON or hf://datasets/…")
    parser.add_argument("--out", type=Path, required=True, help="verdicts (JSONL)")
    parser.add_argument("--envs", type=Path, default=Path(".venvs"), help="where environments are kept")
    parser.add_argument("--library", nargs="+", help="only these libraries' rows")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="programs at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="time limit of one run (default: %(default)s)")
    parser.add_argument("--unsafe", action="store_true", help="no sandbox: programs can read and delete your files")
    args = parser.parse_args()
    if args.jobs < 1 or args.seconds <= 0:
        fail("--jobs and --seconds: expected numbers above 0")
    if sys.version_info[:2] != (3, 11):
        fail("needs Python 3.11, the one that its environments are chosen for")
    try:
        checked = check_file(args.file)
        digest = sha256(resolve(args.file))
    except (InputError, OSError) as error:
        fail(error)
    records = [r for r in checked.records if not args.library or r.dependency in args.library]
    header = {
        "file_sha256": digest,
        "environments": list(ENVIRONMENTS),
        "libraries": sorted(args.library) if args.library else None,
        "seconds": args.seconds,
        "commit": git_state()["commit"],
    }
    part = args.out.with_name(args.out.name + ".part")
    if args.out.is_dir():
        fail(f"{args.out}: a folder, expected a file")
    try:
        done = read_log(part)
        if not done:
            append_jsonl(part, header)
    except (InputError, OSError) as error:
        fail(error)
    if done and {**done[0], "commit": None} != {**header, "commit": None}:
        fail(f"{part}: of another file or other settings: remove it, or choose another --out")
    finished = {verdict["line"] for verdict in done[1:]}
    places: dict[int, list[tuple[int, Record, bool]]] = {}
    for line, record in zip(checked.lines, checked.records, strict=True):
        if record in records and line not in finished and (choice := choose(record)):
            places.setdefault(choice[0], []).append((line, record, choice[1]))
    try:
        with tqdm(total=sum(map(len, places.values())), desc="rows") as bar:
            groups = [
                (place, rows[i : i + CHUNK])
                for place, rows in sorted(places.items())
                for i in range(0, len(rows), CHUNK)
            ]
            for place, rows in groups:
                pins = ENVIRONMENTS[place].split()
                python = environment(pins, args.envs)
                modules = [module for pin in pins for module in MODULES.get(pin.partition("==")[0], ())]
                jobs = [(code, None) for _, record, _ in rows for code in (record.new_code, record.old_code)]
                runs = execute_all(python, jobs, args.seconds, args.jobs, preload=modules, unsafe=args.unsafe)
                for i, (line, record, exact) in enumerate(rows):
                    ends = {"new": ending(runs[2 * i]), "old": ending(runs[2 * i + 1])}
                    append_jsonl(part, {"line": line, "id": record.id, "environment": place, "exact": exact, **ends})
                bar.update(len(rows))
    except (EnvironmentFailed, InfrastructureError, OSError) as error:
        fail(error)
    part.replace(args.out)
    print(f"{table(records, read_jsonl(args.out)[1:])}\n\n{args.out}: verdicts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
