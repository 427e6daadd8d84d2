"""
The far side of the trainer in its tests: an agent's task API over real TLS, with faults on demand.

Holds: one task, one token; what the trainer sent is kept in order.
"""

import json
import ssl
import subprocess
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "token-of-this-task"


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1, as an agent's names its cluster IP: (certificate, key)."""
    certificate, key = folder / "ca.crt", folder / "tls.key"
    subject = ["-subj", "/CN=task-server", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command = ["openssl", "req", "-x509", *curve, "-keyout", key, "-out", certificate, *subject]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@dataclass
class Agent:
    """files: what GET answers with, by path; failures: statuses that the next calls of "METHOD path" get first."""

    task: dict[str, Any] | bytes
    files: dict[str, bytes] = field(default_factory=dict)
    failures: dict[str, list[int]] = field(default_factory=dict)
    progress: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    adapter: bytes | None = None
    result: dict[str, Any] | None = None


class TaskServer:
    def __init__(self, agent: Agent, folder: Path) -> None:
        self.ca_file, key = make_certificate(folder)
        self.token_file = folder / "token"
        self.token_file.write_text(TOKEN + "\n")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.ca_file, key)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(agent))
        self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "TaskServer":
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def handler_of(agent: Agent) -> type[BaseHTTPRequestHandler]:  # noqa: C901
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def is_stopped(self, call: str) -> bool:
            agent.calls.append(call)
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                self.answer(401)
                return True
            if agent.failures.get(call):
                self.body()
                self.answer(agent.failures[call].pop(0), b"not now")
                return True
            return False

        def do_GET(self) -> None:
            if self.is_stopped(f"GET {self.path}"):
                return
            if self.path == "/v1/task":
                self.answer(200, agent.task if isinstance(agent.task, bytes) else json.dumps(agent.task).encode())
            elif self.path in agent.files:
                self.answer(200, agent.files[self.path])
            else:
                self.answer(404)

        def do_POST(self) -> None:
            if not self.is_stopped(f"POST {self.path}"):
                agent.progress.append(json.loads(self.body()))
                self.answer(204)

        def do_PUT(self) -> None:
            if self.is_stopped(f"PUT {self.path}"):
                return
            if self.path == "/v1/task/adapter":
                agent.adapter = self.body()
            else:
                agent.result = json.loads(self.body())
            self.answer(204)

    return Handler
