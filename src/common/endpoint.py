"""A client for OpenAI-compatible chat servers: concurrent requests, each retried until its answer is complete.

Retried, with growing pauses or after the server's Retry-After: connection errors, timeouts, 408, 409, 425, 429, 5xx, a
body that is cut short or is not a chat completion, and what src/common/completion.py does not accept as an answer.
Anything else (a wrong key, an account without credit, an unknown model, a prompt that is too long) raises NoAnswer with
the server's message, and so does the last try. The key comes from the environment; if a server echoes it or the URL's
login, *** is recorded.

The prompt's last message is an open assistant turn, which servers handle differently, hence three dialects:

    vllm          vLLM and SGLang, which continue that turn, so that the completion starts inside <think> as in
                  training. The server's sampling defaults (repetition penalty, top-k) are overridden.
    openai        Hosted models, which cannot continue a turn: it is left out, and a <think> that opens the answer is
                  removed, so that the rest reads the same.
    transformers  `transformers serve`: as openai, but it reads only the older max_tokens, and it samples only if the
                  request's generation_config asks for it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from common.cli import above_zero
from common.completion import Completion, NoAnswer, PromptRejected, Sampling, is_lasting, read_completion, words_of
from common.errors import InputError
from common.http_client import PROXIES, check_variables, set_variables
from common.redaction import HIDDEN, hider, is_unmistakable, secrets_of, without_logins

if TYPE_CHECKING:
    import httpx

DIALECTS = ("vllm", "openai", "transformers")
REPEATED = {408, 409, 425, 429}
PROMPT_REJECTED = {400, 413, 422}  # other statuses (a wrong key) concern every prompt
KEY_VARIABLE = "OPENAI_API_KEY"
LONGEST = 300  # characters of a server's message that an error quotes
LONG_PAUSE = 10  # seconds; a server that asks for a longer pause is reported
Key = TypeVar("Key")


def add_flags(parser: argparse.ArgumentParser, prefix: str = "") -> None:
    """The flags that `connect` reads. `prefix` starts the help of each."""
    add = parser.add_argument
    add("--url", help=f"{prefix}the server's base address, as http://localhost:8000/v1")
    add("--dialect", choices=DIALECTS, default="vllm", help=f"{prefix}what kind of server it is (default: %(default)s)")
    add("--key-variable", default=KEY_VARIABLE, help=f"{prefix}environment variable that holds the key")
    seconds, count = above_zero(float, 86400), above_zero(int, 1000)
    longest = "longest time from a request to the end of its answer, in seconds (default: %(default)s)"
    add("--request-seconds", type=seconds, default=600, help=f"{prefix}{longest}")
    add("--tries", type=count, default=8, help=f"{prefix}tries of a request (default: %(default)s)")


def url_problem(url: str) -> str | None:
    """Why no request can be sent to this URL; None if one can."""
    if not url.startswith(("http://", "https://")):
        return "expected http:// or https://"
    try:
        parts = urlsplit(url)
        is_url = bool(parts.hostname) and parts.port != 0 and url.isprintable() and " " not in url
    except ValueError:
        is_url = False
    if not is_url:
        return "not a URL"
    if "@" in parts.path:
        return "a / in a password is written %2F"
    if parts.path.rstrip("/").endswith("/completions"):
        return "expected the base address, which ends before /chat/completions, usually in /v1"
    return "takes no ? and no #" if parts.query or parts.fragment else None


def read_key(variable: str) -> str | None:
    """The key in this environment variable, if any."""
    if variable not in {KEY_VARIABLE, *os.environ}:  # it may be a key: not shown
        raise InputError("--key-variable: expected the name of an environment variable that is set")
    key = os.environ.get(variable, "").strip()
    if not re.fullmatch(r"[!-~]*", key):
        raise InputError(f"${variable}: a key has no blanks, no control characters and only ASCII characters")
    return key or None


def connect(args: argparse.Namespace) -> Endpoint:
    """The client that the flags of `add_flags` and --model describe. Raises InputError if no request could succeed."""
    if problem := url_problem(args.url):
        raise InputError(f"--url {HIDDEN if '@' in args.url else re.split('[?#]', args.url)[0]}: {problem}")
    return Endpoint(args.url, args.model, read_key(args.key_variable), args.dialect, args.request_seconds, args.tries)


@lru_cache(maxsize=1)
def _event_loop() -> asyncio.AbstractEventLoop:
    """The loop of all requests, in a daemon thread: only asyncio can end a request whose answer never ends."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


def _reason(error: Exception) -> str:
    """Why a request failed. httpx's message does not name the reason if no address of a server can be reached."""
    cause: BaseException = error
    while inner := cause.__cause__ or cause.__context__:
        cause = inner
    if isinstance(cause, ExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, OSError) and str(error) == "All connection attempts failed":
        return os.strerror(cause.errno) if cause.errno else str(cause)
    return str(error) or type(error).__name__


class _Again(Exception):
    """A try failed in a way that the next one may not: (reason, the seconds that the server asks to wait or None)."""


@dataclass
class Endpoint:
    """A chat server at a `url` such as http://localhost:8000/v1, asked up to `tries` times per request."""

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    dialect: str = "vllm"
    seconds: float = 600.0  # from the start of a try to the end of its answer
    tries: int = 8
    pause: float = 1.0  # seconds before the second try; doubles each time up to a minute, plus up to 50 %

    def __post_init__(self) -> None:
        import httpx

        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        check_variables()
        self._client = httpx.AsyncClient(timeout=None, headers=headers, limits=httpx.Limits(max_connections=None))
        self._lock, self._announced, self._pause_ends = threading.Lock(), False, 0.0
        secrets = secrets_of(self.key, self.url)
        self._hide, self._hide_in_answer = hider(secrets), hider(filter(is_unmistakable, secrets))

    def body(self, messages: Sequence[dict[str, str]], sampling: Sampling, seed: int) -> dict[str, Any]:
        """The JSON of one request. Stop texts need vLLM's dialect."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(messages),
            "max_completion_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed,
        }
        is_open = messages[-1]["role"] == "assistant"
        if self.dialect != "vllm":
            body["messages"] = list(messages[:-1] if is_open else messages)
        if self.dialect == "transformers":
            body["max_tokens"] = body.pop("max_completion_tokens")
            settings = {"do_sample": sampling.temperature > 0, "top_k": 0}
            return {**body, "generation_config": json.dumps(settings)}
        if self.dialect == "openai":
            return body
        body |= {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
        if sampling.stop:
            body |= {"stop": list(sampling.stop), "include_stop_str_in_output": True}
        return {**body, "add_generation_prompt": not is_open, "continue_final_message": is_open}

    def complete(self, messages: Sequence[dict[str, str]], sampling: Sampling, seed: int) -> Completion:
        """One completion. Raises NoAnswer (see the module's docstring)."""
        body = self.body(messages, sampling, seed)
        for tried in range(1, self.tries + 1):
            try:
                return self._try(body)
            except _Again as error:
                reason, after = error.args
                if tried == self.tries:
                    raise self._failed(reason, f" ({tried} {'try' if tried == 1 else 'tries'})") from None
                self._announce(reason)
                grown = min(60.0, self.pause * 2 ** (tried - 1)) * (1 + random.random() / 2)
                time.sleep(grown if after is None else self._pause_asked_for(after))
        raise AssertionError("not reached")

    def _announce(self, reason: str) -> None:
        """Report the first failure that is tried again: the tries of a dead server take minutes."""
        with self._lock:
            is_first, self._announced = not self._announced, True
        if is_first:
            print(f"{self._failed(reason)}: trying again, up to {self.tries} times a request", file=sys.stderr)

    def _pause_asked_for(self, seconds: float) -> float:
        """The same seconds; reported if they are many, once for all requests that wait at the same time."""
        now = time.monotonic()
        with self._lock:
            is_new = seconds > LONG_PAUSE and now >= self._pause_ends
            self._pause_ends = now + seconds if is_new else self._pause_ends
        if is_new:
            what = f"the server asks for a pause of {seconds:.0f} s (Retry-After): waiting"
            print(f"{without_logins(self.url)}: {what}", file=sys.stderr)
        return seconds

    def _failed(self, why: str, then: str = "", kind: type[NoAnswer] = NoAnswer) -> NoAnswer:
        """The error with the message of the server or httpx, redacted before it is cut: no part of a key may remain."""
        said = " ".join(self._hide(why).split())[:LONGEST]
        return kind(f"{without_logins(self.url)}: {said}{then}")

    async def _post(self, body: dict[str, Any]) -> httpx.Response:
        """The whole answer. Raises TimeoutError if it is not complete in time, however much of it has come."""
        # Not httpx's own JSON, which is UTF-8: a lone surrogate in a message would raise.
        content, kind = json.dumps(body).encode(), {"Content-Type": "application/json"}
        async with asyncio.timeout(self.seconds):
            url = f"{self.url.rstrip('/')}/chat/completions"
            return await self._client.post(url, content=content, headers=kind)

    def _try(self, body: dict[str, Any]) -> Completion:
        import httpx

        try:
            answer = asyncio.run_coroutine_threadsafe(self._post(body), _event_loop()).result()
        except TimeoutError:
            raise _Again(f"no complete answer in {self.seconds:g} s (--request-seconds)", None) from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise self._failed(str(error)) from None
        except (httpx.TransportError, httpx.DecodingError) as error:  # no connection, a body cut short
            through = [f"${name}" for name in set_variables(*PROXIES)]
            how = f" ({', '.join(through)} is set)" if through and isinstance(error, httpx.NetworkError) else ""
            raise _Again(f"{_reason(error)}{how}", None) from None
        try:
            found = answer.json()
        except (ValueError, RecursionError):
            found = None
        said = f": {words_of(found, answer.content)}".removesuffix(": ")
        if answer.status_code in REPEATED or answer.status_code >= 500:
            why, after = f"status {answer.status_code}{said}", answer.headers.get("retry-after", "")
            if is_lasting(found):
                raise self._failed(why)
            raise _Again(why, min(float(after), 600.0) if after.isdecimal() else None)
        if answer.status_code != 200:
            where = f", redirected to {answer.headers['location']}" if answer.has_redirect_location else ""
            if answer.status_code in (401, 403) and not self.key and "@" not in self.url:
                where = " (no key was sent: see --key-variable)"
            elif answer.status_code == 404 and "/v1" not in self.url:
                where = " (the base address usually ends in /v1)"
            error_type = PromptRejected if answer.status_code in PROMPT_REJECTED else NoAnswer
            raise self._failed(f"status {answer.status_code}{where}{said}", kind=error_type)
        try:
            done = read_completion(found)
        except PromptRejected as error:  # it would be filtered again
            raise self._failed(f"{error}{said}", kind=PromptRejected) from None
        except NoAnswer as error:
            if is_lasting(found) or "html" in answer.headers.get("content-type", ""):  # a page, not a server's mistake
                raise self._failed(f"{error}{said}") from None
            raise _Again(f"{error}{said}", None) from None
        text = self._hide_in_answer(done.text)
        return replace(done, text=text if self.dialect == "vllm" else re.sub(r"\A\s*<think>", "", text))


def in_parallel(work: Mapping[Key, Callable[[], Completion]], concurrency: int) -> Iterator[tuple[Key, Completion]]:
    """The keys with their completions as they arrive, `concurrency` at a time. After an error, no new job starts.

    The threads are daemons: Ctrl-C must not wait for a request, or for the pause before its next try.
    """
    waiting, lock, stopped = iter(work.items()), threading.Lock(), threading.Event()
    done: SimpleQueue[tuple[Key, Completion | BaseException]] = SimpleQueue()

    def take() -> None:
        while not stopped.is_set():
            with lock:
                item = next(waiting, None)
            if item is None:
                return
            key, job = item
            try:
                done.put((key, job()))
            except BaseException as error:
                done.put((key, error))

    for _ in range(min(concurrency, len(work))):
        threading.Thread(target=take, daemon=True).start()
    try:
        for _ in work:
            key, found = done.get()
            if isinstance(found, BaseException):
                raise found
            yield key, found
    finally:
        stopped.set()
