"""A hub on loopback that serves one data set by the addresses that the real client asks for.

It stands where no hub can be reached; the client (`datasets`, `huggingface_hub`) is the real one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_REVISION = "0" * 39 + "1"


class Hub:
    """Serves the files of one data set while it is entered.

    Args:
        name: `owner/name` of the data set.
        files: Content of its files by path.
    """

    def __init__(self, name: str, files: Mapping[str, bytes]) -> None:
        self._name = name
        self._files = files

    def environment(self, cache: Path) -> dict[str, str]:
        """Returns the variables that lead the client here; it keeps what it fetches in `cache`."""
        url = f"http://127.0.0.1:{self._server.server_port}"
        return {"HF_ENDPOINT": url, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0"}

    def __enter__(self) -> Hub:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                del format, args

            def do_GET(self) -> None:
                self._reply(*hub._answer(self.path.partition("?")[0]))

            do_HEAD = do_GET

            def _reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> tuple[int, bytes, Mapping[str, str]]:
        about = f"/api/datasets/{self._name}"
        if path.startswith(f"{about}/tree/"):
            entries = [
                {"type": "file", "path": file, "size": len(content), "oid": "a" * 40}
                for file, content in self._files.items()
            ]
            return _json(200, entries)
        if path == about or path.startswith(f"{about}/revision/"):
            siblings = [{"rfilename": file} for file in self._files]
            plain = {"private": False, "gated": False, "disabled": False, "tags": []}
            return _json(200, {"id": self._name, "sha": _REVISION, "siblings": siblings, **plain})
        _, found, file = path.partition(f"/datasets/{self._name}/resolve/")
        content = self._files.get(file.partition("/")[2]) if found else None
        if content is None:
            missing = "EntryNotFound" if found else "RepoNotFound"
            return _json(404, {"error": "not found"}, {"X-Error-Code": missing})
        return 200, content, {"ETag": '"1"', "X-Repo-Commit": _REVISION}


def _json(
    status: int, content: object, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes, Mapping[str, str]]:
    kind = {"content-type": "application/json"}
    return status, json.dumps(content).encode(), {**kind, **(headers or {})}
