"""
The report: a line per check and, where something is to be said, what docs/trainer.md says about it; or the same as JSON.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from .verdict import BROKEN, NOT_TRIED, OK, WARNING, Verdict

STATUSES = (OK, WARNING, BROKEN, NOT_TRIED)


def line(verdict: Verdict) -> str:
    text = f"{verdict.status:<10} {verdict.check:<18} {verdict.sentence}"
    return text if verdict.status == OK else f"{text}\n{'':<30}docs/trainer.md: {verdict.says}"


def summary(verdicts: Sequence[Verdict]) -> str:
    counts = Counter(verdict.status for verdict in verdicts)
    counted = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    return f"{counted}: {'the contract is kept' if is_kept(verdicts) else 'the contract is broken'}"


def is_kept(verdicts: Sequence[Verdict]) -> bool:
    """Warnings and what this trainer has nothing to be tried with do not break it; nor does a report of nothing keep it."""
    return any(verdict.status == OK for verdict in verdicts) and not any(verdict.status == BROKEN for verdict in verdicts)


def as_json(trainer: str, kinds: Sequence[str], verdicts: Sequence[Verdict]) -> str:
    checks = [{"check": v.check, "status": v.status, "sentence": v.sentence, "says": v.says} for v in verdicts]
    return json.dumps({"trainer": trainer, "kinds": list(kinds), "kept": is_kept(verdicts), "checks": checks}, indent=2)
