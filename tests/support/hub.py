"""A hub on this machine: the few endpoints that an upload of small files needs, over real HTTP."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class Hub:
    """What the hub knows and was asked.

    `accepts` is the token it knows; `reads_only` refuses every write; `repos` are names with their privacy.
    """

    accepts: str
    reads_only: bool = False
    repos: dict[str, bool] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""

    def answer(self, method: str, path: str, body: bytes, token: str | None) -> tuple[int, Any]:
        """The status and the JSON of an answer."""
        self.requests.append((method, path))
        if token != self.accepts:
            return 401, {"error": "Invalid username or password."}
        if path == "/api/whoami-v2":
            return 200, {"type": "user", "name": "somebody"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        name = "/".join(path.split("/")[3:5])
        if name not in self.repos:
            return 404, {"error": "Repository not found"}
        if method == "GET":
            return 200, {"id": name, "private": self.repos[name], "siblings": []}
        if "/preupload/" in path:
            asked = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in asked]
            return 200, {"files": modes}
        return self._commit(name, body)

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name = f"{asked['organization']}/{asked['name']}"
        if self.reads_only:
            return 403, {"error": "You don't have the rights to create a model under this namespace"}
        if name in self.repos:
            return 409, {"error": "You already created this model repo", "url": f"{self.address}/{name}"}
        self.repos[name] = asked.get("visibility") == "private" or bool(asked.get("private"))
        return 200, {"url": f"{self.address}/{name}"}

    def _commit(self, name: str, body: bytes) -> tuple[int, Any]:
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        return 200, {"commitUrl": f"{self.address}/{name}/commit/{'0' * 40}", "commitOid": "0" * 40}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Let `hub` answer on a free port of this machine; its `address` says where."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self._body()
            token = (self.headers.get("authorization") or "").removeprefix("Bearer ") or None
            status, found = hub.answer(self.command, self.path.partition("?")[0], body, token)
            text = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("content-length") or 0))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        do_GET = do_POST = _answer  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
