import json
from typing import Any

import pytest

from rondo_trainer import exits
from rondo_trainer.exits import BudgetExceededError, TaskNotUnderstoodError
from rondo_trainer.privacy.accountant import spent_epsilon
from rondo_trainer.privacy.ledger import require_affordable
from rondo_trainer.privacy.settings import Budget, RecordPrivacy, Spent, parse_record_privacy
from rondo_trainer.task import Fields

ROUND = Spent(1.0, 0.01, 100)


def record_privacy(**changes: Any) -> dict[str, Any]:
    return {
        "noiseMultiplier": "1.1",
        "maxGradNorm": "0.5",
        "sampleRate": "0.02",
        "budget": {"epsilon": "8", "delta": "1e-5"},
        "spent": [{"noiseMultiplier": "1.1", "sampleRate": "0.02", "steps": 40}, {"noiseMultiplier": "2", "sampleRate": "1", "steps": 3}],
        **changes,
    }


def parsed(document: dict[str, Any]) -> RecordPrivacy:
    return parse_record_privacy(Fields("recordPrivacy.", json.loads(json.dumps(document))))


def test_the_object_is_read_with_all_that_it_says() -> None:
    read = parsed(record_privacy())
    assert read == RecordPrivacy(1.1, 0.5, 0.02, Budget(8.0, 1e-5), (Spent(1.1, 0.02, 40), Spent(2.0, 1.0, 3)))
    assert read.cost(steps=7) == Spent(1.1, 0.02, 7)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"noiseMultiplier": "0"}, r"recordPrivacy\.noiseMultiplier is"),
        ({"maxGradNorm": "-1"}, r"recordPrivacy\.maxGradNorm is"),
        ({"sampleRate": "1.01"}, r'recordPrivacy\.sampleRate is "1\.01"; it must be a decimal above 0 and at most 1'),
        ({"sampleRate": "0"}, r"recordPrivacy\.sampleRate is"),
        ({"budget": None}, r"recordPrivacy\.budget is null"),
        ({"budget": {"epsilon": "8"}}, r"no recordPrivacy\.budget\.delta"),
        ({"budget": {"epsilon": "8", "delta": "1"}}, r'recordPrivacy\.budget\.delta is "1"'),
        ({"budget": {"epsilon": "0", "delta": "0.1"}}, r"recordPrivacy\.budget\.epsilon is"),
        ({"spent": None}, r"recordPrivacy\.spent is null"),
        ({"spent": ["1"]}, r"recordPrivacy\.spent\[0\] is a str"),
        ({"spent": [{"noiseMultiplier": "1", "sampleRate": "2", "steps": 1}]}, r"recordPrivacy\.spent\[0\]\.sampleRate is"),
        ({"spent": [{"noiseMultiplier": "1", "sampleRate": "0.1", "steps": 0}]}, r"recordPrivacy\.spent\[0\]\.steps is 0"),
        ({"spent": [{"noiseMultiplier": "1", "sampleRate": "0.1"}]}, r"no recordPrivacy\.spent\[0\]\.steps"),
    ],
)
def test_what_is_out_of_range_is_refused_by_its_name(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(TaskNotUnderstoodError, match=says):
        parsed(record_privacy(**changes))


def test_a_history_of_ten_thousand_entries_is_read_and_one_more_is_not() -> None:
    entry = {"noiseMultiplier": "1.1", "sampleRate": "0.02", "steps": 40}
    assert len(parsed(record_privacy(spent=[entry] * 10_000)).spent) == 10_000
    with pytest.raises(TaskNotUnderstoodError, match="has 10001 entries"):
        parsed(record_privacy(spent=[entry] * 10_001))


def test_a_task_within_the_budget_is_affordable_and_says_what_it_leaves_spent() -> None:
    history = [ROUND] * 3
    affordable = require_affordable(Budget(8.0, 1e-5), history, ROUND)
    assert affordable.epsilon_after == spent_epsilon([ROUND] * 4, 1e-5).epsilon
    assert affordable.method == "PLD"


def test_the_budget_itself_may_be_spent_to_the_end_and_not_beyond() -> None:
    exactly = spent_epsilon([ROUND] * 4, 1e-5).epsilon
    require_affordable(Budget(exactly, 1e-5), [ROUND] * 3, ROUND)
    with pytest.raises(BudgetExceededError):
        require_affordable(Budget(exactly * (1 - 1e-9), 1e-5), [ROUND] * 3, ROUND)


def test_a_task_beyond_the_budget_names_what_is_spent_what_it_costs_and_what_to_do() -> None:
    before, after = (spent_epsilon([ROUND] * rounds, 1e-5).epsilon for rounds in (3, 4))
    with pytest.raises(BudgetExceededError) as refusal:
        require_affordable(Budget(1.0, 1e-5), [ROUND] * 3, ROUND)
    message = str(refusal.value)
    for part in (f"epsilon {before:.4g} of 1 (at delta 1e-05)", "100 steps", f"make it {after:.4g}", "raise the budget", "training.steps"):
        assert part in message
    assert refusal.value.code == exits.BUDGET_EXCEEDED == 77
    assert exits.MEANING[77] == "the site's privacy budget forbids it"


def test_rounds_compose_to_less_than_the_sum_of_their_epsilons() -> None:
    alone = spent_epsilon([ROUND], 1e-5).epsilon
    assert require_affordable(Budget(100.0, 1e-5), [ROUND] * 24, ROUND).epsilon_after < 25 * alone / 2


def test_a_first_round_that_is_too_dear_is_refused_with_nothing_spent() -> None:
    with pytest.raises(BudgetExceededError, match="epsilon 0 of 1"):
        require_affordable(Budget(1.0, 1e-5), [], Spent(0.5, 0.5, 100))
