"""
$RONDO_OUT/progress.jsonl, followed while CMD writes it.

Holds: a line counts once its end is written; of several the newest wins, and the client sends at most one a second; no line, however
broken, ends the task. Does not: speak with the agent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

LINE_BYTES = 4096
"""The agent takes no longer ones."""
READ_BYTES = 1 << 20
MOST = 2**53


class ProgressFile:
    """send: True where it took the line, False where it is too early for another one."""

    def __init__(self, file: Path, steps: int, send: Callable[[dict[str, Any]], bool], say: Callable[[str], None]) -> None:
        self.file = file
        self.steps = steps
        self.send = send
        self.say = say
        self.offset = 0
        self.rest = b""
        self.newest: dict[str, Any] | None = None
        self.has_complained = False

    def follow(self) -> None:
        for line in self.new_lines():
            progress = parse_line(line, self.steps)
            if progress:
                self.newest = progress
            elif line.strip():
                self.complain()
        if self.newest and self.send(self.newest):
            self.newest = None

    def new_lines(self) -> list[bytes]:
        try:
            with self.file.open("rb") as content:
                if self.file.stat().st_size < self.offset:  # written anew
                    self.offset, self.rest = 0, b""
                content.seek(self.offset)
                read = content.read(READ_BYTES)
        except OSError:
            return []
        self.offset += len(read)
        *lines, self.rest = (self.rest + read).split(b"\n")
        if len(self.rest) > LINE_BYTES:
            self.rest = b"-"  # remembered as a broken line, without its bulk
        return lines

    def complain(self) -> None:
        if not self.has_complained:
            self.has_complained = True
            self.say('a line of progress.jsonl is passed over; one is {"step": 1, "steps": 40, "loss": 2.5, "tokensPerSecond": 900}')


def parse_line(line: bytes, steps: int) -> dict[str, Any] | None:
    """Only what the agent knows; None where the line has no step."""
    try:
        document = json.loads(line) if len(line) <= LINE_BYTES else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    step, planned = document.get("step"), document.get("steps", steps)
    if not is_count(step) or not is_count(planned):
        return None
    numbers = {name: document[name] for name in ("loss", "tokensPerSecond") if is_finite_number(document.get(name))}
    return {"step": step, "steps": planned, **numbers}


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST


def is_finite_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < MOST if isinstance(value, int) else math.isfinite(value)
