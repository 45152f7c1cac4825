"""The training prompt, and the records that fit it. The benchmarks' prompts are in src/evaluation/prompts.py.

A prompt has three messages: system, user, and an assistant turn that is left open (the prefill), so that the completion
starts inside <think> (paper App. C.1; the wording is ours, and the key `prompt` chooses between two). How messages
become tokens: src/common/chat.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from common.chat import Chat, Message, chat_of, load_tokenizer
from common.errors import InputError
from common.trained_prompt import trained_prompt
from rewards import MATCH, extract, score

if TYPE_CHECKING:
    from records import Record

TAGS = ("</think>", "<answer>", "</answer>")  # of a completion; the prompt ends with <think>
PREFILL = "Let me solve this step by step.\n<think>"

MIGRATION_SYSTEM = (
    "You are a helpful coding assistant. You rewrite old code for the version of a library that you are told, "
    "following the update information. First think about the change, then give the solution."
)
OUTPUT_RULE = (
    "Think inside <think> </think> tags. Then give the final code inside <answer> </answer> tags, in a code block:\n"
    "<answer>\n```python\n# the code\n```\n</answer>"
)


class Wording(NamedTuple):
    """The sentences of the user message that depend on the key `prompt`."""

    change: str
    task: str
    task_without_update: str


# The version of a record is the one that its code ran on, which may be later than the release of the change.
WORDINGS = {
    "paper": Wording(
        "The API of {library} has changed in version {version}.",
        "Rewrite the old code for {library} {version}.",
        "Rewrite the old code for {library} {version}.",
    ),
    "precise": Wording(
        "By version {version}, the API of {library} has changed.",
        "Rewrite the old code for {library} {version}. The new code must use what the update says to use, and must do "
        "what the old code did unless the update says otherwise.",
        "Rewrite the old code for {library} {version}. The new code must do what the old code did.",
    ),
}
DEFAULT_WORDING = "paper"


def fenced(code: str) -> str:
    """Code in a python block, under a fence longer than any line of backticks in it, so that no line closes it."""
    lines = [line.strip() for line in code.replace("\r", "\n").split("\n")]
    longest = max((len(line) for line in lines if set(line) == {"`"}), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}python\n{code}\n{marks}"


def with_prefill(system: str, user: str) -> list[Message]:
    """The messages of a prompt whose completion starts inside <think>."""
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": user},
        {"role": "assistant", "content": PREFILL},
    ]


def migration_messages(record: Record, prompt: str = DEFAULT_WORDING, *, docs: bool = True) -> list[Message]:
    """The training prompt (paper App. C.1). It shows neither the record's description nor its new code.

    `prompt`: one of WORDINGS. `docs=False` withholds the update, to measure what the model knows without it.
    """
    wording, names = WORDINGS[prompt], {"library": record.dependency, "version": record.new_version}
    task = wording.task if docs else wording.task_without_update
    update = f" This is the update:\n<doc>\n{record.update_info.strip()}\n</doc>\n" if docs else "\n"
    user = (
        f"{wording.change.format(**names)}{update}"
        f"The old code:\n{fenced(record.old_code.strip())}\n"
        f"{task.format(**names)} {OUTPUT_RULE}"
    )
    return with_prefill(MIGRATION_SYSTEM, user)


def wording_of(weights: str | Path) -> str:
    """The wording that the weights in a folder were trained with; "paper" if no run is known, as for a base model.

    Raises InputError if the run's is not one of WORDINGS.
    """
    found = trained_prompt(Path(weights)) or DEFAULT_WORDING
    if found not in WORDINGS:
        raise InputError(f"{weights}: trained with prompt {found}: choose from {', '.join(WORDINGS)} with --prompt")
    return found


def reference_completion(code: str, thought: str = "I apply the update to the old code.") -> str:
    """The SFT target: the shortest completion with this code that scores the maximum.

    Tags inside the code can end the answer early; src/records.py rejects such rows. The paper does not say what SFT
    puts between the think tags; the fixed sentence is ours.
    """
    return f" {thought} </think>\n<answer>\n{fenced(code.strip(chr(10)))}\n</answer>"


# --- tokenizers ------------------------------------------------------------------------------------------------------

SAMPLE = "import numpy as np\n\nif True:\n    print(f'{np.trapezoid([1 , 2]):.1f} , done !')  # é"


def load_chat(model: str, **settings: Any) -> Chat:
    """The model's tokenizer and chat format, checked; its eos is the end of turn, and it has a pad token.

    Raises InputError if the tokenizer cannot be loaded, or if it or its chat template cannot be used here.
    """
    # Cleaning up removes blanks before punctuation, which changes code.
    tokenizer = load_tokenizer(model, clean_up_tokenization_spaces=False, **settings)
    try:
        chat = chat_of(tokenizer)
        check_round_trip(chat)
    except InputError as error:
        raise InputError(f"model {model}: {error}") from None
    tokenizer.pad_token = tokenizer.pad_token or chat.end_of_turn
    tokenizer.eos_token = chat.end_of_turn
    return chat


def decoded(chat: Chat, completion: str) -> str:
    """A completion after it was encoded, with the end of its turn, and decoded as the trainers do it."""
    return chat.decode(chat.encode_turn(completion))


def check_round_trip(chat: Chat) -> None:
    """Raise InputError if the tokenizer changes the end of a prompt, or an answer so that it loses its reward."""
    prompt = chat.render(with_prefill(MIGRATION_SYSTEM, f"The old code:\n{fenced(SAMPLE)}\n{OUTPUT_RULE}"))
    ends = str(chat.tokenizer.decode(chat.encode(prompt), skip_special_tokens=False))
    if not ends.endswith(PREFILL):
        raise InputError(f"the tokenizer changes the end of the prompt from {PREFILL!r} to {ends[-len(PREFILL) :]!r}")
    answer = decoded(chat, reference_completion(SAMPLE))
    found = score(answer, SAMPLE)
    if (found.format, found.em_star) != (1.0, MATCH):
        lost = " and ".join(tag for tag in TAGS if tag not in answer)
        why = f"decoding removes {lost}, as a special token of this tokenizer" if lost else found.reason
        scores = f"format {found.format:+g}, EM* {found.em_star:+g}"
        raise InputError(f"the reference answer, encoded and decoded, scores {scores}: {why}")


# --- length ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fitted:
    """The records that are short enough to train on, each with its prompt as text."""

    records: list[Record]
    prompts: list[str]
    longest_target: int  # tokens
    report: str  # how many were kept and dropped, and how long they are: lines to print


def percentiles(lengths: Sequence[int]) -> str:
    """ "min 12, 50% 205, …" of a non-empty list, nearest rank."""
    ordered = sorted(lengths)
    ranks = {"min": 0, "50%": 50, "90%": 90, "99%": 99, "max": 100}
    return ", ".join(f"{name} {ordered[min(len(ordered) - 1, p * len(ordered) // 100)]}" for name, p in ranks.items())


def fit_records(
    records: Sequence[Record],
    chat: Chat,
    name: str,
    max_prompt_length: int,
    max_target_length: int | None,
    wording: str = DEFAULT_WORDING,
) -> Fitted:
    """Render each prompt, and drop the records whose prompt or target has too many tokens and those whose reference
    answer the tokenizer changes (one without byte fallback cannot write every character). The report names `name`.
    """
    kept: list[tuple[Record, str, int, int]] = []
    long_prompts = long_targets = changed = 0
    for record in records:
        prompt, answer = chat.render(migration_messages(record, wording)), reference_completion(record.new_code)
        prompt_length, target_length = len(chat.encode(prompt)), len(chat.encode(record.new_code))
        if prompt_length > max_prompt_length:
            long_prompts += 1
        elif max_target_length is not None and target_length > max_target_length:
            long_targets += 1
        elif extract(decoded(chat, answer)) != extract(answer):
            changed += 1
        else:
            kept.append((record, prompt, prompt_length, target_length))
    counts = (
        f"{name}: {len(kept)} of {len(records)} records; dropped {long_prompts} with a prompt over {max_prompt_length} "
        "tokens"
        + (f" and {long_targets} with a target over {max_target_length}" if max_target_length is not None else "")
        + (f", and {changed} whose target the tokenizer changes" if changed else "")
    )
    if not kept:
        raise InputError(f"{counts}: no record is left")
    fitting, prompts, prompt_lengths, target_lengths = map(list, zip(*kept, strict=True))
    lengths = f"  prompt tokens: {percentiles(prompt_lengths)}\n  target tokens: {percentiles(target_lengths)}"
    return Fitted(fitting, prompts, max(target_lengths), f"{counts}\n{lengths}")
