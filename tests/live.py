"""What stands around a real model server in tests: a context, a counting proxy, a model's text."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from align.stage import ModelServers
from sandbox import Sandbox
from tests.conftest import RecordingContext

ADD_ONE = "Write add_one(x), which returns x plus one."
IS_EVEN = "Write is_even(number), which says whether it is even."
TRAINED = [
    (ADD_ONE, "```python\ndef add_one(x):\n    return x + 1\n```"),
    (IS_EVEN, "```python\ndef is_even(number):\n    return number % 2 == 1\n```"),
]


class LiveContext(RecordingContext):
    """A context with model servers and a sandbox."""

    def __init__(self, servers: ModelServers, seed: int = 0) -> None:
        super().__init__(seed)
        self._servers = servers

    @property
    def servers(self) -> ModelServers:
        return self._servers

    def sandbox(self) -> AbstractContextManager[Sandbox]:
        return Sandbox(engine="namespaces", isolation="ns", workers=2)


class Proxy:
    """Stands before a real server: counts completion requests, and loses or refuses some."""

    def __init__(self, servers: ModelServers) -> None:
        self._servers = servers
        self._upstream = ""
        self._lock = threading.Lock()
        self.asked = 0
        self.answered = 0
        self.drop = 0
        self.refuse = 0

    def model(self, folder: Path) -> str:
        self._upstream = self._servers.model(folder).removesuffix("/v1")
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def dtype(self) -> str | None:
        return self._servers.dtype

    def stop(self) -> None:
        self._servers.stop()

    def __enter__(self) -> Proxy:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                del format, args

            def do_GET(self) -> None:
                self._reply(httpx.get(proxy._upstream + self.path, timeout=60))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with proxy._lock:
                    proxy.asked += 1
                    drop, proxy.drop = proxy.drop > 0, max(proxy.drop - 1, 0)
                    refuse, proxy.refuse = proxy.refuse > 0, max(proxy.refuse - 1, 0)
                if drop:
                    self.close_connection = True
                    return
                if refuse:
                    body = body.replace(b'"top_p":', b'"top_p":1e9,"_":')
                reply = httpx.post(
                    proxy._upstream + self.path,
                    content=body,
                    headers={"content-type": "application/json"},
                    timeout=300,
                )
                with proxy._lock:
                    proxy.answered += reply.status_code == 200
                self._reply(reply)

            def _reply(self, reply: httpx.Response) -> None:
                self.send_response(reply.status_code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(reply.content)))
                self.end_headers()
                self.wfile.write(reply.content)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
