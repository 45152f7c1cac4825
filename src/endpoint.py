"""A client for OpenAI-compatible chat servers: many requests at a time, each repeated until it has a whole answer.

Repeated, with growing pauses or after the server's Retry-After: connection errors, timeouts, 408, 409, 425, 429, 5xx,
and a body that is cut short or no chat completion. Anything else (a wrong key, an unknown model, a prompt that is too
long) raises EndpointError in one line, with its status. The key comes from the environment, never from a flag, and is
never written anywhere.

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
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, TypeVar

from arguments import fail

DIALECTS = ("vllm", "openai", "transformers")
REPEATED = {408, 409, 425, 429}
Key = TypeVar("Key")


def add_flags(parser: argparse.ArgumentParser, prefix: str = "") -> None:
    """--url, --dialect, --key-variable, --request-seconds and --tries. `prefix`: what each flag's help begins with."""
    add = parser.add_argument
    add("--url", help=f"{prefix}the server's base address, as http://localhost:8000/v1")
    add("--dialect", choices=DIALECTS, default="vllm", help=f"{prefix}what kind of server it is (default: %(default)s)")
    add("--key-variable", default="OPENAI_API_KEY", help=f"{prefix}environment variable that holds the key")
    add("--request-seconds", type=float, default=600, help=f"{prefix}time limit of a request (default: %(default)s)")
    add("--tries", type=int, default=8, help=f"{prefix}tries of a request (default: %(default)s)")


def check_flags(args: argparse.Namespace) -> None:
    """Stop in one line where no request could succeed."""
    if not args.url.startswith(("http://", "https://")):
        fail(f"--url {args.url}: expected http:// or https://")
    for flag in ("request_seconds", "tries"):
        if not getattr(args, flag) > 0:
            fail(f"--{flag.replace('_', '-')} {getattr(args, flag)}: starts above 0")


def connect(args: argparse.Namespace) -> Endpoint:
    """The endpoint that `add_flags` and a flag --model describe."""
    key = os.environ.get(args.key_variable)
    return Endpoint(args.url, args.model, key, args.dialect, args.request_seconds, args.tries)


class EndpointError(RuntimeError):
    """The server refused a request for a reason that repeating does not change, or kept failing.

    `status`: the HTTP status of a refusal, else None.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Completion:
    """One answer. Tokens are None where the server does not count; the finish reason is stop, length, or its own."""

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: str


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
    key: str | None = None
    dialect: str = "vllm"
    seconds: float = 600.0
    tries: int = 8
    pause: float = 1.0  # before the second try, in seconds; doubled each time, at most a minute, plus up to a half

    def __post_init__(self) -> None:
        import httpx

        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        limits = httpx.Limits(max_connections=None)
        self._client = httpx.Client(timeout=self.seconds, headers=headers, limits=limits)
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
                    raise EndpointError(f"{self.url}: {error}, {tried} times") from None
                self.repeats += 1
                grown = min(60.0, self.pause * 2 ** (tried - 1)) * (1 + random.random() / 2)
                time.sleep(grown if error.after is None else error.after)
        raise AssertionError("not reached")

    def _try(self, body: dict[str, Any]) -> Completion:
        import httpx

        try:
            answer = self._client.post(f"{self.url.rstrip('/')}/chat/completions", json=body)
        except (httpx.TransportError, httpx.DecodingError) as error:  # no connection, a timeout, a body cut short
            raise _Again(str(error) or type(error).__name__) from None
        except httpx.InvalidURL as error:
            raise EndpointError(f"{self.url}: {error}") from None
        if answer.status_code in REPEATED or answer.status_code >= 500:
            after = answer.headers.get("retry-after", "")
            raise _Again(f"status {answer.status_code}", min(float(after), 600.0) if after.isdigit() else None)
        if answer.status_code != 200:
            said = " ".join(answer.text[:300].split())
            raise EndpointError(f"{self.url}: status {answer.status_code}: {said}", answer.status_code)
        try:
            found = answer.json()
            choice = found["choices"][0]
            text = choice["message"].get("content") or ""
            # A server that parses reasoning hands the thoughts over apart from the answer.
            thoughts = choice["message"].get("reasoning_content") or choice["message"].get("reasoning")
            reason, usage = choice["finish_reason"], found.get("usage") or {}
            if not isinstance(text, str) or reason is None:
                raise TypeError
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise _Again("an answer that is no whole chat completion") from None
        if thoughts:
            text = f"{thoughts}</think>{text}"
        if self.dialect != "vllm":
            text = text.lstrip().removeprefix("<think>") if text.lstrip().startswith("<think>") else text
        return Completion(text, usage.get("prompt_tokens"), usage.get("completion_tokens"), reason)


def in_parallel(work: dict[Key, Callable[[], Completion]], concurrency: int) -> Iterator[tuple[Key, Completion]]:
    """The keys with their completions as they come, `concurrency` at a time. After an error nothing more is begun."""
    with ThreadPoolExecutor(concurrency) as pool:
        futures = {pool.submit(job): key for key, job in work.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
