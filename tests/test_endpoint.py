"""The client against a real HTTP server that fails as servers do: silence, 429, 500, cut bodies, refusals."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from chat_server import Server

from endpoint import Endpoint, EndpointError, in_parallel

SAMPLING = {"temperature": 0.8, "top_p": 0.7, "max_new_tokens": 64}
MESSAGES = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "what?"},
    {"role": "assistant", "content": "Let me\n<think>"},
]


def answer(body: dict[str, Any], text: str | None = None, **message: str) -> dict[str, Any]:
    """A whole chat completion; the text tells which request it is for."""
    content = f"{body['messages'][1]['content']} seed {body['seed']}" if text is None else text
    return {
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": content, **message}}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7},
    }


def ok(body: dict[str, Any], *args: Any, **kwargs: Any) -> tuple:
    return 200, {}, answer(body, *args, **kwargs), 0


def client(server: Server, **settings: Any) -> Endpoint:
    return Endpoint(server.url, "big", **{"pause": 0.01, "seconds": 0.5, **settings})


FAILURES = {
    "429 with Retry-After": lambda body: (429, {"Retry-After": "0"}, b"slow down", 0),
    "500": lambda body: (500, {}, b"oops", 0),
    "503": lambda body: (503, {}, b"", 0),
    "silence": lambda body: 1.0,
    "a body cut short": lambda body: (200, {}, answer(body), 20),
    "JSON cut short": lambda body: (200, {}, json.dumps(answer(body)).encode()[:-20], 0),
    "no choices": lambda body: (200, {}, {"choices": []}, 0),
    "no finish reason": lambda body: (200, {}, {"choices": [{"message": {"content": "half"}}]}, 0),
    "a page instead": lambda body: (200, {}, b"<html>maintenance</html>", 0),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_repeated(serve, failure):
    server = serve(lambda number, body: FAILURES[failure](body) if number < 3 else ok(body))
    endpoint = client(server)
    done = endpoint.complete(MESSAGES, SAMPLING, 5)
    assert (done.text, done.prompt_tokens, done.completion_tokens) == ("what? seed 5", 11, 7)
    assert (done.finish_reason, len(server.bodies), endpoint.repeats) == ("stop", 3, 2)


def test_it_gives_up_and_says_why(serve):
    server = serve(lambda number, body: (500, {}, b"", 0))
    with pytest.raises(EndpointError, match=r"/v1: status 500, 3 times$"):
        client(server, tries=3).complete(MESSAGES, SAMPLING, 0)
    assert len(server.bodies) == 3


def test_no_server_at_all(serve):
    server = serve(lambda number, body: ok(body))
    server.close()
    with pytest.raises(EndpointError, match="Connection refused, 2 times"):
        client(server, tries=2).complete(MESSAGES, SAMPLING, 0)


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_not_repeated(serve, status):
    server = serve(lambda number, body: (status, {}, b'{"error": "no\n such model"}', 0))
    with pytest.raises(EndpointError, match=rf'status {status}: {{"error": "no such model"}}$'):
        client(server).complete(MESSAGES, SAMPLING, 0)
    assert len(server.bodies) == 1


def test_retry_after_is_obeyed(serve):
    server = serve(lambda number, body: (429, {"Retry-After": "1"}, b"", 0) if number == 1 else ok(body))
    started = time.monotonic()
    client(server).complete(MESSAGES, SAMPLING, 0)
    assert 1.0 <= time.monotonic() - started < 4


def test_what_vllm_is_asked(serve):
    server = serve(lambda number, body: ok(body))
    client(server, key="secret").complete(MESSAGES, SAMPLING, 9)
    assert server.bodies == [
        {
            "model": "big",
            "messages": MESSAGES,
            "max_completion_tokens": 64,
            "temperature": 0.8,
            "top_p": 0.7,
            "seed": 9,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "add_generation_prompt": False,
            "continue_final_message": True,
        }
    ]
    assert (server.headers[0]["Authorization"], server.headers[0]["path"]) == ("Bearer secret", "/v1/chat/completions")
    client(server).complete(MESSAGES[:2], SAMPLING, 9)  # no begun turn: the one-shot prompt
    assert (server.bodies[1]["add_generation_prompt"], server.bodies[1]["continue_final_message"]) == (True, False)
    assert "Authorization" not in server.headers[1]


def test_a_hosted_model_opens_its_thoughts_itself(serve):
    server = serve(lambda number, body: ok(body, "\n<think>so</think><answer>x</answer>"))
    done = client(server, dialect="openai").complete(MESSAGES, SAMPLING, 9)
    assert done.text == "so</think><answer>x</answer>"
    assert server.bodies[0]["messages"] == MESSAGES[:2]
    assert not {"top_k", "continue_final_message"} & server.bodies[0].keys()


def test_what_transformers_serve_is_asked(serve):
    """It refuses fields that it does not know, and ignores max_completion_tokens."""
    server = serve(lambda number, body: ok(body, "<think>so</think>x"))
    assert client(server, dialect="transformers").complete(MESSAGES, SAMPLING, 9).text == "so</think>x"
    client(server, dialect="transformers").complete(MESSAGES[:2], {**SAMPLING, "temperature": 0}, 9)
    sampled, greedy = server.bodies
    assert json.loads(sampled.pop("generation_config")) == {"do_sample": True, "top_k": 0}
    assert json.loads(greedy.pop("generation_config")) == {"do_sample": False, "top_k": 0}
    assert sampled == {
        "model": "big",
        "messages": MESSAGES[:2],
        "max_tokens": 64,
        "temperature": 0.8,
        "top_p": 0.7,
        "seed": 9,
    }


def test_a_server_that_parses_the_thoughts_away(serve):
    server = serve(lambda number, body: ok(body, "<answer>x</answer>", reasoning_content="so"))
    assert client(server).complete(MESSAGES, SAMPLING, 9).text == "so</think><answer>x</answer>"


def test_many_at_a_time_each_with_its_own_answer(serve):
    def behave(number: int, body: dict[str, Any]) -> tuple:
        time.sleep(0.02)
        return (500, {}, b"", 0) if number == 1 and body["seed"] % 3 == 0 else ok(body)

    server = serve(behave)
    endpoint = client(server, seconds=5)
    work = {seed: (lambda seed=seed: endpoint.complete(MESSAGES, SAMPLING, seed)) for seed in range(24)}
    found = dict(in_parallel(work, 6))
    assert {seed: done.text for seed, done in found.items()} == {seed: f"what? seed {seed}" for seed in range(24)}
    assert len(server.bodies) == 24 + 8  # every third seed failed once
    assert 2 <= server.most_at_once <= 6


def test_after_an_error_nothing_more_is_begun(serve):
    server = serve(lambda number, body: (401, {}, b"", 0))
    endpoint = client(server)
    work = {seed: (lambda seed=seed: endpoint.complete(MESSAGES, SAMPLING, seed)) for seed in range(50)}
    with pytest.raises(EndpointError, match="status 401"):
        list(in_parallel(work, 2))
    assert len(server.bodies) < 10
