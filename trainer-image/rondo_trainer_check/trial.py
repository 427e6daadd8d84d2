"""
One run of the trainer in one situation, and what there is to be seen of it afterwards.

Holds: it ends: what is not over after the limit is killed, and so is whatever it left behind. Does not: judge (checks.py).
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .agent import Agent, AgentServer, Call
from .certificate import Certificate
from .fixtures import Fixtures
from .launch import Access, Launch, Started

LOOK_SECONDS = 0.1
OUTPUT_BYTES = 1 << 20


@dataclass(frozen=True)
class Situation:
    """
    task: fields that differ from the usual ones, None to leave them. parent: file of the parent adapter. data: of the site, None where
    none is mounted. agent: fields of Agent. stop_when: SIGTERM is sent once this is true of the journal.
    """

    kind: str
    task: dict[str, Any] = field(default_factory=dict)
    parent: Path | None = None
    data: Path | None = None
    agent: dict[str, Any] = field(default_factory=dict)
    stop_when: Callable[[list[Call]], bool] | None = None
    is_strange: bool = False
    """The server shows a certificate that is not of RONDO_TASK_CA."""


@dataclass(frozen=True)
class Trial:
    """
    exit_code: 128 + n after signal n, None where it had to be killed; stop_seconds: from SIGTERM to its end; strangers: connections whose
    handshake failed; strays: files outside /rondo/out and /tmp.
    """

    kind: str
    exit_code: int | None
    seconds: float
    stop_seconds: float | None
    output: str
    calls: tuple[Call, ...]
    strangers: int
    strays: tuple[str, ...]
    token: str

    def named(self, name: str) -> list[Call]:
        return [call for call in self.calls if call.name == name]


@dataclass(frozen=True)
class Limits:
    """seconds: of a whole trial; grace_seconds: from SIGTERM to the end."""

    seconds: float
    grace_seconds: float


class Stand:
    """Where trials take place: the trainer, its fixtures and limits, a folder for all that comes of them."""

    def __init__(self, launch: Launch, fixtures: Fixtures, limits: Limits, folder: Path) -> None:
        self.launch, self.fixtures, self.limits, self.folder = launch, fixtures, limits, folder

    def run(self, name: str, situation: Situation, trusted: Certificate, shown: Certificate) -> Trial:
        scratch = self.folder / name
        secret = scratch / "secret"
        secret.mkdir(parents=True)
        agent = self.agent_of(situation, scratch)
        shutil.copy(trusted.file, secret / "ca.crt")
        (secret / "token").write_text(agent.token)
        watched = (self.fixtures.model, self.fixtures.data, scratch / "work")
        before = {folder: listing(folder) for folder in watched}
        with AgentServer(agent, self.launch.address, shown) as server:
            access = Access(server.url, secret, self.fixtures.model, situation.data, scratch)
            started_at = time.monotonic()
            started = self.launch.start(access, scratch / "output")
            exit_code, stop_seconds = self.follow(started, agent, situation)
            seconds = time.monotonic() - started_at
        return Trial(
            kind=situation.kind,
            exit_code=exit_code,
            seconds=seconds,
            stop_seconds=stop_seconds,
            output=(scratch / "output").read_bytes()[-OUTPUT_BYTES:].decode("utf-8", "replace"),
            calls=tuple(agent.calls),
            strangers=agent.strangers,
            strays=strays(before),
            token=agent.token,
        )

    def agent_of(self, situation: Situation, folder: Path) -> Agent:
        files = {}
        if situation.kind != "initialise":
            files["/v1/task/adapter"] = situation.parent or self.fixtures.parent
        if situation.kind == "evaluate":
            files["/v1/task/candidate"] = self.fixtures.other
        return Agent({**self.fixtures.task(situation.kind), **situation.task}, files, folder, **situation.agent)

    def follow(self, started: Started, agent: Agent, situation: Situation) -> tuple[int | None, float | None]:
        begin, stopped_at = time.monotonic(), None
        try:
            while started.process.poll() is None:
                now = time.monotonic()
                if stopped_at is None and situation.stop_when and situation.stop_when(agent.calls):
                    started.terminate()
                    stopped_at = now
                limit = begin + self.limits.seconds if stopped_at is None else stopped_at + self.limits.grace_seconds
                if now > limit:
                    return None, stopped_at and now - stopped_at
                try:
                    started.process.wait(LOOK_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
            code = started.process.returncode
            return (code if code >= 0 else 128 - code), stopped_at and time.monotonic() - stopped_at
        finally:
            started.kill()


def strays(before: dict[Path, frozenset[tuple[str, int, int]]]) -> tuple[str, ...]:
    """Files that were made, changed or removed where a trainer has nothing to write."""
    return tuple(sorted({f"{folder.name}/{name}" for folder, files in before.items() for name, _, _ in files ^ listing(folder)}))


def listing(folder: Path) -> frozenset[tuple[str, int, int]]:
    """Every file below with its size and time of change."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return frozenset((str(file.relative_to(folder)), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
