"""How completions are drawn, and what counts as one: a text that the model ended itself or that the token limit cut.

Everything else (an error under status 200, an aborted request, a content filter) never becomes a sample.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field, StrictInt, StrictStr, ValidationError, WrapValidator

from common.errors import ReCodeError

# The finish reasons of complete answers in the words of different servers -> what is recorded.
FINISHED = {
    "stop": "stop",  # OpenAI, vLLM, SGLang, llama.cpp and most others
    "length": "length",
    "eos": "stop",  # Together AI
    "eos_token": "stop",  # text-generation-inference
    "stop_sequence": "stop",  # the same, and Anthropic
    "end_turn": "stop",  # Anthropic; passed on by gateways
    "max_tokens": "length",
    "model_length": "length",  # Mistral: the model's context is full
}


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn. Temperature 0 is greedy; each text of `stop` ends an answer."""

    temperature: float
    top_p: float
    max_new_tokens: int
    stop: tuple[str, ...] = ()

    def recorded(self) -> dict[str, Any]:
        """What identifies it in a run's files: without `stop` if it is empty."""
        return {key: value for key, value in asdict(self).items() if value != ()}


@dataclass(frozen=True)
class Completion:
    """One answer. Tokens are None if the server does not count them; the finish reason is stop or length."""

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: str


def _none_if_invalid(value: Any, validate: Any) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return None


Lenient = WrapValidator(_none_if_invalid)  # servers differ in what is not needed: it is ignored


class _Message(BaseModel):
    content: StrictStr | None = None
    # A server that parses reasoning returns the thoughts apart from the answer.
    reasoning_content: Annotated[StrictStr | None, Lenient] = None
    reasoning: Annotated[StrictStr | None, Lenient] = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: Any = None


class _Usage(BaseModel):
    prompt_tokens: Annotated[StrictInt | None, Lenient] = None
    completion_tokens: Annotated[StrictInt | None, Lenient] = None


class _Answer(BaseModel):
    """The JSON of a chat completion, as far as it is read."""

    choices: list[_Choice] = Field(min_length=1)
    usage: Annotated[_Usage | None, Lenient] = None


class NoAnswer(ReCodeError):
    """A back end did not complete a prompt."""


class PromptRejected(NoAnswer):
    """It will not complete this prompt, though it may complete others."""


def error_of(found: Any) -> Any:
    """The error in a server's JSON or in one of its choices; only its message, if it has one."""
    choices = found.get("choices") if isinstance(found, dict) else None
    for place in (found, *(choices if isinstance(choices, list) else ())):
        error = place.get("error") if isinstance(place, dict) else None
        if error:
            return error.get("message") or error if isinstance(error, dict) else error
    return None


def read_completion(found: object) -> Completion:
    """The answer in the JSON of a chat completion."""
    try:
        answer = _Answer.model_validate(found)
    except ValidationError:
        raise NoAnswer("not a chat completion") from None
    message, reason = answer.choices[0].message, answer.choices[0].finish_reason
    recorded = FINISHED.get(str(reason))
    if recorded is None or error_of(found):
        what = "no finish_reason" if reason is None else f"finish_reason {reason}"
        raise PromptRejected(what) if reason == "content_filter" else NoAnswer(what)
    text, thoughts = message.content, message.reasoning_content or message.reasoning
    if thoughts:  # an answer that was cut in its thoughts has no text
        text = f"{thoughts}</think>{text}" if text else thoughts
    if text is None:
        raise NoAnswer("an answer without text")
    usage = answer.usage or _Usage()
    return Completion(text, usage.prompt_tokens, usage.completion_tokens, recorded)
