"""Migrate one file with a trained model and show the change as a diff: what to try first with an adapter.

    python src/migrate.py --model Qwen/Qwen2.5-Coder-7B-Instruct --adapter runs/grpo \\
        --dependency NumPy --version 2.0.0 --update "np.trapz was renamed to np.trapezoid." old.py
    python src/migrate.py --model runs/merged --update notes.txt old.py --write

--update takes the text itself or a file with it. The exit status is 1, and OLD.py stays unchanged, if the answer has no
code that parses and does something: if it has only comments, pass, imports and empty definitions in place of code that
did more.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.cli import Parser, printable, program
from common.files import write_text
from common.libraries import normalise_dependency, normalise_version
from prompts import migration_messages
from records import Record, does_nothing
from rewards import dedent, extract, syntax_tree


def migrate(
    model_name: str, adapter: Path | None, record: Record, temperature: float, max_new_tokens: int, seed: int
) -> str:
    """The completion of the model (with its adapter merged) for a record; temperature 0 is greedy."""
    import torch

    from adapters import load_merged
    from prompts import load_tokenizer, render

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer: Any = load_tokenizer(model_name)
    model = load_merged(model_name, adapter).to(device).eval()
    inputs = tokenizer(render(tokenizer, migration_messages(record)), return_tensors="pt").to(device)
    sampling: dict[str, Any] = {"do_sample": bool(temperature), "repetition_penalty": 1.0}  # as in the rollouts
    if temperature:
        sampling |= {"temperature": temperature, "top_k": 0, "top_p": 1.0}
    torch.manual_seed(seed)
    out = model.generate(**inputs, max_new_tokens=max_new_tokens, pad_token_id=tokenizer.eos_token_id, **sampling)
    return tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def new_code(completion: str) -> str | None:
    """The code of an answer, as the reward reads it; None if there is none that parses and has a statement."""
    code = dedent(extract(completion) or "")
    tree = syntax_tree(code)
    return code.rstrip("\n") + "\n" if tree is not None and tree.body else None


def erases(old: str, new: str) -> bool:
    """Whether the new code does nothing (src/records.py) and the old code does something."""
    before, after = syntax_tree(old), syntax_tree(new)
    return after is not None and does_nothing(after.body) and (before is None or not does_nothing(before.body))


def read_note(update: str) -> str:
    """The update note: the content of the file with this name, or the text itself."""
    try:
        return Path(update).read_text("utf-8")
    except (OSError, ValueError):  # no such file, or too long for a file name
        return update


@program()
def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("old", type=Path, metavar="OLD.py", help="the code to migrate")
    parser.add_argument("--model", required=True, help="folder or hub name of the model")
    parser.add_argument("--adapter", type=Path, help="folder of a peft adapter for it")
    parser.add_argument("--update", required=True, help="the update note, or a file with it")
    parser.add_argument("--dependency", default="the library", help="the library's name (default: %(default)s)")
    parser.add_argument("--version", default="its latest release", help="its new version (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default: %(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=1024, help="of the answer (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=42, help="of the sampling (default: %(default)s)")
    parser.add_argument("--show-thinking", action="store_true", help="print the whole completion first")
    parser.add_argument("--write", action="store_true", help="write the new code into OLD.py")
    args = parser.parse_args()
    for path in filter(None, (args.old, args.adapter)):
        if not path.exists():
            parser.error(f"{path}: not found")

    old = args.old.read_text("utf-8")
    library, version = normalise_dependency(args.dependency), normalise_version(args.version)
    record = Record(library, version, "", read_note(args.update), old, "")
    completion = migrate(args.model, args.adapter, record, args.temperature, args.max_new_tokens, args.seed)
    shown: Callable[[str], str] = printable if sys.stdout.isatty() else str  # unchanged into a pipe
    if args.show_thinking:
        print(shown(f"{completion}\n"))
    new = new_code(completion)
    if new is None or erases(old, new):
        print("migrate: the answer has no code that parses and does something (--show-thinking prints it)")
        return 1
    diff = difflib.unified_diff(old.splitlines(True), new.splitlines(True), str(args.old), f"{args.old} (migrated)")
    print(shown("".join(diff) or "no change"))
    if args.write:
        write_text(args.old, new)
        print(f"wrote {args.old}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
