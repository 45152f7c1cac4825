"""Make migration records for a library from its release notes: a model proposes, execution decides.

    python src/collect.py --notes numpy-2.0.txt --dry-run       # the paragraphs that the model would be asked about
    python src/collect.py --notes numpy-2.0.txt --old numpy==1.26.4 --new numpy==2.0.0 --out runs/numpy-2.0 \\
        --url http://localhost:8000/v1 --model Qwen/Qwen2.5-Coder-32B-Instruct        # the key: $OPENAI_API_KEY
    python src/review.py runs/numpy-2.0 --data my-records

1. The notes are split into paragraphs; those that look like an API change are kept (candidates.jsonl).
2. The model states the update of each (the paper's first role): name, kind, update_info; or that there is none.
3. It writes old code, new code, description and a check (the second role), --pairs times for each update.
4. Each pair is validated as by `check_data.py rows`, then proven in the sandbox as by `check_data.py proofs`; its check
   must also fail on an empty program.
5. Pairs that fail are sent back to the model with the objections, in up to --rounds rounds. Pairs that a reviewer
   rejected in src/review.py are sent back with the reviewer's words when this command runs again.

--out contains candidates.jsonl, rounds.jsonl (every answer and its verdict), proposed.jsonl (the pairs that passed),
summary.json (acceptance by stage). The same command resumes after an interruption. Programs run without a network;
creating the two environments needs pip.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import endpoint
from common.cli import Parser, above_zero, between, fail, parse_flags, printable, program
from common.completion import Sampling
from common.errors import InputError, ReCodeError
from common.files import require_writable, write_json, write_jsonl
from common.libraries import normalise_dependency
from common.provenance import git_state
from common.redaction import command_line, recorded, without_logins
from common.rows import read_text
from curation import proof
from curation.collecting.conversation import Collector, CollectSettings, prompts_sha256
from curation.collecting.log import Log, rates, register_start
from curation.collecting.proposals import Upgrade
from curation.collecting.release_notes import Paragraph, sieve
from curation.virtualenvs import PIN, environment
from sandbox import InfrastructureError, check_ready

RESUME = "run the same command again to resume"
Candidates = list[tuple[Paragraph, str | None]]  # with the reason why a paragraph is left out


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    add, count = parser.add_argument, above_zero(int)
    add("--notes", help="release notes: a text, Markdown or reStructuredText file; - for stdin")
    add("--old", nargs="+", metavar="PIN", help="exact pins of the old environment, the library first")
    add("--new", nargs="+", metavar="PIN", help="exact pins of the new environment, the library first")
    add("--out", type=Path, help="folder of this collection")
    add("--address", default="", help="the web address of the notes, for the evidence")
    add("--dry-run", action="store_true", help="only split the notes and show what is kept; no model")
    add("--limit", type=count, help="only the first N paragraphs that are kept")
    add("--pairs", type=count, default=3, help="pairs asked for per update (default: %(default)s)")
    add("--rounds", type=count, default=3, help="answers to a question at most (default: %(default)s)")
    add("--model", help="the model's name at the server")
    endpoint.add_flags(parser)
    share = above_zero(float, 1)
    add("--temperature", type=between(float, 0, 100), default=0.7, help="default: %(default)s")
    add("--top-p", type=share, default=0.95, help="default: %(default)s")
    add("--max-new-tokens", type=count, default=2048, help="of an answer (default: %(default)s)")
    add("--seed", type=int, default=42, help="default: %(default)s")
    add("--concurrency", type=count, default=8, help="paragraphs at a time (default: %(default)s)")
    proof.add_flags(parser)
    args = parse_flags(parser, argv)
    needed = ["notes"] if args.dry_run else ["notes", "old", "new", "out", "url", "model"]
    if lacks := [f"--{name}" for name in needed if not getattr(args, name)]:
        fail(f"missing: {', '.join(lacks)}")
    if not args.dry_run:
        endpoint.connect(args)  # only to check them
        check_pins(args.old, args.new)
    return args


def check_pins(old: list[str], new: list[str]) -> None:
    for flag, pins in (("--old", old), ("--new", new)):
        for pin in pins:
            if not PIN.fullmatch(pin):
                fail(f"{flag} {pin}: expected an exact pin, such as numpy==2.0.0")
    names = {pins[0].partition("==")[0].lower() for pins in (old, new)}
    if len(names) > 1:
        fail(f"--old and --new start with different libraries: {', '.join(sorted(names))}")
    if sorted(old) == sorted(new):
        fail("--old and --new are the same environment")


def read_notes(source: str) -> str:
    return read_text(Path("/dev/stdin" if source == "-" else source))


def show_candidates(found: Candidates, *, whole: bool) -> None:
    """How many paragraphs are kept, and why the others are not; with `whole`, also the paragraphs."""
    if whole:
        for one, why in found:
            first = one.text.splitlines()[0][:80]
            state = "kept" if why is None else "left"
            print(printable(f"{state}  line {one.line}: {first}{f'  ({why})' if why else ''}"))
    reasons = Counter(why for _, why in found if why)
    kept = len(found) - reasons.total()
    left = "".join(f"; {count} {why}" for why, count in reasons.most_common())
    print(f"release notes: {len(found)} paragraphs, {kept} look like an API change{left}")


def show_rates(found: dict[str, Any]) -> None:
    """The acceptance rates, and how often each objection was raised."""
    for role, title in (("update", "updates stated"), ("pair", "pairs written")):
        one = found[role]
        share = f" ({one['accepted'] / one['jobs']:.0%})" if one["jobs"] else ""
        print(
            f"{title}: {one['accepted']} of {one['jobs']} accepted{share}, {one['accepted_in_first_round']} in "
            f"the first round; {one['no_update']} no update; {one['rejected']} rejected"
        )
        verdicts = ", ".join(f"{count} {name}" for name, count in one["answers_by_verdict"].items())
        print(f"  {one['answers']} answers: {verdicts or 'none'}")
        for problem, count in one["problems"].items():
            print(printable(f"  {count:>5} x {problem}"))


def settings_of(args: argparse.Namespace) -> CollectSettings:
    sampling = Sampling(args.temperature, args.top_p, args.max_new_tokens)
    how = proof.ProofSettings(args.envs, args.seconds, args.unsafe, args.jobs)
    return CollectSettings(args.pairs, args.rounds, args.seed, sampling, args.concurrency, how)


def upgrade_of(args: argparse.Namespace) -> Upgrade:
    name, _, version = args.new[0].partition("==")
    library = normalise_dependency(name.partition("[")[0])
    address = without_logins(args.address)  # it becomes part of published records
    return Upgrade(library, tuple(args.old), tuple(args.new), f"{library} {version} release notes", address)


def open_log(args: argparse.Namespace, settings: CollectSettings, upgrade: Upgrade, text: str) -> Log:
    """Start or resume the collection in --out."""
    identity = {
        "notes_sha256": hashlib.sha256(text.encode()).hexdigest(),
        **{"library": upgrade.library, "old": args.old, "new": args.new},
        **{"source": upgrade.source, "address": upgrade.address},
        **{"model": args.model, "sampling": {**settings.sampling.recorded(), "seed": args.seed}},
        "prompts_sha256": prompts_sha256(),
    }
    flags = {key: str(value) for key, value in vars(args).items() if value is not None}
    start = {"command": command_line(["python", *sys.argv]), **git_state(), "config": recorded(flags)}
    register_start(args.out, identity, start)
    log = Log(args.out, writes="rounds.jsonl")
    write_jsonl(args.out / "proposed.jsonl", [row["proposed"] for row in log.accepted_pairs()])
    return log


def collect_all(collector: Collector, kept: list[Paragraph]) -> None:
    """Collect from all paragraphs. After an error, pending answers are still logged."""
    from tqdm import tqdm

    bar = tqdm(total=len(kept), desc="paragraphs")

    def work(paragraph: Paragraph) -> None:
        try:
            collector.collect(paragraph)
        except BaseException:
            collector.stop.set()
            raise
        bar.set_postfix_str(f"{len(collector.log.accepted_pairs())} accepted", refresh=False)
        bar.update()

    with bar, ThreadPoolExecutor(collector.settings.concurrency) as pool:
        try:
            list(pool.map(work, kept))
        except KeyboardInterrupt:
            print(f"collect: interrupted; {RESUME}", file=sys.stderr)
            os._exit(130)  # without waiting for pending answers: the log is complete after every line


@program(InfrastructureError)
def main() -> int:
    args = parse_arguments()
    text = read_notes(args.notes)
    if args.out:
        require_writable(args.out / "rounds.jsonl")
    found = sieve(text)
    show_candidates(found, whole=args.dry_run)
    if args.dry_run:
        return 0
    kept = [one for one, why in found if why is None]
    if not kept:
        raise InputError(f"{args.notes}: no paragraph looks like an API change")
    settings, upgrade = settings_of(args), upgrade_of(args)
    log = open_log(args, settings, upgrade, text)
    rows = [{"id": p.id, "line": p.line, "section": p.section, "text": p.text, "left_out": why} for p, why in found]
    write_jsonl(args.out / "candidates.jsonl", rows)
    for pins in (upgrade.old_env, upgrade.new_env):
        check_ready(python=environment(pins, args.envs), unsafe=args.unsafe)
    try:
        collect_all(Collector(settings, upgrade, log, endpoint.connect(args)), kept[: args.limit])
    except (ReCodeError, InfrastructureError) as error:
        raise ReCodeError(f"{error}; {RESUME}") from None
    finally:
        summary = {"paragraphs": len(found), "kept": len(kept), **rates(log)}
        write_json(args.out / "summary.json", summary)
        show_rates(summary)
        for file in ("rounds.jsonl", "summary.json"):
            print(args.out / file)
        print(f"{args.out / 'proposed.jsonl'}: {len(log.to_review())} records to review")
    return 0


if __name__ == "__main__":
    sys.exit(main())
