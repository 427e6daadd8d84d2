"""
Whether a task fits into the site's privacy budget. Pure: the agent keeps the history and hands it over in task.json.

Holds: the whole history counts, at the budget's own δ, composed as one mechanism instead of adding up the rounds' ε. Whether earlier
rounds saw the same records is not known here and hence assumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..exits import BudgetExceededError
from .accountant import Method, spent_epsilon
from .settings import Budget, Spent


@dataclass(frozen=True)
class Affordable:
    """epsilon_after: of history and task together, at the budget's δ; method: which bound of accountant.py that is."""

    epsilon_after: float
    method: Method


def require_affordable(budget: Budget, history: Sequence[Spent], cost: Spent) -> Affordable:
    """
    Raises:
        BudgetExceededError: after the task, more than the budget would be spent. Nothing has been spent yet.
        TaskNotUnderstoodError: settings that no theorem covers.
    """
    after = spent_epsilon([*history, cost], budget.delta)
    if after.epsilon <= budget.epsilon:
        return Affordable(after.epsilon, after.method)
    before = spent_epsilon(history, budget.delta).epsilon
    raise BudgetExceededError(
        f"epsilon {before:.4g} of {budget.epsilon:g} (at delta {budget.delta:g}) is spent, and {cost.steps} steps with noise multiplier "
        f"{cost.noise_multiplier:g} and sample rate {cost.sample_rate:g} would make it {after.epsilon:.4g}; lower training.steps or "
        "recordPrivacy.sampleRate, raise recordPrivacy.noiseMultiplier, or let the site's owner raise the budget"
    )
