"""What counts as an answer of a model: a text that the model ended itself, or that the token limit cut.

Everything else (an error under status 200, an aborted request, a content filter, a finish reason that is not known) is
a failure of the provider. It says nothing about the model, so it never becomes a sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from common.errors import ReCodeError

# The finish reasons of whole answers, in the words of different servers, and what is recorded for each.
FINISHED = {
    "stop": "stop",  # OpenAI, vLLM, SGLang, llama.cpp and most others
    "length": "length",
    "eos": "stop",  # Together AI
    "eos_token": "stop",  # text-generation-inference
    "stop_sequence": "stop",  # the same, and Anthropic
    "end_turn": "stop",  # Anthropic's words, which gateways pass on
    "max_tokens": "length",
    "model_length": "length",  # Mistral: the model's context is full
}
FILTERED = "content_filter"  # the provider withheld or cut the answer: its decision, not the model's


@dataclass(frozen=True)
class Completion:
    """One answer. Tokens are None where the server does not count; the finish reason is stop or length
    (src/curation/collecting/conversation.py records a prompt that a server refused as one of its own)."""

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: str


class NoAnswer(ReCodeError):
    """A back end did not complete a prompt; the message is one line. `is_filtered`: a content filter withheld it."""

    def __init__(self, message: str, *, is_filtered: bool = False) -> None:
        super().__init__(message)
        self.is_filtered = is_filtered


def finished(reason: object) -> str | None:
    """stop or length; None for a finish reason that does not end a whole answer."""
    return FINISHED.get(reason) if isinstance(reason, str) else None


def error_of(found: Any) -> Any:
    """The error that a server's JSON, or a choice in it, holds: its message, if it has one."""
    choices = found.get("choices") if isinstance(found, dict) else None
    for place in (found, *(choices if isinstance(choices, list) else ())):
        error = place.get("error") if isinstance(place, dict) else None
        if error:
            return error.get("message") or error if isinstance(error, dict) else error
    return None


def read_completion(found: Any) -> Completion:
    """The answer in the JSON of a chat completion. Raises NoAnswer if it holds none."""
    try:
        choice = found["choices"][0]
        message, reason, usage = choice["message"], choice.get("finish_reason"), found.get("usage")
        text = message.get("content")
        # A server that parses reasoning returns the thoughts apart from the answer.
        thoughts = message.get("reasoning_content") or message.get("reasoning")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise NoAnswer("not a chat completion") from None
    if not finished(reason) or error_of(found):
        what = "no finish_reason" if reason is None else f"finish_reason {reason}"
        raise NoAnswer(what, is_filtered=reason == FILTERED)
    if not isinstance(thoughts, str):
        thoughts = None
    if not isinstance(text, str) and (text is not None or thoughts is None):
        raise NoAnswer("an answer without text")
    if thoughts:  # an answer that was cut in its thoughts has no text
        text = f"{thoughts}</think>{text}" if text else thoughts
    counts = [usage.get(f"{kind}_tokens") if isinstance(usage, dict) else None for kind in ("prompt", "completion")]
    return Completion(text, *(count if type(count) is int else None for count in counts), FINISHED[reason])
