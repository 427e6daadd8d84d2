"""
SIGTERM and SIGINT: remembered while a child has to be ended first, an exit at once everywhere else.

Holds: the exit code is 128 + the signal's number. Does not: end the child (child.py).
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any


class StopSignal:
    """number: of the signal that came, None before; is_deferred: whoever set it looks at number and calls leave() itself."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.number: int | None = None
        self.is_deferred = False

    def receive(self, number: int, _frame: Any) -> None:
        self.number = number
        if not self.is_deferred:
            self.leave()

    def leave(self) -> None:
        """SystemExit, which no handler of failed calls takes for one of them."""
        assert self.number is not None
        self.say(f"exit {128 + self.number}: stopped by {signal.Signals(self.number).name}")
        raise SystemExit(128 + self.number)
