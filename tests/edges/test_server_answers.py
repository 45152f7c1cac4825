"""Answers of chat servers: a completion or one line, never a traceback, and never the key."""

from __future__ import annotations

import gzip
import json
from functools import cache
from typing import Any
from unittest import mock

import httpx
from edges.adversarial import ODD, as_json, json_file
from edges.checker import check_ended, check_files, check_message, count, effort, run_main, scratch
from hypothesis import event, given
from hypothesis import strategies as st
from mini_migration import PROOFS

import generate
from common.completion import FINISHED, Completion, NoAnswer, Sampling
from common.endpoint import DIALECTS, Endpoint

KEY, PASSWORD = "sk-S3CRET-0123456789", "p%20w0rd-of-9"
URL = f"http://user:{PASSWORD}@127.0.0.1:8000/v1"
SECRETS = (KEY, PASSWORD, "p w0rd-of-9")
MESSAGES = [{"role": "user", "content": "what?"}, {"role": "assistant", "content": "Let me\n<think>"}]
SAMPLING = Sampling(temperature=0.8, top_p=0.7, max_new_tokens=64)

MESSAGE = {"role": "assistant", "content": "It moved.</think>\n<answer>\n```python\nx = 1\n```\n</answer>"}
CHOICE = {"index": 0, "finish_reason": "stop", "logprobs": None, "message": MESSAGE}
WHOLE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1721990000,
    "model": "big",
    "choices": [CHOICE],
    "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
}
THOUGHTS = {**WHOLE, "choices": [{**CHOICE, "message": {**MESSAGE, "reasoning_content": "It moved."}}]}
ERRORS = [
    {"error": {"message": f"Incorrect API key provided: {KEY}.", "type": "invalid_request_error", "code": 401}},
    {"error": f"no such user: {URL}"},
    {"detail": [{"loc": ["body", "model"], "msg": "field required", "input": {"authorization": f"Bearer {KEY}"}}]},
    {"object": "error", "message": "This model's maximum context length is 4096 tokens.", "code": 400},
    {"choices": [{**CHOICE, "finish_reason": "error", "error": {"message": f"upstream: {PASSWORD}"}}]},
]
BODIES = st.one_of(
    *(json_file(WHOLE), json_file(WHOLE), json_file(THOUGHTS)),
    *map(json_file, ERRORS),
    *(json_file({**WHOLE, "choices": [{**CHOICE, "finish_reason": reason}]}, most=1) for reason in FINISHED),
    st.sampled_from(
        [b"", b"<html>maintenance</html>", KEY.encode(), KEY.encode("utf-16"), b"[" * 100_000, b"\xff\xfe"]
    ),
    st.builds(lambda text: b"data: " + text.encode("utf-8", "surrogatepass") + b"\n\ndata: [DONE]\n", as_json(WHOLE)),
    st.binary(max_size=40),
)
STATUSES = st.sampled_from(
    [200] * 40 + [201, 204, 206, 301, 307, 304, 400, 401, 404, 408, 413, 422, 429, 499, 500, 503, 529]
)
HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "content-encoding", "retry-after", "location", "content-length", "x-key"]),
    st.sampled_from(
        [
            *(
                "application/json",
                "application/json; charset=utf-16",
                "text/html; charset=zlib",
                "text/plain; charset=idna",
            ),
            *("gzip", "br", "deflate", "zstd", "gzip, gzip", "identity", "", "-1", "0", "1e9", "9" * 30, "²", "nan"),
            *("Wed, 21 Oct 2015 07:28:00 GMT", "https://127.0.0.1/x", "file:///etc/passwd", "//", "h" * 70_000, KEY),
        ]
    ),
    max_size=3,
)
HEADERS = st.just({}) | HEADERS


class Body(httpx.AsyncByteStream):
    """A body that arrives in two parts, and perhaps breaks off between them."""

    def __init__(self, content: bytes, breaks: bool) -> None:
        self.content, self.breaks = content, breaks

    async def __aiter__(self):
        half = len(self.content) // 2
        yield self.content[:half]
        if self.breaks:
            raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")
        yield self.content[half:]


@st.composite
def answers(draw: st.DrawFn) -> httpx.Response:
    """A response as it comes from the network: undecoded."""
    body, headers = draw(BODIES), draw(HEADERS)
    if headers.get("content-encoding") == "gzip" and draw(st.booleans()):
        body = gzip.compress(body, mtime=0)
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    breaks = draw(st.integers(0, 19)) == 0
    return httpx.Response(draw(STATUSES), headers=raw, stream=Body(body, breaks))


class Transport(httpx.MockTransport):
    """The same `answer` to every request."""

    answer: httpx.Response

    def __init__(self) -> None:
        super().__init__(self.respond)

    def respond(self, request: httpx.Request) -> httpx.Response:
        whole: Any = self.answer.stream
        body = Body(whole.content, whole.breaks)
        return httpx.Response(self.answer.status_code, headers=self.answer.headers.raw, stream=body)


TRANSPORT = Transport()
CLIENT = httpx.AsyncClient


def mocked(**settings: Any) -> httpx.AsyncClient:
    """A client of the endpoint whose requests go to TRANSPORT; without certificates, which take long to load."""
    return CLIENT(**{**settings, "transport": TRANSPORT, "verify": False})


@cache
def server(dialect: str) -> Endpoint:
    with mock.patch("httpx.AsyncClient", mocked):
        return Endpoint(URL, "big", KEY, dialect, tries=1)


def no_secret(text: str) -> None:
    assert not [secret for secret in SECRETS if secret in text], text


@effort(300, 100_000)
@given(answers(), st.sampled_from(DIALECTS))
def test_an_answer_is_a_completion_or_one_line(answer, dialect):
    count("server answers")
    TRANSPORT.answer = answer
    try:
        done = server(dialect).complete(MESSAGES, SAMPLING, 5)
    except NoAnswer as error:
        check_message(error)
        no_secret(str(error))
        assert len(str(error)) < 500
        event("one line")
        return
    event("a completion")
    assert isinstance(done, Completion)
    assert (type(done.text), done.finish_reason in ("stop", "length")) == (str, True)
    assert answer.status_code == 200
    no_secret(done.text)
    for tokens in (done.prompt_tokens, done.completion_tokens):
        assert tokens is None or type(tokens) is int


@effort(15, 3_000)
@given(answers())
def test_generate(answer):
    """Samples are written whole, or the program ends in one line and what it has written can be resumed."""
    count("server answers")
    rows = "".join(json.dumps(record.to_row()) + "\n" for record in list(PROOFS)[:2])
    TRANSPORT.answer = answer
    with (
        scratch({"data.jsonl": rows.encode()}) as folder,
        mock.patch.dict("os.environ", {"OPENAI_API_KEY": KEY}),
        mock.patch("httpx.AsyncClient", mocked),
    ):
        flags = ("--benchmark", "migration", "--data", "data.jsonl", "--out", "out/samples.jsonl", "--tries", 1)
        how = ("--backend", "endpoint", "--url", URL, "--model", "big", "--samples", 1, "--concurrency", 1)
        ended = run_main(generate.main, "generate", *flags, *how)
        check_ended(ended, "generate", before="(?!generate: ).*")  # the first prompt
        check_files(folder / "out")
        no_secret(ended.stdout + ended.stderr)
        written = (folder / "out/samples.jsonl").read_text() if (folder / "out/samples.jsonl").exists() else ""
        no_secret(written + (folder / "out/samples.json").read_text())
        assert len(written.splitlines()) == 2 or ended.status == 2


def test_the_odd_characters_of_an_answer_are_kept():
    for odd in ODD:
        whole = {**WHOLE, "choices": [{**CHOICE, "message": {"content": f"a{odd}b"}}]}
        TRANSPORT.answer = httpx.Response(200, stream=Body(json.dumps(whole).encode(), breaks=False))
        assert server("vllm").complete(MESSAGES, SAMPLING, 5).text == f"a{odd}b"
