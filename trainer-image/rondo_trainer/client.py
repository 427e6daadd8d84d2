"""
The task API of the agent (docs/trainer.md), over HTTPS with the standard library alone.

Holds: every call but progress is repeated with backoff while the agent restarts, until the task's deadline; a call that the
agent refuses (4xx) is never repeated. The token is read anew for each call, the certificate is checked against RONDO_TASK_CA alone.
Does not: decide what to fetch or hand back (__main__.py).
"""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from .exits import AgentUnreachableError, InputMissingError, RefusedError, TrainerError

CHUNK_BYTES = 1 << 20
CALL_SECONDS = 30
"""Silence after which a call counts as lost: longer than any fsync of an adapter, shorter than an agent's restart."""
PROGRESS_SECONDS = 2
"""Progress is a courtesy: training never waits longer than this for it."""
PROGRESS_PAUSE_SECONDS = 10
"""After a lost progress call the next ones are dropped for so long, or a dead agent would slow every step down."""
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10
PATIENCE_SECONDS = 300
"""How long an agent may be away while the task, and with it the deadline, is not known yet: a rescheduled pod needs a minute or two."""

LOST = (OSError, http.client.HTTPException)
"""OSError: connection refused, reset, timed out, TLS; HTTPException: an answer that breaks off. A wrong certificate is told apart."""
REPEATED_STATUSES = (401, 408, 425, 429)
"""401: an agent that has just restarted opens its tasks again a moment after its port. A token whose task is over gets the same
answer, but its Job is then being deleted."""


class TaskClient:
    """One agent, one task. deadline_ms is set once the task is known."""

    def __init__(self, url: str, ca_file: Path, token_file: Path) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise TrainerError(f"RONDO_TASK_URL is {url!r}; it must be https://host:port")
        if not ca_file.is_file():
            raise InputMissingError(f"RONDO_TASK_CA names {ca_file}, which does not exist; mount the task's Secret")
        self.host, self.port, self.prefix = parts.hostname, parts.port or 443, parts.path.rstrip("/")
        self.token_file = token_file
        self.tls = ssl.create_default_context(cafile=str(ca_file))
        self.deadline_ms: int | None = None
        self.started = time.monotonic()
        self.progress_not_before = 0.0

    def task(self) -> bytes:
        return self.repeat(lambda: self.call(Request("GET", "/v1/task"), read_all))

    def download(self, path: str, into: Path) -> None:
        """Fetches an adapter; a download that breaks off begins anew."""
        self.repeat(lambda: self.call(Request("GET", path), lambda answer: write_all(answer, into)))

    def upload(self, path: str, file: Path) -> None:
        def once() -> None:
            with file.open("rb") as body:
                self.call(Request("PUT", path, body, file.stat().st_size, "application/octet-stream"), read_all)

        self.repeat(once)

    def put_json(self, path: str, document: dict[str, Any]) -> None:
        self.repeat(lambda: self.call(json_request("PUT", path, document), read_all))

    def progress(self, document: dict[str, Any]) -> bool:
        """At most one a second is sent, and losing one does not matter. True when it was its turn."""
        now = time.monotonic()
        if now < self.progress_not_before:
            return False
        self.progress_not_before = now + 1
        try:
            self.call(json_request("POST", "/v1/task/progress", document, PROGRESS_SECONDS), read_all)
        except (*LOST, TrainerError):
            self.progress_not_before = time.monotonic() + PROGRESS_PAUSE_SECONDS
        return True

    def call(self, request: Request, receive: Callable[[http.client.HTTPResponse], Any]) -> Any:
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=request.seconds, context=self.tls)
        try:
            headers = {"Authorization": f"Bearer {self.token_file.read_text().strip()}"}
            if request.content_type:
                headers |= {"Content-Type": request.content_type, "Content-Length": str(request.length)}
            connection.request(request.method, self.prefix + request.path, request.body, headers)
            answer = connection.getresponse()
            if answer.status < 300:
                return receive(answer)
            reason = answer.read(1024).decode("utf-8", "replace").strip()
            if 400 <= answer.status < 500 and answer.status not in REPEATED_STATUSES:
                raise RefusedError(f"{request.method} {request.path} was answered {answer.status}: {reason or answer.reason}")
            raise http.client.HTTPException(f"{answer.status} {reason or answer.reason}")
        finally:
            connection.close()

    def repeat(self, once: Callable[[], Any]) -> Any:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return once()
            except ssl.SSLCertVerificationError as error:
                raise AgentUnreachableError(f"the agent's certificate is not of RONDO_TASK_CA ({error.verify_message})") from None
            except LOST as error:
                if self.left_seconds() <= pause:
                    raise AgentUnreachableError(f"no answer from the agent until the deadline ({error})") from None
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def left_seconds(self) -> float:
        if self.deadline_ms is None:
            return self.started + PATIENCE_SECONDS - time.monotonic()
        return self.deadline_ms / 1000 - time.time()


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes | BinaryIO | None = None
    length: int = 0
    content_type: str = ""
    seconds: float = CALL_SECONDS


def json_request(method: str, path: str, document: dict[str, Any], seconds: float = CALL_SECONDS) -> Request:
    body = json.dumps(document).encode()
    return Request(method, path, body, len(body), "application/json", seconds)


def read_all(answer: http.client.HTTPResponse) -> bytes:
    return answer.read()


def write_all(answer: http.client.HTTPResponse, into: Path) -> None:
    with into.open("wb") as file:
        shutil.copyfileobj(answer, file, CHUNK_BYTES)
    # copyfileobj takes an early end of the stream for its end.
    expected = answer.getheader("Content-Length")
    if expected is not None and into.stat().st_size != int(expected):
        raise http.client.IncompleteRead(b"", int(expected) - into.stat().st_size)
