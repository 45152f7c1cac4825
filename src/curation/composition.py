"""What a data set is made of: its libraries, kinds of update, proofs, notes and lengths, by split.

    python src/check_data.py composition                                   # the tables of data/README.md
    python src/check_data.py composition --figure assets/composition.png   # and its picture
    python src/check_data.py composition --tokenizer Qwen/Qwen2.5-Coder-7B-Instruct    # and lengths in tokens

Reads the records and their evidence; runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from common.files import require_writable
from common.markdown import table
from curation.check_proofs import Pairs, load
from curation.evidence import SPLITS, Evidence
from records import Record

TITLES = {"train": "train", "heldout": "held-out"}
OUTCOMES = {"error": "raises", "check": "fails its check", "warning": "warns", "ok": "passes (addition)"}
LONG = 15  # lines


def lines_of(code: str) -> int:
    """Lines that are not blank."""
    return sum(bool(line.strip()) for line in code.splitlines())


def slugs(pairs: Iterable[tuple[Record, Evidence]]) -> set[str]:
    """The updates; a record with two updates at once names both, joined by a plus sign."""
    return {slug for _, evidence in pairs for slug in evidence.update.split("+")}


def outcome(evidence: Evidence) -> str:
    """How the old code ended on the new version."""
    return evidence.seen["old_on_new"]["outcome"] if evidence.seen else "not run"


def groups_of(pairs: Pairs, key: Callable[[Record, Evidence], str]) -> dict[str, Pairs]:
    """The pairs by `key`, the largest group first."""
    groups: dict[str, Pairs] = {}
    for record, evidence in pairs:
        groups.setdefault(key(record, evidence), []).append((record, evidence))
    return dict(sorted(groups.items(), key=lambda item: (-len(item[1]), item[0].lower())))


def counts(pairs: Pairs) -> list[int]:
    """Records by split."""
    return [sum(evidence.split == split for _, evidence in pairs) for split in SPLITS]


def group_table(title: str, groups: dict[str, Pairs]) -> str:
    """Updates and records of each group, and of all."""
    everything = [pair for mine in groups.values() for pair in mine]
    rows: list[list[object]] = [[name, len(slugs(mine)), *counts(mine)] for name, mine in groups.items()]
    total = [len(slugs(everything)), *counts(everything)]
    return table([title, "updates", *TITLES.values()], [*rows, ["**total**", *(f"**{count}**" for count in total)]])


def shape_table(pairs: Pairs) -> str:
    """Records whose form is out of the ordinary, and old code's outcomes, by split."""
    features: dict[str, Callable[[Record, Evidence], bool]] = {
        f"target over {LONG} lines": lambda record, _: lines_of(record.new_code) > LONG,
        "note of several lines": lambda record, _: "\n" in record.update_info.strip(),
        "two updates at once": lambda _, evidence: "+" in evidence.update,
        "names that the answer must use": lambda _, evidence: bool(evidence.use),
        "other right targets": lambda _, evidence: bool(evidence.alternatives),
        "lines of the release note stored by hash": lambda _, evidence: bool(evidence.facts),
    }
    rows: list[list[object]] = [
        [name, *counts([pair for pair in pairs if holds(*pair)])] for name, holds in features.items()
    ]
    for ending, said in OUTCOMES.items():
        mine = [pair for pair in pairs if outcome(pair[1]) == ending]
        rows.append([f"old code on the new version: {said}", *counts(mine)])
    return table(["records", *TITLES.values()], rows)


def percentiles(values: Sequence[int]) -> list[int]:
    """The 10th, 50th and 90th percentile (nearest rank) and the highest."""
    ordered = sorted(values)
    return [ordered[max(0, -(-len(ordered) * share // 100) - 1)] for share in (10, 50, 90)] + [ordered[-1]]


def length_table(pairs: Pairs, tokenizer: str | None) -> str:
    """Percentiles of the targets' lengths."""
    targets = [record.new_code for record, _ in pairs]
    rows: list[list[object]] = [
        ["lines", *percentiles([lines_of(code) for code in targets])],
        ["characters", *percentiles([len(code) for code in targets])],
    ]
    if tokenizer:
        from transformers import AutoTokenizer

        lengths = AutoTokenizer.from_pretrained(tokenizer)(targets, add_special_tokens=False)["input_ids"]
        rows.append(["tokens", *percentiles([len(ids) for ids in lengths])])
    return table(["target", "10th percentile", "median", "90th percentile", "longest"], rows)


def tables(pairs: Pairs, tokenizer: str | None = None) -> list[str]:
    """The tables of the data card."""
    libraries = groups_of(pairs, lambda record, _: record.dependency)
    by_name = dict(sorted(libraries.items(), key=lambda item: item[0].lower()))
    return [
        group_table("library", by_name),
        group_table("kind", groups_of(pairs, lambda _, evidence: evidence.kind)),
        shape_table(pairs),
        length_table(pairs, tokenizer),
    ]


def run(data: Path, figure: Path | None, tokenizer: str | None) -> int:
    if figure:
        require_writable(figure)
    pairs = load(data)
    print("\n\n".join(tables(pairs, tokenizer)))
    if figure:
        from curation.composition_figure import draw

        draw(pairs, figure)
        print(f"\nwrote {figure}")
    return 0
