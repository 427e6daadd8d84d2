"""
`recordPrivacy` of task.json: what DP-SGD is to do, what the site allows in all, and what its earlier rounds have spent.

Holds: a RecordPrivacy is complete and in range. Does not: account (accountant.py), judge the budget (ledger.py), or import anything
heavy, because task.py reads it before PyTorch is loaded.
"""

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..exits import TaskNotUnderstoodError

if TYPE_CHECKING:
    from ..task import Fields

MOST_SPENT = 10_000
"""Entries: a round a day for 27 years. The agent merges rounds of the same settings before it comes to that."""
MOST_STEPS = 1_000_000_000


@dataclass(frozen=True)
class Spent:
    """
    One run of DP-SGD, or several of the same settings.

    noise_multiplier: the noise's standard deviation in units of the clipping norm; sample_rate: of the Poisson sampling, in (0, 1].
    """

    noise_multiplier: float
    sample_rate: float
    steps: int


@dataclass(frozen=True)
class Budget:
    """(ε, δ) that the site's owner allows for everything that its records have ever been trained on."""

    epsilon: float
    delta: float


@dataclass(frozen=True)
class RecordPrivacy:
    """spent: of earlier tasks, this one not among them."""

    noise_multiplier: float
    max_grad_norm: float
    sample_rate: float
    budget: Budget
    spent: tuple[Spent, ...]

    def cost(self, steps: int) -> Spent:
        return Spent(self.noise_multiplier, self.sample_rate, steps)


def parse_record_privacy(fields: "Fields") -> RecordPrivacy:
    """
    Raises:
        TaskNotUnderstoodError: with the field, its value and what is allowed.
    """
    budget = fields.object("budget")
    return RecordPrivacy(
        noise_multiplier=fields.decimal("noiseMultiplier"),
        max_grad_norm=fields.decimal("maxGradNorm"),
        sample_rate=parse_sample_rate(fields),
        budget=Budget(epsilon=budget.decimal("epsilon"), delta=parse_delta(budget)),
        spent=parse_spent(fields),
    )


def parse_sample_rate(fields: "Fields") -> float:
    rate = fields.decimal("sampleRate")
    if rate > 1:
        raise refused(fields, "sampleRate", "a decimal above 0 and at most 1")
    return rate


def parse_delta(budget: "Fields") -> float:
    delta = budget.decimal("delta")
    if delta >= 1:
        raise refused(budget, "delta", 'a decimal between 0 and 1 such as "0.00001", well below one over the number of records')
    return delta


def parse_spent(fields: "Fields") -> tuple[Spent, ...]:
    entries = fields.value("spent")
    if not isinstance(entries, list):
        raise refused(fields, "spent", "a list of {noiseMultiplier, sampleRate, steps}, empty before the first round")
    if len(entries) > MOST_SPENT:
        allowed = f"at most {MOST_SPENT}: merge rounds of the same settings by adding up their steps"
        raise TaskNotUnderstoodError(f"{fields.path}spent has {len(entries)} entries; it must have {allowed}")
    return tuple(parse_entry(fields, index, entry) for index, entry in enumerate(entries))


def parse_entry(fields: "Fields", index: int, entry: Any) -> Spent:
    path = f"{fields.path}spent[{index}]"
    if not isinstance(entry, dict):
        raise TaskNotUnderstoodError(f"{path} is a {type(entry).__name__}; it must be an object {{noiseMultiplier, sampleRate, steps}}")
    one = replace(fields, path=f"{path}.", values=entry)
    return Spent(
        noise_multiplier=one.decimal("noiseMultiplier"),
        sample_rate=parse_sample_rate(one),
        steps=one.integer("steps", 1, MOST_STEPS),
    )


def refused(fields: "Fields", name: str, allowed: str) -> TaskNotUnderstoodError:
    # task.py's own refuse would make a circle of imports: task.py calls this file.
    return TaskNotUnderstoodError(f"{fields.path}{name} is {json.dumps(fields.values[name])[:120]}; it must be {allowed}")
