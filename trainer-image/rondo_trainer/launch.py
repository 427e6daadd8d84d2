"""
One process per GPU of this container, all of them this program; the parent waits and answers for them.

Holds: the first that fails ends the others, and its exit code is the task's: torch's own launchers turn every code into 1, and an agent
would retry data that will never be right. A SIGTERM goes to all.
Does not: train; alone (one GPU or none) nothing is started.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

POLL_SECONDS = 0.05
GRACE_SECONDS = 20
"""For those that are left once one has failed: they may hang in an exchange that it will not answer any more."""


def run_ranks(command: Sequence[str], count: int) -> int:
    """The exit code of the first rank that failed; 0 when all are done."""
    port = str(free_port())
    where = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])}
    ranks: list[subprocess.Popen[bytes]] = []
    for rank in range(count):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        ranks.append(subprocess.Popen(command, env={**os.environ, **where, **place, **meeting}))
    signal.signal(signal.SIGTERM, lambda *_: [rank.terminate() for rank in ranks])
    return first_failure(ranks)


def first_failure(ranks: list[subprocess.Popen[bytes]]) -> int:
    waiting = list(ranks)
    while waiting:
        for rank in [rank for rank in waiting if rank.poll() is not None]:
            waiting.remove(rank)
            if rank.returncode != 0:
                end(waiting)
                return exit_code(rank.returncode)
        time.sleep(POLL_SECONDS)
    return 0


def exit_code(returncode: int) -> int:
    """As a shell has it: 128 and the signal's number."""
    return returncode if returncode >= 0 else 128 - returncode


def end(ranks: list[subprocess.Popen[bytes]]) -> None:
    for rank in ranks:
        rank.terminate()
    until = time.monotonic() + GRACE_SECONDS
    for rank in ranks:
        try:
            rank.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            rank.kill()
            rank.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def own_command() -> list[str]:
    return [sys.executable, "-m", "rondo_trainer"]
