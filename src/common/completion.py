"""How completions are drawn, and what counts as one: a text that the model ended itself or that the token limit cut.

Everything else (an error under status 200, an aborted request, a content filter) never becomes a sample.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, StrictInt, StrictStr, ValidationError, WrapValidator

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
# Types and codes of errors that the same request would meet again, whatever the status: of key, account or model.
LASTING = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance"}
LASTING |= {"invalid_api_key", "model_not_found", "401", "402", "403", "404"}


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


def _joined(content: Any) -> Any:
    """Content that comes as a list of text parts, as one text; any other content unchanged."""
    if not isinstance(content, list):
        return content
    parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    return "".join(texts) if texts and len(texts) == len(content) else content


Lenient = WrapValidator(_none_if_invalid)  # servers differ in what is not needed: it is ignored


class _Message(BaseModel):
    content: Annotated[StrictStr | None, BeforeValidator(_joined)] = None
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


def _error(found: Any) -> Any:
    """The error in a server's JSON or in one of its choices."""
    choices = found.get("choices") if isinstance(found, dict) else None
    places = [place for place in (found, *(choices if isinstance(choices, list) else ())) if isinstance(place, dict)]
    return next((place["error"] for place in places if place.get("error")), None)


def is_lasting(found: Any) -> bool:
    """Whether a server's JSON reports an error that the same request would meet again."""
    error = _error(found)
    return isinstance(error, dict) and bool({str(error.get("type")), str(error.get("code"))} & LASTING)


def words_of(found: Any, content: bytes) -> str:
    """A server's own words in its answer: the message of its error, the title or text of a page, or all it sent.

    `found`: the answer as JSON, None if it is not JSON.
    """
    error = _error(found)
    if error is None and isinstance(found, dict) and "choices" not in found:  # vLLM and FastAPI
        error = found.get("message") or found.get("detail")
    if isinstance(error, dict):
        error = error.get("message") or error
    if error:
        return error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
    text = content.decode("utf-8", "replace")  # a server may name a charset that cannot decode text
    if re.match(r"\s*<[!a-z]", text, re.IGNORECASE):
        title = re.search(r"<title[^>]*>([^<]+)</title>", text, re.IGNORECASE)
        inside = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", text, flags=re.IGNORECASE | re.DOTALL)
        text = html.unescape(title[1] if title else inside)
    return text.strip()


def _repeats(text: str | None, thoughts: str) -> bool:
    """Whether a server that returns the thoughts apart also left them in the answer."""
    inline = re.sub(r"\A\s*(<think>)?\s*", "", text or "").startswith(thoughts.strip())
    return inline and "</think>" in (text or "")


def read_completion(found: object) -> Completion:
    """The answer in the JSON of a chat completion."""
    try:
        answer = _Answer.model_validate(found)
    except ValidationError:
        raise NoAnswer("not a chat completion") from None
    message, reason = answer.choices[0].message, answer.choices[0].finish_reason
    recorded = FINISHED.get(str(reason))
    if recorded is None or _error(found):
        what = "no finish_reason" if reason is None else f"finish_reason {reason}"
        raise PromptRejected(what) if reason == "content_filter" else NoAnswer(what)
    text, thoughts = message.content, message.reasoning_content or message.reasoning
    if thoughts and not _repeats(text, thoughts):  # an answer that was cut in its thoughts has no text
        text = f"{thoughts}</think>{text}" if text else thoughts
    if text is None:
        raise NoAnswer("an answer without text")
    usage = answer.usage or _Usage()
    return Completion(text, usage.prompt_tokens, usage.completion_tokens, recorded)
