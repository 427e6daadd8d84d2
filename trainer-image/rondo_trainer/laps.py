"""How long each part of a task's start took, for whoever wonders why it takes so long until the first step."""

import time


class Laps:
    """Counts from when the process began to work."""

    def __init__(self, started: float) -> None:
        self.started = self.last = started
        self.parts: list[tuple[str, float]] = []

    def lap(self, part: str) -> None:
        """What came since the last one was this."""
        now = time.monotonic()
        self.parts.append((part, now - self.last))
        self.last = now

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {seconds:.1f}" for part, seconds in self.parts)
        return f"{self.last - self.started:.1f} s ({parts})"
