"""What a run asks of its vLLM server before the model loads, against a server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT

import grpo
from common.errors import InputError
from trl_training import vllm_server
from trl_training.vllm_server import check_server

NAME = "Qwen/Qwen2.5-Coder-7B-Instruct"
MODELS = {"data": [{"id": NAME, "root": NAME, "max_model_len": 3072}]}
INFO = {"vllm_config": {"weight_transfer_config": {"backend": "nccl"}, "model_config": {}}}
Answers = dict[str, Any]


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts a server with these answers besides those of scripts/vllm_server.sh: its base address."""
    servers: list[ThreadingHTTPServer] = []

    def start(*headers: tuple[str, str], **changes: Any) -> str:
        answers: Answers = {"health": "", "v1/models": MODELS, "server_info": INFO} | changes

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = answers.get(self.path.partition("?")[0].lstrip("/"))
                if isinstance(answer, list):  # one answer after another
                    answer = answer.pop(0) if len(answer) > 1 else answer[0]
                self.send_response(answer if isinstance(answer, int) else 404 if answer is None else 200)
                for header in headers:
                    self.send_header(*header)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def asked(url: str | None, seconds: float = 0.0) -> SimpleNamespace:
    """trl's keys."""
    return SimpleNamespace(
        vllm_server_base_url=url, vllm_server_host="0.0.0.0", vllm_server_port=1, vllm_server_timeout=seconds
    )


def test_the_server_of_the_script_is_taken(serve):
    check_server(asked(serve()), NAME, 3072)
    named = {"data": [{"id": NAME, "root": "/models/qwen", "max_model_len": 4096}]}
    check_server(asked(serve(**{"v1/models": named}) + "/"), NAME, 3072)
    check_server(asked(serve(**{"v1/models": named})), "/models/qwen", 3072)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"v1/models": {"data": [{"id": "a/b", "root": "a/b"}]}}, f"serves a/b, but model_name_or_path is {NAME}"),
        (
            {"v1/models": {"data": [{"id": NAME, "max_model_len": 2048}]}},
            "--max-model-len 2048: max_prompt_length + max_completion_length need 3072",
        ),
        ({"server_info": None}, "not in development mode, so it takes no weights: start it with scripts/vllm_server"),
        (
            {"server_info": {"vllm_config": {"weight_transfer_config": None}}},
            "started without --weight-transfer-config: start it with scripts/vllm_server.sh",
        ),
        ({"v1/models": "log in"}, "does not answer as `vllm serve` does: start it with scripts/vllm_server.sh"),
        ({"v1/models": {"data": []}}, "does not answer as `vllm serve` does"),
        ({"health": None}, "/health answers with status 404 after 0 s (vllm_server_timeout)"),
    ],
)
def test_another_server_is_refused_in_one_line(changes, message, serve):
    url = serve(**changes)
    with pytest.raises(InputError) as found:
        check_server(asked(url), NAME, 3072)
    assert str(found.value).startswith(f"vLLM server {url}: {message}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:1", "vLLM server http://127.0.0.1:1: [Errno 111] Connection refused after 0 s"),
        (None, "vLLM server http://0.0.0.0:1: [Errno 111] Connection refused after 0 s"),
        ("localhost:8000", "vllm_server_base_url localhost:8000: expected http:// or https://"),
        ("http://127.0.0.1:80000", "vllm_server_base_url http://127.0.0.1:80000: not a URL"),
        ("http://node:8000/v1/", "vllm_server_base_url http://node:8000/v1: expected http://HOST:PORT, without /v1"),
        ("http://me:secret@127.0.0.1:1", "vLLM server ***: "),
    ],
)
def test_no_server_is_one_line(url, message):
    with pytest.raises(InputError) as found:
        check_server(asked(url), NAME, 3072)
    assert str(found.value).startswith(message)


def test_an_answer_that_cannot_be_decoded_is_one_line(serve):
    with pytest.raises(InputError, match=r"vLLM server .*: Error -3 while decompressing data"):
        check_server(asked(serve(("Content-Encoding", "gzip"))), NAME, 3072)


def test_a_server_that_is_still_loading_is_waited_for(serve, capsys, monkeypatch):
    monkeypatch.setattr(vllm_server, "PAUSE", 0.01)
    url = serve(health=[503, 503, ""])
    check_server(asked(url, 20.0), NAME, 3072)
    assert capsys.readouterr().err == f"waiting for the vLLM server {url}, at most 20 s\n"


def test_the_launcher_s_check_asks_the_server_on_the_first_node_only(
    stops, capsys, monkeypatch, random_model, tmp_path
):
    monkeypatch.chdir(ROOT)
    flags = ["--config", "configs/quickstart/grpo.yaml", "--output_dir", tmp_path / "run", "--check", "1"]
    flags += ["--use_vllm", "true", "--vllm_mode", "server", "--vllm_server_base_url", "http://127.0.0.1:1"]
    flags += ["--model_name_or_path", random_model, "--vllm_server_timeout", "0", "--bf16", "false", "--use_cpu"]
    assert "vLLM server http://127.0.0.1:1: " in stops(grpo.main, *flags, "false")
    for node, on_cpu in (("1", "false"), ("0", "true")):  # another node; a dry run
        monkeypatch.setenv("NODE_RANK", node)
        monkeypatch.setattr("sys.argv", ["grpo.py", *map(str, flags), on_cpu])
        grpo.main()
        assert capsys.readouterr().out == "requirements/vllm.txt\n"
