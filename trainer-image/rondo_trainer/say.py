"""What the trainer prints for people, on stderr: one line for each step, and how a task ends."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .train import Progress


def say(sentence: str) -> None:
    print(f"rondo-trainer: {sentence}", file=sys.stderr, flush=True)


def step_line(now: "Progress") -> str:
    """step 12/20  loss 2.31  1 240 tok/s  eta 0:42; without a loss where it must not be told."""
    loss = "" if now.loss is None else f"loss {now.loss:.2f}  "
    speed = f"{now.tokens_per_second:,.0f}".replace(",", " ")
    return f"step {now.step}/{now.steps}  {loss}{speed} tok/s  eta {clock(now.seconds_left)}"


def clock(seconds: float) -> str:
    """0:42, or 1:02:03."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
