"""Check files of migration records and say what is wrong, row by row.

    python src/validate.py data/train.jsonl
    python src/validate.py hf://datasets/zjunlp/ReCode-Train-Data --write-clean clean.jsonl
    python src/validate.py rows.jsonl --clean gold --verdicts verdicts.jsonl --write-clean gold.jsonl
    python src/validate.py rows.jsonl --table                         # counts per check and library, as Markdown
    python src/validate.py rows.jsonl --json | jq '.files[0].by_check'
    python src/validate.py data/train.jsonl --against rows.jsonl      # is anything copied, or nearly a copy?

Problems read `file:line: field: what is wrong`, warnings with the word `warning` before them. The exit status is 1 when
a file has errors (also with --write-clean, which writes the rows that have none), else 0.

--clean chooses what --write-clean writes; the last two levels need what src/audit.py saw when it ran the rows.

--against looks for the most similar row of other files, for each row: edit similarity (1 - Levenshtein distance /
length of the longer) of both snippets together, after comments, layout and the names that the code itself gives are
taken out. So a clone that differs in variable names has similarity 1. Above 90 % the exit status is 1. A file may be
compared with itself: a row is never compared with itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from statistics import quantiles

from tqdm import tqdm

from common.cli import printable, program
from common.errors import InputError
from common.rows import read_rows, resolve
from curation.levels import LEVELS, select
from curation.similarity import CLONE, nearest, read_snippets
from records import ERRORS, WARNINGS, Checked, check_file, normalise_dependency, write_rows


def compare(files: list[str], against: list[str], limit: int) -> bool:
    """Print the nearest similarity of every file; True where a row is a copy."""
    others = [row for source in against for row in read_snippets(source)]
    copies = False
    for source in files:
        pairs = [(*nearest(one, others), one) for one in tqdm(read_snippets(source), desc=source, leave=False)]
        pairs = sorted((pair for pair in pairs if pair[1]), key=lambda pair: -pair[0])
        values = [pair[0] for pair in pairs]
        if not values:
            print(f"{source}: nothing to compare")
            continue
        tenths = quantiles(values, n=10) if len(values) > 1 else values * 9
        print(
            f"{source}: nearest similarity of {len(values)} rows among {len(others)}: median {tenths[4]:.2f}, "
            f"90th percentile {tenths[8]:.2f}, highest {values[0]:.2f}; {sum(v > CLONE for v in values)} above {CLONE}"
        )
        for value, other, one in pairs[:limit]:
            if value > CLONE or one is pairs[0][2]:
                print(f"  {value:.2f} {one.file}:{one.line} and {other.file}:{other.line}")
        copies |= values[0] > CLONE
    return copies


def as_json(source: str, checked: Checked) -> dict:
    """One file's findings, for programs."""
    return {
        "file": source,
        "rows": checked.rows,
        "good": len(checked.records),
        "by_check": dict(Counter(problem.check for problem in checked.problems)),
        "by_library": dict(Counter(record.dependency for record in checked.records).most_common()),
        "problems": [{**asdict(problem), "error": problem.is_error} for problem in checked.problems],
    }


def table(source: str, checked: Checked) -> str:
    """Markdown: rows of each library by check; a row can fail several, and one without a library counts as `none`."""
    rows = dict(enumerate((row for _, row in read_rows(resolve(source))), start=1))
    names = {
        place: printable(normalise_dependency(row["dependency"]))
        if isinstance(row, dict) and isinstance(row.get("dependency"), str)
        else "none"
        for place, row in rows.items()
    }
    libraries = sorted(set(names.values()), key=str.lower)
    found = {(problem.row, problem.check) for problem in checked.problems}

    def line(title: str, places: set[int]) -> str:
        count = Counter(names[n] for n in places)
        return f"| {title} | {' | '.join(str(count[name]) for name in libraries)} | {len(places)} |"

    out = [f"| check | {' | '.join(libraries)} | all |", "|---" * (len(libraries) + 2) + "|", line("rows", set(rows))]
    for check in [*ERRORS, *WARNINGS]:
        if places := {n for n, kind in found if kind == check}:
            out.append(line(f"{check}{' (warning)' if check in WARNINGS else ''}", places))
    return "\n".join([*out, line("good", set(checked.places))])


def show(source: str, checked: Checked, limit: int) -> None:
    """The first `limit` problems and the summary."""
    for problem in checked.problems[:limit]:
        print(f"{'' if problem.is_error else 'warning: '}{problem}")
    if len(checked.problems) > limit:
        print(f"… and {len(checked.problems) - limit} more problems (--limit shows more)")
    print(printable(f"{source}: {checked.summary()}"))
    libraries = Counter(record.dependency for record in checked.records).most_common()
    print(printable("good rows by library: " + ", ".join(f"{name} {count}" for name, count in libraries)))


@program()
def main() -> int:
    checks = "\n".join(f"  {name:<15}{meaning}" for name, meaning in (ERRORS | WARNINGS).items())
    levels = "\n".join(f"  {name:<15}{meaning}" for name, meaning in LEVELS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nlevels of --clean:\n{levels}\n\nchecks:\n{checks}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="JSONL or JSON file, or hf://datasets/OWNER/NAME")
    parser.add_argument("--write-clean", type=Path, metavar="OUT", help="write the rows of --clean to OUT (JSONL)")
    parser.add_argument("--clean", choices=LEVELS, help="what to write (default: real-change, the rows without errors)")
    parser.add_argument("--verdicts", type=Path, metavar="FILE", help="what src/audit.py wrote about the file")
    parser.add_argument("--table", action="store_true", help="print the counts per check and library as Markdown")
    parser.add_argument("--against", nargs="+", metavar="FILE", help="find the most similar rows in these files")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument("--limit", type=int, default=40, help="problems printed per file (default: %(default)s)")
    args = parser.parse_args()

    if args.against and args.json:
        parser.error("--against prints text: leave --json out")
    if args.clean and not args.write_clean:
        parser.error("--clean chooses what --write-clean writes: give that, too")
    try:
        results = {source: check_file(source) for source in args.files}
    except InputError as error:
        print(f"validate: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps({"files": [as_json(*item) for item in results.items()]}, indent=1))  # any text, as ASCII
    else:
        for source, checked in results.items():
            show(source, checked, args.limit)
            if args.table:
                print(table(source, checked))
    if args.write_clean:
        try:
            good = [
                record for source in args.files for record in select(source, args.clean or "real-change", args.verdicts)
            ]
        except InputError as error:
            print(f"validate: {error}", file=sys.stderr)
            return 1
        write_rows(good, args.write_clean)
        print(f"wrote {len(good)} rows to {args.write_clean}", file=sys.stderr)
    failed = any(checked.errors for checked in results.values())
    if args.against:
        try:
            failed |= compare(args.files, args.against, args.limit)
        except InputError as error:
            print(f"validate: {error}", file=sys.stderr)
            return 1
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
