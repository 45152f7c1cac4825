"""Run the rows of a file without evidence, such as the published one: which new code runs, which old code fails?

    python src/check_data.py published recode-train-data.jsonl --out verdicts.jsonl
    python src/check_data.py rows recode-train-data.jsonl --clean gold --verdicts verdicts.jsonl --write-clean out.jsonl

Published rows name a library and the version migrated to, but no old version and no check, so this is a weaker test
than `check_data.py proofs`: old and new code run once each, both on the *new* version, and nothing compares their
results. The environment of a row is the first of ENVIRONMENTS whose version of the row's library is the stated one or a
later one; many stated versions have no wheel for Python 3.11. Rows with errors (`check_data.py rows`) and rows of
libraries that no environment contains are left out.

A row *runs* if its new code runs to its end, and is *gold* if that emits no deprecation warning while the old code
raises or emits one. Programs run in the sandbox, forked from an interpreter that has imported the libraries: a warning
at import is not the row's (pandas 2.2.0 emits one). There is no network, so rows that download data fail.

OUT has a header (sha256 of the file, environments, commit), then a verdict for each row, which quotes none of its text.
An interrupted run resumes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel
from tqdm import tqdm

from common.cli import one_line
from common.errors import InputError
from common.files import append_jsonl, read_jsonl, read_log, require_writable
from common.libraries import normalise_dependency, release
from common.provenance import git_state, sha256
from common.rows import resolve, typed
from curation.evidence import Run
from curation.proof import ProofSettings, execute_all
from curation.virtualenvs import environment
from records import Record, check_file

# In the order in which they are tried. The scientific libraries depend on each other: versions of one time go together.
ENVIRONMENTS = (
    "numpy==1.23.5 scipy==1.9.3 pandas==1.5.3 matplotlib==3.6.3 scikit-learn==1.1.3 seaborn==0.12.0 pyparsing==3.1.4",
    "numpy==1.25.0 scipy==1.11.1 pandas==2.1.0 matplotlib==3.8.0 scikit-learn==1.3.0 seaborn==0.13.0 pyparsing==3.1.4",
    "numpy==2.0.0 scipy==1.13.0 pandas==2.2.3 matplotlib==3.9.4 scikit-learn==1.5.2 seaborn==0.13.2 pyparsing==3.1.4",
    "numpy==2.2.0 scipy==1.15.0 pandas==2.2.3 matplotlib==3.10.0 scikit-learn==1.6.0 seaborn==0.13.2 pyparsing==3.1.4",
    "Scrapy==2.12.0 w3lib==2.3.1 Twisted==24.10.0 pyOpenSSL==24.2.1 cryptography==43.0.3 lxml==5.3.0",
    "jax==0.6.0 jaxlib==0.6.0 numpy==2.2.0 scipy==1.15.0",
    "torch==2.13.0 numpy==2.2.0",
)
CHUNK = 50  # rows that are run before they are written
MODULES = {  # package -> the modules that the fork server imports
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


class RowVerdict(BaseModel):
    """How the snippets of a row ended: `ok`, `warning NAME`, `error NAME`, `limit`."""

    line: int
    id: str
    environment: int  # its place in ENVIRONMENTS
    exact: bool  # whether the environment has the version that the row names
    new: str
    old: str

    @property
    def level(self) -> str:
        """`gold`, `runs`, or `real-change` if the new code does not run."""
        if self.new.startswith(("error", "limit")):
            return "real-change"
        proven = self.old.startswith(("error", "warning"))  # reaching a limit proves nothing
        return "gold" if self.new == "ok" and proven else "runs"


def read_verdicts(path: Path, data_sha256: str) -> list[RowVerdict]:
    """The verdicts on the rows of the data file with this hash."""
    header, *rows = read_jsonl(path) or [{}]
    if header.get("file_sha256") != data_sha256:
        raise InputError(f"{path}:1: file_sha256: not verdicts on the data, whose sha256 is {data_sha256[:12]}…")
    return [typed(RowVerdict, row, f"{path}:{line}") for line, row in enumerate(rows, start=2)]


def choose(record: Record) -> tuple[int, bool] | None:
    """(place of the environment that a record runs in, whether it has the stated version); None if there is none."""
    for place, pins in enumerate(ENVIRONMENTS):
        for package, version in (pin.split("==") for pin in pins.split()):
            if normalise_dependency(package) == record.dependency and release(version) >= release(record.new_version):
                return place, release(version) == release(record.new_version)
    return None


def ending(run: Run) -> str:
    """`ok`, `warning FutureWarning`, `error NameError`, `limit`, `limit MemoryError`: the rest is omitted."""
    name = re.match(r"(?:\w+\.)*(\w+)(?::|$)", run["text"])
    return f"{run['outcome']} {name[1]}" if name else run["outcome"]


Job = tuple[int, Record, bool]  # line, record, whether the environment has the version that the record names


def verdict_table(records: list[Record], verdicts: list[RowVerdict]) -> str:
    """Markdown: how many rows of each library ran and how; then why new code failed."""
    head = ["library", "good rows", "tried", "on the stated version", "new code runs", "of these clean", "gold"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    library = {record.id: record.dependency for record in records}
    rows = Counter(record.dependency for record in records)
    for name in [*sorted(rows, key=str.lower), "all"]:
        mine = [verdict for verdict in verdicts if name in ("all", library[verdict.id])]
        runs = [verdict for verdict in mine if verdict.level != "real-change"]
        counts = (
            *(rows[name] or len(records), len(mine), sum(verdict.exact for verdict in mine), len(runs)),
            *(sum(verdict.new == "ok" for verdict in runs), sum(verdict.level == "gold" for verdict in runs)),
        )
        lines.append(f"| {one_line(name)} | {' | '.join(map(str, counts))} |")
    why = Counter(verdict.new for verdict in verdicts if verdict.level == "real-change").most_common()
    return "\n".join([*lines, "", "new code fails: " + ", ".join(f"{kind} {count}" for kind, count in why)])


def chunks(jobs: Iterable[tuple[int, Record]]) -> list[tuple[int, list[Job]]]:
    """(environment, rows) in the order in which they run; rows without an environment are left out."""
    groups: dict[int, list[Job]] = {}
    for line, record in jobs:
        if found := choose(record):
            groups.setdefault(found[0], []).append((line, record, found[1]))
    return [(place, rows[i : i + CHUNK]) for place, rows in sorted(groups.items()) for i in range(0, len(rows), CHUNK)]


def execute(place: int, jobs: list[Job], settings: ProofSettings) -> Iterator[RowVerdict]:
    """The verdicts on rows of one environment."""
    pins = ENVIRONMENTS[place].split()
    preload = [module for pin in pins for module in MODULES.get(pin.partition("==")[0], ())]
    codes = [(code, None) for _, record, _ in jobs for code in (record.new_code, record.old_code)]
    runs = execute_all(environment(pins, settings.envs), codes, settings, preload)
    for (line, record, exact), new, old in zip(jobs, runs[::2], runs[1::2], strict=True):
        ends = {"new": ending(new), "old": ending(old)}
        yield RowVerdict(line=line, id=record.id, environment=place, exact=exact, **ends)


def run(file: str, out: Path, settings: ProofSettings) -> int:
    """The exit status."""
    require_writable(out)
    checked = check_file(file)
    part = out.with_name(out.name + ".part")
    header = {
        "file_sha256": sha256(resolve(file)),
        "environments": list(ENVIRONMENTS),
        "seconds": settings.seconds,
        "commit": git_state()["commit"],
    }
    done = read_log(part)
    if not done:
        append_jsonl(part, header)
    elif {**done[0], "commit": None} != {**header, "commit": None}:
        raise InputError(f"{part}: made from another file or with other settings: remove it, or use another --out")
    finished = {typed(RowVerdict, row, f"{part}:{line}").line for line, row in enumerate(done[1:], start=2)}
    left = chunks((line, record) for _, line, record in checked.kept if line not in finished)
    with tqdm(total=sum(len(jobs) for _, jobs in left), desc="rows") as bar:
        for place, jobs in left:
            append_jsonl(part, *(verdict.model_dump() for verdict in execute(place, jobs, settings)))
            bar.update(len(jobs))
    part.replace(out)
    print(f"{verdict_table(checked.records, read_verdicts(out, header['file_sha256']))}\n\n{out}: verdicts")
    return 0
