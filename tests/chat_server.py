"""A chat server on this machine that answers, or fails, as a test defines."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """`behave(number of the try, body)` returns (status, headers, body, bytes to leave out) or seconds to be silent."""

    def __init__(self, behave: Callable[[int, dict[str, Any]], Any]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        now, tries, lock = 0, Counter(), threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                nonlocal now
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                key = json.dumps(body, sort_keys=True)
                with lock:
                    tries[key] += 1
                    number, now = tries[key], now + 1
                    outer.most_at_once = max(outer.most_at_once, now)
                    outer.bodies.append(body)
                    outer.headers.append({**dict(self.headers), "path": self.path})
                try:
                    done = behave(number, body)
                finally:
                    with lock:  # before the reply: the client may send its next request as soon as it has it
                        now -= 1
                if isinstance(done, float):
                    time.sleep(done)
                    return  # closes the connection without an answer
                status, headers, content, lacking = done
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data[: len(data) - lacking])

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def answer(body: dict[str, Any], text: str | None = None, **message: str) -> dict[str, Any]:
    """A whole chat completion; its text names the request."""
    content = f"{body['messages'][1]['content']} seed {body['seed']}" if text is None else text
    return {
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": content, **message}}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7},
    }


def ok(body: dict[str, Any], *args: Any, **kwargs: Any) -> tuple:
    return 200, {}, answer(body, *args, **kwargs), 0
