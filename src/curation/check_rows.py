"""Check files of migration records and report every problem, row by row.

    python src/check_data.py rows data/train.jsonl
    python src/check_data.py rows hf://datasets/zjunlp/ReCode-Train-Data --write-clean clean.jsonl
    python src/check_data.py rows rows.jsonl --clean gold --verdicts verdicts.jsonl --write-clean gold.jsonl
    python src/check_data.py rows rows.jsonl --table                  # counts per check and library, as Markdown
    python src/check_data.py rows rows.jsonl --json | jq '.files[0].by_check'
    python src/check_data.py rows data/train.jsonl --against rows.jsonl    # is any row a copy, or nearly one?

Problems read `file:line: field: what is wrong`; warnings start with the word `warning`. The exit status is 1 if a file
has errors (also with --write-clean, which writes the rows that have none).

--against finds the most similar row of other files for each row: edit similarity (1 - Levenshtein distance / length of
the longer) of both snippets together, after comments, layout and the code's own names are removed. So a clone with
other variable names has similarity 1. Above 0.9 the exit status is 1. A row is never compared with itself.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from common.cli import one_line, printable
from common.errors import InputError
from common.files import require_writable, write_jsonl
from common.libraries import normalise_dependency
from common.provenance import sha256
from common.rows import read_rows, resolve
from curation.check_published import read_verdicts
from curation.similarity import CLONE, nearest, read_snippets, spread
from records import ERRORS, UNREADABLE, WARNINGS, Checked, Record, check_file, first_of

# Each level contains the ones after it. The training scripts accept the rows from `real-change` on.
LEVELS = {
    "parses": "all six fields are there and both snippets parse",
    "real-change": "and the row has no error: something to migrate, a change, no duplicate",
    "runs": "and its new code runs to its end (--verdicts)",
    "gold": "and emits no deprecation warning, while the old code fails or warns (--verdicts)",
}
CHECKS = ERRORS | WARNINGS
__doc__ = f"""{__doc__}
levels of --clean:
{chr(10).join(f"  {name:<15}{meaning}" for name, meaning in LEVELS.items())}

checks:
{chr(10).join(f"  {name:<15}{meaning}" for name, meaning in CHECKS.items())}"""


def find_copies(files: list[str], against: list[str], limit: int) -> bool:
    """Print the nearest similarity of every file; True if a row is a copy."""
    others = [row for source in against for row in read_snippets(source)]
    copies = False
    for source in files:
        found = [(nearest(one, others), one) for one in tqdm(read_snippets(source), desc=source, leave=False)]
        pairs = sorted(((*near, one) for near, one in found if near), key=lambda pair: -pair[0])
        values = [pair[0] for pair in pairs]
        if not values:
            print(f"{source}: nothing to compare")
            continue
        above = f"{sum(value > CLONE for value in values)} above {CLONE}"
        print(f"{source}: nearest similarity of {len(values)} rows among {len(others)}: {spread(values)}; {above}")
        for value, other, one in pairs[:limit]:
            if value > CLONE or one is pairs[0][2]:
                print(f"  {value:.2f} {one.file}:{one.line} and {other.file}:{other.line}")
        copies |= values[0] > CLONE
    return copies


def findings(source: str, checked: Checked) -> dict:
    """The findings in one file, for other programs."""
    return {
        "file": source,
        "rows": checked.rows,
        "good": len(checked.kept),
        "by_check": dict(Counter(problem.check for problem in checked.problems)),
        "by_library": dict(Counter(record.dependency for record in checked.records).most_common()),
        "problems": [{**asdict(problem), "error": problem.is_error} for problem in checked.problems],
    }


def checks_by_library(source: str, checked: Checked) -> str:
    """Markdown: rows of each library by check; a row can fail several, and one without a library counts as `none`."""
    stated = [row.get("dependency") if isinstance(row, dict) else None for _, row in read_rows(resolve(source))]
    named = [one_line(normalise_dependency(name)) if isinstance(name, str) else "none" for name in stated]
    names = dict(enumerate(named, start=1))
    libraries = sorted(set(named), key=str.lower)
    found = {(problem.row, problem.check) for problem in checked.problems}

    def line(title: str, places: set[int]) -> str:
        count = Counter(names[n] for n in places)
        return f"| {title} | {' | '.join(str(count[name]) for name in libraries)} | {len(places)} |"

    out = [f"| check | {' | '.join(libraries)} | all |", "|---" * (len(libraries) + 2) + "|", line("rows", set(names))]
    for check in CHECKS:
        if places := {n for n, kind in found if kind == check}:
            out.append(line(f"{check}{' (warning)' if check in WARNINGS else ''}", places))
    return "\n".join([*out, line("good", {row for row, _, _ in checked.kept})])


def show(source: str, checked: Checked, limit: int) -> None:
    """Print the first `limit` problems and the summary."""
    lines = [f"{'' if problem.is_error else 'warning: '}{problem}" for problem in checked.problems]
    if lines:
        print(first_of(lines, "problems (--limit shows more)", limit))
    print(printable(f"{source}: {checked.summary()}"))
    libraries = Counter(record.dependency for record in checked.records).most_common()
    if not libraries:
        return
    print(one_line("good rows by library: " + ", ".join(f"{name} {count}" for name, count in libraries)))


def select(source: str, level: str, verdicts: Path | None) -> list[Record]:
    """The records of a file on one of LEVELS; the last two need `verdicts` on this file."""
    if level == "parses":
        return check_file(source, {*UNREADABLE, "parse", "deep"}).records
    checked = check_file(source)
    if level == "real-change":
        return checked.records
    if verdicts is None:
        raise InputError(f"{source}: the level {level} needs --verdicts FILE, written by check_data.py published")
    found = {verdict.line: verdict.level for verdict in read_verdicts(verdicts, sha256(resolve(source)))}
    wanted = ("gold",) if level == "gold" else ("runs", "gold")
    return [record for _, line, record in checked.kept if found.get(line) in wanted]


def run(
    files: list[str],
    write_clean: Path | None,
    clean: str | None,
    verdicts: Path | None,
    table: bool,
    against: list[str] | None,
    as_json: bool,
    ids: bool,
    limit: int,
) -> int:
    """The exit status: 1 if a row has an error or is a copy."""
    if as_json and (against or ids):
        raise InputError(f"{'--against' if against else '--ids'} prints text: it cannot be used with --json")
    if clean and not write_clean:
        raise InputError("--clean selects what --write-clean writes: --write-clean is missing")
    if write_clean:
        require_writable(write_clean)
    results = {source: check_file(source) for source in files}
    for source, checked in results.items():
        if not checked.rows:
            raise InputError(f"{source}: no rows: the file, or the array in it, is empty")
    if as_json:
        print(json.dumps({"files": [findings(*item) for item in results.items()]}, indent=1))  # any text, as ASCII
    else:
        for source, checked in results.items():
            show(source, checked, limit)
            if ids:
                print("\n".join(f"{one_line(source)}:{line}: {record.id}" for _, line, record in checked.kept))
            if table:
                print(checks_by_library(source, checked))
    if write_clean:
        good = [record for source in files for record in select(source, clean or "real-change", verdicts)]
        write_jsonl(write_clean, [record.to_row() for record in good])
        print(f"wrote {len(good)} rows to {write_clean}", file=sys.stderr)
    copies = find_copies(files, against, limit) if against else False
    return int(copies or any(checked.errors for checked in results.values()))
