"""A client for OpenAI-compatible chat servers: many requests at a time, each repeated until it has a whole answer.

Repeated, with growing pauses or after the server's Retry-After: connection errors, timeouts, 408, 409, 425, 429, 5xx,
a body that is cut short or is not a chat completion, and what src/common/completion.py does not take for an answer.
Anything else (a wrong key, an unknown model, a prompt that is too long) raises EndpointError in one line, with its
status. So does what still fails at the last try, with the server's own words: it is never a sample, and the same
command draws it again. The key comes from the environment, never from a flag; where a server echoes it, or the
login of the URL, *** is printed and recorded.

Three dialects, since the prompt's last message is an assistant turn that is already begun, and servers differ:

    vllm     the server goes on with that turn (`continue_final_message`), so the completion starts inside <think> as in
             training. The server's own sampling defaults (repetition penalty, top-k) are overridden. vLLM and SGLang.
    openai   for hosted models, which cannot do that: the begun turn is left out, and a <think> that the answer opens
             itself is taken off, so the rest reads the same.
    transformers   for `transformers serve`: as openai, but that server reads only the older max_tokens, and samples
             only where the request's generation_config says so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from common.cli import fail
from common.completion import Completion, NoAnswer, error_of, read_completion
from common.redaction import HIDDEN, hider, is_unmistakable, secrets_of, without_logins

DIALECTS = ("vllm", "openai", "transformers")
REPEATED = {408, 409, 425, 429}
KEY_VARIABLE = "OPENAI_API_KEY"
LONGEST = 300  # characters of a server's words in a message
Key = TypeVar("Key")


def add_flags(parser: argparse.ArgumentParser, prefix: str = "") -> None:
    """--url, --dialect, --key-variable, --request-seconds and --tries. `prefix`: what each flag's help begins with."""
    add = parser.add_argument
    add("--url", help=f"{prefix}the server's base address, as http://localhost:8000/v1")
    add("--dialect", choices=DIALECTS, default="vllm", help=f"{prefix}what kind of server it is (default: %(default)s)")
    add("--key-variable", default=KEY_VARIABLE, help=f"{prefix}environment variable that holds the key")
    add("--request-seconds", type=float, default=600, help=f"{prefix}time limit of a request (default: %(default)s)")
    add("--tries", type=int, default=8, help=f"{prefix}tries of a request (default: %(default)s)")


def url_problem(url: str) -> str | None:
    """Why no request can be sent there, if so."""
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
    return "takes no ? and no #" if parts.query or parts.fragment else None


def clean_key(key: str) -> str | None:
    """The key without white space around it, None if nothing is left. Raises ValueError if no header can hold it."""
    key = key.strip()
    if not re.fullmatch(r"[!-~]*", key):
        raise ValueError("a key has no blanks, no control characters and only ASCII characters")
    return key or None


def read_key(variable: str) -> str | None:
    """The key in this environment variable, if any. Stops in one line, without its value, if it is not a key."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable) or variable not in {KEY_VARIABLE, *os.environ}:
        fail("--key-variable: expected the name of an environment variable that is set")  # it may be a key: not shown
    try:
        return clean_key(os.environ.get(variable, ""))
    except ValueError as error:
        fail(f"${variable}: {error}")


def check_flags(args: argparse.Namespace) -> None:
    """Stop in one line where no request could succeed."""
    if problem := url_problem(args.url):
        fail(f"--url {HIDDEN if '@' in args.url else re.split('[?#]', args.url)[0]}: {problem}")
    for flag in ("request_seconds", "tries"):
        if not getattr(args, flag) > 0:
            fail(f"--{flag.replace('_', '-')} {getattr(args, flag)}: starts above 0")
    read_key(args.key_variable)


def connect(args: argparse.Namespace) -> Endpoint:
    """The endpoint that `add_flags` and a flag --model describe."""
    key = read_key(args.key_variable)
    return Endpoint(args.url, args.model, key, args.dialect, args.request_seconds, args.tries)


class EndpointError(NoAnswer):
    """The server refused a request for a reason that repeating does not change, or kept failing.

    `status`: the HTTP status of a refusal, else None.
    """

    def __init__(self, message: str, status: int | None = None, *, is_filtered: bool = False) -> None:
        super().__init__(message, is_filtered=is_filtered)
        self.status = status


class _Again(Exception):
    """This try failed, the next one may not."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


@dataclass
class Endpoint:
    """`url` as in `http://localhost:8000/v1`. `seconds`: the longest silence of a try. `tries` counts the first one."""

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    dialect: str = "vllm"
    seconds: float = 600.0
    tries: int = 8
    pause: float = 1.0  # before the second try, in seconds; doubled each time, at most a minute, plus up to a half

    def __post_init__(self) -> None:
        import httpx

        self.key = clean_key(self.key or "")
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        limits = httpx.Limits(max_connections=None)
        self._client = httpx.Client(timeout=self.seconds, headers=headers, limits=limits)
        secrets = secrets_of(self.key, self.url)
        self._hide, self._hide_in_answer = hider(secrets), hider(filter(is_unmistakable, secrets))
        self.repeats = 0  # tries beyond the first, over all requests

    def body(self, messages: Sequence[dict[str, str]], sampling: dict[str, Any], seed: int) -> dict[str, Any]:
        """The JSON of one request. `sampling`: temperature, top_p, max_new_tokens; stop (texts), for vLLM's dialect."""
        body = {
            "model": self.model,
            "messages": list(messages),
            "max_completion_tokens": sampling["max_new_tokens"],
            "temperature": sampling["temperature"],
            "top_p": sampling["top_p"],
            "seed": seed,
        }
        begun = messages[-1]["role"] == "assistant"
        if self.dialect != "vllm":
            body["messages"] = list(messages[:-1] if begun else messages)
        if self.dialect == "transformers":
            body["max_tokens"] = body.pop("max_completion_tokens")
            settings = {"do_sample": sampling["temperature"] > 0, "top_k": 0}
            return {**body, "generation_config": json.dumps(settings)}
        if self.dialect == "openai":
            return body
        body |= {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
        if sampling.get("stop"):
            body |= {"stop": sampling["stop"], "include_stop_str_in_output": True}
        return {**body, "add_generation_prompt": not begun, "continue_final_message": begun}

    def complete(self, messages: Sequence[dict[str, str]], sampling: dict[str, Any], seed: int) -> Completion:
        """One completion. Raises EndpointError as the class says."""
        body = self.body(messages, sampling, seed)
        for tried in range(1, self.tries + 1):
            try:
                return self._try(body)
            except _Again as error:
                if tried == self.tries:
                    raise self._failed(str(error), f", {tried} times") from None
                self.repeats += 1
                grown = min(60.0, self.pause * 2 ** (tried - 1)) * (1 + random.random() / 2)
                time.sleep(grown if error.after is None else error.after)
        raise AssertionError("not reached")

    def _failed(self, why: str, then: str = "", **more: Any) -> EndpointError:
        """The error with what a server or httpx said: hidden before it is cut, so that no part of a key remains."""
        said = " ".join(self._hide(why).split())[:LONGEST]
        return EndpointError(f"{without_logins(self.url)}: {said}{then}", **more)

    def _try(self, body: dict[str, Any]) -> Completion:
        import httpx

        # Not httpx's own JSON, which is UTF-8: half of a surrogate pair in a message would raise.
        content, kind = json.dumps(body).encode(), {"Content-Type": "application/json"}
        try:
            answer = self._client.post(f"{self.url.rstrip('/')}/chat/completions", content=content, headers=kind)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise self._failed(str(error)) from None
        except (httpx.TransportError, httpx.DecodingError) as error:  # no connection, a timeout, a body cut short
            raise _Again(str(error) or type(error).__name__) from None
        try:
            found = answer.json()
        except (ValueError, RecursionError):
            found = None
        # Not answer.text: a server may name a charset that is not one of text.
        said = f": {error_of(found) or answer.content.decode('utf-8', 'replace')}".removesuffix(": ")
        if answer.status_code in REPEATED or answer.status_code >= 500:
            after = answer.headers.get("retry-after", "")
            raise _Again(f"status {answer.status_code}{said}", min(float(after), 600.0) if after.isdecimal() else None)
        if answer.status_code != 200:
            raise self._failed(f"status {answer.status_code}{said}", status=answer.status_code)
        try:
            done = read_completion(found)
        except NoAnswer as error:
            if error.is_filtered:  # the provider's decision: it would be the same again
                raise self._failed(f"{error}{said}", is_filtered=True) from None
            raise _Again(f"{error}{said}") from None
        text = self._hide_in_answer(done.text)
        if self.dialect != "vllm":
            text = text.lstrip().removeprefix("<think>") if text.lstrip().startswith("<think>") else text
        return replace(done, text=text)


def in_parallel(work: dict[Key, Callable[[], Completion]], concurrency: int) -> Iterator[tuple[Key, Completion]]:
    """The keys with their completions as they come, `concurrency` at a time. After an error nothing more is begun."""
    with ThreadPoolExecutor(concurrency) as pool:
        futures = {pool.submit(job): key for key, job in work.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
