"""The client against a real HTTP server that fails as servers do: silence, 429, 500, cut bodies, refusals."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from chat_server import Server, answer, ok

from common.completion import NoAnswer, PromptRejected, Sampling
from common.endpoint import Endpoint, in_parallel, read_key, url_problem
from common.errors import InputError
from common.http_client import prepare_hub
from common.rows import resolve

SAMPLING = Sampling(temperature=0.8, top_p=0.7, max_new_tokens=64)
MESSAGES = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "what?"},
    {"role": "assistant", "content": "Let me\n<think>"},
]


def stopped(body: dict[str, Any], reason: Any, content: Any) -> dict[str, Any]:
    """A chat completion with this finish reason and content."""
    whole = answer(body)
    whole["choices"][0] |= {"finish_reason": reason, "message": {"role": "assistant", "content": content}}
    return whole


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
    "an error under status 200": lambda body: (200, {}, {"error": {"message": "upstream", "code": 502}}, 0),
    "an error beside an answer": lambda body: (200, {}, {**answer(body), "error": {"message": "cut off"}}, 0),
    "an error as finish reason": lambda body: (200, {}, stopped(body, "error", ""), 0),
    "an aborted request": lambda body: (200, {}, stopped(body, "abort", "half"), 0),
    "an error with a charset that is not one": lambda body: (500, {"Content-Type": "text/html; charset=zlib"}, b"x", 0),
    "a tool call": lambda body: (200, {}, stopped(body, "tool_calls", None), 0),
    "a finish reason that is a list": lambda body: (200, {}, stopped(body, ["stop"], "x"), 0),
    "no text": lambda body: (200, {}, stopped(body, "stop", None), 0),
    "no part": lambda body: (200, {}, stopped(body, "stop", []), 0),
    "a part that is not text": lambda body: (200, {}, stopped(body, "stop", [{"type": "image_url"}]), 0),
    "JSON nested too deeply": lambda body: (200, {}, b"[" * 100_000, 0),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_repeated(serve, failure):
    server = serve(lambda number, body: FAILURES[failure](body) if number < 3 else ok(body))
    done = client(server).complete(MESSAGES, SAMPLING, 5)
    assert (done.text, done.prompt_tokens, done.completion_tokens) == ("what? seed 5", 11, 7)
    assert (done.finish_reason, len(server.bodies)) == ("stop", 3)


def test_it_gives_up_and_reports_why(serve):
    server = serve(lambda number, body: (500, {}, b"", 0))
    with pytest.raises(NoAnswer, match=r"/v1: status 500 \(3 tries\)$"):
        client(server, tries=3).complete(MESSAGES, SAMPLING, 0)
    assert len(server.bodies) == 3


PAGE = b"<!DOCTYPE html><html><head><title>502 Bad\nGateway</title><style>p {}</style></head><p>nginx</p></html>"


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (429, {"error": {"message": "Rate limit\n reached", "type": "requests"}}, "status 429: Rate limit reached"),
        (503, {"detail": "model is loading"}, "status 503: model is loading"),
        (500, {"object": "error", "message": "engine died"}, "status 500: engine died"),
        (503, {"error": "model is loading"}, "status 503: model is loading"),
        (502, PAGE, "status 502: 502 Bad Gateway"),
        (200, PAGE, "not a chat completion: 502 Bad Gateway"),
        (200, b"<p>Please <b>log in</b>&nbsp;</p>", "not a chat completion: Please log in"),
        (200, {"error": {"message": "down", "code": 502}}, "not a chat completion: down"),
        (200, {"choices": [{"finish_reason": "error", "error": {"message": "down"}}]}, "not a chat completion: down"),
        (
            200,
            {"choices": [{"finish_reason": "error", "error": {"message": "down"}, "message": {}}]},
            "finish_reason error: down",
        ),
        (
            200,
            {"choices": [{"finish_reason": None, "message": {}}]},
            'no finish_reason: {"choices": [{"finish_reason": null, "message": {}}]}',
        ),
        (200, b"null", "not a chat completion: null"),
    ],
)
def test_it_gives_up_with_the_server_s_own_words(serve, status, content, message):
    server = serve(lambda number, body: (status, {"Retry-After": "0"}, content, 0))
    with pytest.raises(NoAnswer) as error:
        client(server, tries=2).complete(MESSAGES, SAMPLING, 0)
    assert str(error.value) == f"{server.url}: {message} (2 tries)"
    assert type(error.value) is NoAnswer


@pytest.mark.parametrize(
    ("status", "headers", "content", "message"),
    [
        (429, {}, {"error": {"message": "You exceeded your quota", "type": "insufficient_quota"}}, "status 429: You"),
        (429, {}, {"error": {"message": "No money", "code": "billing_not_active"}}, "status 429: No money"),
        (200, {}, {"error": {"message": "No credits left", "code": 402}}, "not a chat completion: No credits left"),
        (401, {}, {"error": {"message": "bad key"}}, "status 401 (no key was sent: see --key-variable): bad key"),
        (404, {}, {"error": "no model big"}, "status 404: no model big"),
        (308, {"Location": "/v2"}, b"", "status 308, redirected to /v2"),
    ],
)
def test_what_would_fail_again_is_not_repeated(serve, status, headers, content, message):
    server = serve(lambda number, body: (status, headers, content, 0))
    with pytest.raises(NoAnswer) as error:
        client(server, tries=8).complete(MESSAGES, SAMPLING, 0)
    assert str(error.value).startswith(f"{server.url}: {message}")
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]}, "a b"),
        ({"content": [{"type": "text", "text": "a"}], "reasoning": "so"}, "so</think>a"),
        ({"content": "so\n</think>a", "reasoning_content": "so"}, "so\n</think>a"),
        ({"content": "<think>\nso</think>a", "reasoning_content": "so"}, "<think>\nso</think>a"),
        ({"content": "so what", "reasoning_content": "so"}, "so</think>so what"),
    ],
)
def test_the_forms_of_an_answer(serve, message, text):
    server = serve(lambda number, body: (200, {}, {"choices": [{"finish_reason": "stop", "message": message}]}, 0))
    assert client(server, tries=1).complete(MESSAGES, SAMPLING, 0).text == text


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:7891", "socks://127.0.0.1:7891: not a proxy: expected http://, https:// or"),
        ("HTTP_PROXY", "http://[::1", "http://[::1: not a proxy"),
        ("HTTPS_PROXY", "ftp://host:1", "ftp://host:1: not a proxy"),
        ("https_proxy", "http://", "http://: not a proxy"),
        ("HTTP_PROXY", "http://host:99999", "http://host:99999: not a proxy"),
        ("HTTP_PROXY", "http://a b", "http://a b: not a proxy"),
        ("HTTP_PROXY", "http://me:SECRET@[::1", "***: not a proxy"),
        ("SSL_CERT_FILE", "/absent.pem", "/absent.pem: No such file or directory"),
        ("SSL_CERT_FILE", __file__, f"{__file__}: [X509: NO_CERTIFICATE_OR_CRL_FOUND]"),
        ("NO_PROXY", "[::1", "[::1: expected host names, separated by commas"),
    ],
)
def test_a_variable_with_which_no_client_can_be_built_is_named(monkeypatch, variable, value, message):
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError) as error:
        Endpoint("http://127.0.0.1:1/v1", "big")
    assert str(error.value).startswith(f"${variable}: {message}")


def test_a_hub_that_is_offline_needs_no_client(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:7891")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    prepare_hub()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for use in (prepare_hub, lambda: resolve("hf://datasets/owner/name/x.jsonl")):
        with pytest.raises(InputError, match=r"^\$ALL_PROXY: socks://127.0.0.1:7891: not a proxy"):
            use()


def test_a_connection_that_a_proxy_may_have_broken_names_its_variable(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "127.0.0.1:9")
    with pytest.raises(NoAnswer, match=r"Connection refused \(\$HTTP_PROXY is set\)"):
        Endpoint("http://example.invalid/v1", "big", tries=1).complete(MESSAGES, SAMPLING, 0)


def test_a_content_filter_is_the_provider_s_decision_and_not_asked_again(serve):
    server = serve(lambda number, body: (200, {}, stopped(body, "content_filter", "half"), 0))
    with pytest.raises(NoAnswer, match="finish_reason content_filter: ") as error:
        client(server, tries=8).complete(MESSAGES, SAMPLING, 0)
    assert type(error.value) is PromptRejected
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("sent", "recorded"),
    [
        *(("stop", "stop"), ("eos", "stop"), ("eos_token", "stop"), ("stop_sequence", "stop"), ("end_turn", "stop")),
        *(("length", "length"), ("max_tokens", "length"), ("model_length", "length")),
    ],
)
def test_the_finish_reasons_of_a_whole_answer(serve, sent, recorded):
    server = serve(lambda number, body: (200, {}, stopped(body, sent, "x"), 0))
    done = client(server).complete(MESSAGES, SAMPLING, 0)
    assert (done.text, done.finish_reason, len(server.bodies)) == ("x", recorded, 1)


def test_an_empty_answer_and_counts_that_are_not_numbers(serve):
    """A model may end its turn at once; null is what servers send in place of a text."""
    server = serve(lambda number, body: (200, {}, {**stopped(body, "stop", ""), "usage": [1]}, 0))
    done = client(server).complete(MESSAGES, SAMPLING, 0)
    assert (done.text, done.prompt_tokens, done.completion_tokens) == ("", None, None)


def test_no_server_at_all(serve):
    server = serve(lambda number, body: ok(body))
    server.close()
    with pytest.raises(NoAnswer, match=r"Connection refused \(2 tries\)"):
        client(server, tries=2).complete(MESSAGES, SAMPLING, 0)


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_not_repeated(serve, status):
    server = serve(lambda number, body: (status, {}, b'{"error": "no\n such model"}', 0))
    hint = r"( \(no key was sent: see --key-variable\))?"
    with pytest.raises(NoAnswer, match=rf'status {status}{hint}: {{"error": "no such model"}}$') as error:
        client(server).complete(MESSAGES, SAMPLING, 0)
    assert isinstance(error.value, PromptRejected) == (status == 400)  # a wrong key or model concerns every prompt
    assert len(server.bodies) == 1


def test_retry_after_is_obeyed(serve):
    server = serve(lambda number, body: (429, {"Retry-After": "1"}, b"", 0) if number == 1 else ok(body))
    started = time.monotonic()
    client(server).complete(MESSAGES, SAMPLING, 0)
    assert 1.0 <= time.monotonic() - started < 4


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "])
def test_a_server_that_drips_does_not_hold_a_request_longer_than_its_time(start):
    """A byte every 0.05 s, in the body or in a header: no silence is long, and the answer never ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):  # the client has gone
                connection.sendall(start)
                while True:
                    connection.sendall(b" ")
                    time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        url, started = f"http://127.0.0.1:{listener.getsockname()[1]}/v1", time.monotonic()
        with pytest.raises(NoAnswer) as error:
            Endpoint(url, "big", seconds=0.3, tries=1).complete(MESSAGES, SAMPLING, 0)
    assert str(error.value) == f"{url}: no complete answer in 0.3 s (--request-seconds) (1 try)"
    assert time.monotonic() - started < 3


def test_a_long_pause_that_the_server_asks_for_is_reported_once(serve, capsys, monkeypatch):
    server, slept = serve(lambda number, body: (429, {"Retry-After": "9999"}, b"slow", 0)), list[float]()
    monkeypatch.setattr("common.endpoint.time", SimpleNamespace(sleep=slept.append, monotonic=time.monotonic))
    with pytest.raises(NoAnswer):
        client(server, tries=3).complete(MESSAGES, SAMPLING, 0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:] == [f"{server.url}: the server asks for a pause of 600 s (Retry-After): waiting"]
    assert slept == [600.0, 600.0]


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
    client(server, dialect="transformers").complete(MESSAGES[:2], replace(SAMPLING, temperature=0), 9)
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


def test_thoughts_that_were_cut_are_not_closed(serve):
    cut = {"finish_reason": "length", "message": {"content": None, "reasoning_content": "hm hm"}}
    server = serve(lambda number, body: (200, {}, {"choices": [cut]}, 0))
    done = client(server).complete(MESSAGES, SAMPLING, 9)
    assert (done.text, done.finish_reason) == ("hm hm", "length")


def test_half_a_surrogate_pair_comes_and_goes(serve):
    """JSON may hold one, UTF-8 may not."""
    server = serve(lambda number, body: ok(body, "x = '\ud83d'"))
    asked = [{"role": "user", "content": "a \ud83d"}, {"role": "user", "content": "what?"}]
    assert client(server).complete(asked, SAMPLING, 9).text == "x = '\ud83d'"
    assert server.bodies[0]["messages"] == asked
    failing = serve(lambda number, body: (400, {}, b'{"error": "no \\ud83d"}', 0))
    with pytest.raises(NoAnswer) as error:
        client(failing).complete(asked, SAMPLING, 9)
    assert str(error.value) == f"{failing.url}: status 400: no \ud83d"


KEY = "sk-SECRET/1"


@pytest.mark.parametrize("where", ["a refusal", "the last try", "a long refusal", "a finish reason", "an answer"])
def test_a_key_that_the_server_echoes_is_hidden(serve, where):
    def behave(number: int, body: dict[str, Any]) -> tuple:
        echo = server.headers[-1]["Authorization"]
        return {
            "a refusal": (401, {}, {"error": {"message": f"bad key {echo}"}}, 0),
            "the last try": (500, {}, json.dumps({"you sent": echo}).replace("/", "\\/").encode(), 0),
            "a long refusal": (401, {}, f"{'x' * 277} {echo}".encode(), 0),  # the limit of a message cuts the key
            "a finish reason": (200, {}, stopped(body, echo, "x"), 0),
            "an answer": ok(body, f"<think>so</think>{echo}"),
        }[where]

    server = serve(behave)
    endpoint = client(server, key=KEY, tries=1, dialect="openai")
    try:
        said = endpoint.complete(MESSAGES, SAMPLING, 0).text
    except NoAnswer as error:
        said = str(error)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert "SECRET" not in said and "sk-" not in said
    assert "Bearer ***" in said
    assert "SECRET" not in repr(endpoint)


def test_a_placeholder_for_a_key_leaves_answers_alone(serve):
    server = serve(lambda number, body: ok(body, "EMPTY = password"))
    for key in ("EMPTY", "password"):
        assert client(server, key=key).complete(MESSAGES, SAMPLING, 0).text == "EMPTY = password"


def test_the_login_of_a_url_is_sent_and_not_shown(serve):
    server = serve(lambda number, body: (401, {}, server.headers[-1]["Authorization"].encode(), 0))
    url = server.url.replace("http://", "http://me:pass@")
    with pytest.raises(NoAnswer) as error:
        Endpoint(url, "big").complete(MESSAGES, SAMPLING, 0)
    assert server.headers[0]["Authorization"] == "Basic bWU6cGFzcw=="  # printf me:pass | base64
    assert str(error.value) == f"{server.url.replace('http://', 'http://***@')}: status 401: Basic ***"


@pytest.mark.parametrize("key", ["sk-SE\rCRET", "sk SECRET", "sk-SECRETé", "sk-SECRET\x7f"])
def test_a_key_that_no_header_can_hold_is_rejected(monkeypatch, key):
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(InputError, match=r"^\$MY_KEY: a key has no blanks, no control characters") as error:
        read_key("MY_KEY")
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize(("value", "key"), [(" sk-SECRET\r\n", "sk-SECRET"), (" \n", None)])
def test_white_space_around_a_key_is_removed(monkeypatch, value, key):
    monkeypatch.setenv("MY_KEY", value)
    assert read_key("MY_KEY") == key


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://localhost:8000/v1", None),
        ("https://me:p%2Fss@host/v1", None),
        ("localhost:8000/v1", "expected http:// or https://"),
        ("http://me:p/ss@host/v1", "not a URL"),
        ("http://me:1/2@host/v1", "a / in a password is written %2F"),
        ("http://host:99999/v1", "not a URL"),
        ("http://host/v1\r", "not a URL"),
        ("http:///v1", "not a URL"),
        ("http://host/v1?key=x", "takes no ? and no #"),
    ],
)
def test_urls_that_no_request_can_be_sent_to(url, problem):
    assert url_problem(url) == problem


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
    with pytest.raises(NoAnswer, match="status 401"):
        list(in_parallel(work, 2))
    assert len(server.bodies) < 10


def test_an_interrupt_does_not_wait_for_requests(serve):
    """Threads that are joined at the end would wait for the answer, or for the pause before the next try."""
    server = serve(lambda number, body: 5.0 if number == 1 and body["seed"] else ok(body))
    endpoint = client(server, seconds=30)
    work = {seed: (lambda seed=seed: endpoint.complete(MESSAGES, SAMPLING, seed)) for seed in range(3)}
    started, answers = time.monotonic(), in_parallel(work, 3)
    assert next(answers)[0] == 0
    answers.close()  # as an exception in the loop does
    assert time.monotonic() - started < 3


def test_a_web_page_is_not_asked_for_again(serve):
    """A login page or a proxy's: it comes with status 200, and again each time."""
    page = b"<html><title>Login</title></html>"
    server = serve(lambda number, body: (200, {"Content-Type": "text/html; charset=utf-8"}, page, 0))
    with pytest.raises(NoAnswer, match=r"not a chat completion: Login$"):
        client(server).complete(MESSAGES, SAMPLING, 0)
    assert len(server.bodies) == 1


def test_the_first_failure_that_is_tried_again_is_reported(serve, capsys):
    server = serve(lambda number, body: (502, {}, b"", 0) if number in (1, 3, 4) else ok(body))
    patient = client(server)
    patient.complete(MESSAGES, SAMPLING, 0)
    patient.complete(MESSAGES, SAMPLING, 0)
    assert capsys.readouterr().err == f"{server.url}: status 502: trying again, up to {patient.tries} times a request\n"


def test_a_base_address_without_v1_is_named(serve):
    server = serve(lambda number, body: (404, {}, b"", 0))
    asked = replace(client(server), url=server.url.removesuffix("/v1"))
    with pytest.raises(NoAnswer, match=r"status 404 \(the base address usually ends in /v1\)$"):
        asked.complete(MESSAGES, SAMPLING, 0)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/chat/completions/", "/v1/completions"])
def test_the_address_of_completions_is_not_the_base_address(path):
    assert "ends before /chat/completions" in url_problem(f"http://localhost:8000{path}")
