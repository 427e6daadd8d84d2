"""
The far side of the trainer under check: an agent's task API over TLS, with faults on demand and a journal of what was asked.

Holds: it answers as the operator's own task server does: the adapter before the result, a wrong adapterSha256 is 422, another token 401.
Does not: judge; it takes an adapter whatever is in it, and the journal has all.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .certificate import Certificate

JSON_BYTES = 64 << 10
IDLE_SECONDS = 60


@dataclass(frozen=True)
class Call:
    """at: seconds since the server's start; document: a JSON body; file: where an adapter's body lies."""

    name: str
    status: int
    at: float
    document: Any = None
    file: Path | None = None


@dataclass
class Agent:
    """
    files: what GET has, by path. failures: statuses that the next calls of "METHOD path" get first, refusals: those that it always gets;
    drops: connections that are closed without a word; is_gone_after: once this call was answered, every call gets 503.
    """

    task: dict[str, Any]
    files: dict[str, Path]
    folder: Path
    failures: dict[str, list[int]] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    drops: int = 0
    is_gone_after: str | None = None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    calls: list[Call] = field(default_factory=list)
    strangers: int = 0
    started: float = field(default_factory=time.monotonic)

    def last(self, name: str) -> Call | None:
        return next((call for call in reversed(self.calls) if call.name == name), None)

    def scheduled(self, name: str) -> int | None:
        """The status that this call gets instead of an answer."""
        if self.is_gone_after and self.last(self.is_gone_after):
            return 503
        if self.failures.get(name):
            return self.failures[name].pop(0)
        return self.refusals.get(name)

    def accept_adapter(self, file: Path) -> tuple[int, bytes]:
        if self.task["kind"] == "evaluate":
            return 405, b"a task of kind evaluate delivers no adapter"
        return 200, json.dumps({"sha256": sha256(file), "byteLength": file.stat().st_size}).encode()

    def accept_result(self, document: Any) -> tuple[int, bytes]:
        if not isinstance(document, dict):
            return 400, b"the result is no JSON object"
        adapter = next((call for call in reversed(self.calls) if call.name == "PUT /v1/task/adapter" and call.status == 200), None)
        if self.task["kind"] == "evaluate":
            return 204, b""
        if adapter is None or adapter.file is None:
            return 409, b"PUT /v1/task/adapter comes before the result"
        said = document.get("adapterSha256")
        if said is not None and str(said).replace("sha256:", "", 1) != sha256(adapter.file):
            return 422, f"adapterSha256 is {said}, but the adapter received has {sha256(adapter.file)}".encode()
        return 204, b""


class AgentServer:
    """Serves one agent on an address for as long as it is entered."""

    def __init__(self, agent: Agent, address: str, certificate: Certificate) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate.file, certificate.key)
        self.server = Server((address, 0), Handler)
        self.server.agent, self.server.tls = agent, tls
        self.url = f"https://{address}:{self.server.server_port}"

    def __enter__(self) -> AgentServer:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class Server(ThreadingHTTPServer):
    agent: Agent
    tls: ssl.SSLContext
    daemon_threads = True

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In a thread of the connection's own, so that a trainer that never finishes its handshake holds up nobody."""
        if self.agent.drops > 0:
            self.agent.drops -= 1
            return
        request.settimeout(IDLE_SECONDS)
        try:
            with self.tls.wrap_socket(request, server_side=True) as secure:
                super().finish_request(secure, client_address)
        except (ssl.SSLError, OSError):
            self.agent.strangers += 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a trainer that was ended breaks its connections off


class Handler(BaseHTTPRequestHandler):
    """A connection's calls, each written down before it is answered."""

    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, name: str, status: int, body: bytes = b"", **received: Any) -> None:
        # Before the answer: a trainer may be gone, and judged, before this thread goes on.
        agent = self.server.agent
        agent.calls.append(Call(name, status, time.monotonic() - agent.started, **received))
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def is_stopped(self, name: str, **received: Any) -> bool:
        agent = self.server.agent
        if self.headers["Authorization"] != f"Bearer {agent.token}":
            self.answer(name, 401, b"this token opens no task (any more)", **received)
            return True
        status = agent.scheduled(name)
        if status is not None:
            self.answer(name, status, b"this is a check of how the trainer takes it", **received)
        return status is not None

    def do_GET(self) -> None:
        agent = self.server.agent
        name = f"GET {self.path}"
        if self.is_stopped(name):
            return
        if self.path == "/v1/task":
            self.answer(name, 200, json.dumps(agent.task).encode())
        elif self.path in agent.files:
            self.answer(name, 200, agent.files[self.path].read_bytes())
        else:
            self.answer(name, 404, b"there is no such thing in this task")

    def do_POST(self) -> None:
        document = self.read_json()
        if not self.is_stopped(f"POST {self.path}", document=document):
            self.answer(f"POST {self.path}", 204 if isinstance(document, dict) else 400, document=document)

    def do_PUT(self) -> None:
        agent = self.server.agent
        name = f"PUT {self.path}"
        if self.path == "/v1/task/adapter":
            file = agent.folder / f"received-{len(agent.calls)}.safetensors"
            with file.open("wb") as into:
                for chunk in body_of(self):
                    into.write(chunk)
            if not self.is_stopped(name, file=file):
                self.answer(name, *agent.accept_adapter(file), file=file)
        else:
            document = self.read_json()
            if not self.is_stopped(name, document=document):
                self.answer(name, *agent.accept_result(document), document=document)

    def read_json(self) -> Any:
        text = b"".join(body_of(self))
        try:
            return json.loads(text) if len(text) <= JSON_BYTES else None
        except ValueError:
            return None


def body_of(handler: BaseHTTPRequestHandler) -> Any:
    """The body in chunks, whichever way HTTP/1.1 tells its length."""
    if handler.headers.get("Transfer-Encoding", "").lower() == "chunked":
        while size := int(handler.rfile.readline().partition(b";")[0], 16):
            yield handler.rfile.read(size)
            handler.rfile.readline()
        handler.rfile.readline()
        return
    left = int(handler.headers.get("Content-Length") or 0)
    while left > 0:
        chunk = handler.rfile.read(min(left, 1 << 20))
        if not chunk:
            raise ConnectionError("the body breaks off")
        left -= len(chunk)
        yield chunk


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
