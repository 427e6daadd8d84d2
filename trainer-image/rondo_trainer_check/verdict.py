"""
What a check can come to. A judge returns a sentence where all is well and raises one of these where it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

OK, BROKEN, WARNING, NOT_TRIED = "ok", "broken", "warning", "not tried"


@dataclass(frozen=True)
class Verdict:
    """says: what docs/trainer.md says, literally."""

    check: str
    status: str
    sentence: str
    says: str


class Finding(Exception):  # noqa: N818, a verdict and no error of this program
    status = BROKEN


class Broken(Finding):
    """The trainer does not keep the contract."""


class Warned(Finding):
    """It keeps the contract, and somebody will be sorry."""

    status = WARNING


class NotTried(Finding):
    """Something else went wrong first, or this trainer has nothing to be tried."""

    status = NOT_TRIED
