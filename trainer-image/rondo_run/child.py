"""
CMD as a child: started in a process group of its own, watched, and ended in time.

Holds: a stop signal and the deadline end the whole group, first by SIGTERM, after the grace by SIGKILL; nothing of the group is alive
when run_command returns. stdin is empty, stdout and stderr are rondo-run's own.
Does not: look at what CMD writes; `between` is called several times a second for that.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from rondo_trainer.exits import TrainerError

from .stop_signal import StopSignal

LOOK_SECONDS = 0.2
DELIVERY_SECONDS = 5
"""What is left before the deadline once CMD has ended: enough for an adapter of a few hundred MB within a cluster."""


class NotStartedError(TrainerError):
    """CMD is not there or no program: 127 and 126, as shells, env and timeout have it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Command:
    arguments: list[str]
    environment: dict[str, str]
    grace_seconds: float


@dataclass(frozen=True)
class Deadline:
    """By the agent's clock; its own and this one belong to one cluster, seconds apart at most."""

    ms: int | None

    def left_seconds(self) -> float:
        return float("inf") if self.ms is None else self.ms / 1000 - time.time()


def run_command(command: Command, deadline: Deadline, stop: StopSignal, between: Callable[[], None]) -> int:
    """
    CMD's exit code; 128 + n where signal n ended it.

    Raises:
        SystemExit: a stop signal came, and CMD has ended since.
        TrainerError: the deadline leaves no time, or CMD cannot be started.
    """
    needed = command.grace_seconds + DELIVERY_SECONDS
    if deadline.left_seconds() <= needed:
        raise TrainerError(f"the deadline is in {deadline.left_seconds():.0f} s, too soon to begin; give the round's training longer")
    stop.is_deferred = True
    process = start(command)
    try:
        while stop.number is None and deadline.left_seconds() > needed and is_running(process):
            between()
        if process.poll() is None and stop.number is None:
            stop.say("the deadline is near: CMD is asked to end; what it leaves is delivered if it ends with 0")
    finally:
        end_group(process, command.grace_seconds)
    stop.is_deferred = False
    if stop.number is not None:
        stop.leave()
    between()
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def start(command: Command) -> subprocess.Popen[bytes]:
    program = command.arguments[0]
    try:
        return subprocess.Popen(command.arguments, env=command.environment, stdin=subprocess.DEVNULL, start_new_session=True)
    except FileNotFoundError:
        raise NotStartedError(127, f"there is no {program} in this image; name the program as the image's PATH finds it") from None
    except OSError as error:
        raise NotStartedError(126, f"{program} cannot be started: {error.strerror}; is it executable, with a first line of #!?") from None


def is_running(process: subprocess.Popen[bytes]) -> bool:
    """Waits a moment for its end."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(LOOK_SECONDS)
    return process.poll() is None


def end_group(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    if process.poll() is None:
        signal_group(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_seconds)
    # Also what CMD has left behind: it could go on writing into files that are being delivered.
    signal_group(process, signal.SIGKILL)
    process.wait()


def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
