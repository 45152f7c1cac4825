"""Make migration records for a library out of its release notes: a model proposes, execution disposes.

    python src/collect.py --notes numpy-2.0.txt --dry-run       # what would be asked about
    python src/collect.py --notes numpy-2.0.txt --old numpy==1.26.4 --new numpy==2.0.0 --out runs/numpy-2.0 \\
        --url http://localhost:8000/v1 --model Qwen/Qwen2.5-Coder-32B-Instruct        # the key: $OPENAI_API_KEY
    python src/review.py runs/numpy-2.0 --data my-records

1. The notes are split into paragraphs; those that look like a change of an API are kept (candidates.jsonl).
2. The model states the update of each (the paper's first role): name, kind, update_info; or that there is none.
3. It writes old code, new code, description and a check (the second role), --pairs times for an update.
4. Each pair is validated, then proven by running it in the sandbox, as src/validate.py and src/verify.py do: old code
   on the old version, old code on the new version, new code on the new version, the check with each and alone.
5. What fails goes back to the model with what was wrong, in up to --rounds rounds. What a reviewer rejected in
   src/review.py goes back with the reviewer's words when this command runs again.

In --out: candidates.jsonl, rounds.jsonl (every answer and its verdict), proposed.jsonl (what the machine accepted),
summary.json (acceptance by stage). The same command goes on after an interruption. Programs run without a network;
making the two environments needs pip.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from common import endpoint
from common.cli import fail, parse_flags, printable, program
from common.endpoint import EndpointError
from common.errors import InputError
from common.files import write_json, write_jsonl
from common.provenance import git_state
from common.redaction import command_line, recorded, without_logins
from curation.collecting.conversation import Collector, sampling
from curation.collecting.log import Log, claim, rates
from curation.collecting.proposals import Upgrade
from curation.collecting.questions import fingerprint
from curation.collecting.release_notes import Paragraph, sieve
from curation.virtualenvs import PIN, EnvironmentFailed, environment
from records import normalise_dependency
from sandbox import InfrastructureError, check_ready

ROLES = ("update", "pair")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--notes", help="release notes: a text, Markdown or reStructuredText file; - for stdin")
    add("--old", nargs="+", metavar="PIN", help="exact pins of the old environment, the library first")
    add("--new", nargs="+", metavar="PIN", help="exact pins of the new environment, the library first")
    add("--out", type=Path, help="folder of this collection")
    add("--library", help="the library's name in the records (default: from the first pin)")
    add("--source", help="what the notes are, for the evidence (default: LIBRARY VERSION release notes)")
    add("--address", default="", help="where the notes stand on the web, for the evidence")
    add("--dry-run", action="store_true", help="only split the notes and show what is kept; no model")
    add("--limit", type=int, help="only the first paragraphs that are kept")
    add("--pairs", type=int, default=3, help="pairs asked for per update (default: %(default)s)")
    add("--rounds", type=int, default=3, help="answers to a question at most (default: %(default)s)")
    add("--model", help="the model's name at the server")
    endpoint.add_flags(parser)
    add("--temperature", type=float, default=0.7, help="default: %(default)s")
    add("--top-p", type=float, default=0.95, help="default: %(default)s")
    add("--max-new-tokens", type=int, default=2048, help="of an answer (default: %(default)s)")
    add("--seed", type=int, default=42, help="default: %(default)s")
    add("--concurrency", type=int, default=8, help="paragraphs at a time (default: %(default)s)")
    add("--envs", type=Path, default=Path(".venvs"), help="where environments are kept (default: %(default)s)")
    add("--jobs", type=int, default=os.cpu_count(), help="pairs proven at a time (default: %(default)s)")
    add("--seconds", type=float, default=60, help="time limit of one run of a program (default: %(default)s)")
    add("--unsafe", action="store_true", help="no sandbox: programs can read and delete your files")
    args = parse_flags(parser, argv)
    needed = ["notes"] if args.dry_run else ["notes", "old", "new", "out", "url", "model"]
    if lacks := [f"--{name}" for name in needed if not getattr(args, name)]:
        fail(f"{', '.join(lacks)}: needed")
    if args.dry_run:
        return args
    endpoint.check_flags(args)
    for flag in ("old", "new"):
        for pin in getattr(args, flag):
            if not PIN.fullmatch(pin):
                fail(f"--{flag} {pin}: expected an exact pin, as numpy==2.0.0")
    names = {getattr(args, flag)[0].partition("==")[0].lower() for flag in ("old", "new")}
    if len(names) > 1:
        fail(f"--old and --new start with different libraries: {', '.join(sorted(names))}")
    if sorted(args.old) == sorted(args.new):
        fail("--old and --new are the same environment")
    positive = ("rounds", "pairs", "max_new_tokens", "concurrency", "jobs", "seconds")
    for name in (*positive, *(["limit"] if args.limit is not None else [])):
        if not getattr(args, name) > 0:
            fail(f"--{name.replace('_', '-')} {getattr(args, name)}: starts above 0")
    if not (args.temperature >= 0 and 0 < args.top_p <= 1):
        fail("--temperature starts at 0, --top-p lies in (0, 1]")
    return args


def read_notes(source: str) -> str:
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text("utf-8")
    except UnicodeDecodeError as error:
        fail(f"{source}: not UTF-8: {error.reason} at byte {error.start}")
    except OSError as error:
        fail(f"{source}: {error.strerror}")
    if not text.strip():
        fail(f"{source}: holds no text")
    return text


def show_candidates(found: list[tuple[Paragraph, str | None]], *, whole: bool) -> None:
    """How many paragraphs are kept, and why the others are not; with `whole` also which."""
    if whole:
        for one, why in found:
            first = one.text.splitlines()[0][:80]
            state = "kept" if why is None else "left"
            print(printable(f"{state}  line {one.line}: {first}{f'  ({why})' if why else ''}"))
    reasons = Counter(why for _, why in found if why)
    kept = len(found) - reasons.total()
    left = ", ".join(f"{count} {why}" for why, count in reasons.most_common())
    print(
        f"release notes: {len(found)} paragraphs, {kept} look like a change of an API" + (f"; {left}" if left else "")
    )


def show_rates(found: dict[str, Any]) -> None:
    """The acceptance rates, and what was wrong how often."""
    titles = {"update": "updates stated", "pair": "pairs written"}
    for role in ROLES:
        one = found[role]
        share = f" ({one['accepted'] / one['jobs']:.0%})" if one["jobs"] else ""
        print(
            f"{titles[role]}: {one['accepted']} of {one['jobs']} accepted{share}, {one['accepted_in_first_round']} in "
            f"the first round; {one['no_update']} no update; {one['rejected']} rejected"
        )
        verdicts = ", ".join(f"{count} {name}" for name, count in one["answers_by_verdict"].items())
        print(f"  {one['answers']} answers: {verdicts or 'none'}")
        for problem, count in one["problems"].items():
            print(printable(f"  {count:>5} x {problem}"))


def run(collector: Collector, kept: list[Paragraph]) -> int:
    """All paragraphs, `--concurrency` at a time; the exit status. What was answered before an error is kept."""
    from tqdm import tqdm

    args = collector.args
    with tqdm(total=len(kept) * (1 + args.pairs), desc="updates and pairs", unit="job") as bar:

        def work(paragraph: Paragraph) -> None:
            try:
                bar.update(1 + args.pairs - collector.collect(paragraph, bar.update))
            except BaseException:
                collector.stop.set()  # here, before this thread takes the next paragraph
                raise
            bar.set_postfix_str(f"{len(collector.log.accepted_pairs())} accepted", refresh=False)

        pool = ThreadPoolExecutor(args.concurrency)
        try:
            for future in as_completed([pool.submit(work, paragraph) for paragraph in kept]):
                future.result()
        except BaseException as error:
            collector.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            bar.close()
            if isinstance(error, KeyboardInterrupt):
                print("collect: interrupted; the same command goes on from here", file=sys.stderr)
                os._exit(130)  # not waiting for the answers under way: the log is whole after every line
            if not isinstance(error, (EndpointError, EnvironmentFailed, InfrastructureError, OSError)):
                raise
            print(printable(f"collect: {error}; the same command goes on from here"), file=sys.stderr)
            pool.shutdown()  # the answers under way: the summary counts them
            return 2
        pool.shutdown()
    return 0


@program(InfrastructureError)
def main() -> int:
    args = parse_arguments()
    text = read_notes(args.notes)
    found = sieve(text)
    show_candidates(found, whole=args.dry_run)
    if args.dry_run:
        return 0
    kept = [one for one, why in found if why is None]
    if not kept:
        fail(f"{args.notes}: no paragraph looks like a change of an API")
    name, _, version = args.new[0].partition("==")
    library = normalise_dependency(args.library or name.partition("[")[0])
    source = without_logins(args.source or f"{library} {version} release notes")
    address = without_logins(args.address)  # both become part of published records
    upgrade = Upgrade(library, tuple(args.old), tuple(args.new), source, address)
    identity = {
        "notes_sha256": hashlib.sha256(text.encode()).hexdigest(),
        **{"library": library, "old": args.old, "new": args.new, "source": source, "address": address},
        **{"model": args.model, "sampling": {**sampling(args).recorded(), "seed": args.seed}},
    }
    settings = {key: str(value) for key, value in vars(args).items() if value is not None}
    try:
        identity["prompts_sha256"] = fingerprint(*ROLES, "repair")
        start = {"command": command_line(["python", *sys.argv]), **git_state(), "config": recorded(settings)}
        claim(args.out, identity, start)
        log = Log(args.out, mends="rounds.jsonl")
        write_jsonl(args.out / "proposed.jsonl", [row["proposed"] for row in log.accepted_pairs()])
        rows = [{"id": p.id, "line": p.line, "section": p.section, "text": p.text, "left_out": w} for p, w in found]
        write_jsonl(args.out / "candidates.jsonl", rows)
        for pins in (args.old, args.new):
            check_ready(python=environment(pins, args.envs), unsafe=args.unsafe)
    except (InputError, EnvironmentFailed, InfrastructureError, OSError) as error:
        fail(error)
    status = run(Collector(args, upgrade, log, endpoint.connect(args)), kept[: args.limit])
    summary = {"paragraphs": len(found), "kept": len(kept), **rates(log)}
    write_json(args.out / "summary.json", summary)
    show_rates(summary)
    for file in ("rounds.jsonl", "summary.json"):
        print(args.out / file)
    print(f"{args.out / 'proposed.jsonl'}: {len(log.to_review())} records to review")
    return status


if __name__ == "__main__":
    sys.exit(main())
