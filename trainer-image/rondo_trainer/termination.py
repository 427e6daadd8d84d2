"""
SIGTERM: a process that is PID 1 has no default action for it.

Holds: by itself it ends the work at once, by an error that no handler of errors takes; inside deferred() it only sets a flag that the work
looks at, and the work ends with its next step. Nothing is printed in a signal handler: it may have come in the middle of a print.
Does not: write a checkpoint (train.py), or know exit codes (__main__.py).
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class StoppedError(BaseException):
    """A SIGTERM has come."""


def end_on_sigterm() -> None:
    signal.signal(signal.SIGTERM, end)


def end(_signal: int, _frame: Any) -> None:
    raise StoppedError


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Gives whether a SIGTERM has come. One that came while nothing looked ends the process when the block is left."""
    asked = False

    def note(_signal: int, _frame: Any) -> None:
        nonlocal asked
        asked = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGTERM, before)
    if asked:
        raise StoppedError
