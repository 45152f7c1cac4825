"""Migrate one file with a trained model and show the change as a diff: what to try first with an adapter.

    python src/migrate.py --model Qwen/Qwen2.5-Coder-7B-Instruct --adapter runs/grpo \\
        --dependency NumPy --version 2.0.0 --update "np.trapz was renamed to np.trapezoid." old.py
    python src/migrate.py --model runs/merged --update notes.txt old.py --write

--update takes the text itself or a file with it. The exit status is 1, and OLD.py stays unchanged, if the answer has no
code that parses and does something: if it has only comments, pass, imports and empty definitions in place of code that
did more.
"""

from __future__ import annotations

import argparse
import difflib
import io
import re
import sys
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adapters import named_adapter
from common.cli import Parser, above_zero, between, one_line, printable, program
from common.completion import Sampling
from common.errors import InputError
from common.files import replacing, require_writable
from common.libraries import normalise_dependency, normalise_version
from common.rows import read_bytes, read_text
from common.syntax_trees import syntax_error
from prompts import WORDINGS, migration_messages, wording_of
from records import SURROGATE, Record, does_nothing
from rewards import dedent, extract, syntax_tree


def migrate(model_name: str, adapter: Path | None, record: Record, prompt: str, sampling: Sampling, seed: int) -> str:
    """The completion of the model (with its adapter merged) for a record; `prompt` is the wording."""
    import torch

    from adapters import load_merged
    from evaluation.backends import Request, with_transformers
    from prompts import load_chat

    messages = tuple(migration_messages(record, prompt))
    chat = load_chat(model_name)
    model = load_merged(model_name, adapter).to("cuda" if torch.cuda.is_available() else "cpu").eval()
    request = Request(record.id, 0, chat.render(messages), messages)
    [[(_, completion)]] = with_transformers([[request]], chat.tokenizer, model, sampling, seed)
    return completion.text


@dataclass(frozen=True)
class Source:
    """A file of Python code: its text with \\n as line end, and how it is stored."""

    path: Path
    text: str
    encoding: str
    newline: str

    def as_stored(self, text: str) -> str:
        """New text with the line ends of this file, and a final one only if it has one."""
        end = "\n" if self.text.endswith("\n") else ""
        return (text.rstrip("\n") + end).replace("\n", self.newline)

    def write(self, stored: str) -> None:
        """Replace the file; its mode and byte order mark stay, and so does a link to it.

        The encoding is that of a `coding` comment, which the new code may have dropped.
        """
        try:
            stated = encoding_of(stored.encode())
            content = stored.encode(self.encoding if self.encoding == "utf-8-sig" else stated)
        except (SyntaxError, UnicodeEncodeError) as error:
            raise InputError(f"{one_line(self.path)}: not written: {error}") from None
        with replacing(self.path) as part:
            part.write_bytes(content)


def encoding_of(content: bytes) -> str:
    """The encoding in which Python reads a file: of its byte order mark or `coding` comment. Raises SyntaxError."""
    return tokenize.detect_encoding(io.BytesIO(content).readline)[0]


def read_source(path: Path) -> Source:
    """The code to migrate. Raises InputError if it is not Python."""
    content = read_bytes(path)
    try:
        encoding = encoding_of(content)
        text = content.decode(encoding)
        newline = "\r\n" if "\r\n" in text else "\n"
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        problem = "" if syntax_tree(text, longest=None) else syntax_error(text)
    except (SyntaxError, UnicodeDecodeError) as error:  # an unknown encoding; a character that is not in it
        problem = f": {error}"
    if problem:
        raise InputError(f"{one_line(path)}: not Python code{problem}")
    if not text.strip():
        raise InputError(f"{one_line(path)}: nothing to migrate: the file is empty")
    return Source(path, text, encoding, newline)


def new_code(completion: str) -> str | None:
    """The code of an answer, as the reward reads it; None if there is none that parses and has a statement."""
    code = dedent(extract(completion) or "")
    tree = syntax_tree(code)
    return code.rstrip("\n") + "\n" if tree is not None and tree.body else None


def erases(old: str, new: str) -> bool:
    """Whether the new code does nothing (src/records.py) and the old code does something."""
    before, after = syntax_tree(old, longest=None), syntax_tree(new)
    return after is not None and does_nothing(after.body) and (before is None or not does_nothing(before.body))


def unified_diff(old: str, new: str, name: str) -> str:
    """The change in the format of diff -u, which marks a last line without a line end."""

    def lines(text: str) -> list[str]:
        return re.findall(r"[^\n]*\n|[^\n]+$", text)  # splitlines would split at form feeds too

    found = difflib.unified_diff(lines(old), lines(new), name, f"{name} (migrated)")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in found)


def read_note(update: str) -> str:
    """The update note: the content of the file with this name, or the text itself.

    Raises InputError for a file that cannot be read, for a single word that is not the name of a file, and for nothing.
    """
    try:
        is_there = Path(update).exists()
    except OSError:  # too long for a file name
        is_there = False
    note = read_text(Path(update)) if is_there else update
    if not note.strip():
        raise InputError("--update: the note is empty")
    if not is_there and len(note.split()) == 1:
        raise InputError(f"--update {update}: no such file, and one word is not a note")
    return note


def parse_arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("old", type=Path, metavar="OLD.py", help="the code to migrate")
    add("--model", required=True, help="folder or hub name of the model")
    add("--adapter", type=Path, help="folder of a peft adapter for it")
    add("--update", required=True, help="the update note, or a file with it")
    add("--dependency", default="the library", help="the library's name (default: %(default)s)")
    add("--version", default="its latest release", help="its new version (default: %(default)s)")
    number = between(float, 0, 100)
    add("--temperature", type=number, default=0.0, help="0 is greedy (default: %(default)s)")
    add("--max-new-tokens", type=above_zero(int), default=1024, help="of the answer (default: %(default)s)")
    add("--prompt", choices=list(WORDINGS), help="its wording (default: as the model was trained, else paper)")
    add("--seed", type=between(int, 0, 2**63 - 1), default=42, help="of the sampling (default: %(default)s)")
    add("--show-thinking", action="store_true", help="print the whole completion first")
    add("--write", action="store_true", help="write the new code into OLD.py")
    args = parser.parse_args()
    if args.adapter:
        args.adapter = named_adapter(args.adapter)
    for flag, value in vars(args).items():
        if isinstance(value, str) and SURROGATE.search(value):
            parser.error(f"--{flag}: not UTF-8 text")
    return args


@program()
def main() -> int:
    args = parse_arguments()
    source = read_source(args.old)
    library, version = normalise_dependency(args.dependency), normalise_version(args.version)
    record = Record(library, version, "", read_note(args.update), source.text, "")
    prompt = args.prompt or wording_of(args.adapter or args.model)
    if args.write:
        require_writable(args.old)
    print(f"migrate: {one_line(args.old)}: asking {args.model}; this can take minutes", file=sys.stderr, flush=True)
    sampling = Sampling(args.temperature, 1.0, args.max_new_tokens)
    completion = migrate(args.model, args.adapter, record, prompt, sampling, args.seed)
    shown: Callable[[str], str] = printable if sys.stdout.isatty() else str  # unchanged into a pipe
    if args.show_thinking:
        print(shown(f"{completion}\n"))
    new = new_code(completion)
    if new is None or erases(source.text, new):
        print("migrate: the answer has no code that parses and does something (--show-thinking prints it)")
        return 1
    stored = source.as_stored(new)
    if stored == source.as_stored(source.text):
        print("no change")
        return 0
    difference = unified_diff(source.text.replace("\n", source.newline), stored, str(args.old))
    print(shown(difference.replace("\r\n", "\n") if sys.stdout.isatty() else difference), end="")
    if args.write:
        source.write(stored)
        print(f"wrote {args.old}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
