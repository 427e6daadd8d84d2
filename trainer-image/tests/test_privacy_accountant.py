"""ε against dp-accounting's privacy loss distributions, which share no code with ours."""

import itertools
import math
import time

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant

from rondo_trainer.exits import TaskNotUnderstoodError
from rondo_trainer.privacy.accountant import merged, renyi_epsilon, spent_epsilon
from rondo_trainer.privacy.settings import Spent

ONE_SETTING = [
    ([Spent(noise, rate, steps)], delta)
    for (noise, rate, steps), delta in zip(
        itertools.product((0.4, 0.7, 1.0, 2.0, 5.0), (0.001, 0.01, 0.1, 0.5, 1.0), (1, 40, 1000)),
        itertools.cycle((1e-5, 1e-7)),
        strict=False,
    )
]
SEVERAL_SETTINGS = [
    ([Spent(1.0, 0.01, 40), Spent(2.0, 0.05, 40)], 1e-5),
    ([Spent(1.0, 0.01, 40), Spent(2.0, 1.0, 5)], 1e-6),
    ([Spent(0.8, 0.001, 1), Spent(4.0, 0.3, 200), Spent(1.5, 0.02, 77)], 1e-5),
    ([Spent(10.0, 0.5, 1), Spent(0.5, 0.002, 300)], 1e-6),
    ([Spent(3.0, 1.0, 7), Spent(5.0, 1.0, 9), Spent(1.2, 0.03, 100)], 1e-5),
    ([Spent(1.0 + n / 10, 0.01 + n / 1000, 40) for n in range(10)], 1e-5),
    ([Spent(1.1, 0.02, 60), Spent(1.3, 0.02, 60)] * 5, 1e-6),
    ([Spent(0.6, 0.004, 10), Spent(20.0, 0.9, 100)], 1e-5),
]

VECTORS = [
    # (noise multiplier, sample rate, steps, delta, epsilon): made with dp_accounting's PLD accountant at commit b5b0286e.
    (1.1, 0.004266666666666667, 14063, 1e-5, 2.381778812581751),
    (1.0, 0.01, 1000, 1e-5, 1.8282436455855091),
    (1.5, 0.04, 2250, 1e-5, 6.768787373891152),
    (0.8, 0.1, 100, 1e-5, 10.976378173468584),
    (1.0, 0.1, 100, 1e-5, 7.04660287720805),
    (2.0, 0.2, 200, 1e-6, 8.225987714447932),
    (4.0, 0.5, 100, 1e-5, 5.868720578133993),
    (1.0, 1.0, 1, 1e-5, 4.37717810002493),
    (1.0, 1.0, 10, 1e-5, 17.85658683146691),
    (5.0, 1.0, 50, 1e-5, 6.572970071144044),
    (10.0, 1.0, 100, 1e-6, 4.886554124377032),
    (20.0, 1.0, 100, 1e-6, 2.2540846566590376),
]


def oracle(history: list[Spent], delta: float, grid: float = 1e-4) -> float:
    # Its own grid must be finer than a step's loss, else it is the oracle that is too high.
    least = min(run.sample_rate / run.noise_multiplier for run in history)
    accountant = PLDAccountant(value_discretization_interval=min(grid, 0.05 * least))
    for run in history:
        gaussian = dp_accounting.GaussianDpEvent(run.noise_multiplier)
        accountant.compose(dp_accounting.PoissonSampledDpEvent(run.sample_rate, gaussian), run.steps)
    return accountant.get_epsilon(delta)


def test_the_grid_has_the_size_that_it_claims() -> None:
    assert len(ONE_SETTING) == 75


@pytest.mark.parametrize(("history", "delta"), ONE_SETTING + SEVERAL_SETTINGS)
def test_epsilon_is_within_a_percent_of_the_oracles_and_never_below(history: list[Spent], delta: float) -> None:
    expected, found = oracle(history, delta), spent_epsilon(history, delta)
    assert found.method == "PLD"
    assert expected <= found.epsilon <= 1.01 * expected + 1e-9


@pytest.mark.parametrize(("noise", "rate", "steps", "delta", "expected"), VECTORS)
def test_the_reference_numbers_are_met(noise: float, rate: float, steps: int, delta: float, expected: float) -> None:
    assert expected <= spent_epsilon([Spent(noise, rate, steps)], delta).epsilon <= 1.003 * expected


@pytest.mark.parametrize(("mu", "delta"), [(0.01, 1e-6), (0.1, 1e-9), (1.0, 1e-5), (5.0, 1e-6), (30.0, 1e-6)])
def test_a_full_batch_has_the_gaussian_mechanisms_exact_epsilon(mu: float, delta: float) -> None:
    found = spent_epsilon([Spent(1 / mu, 1.0, 1)], delta).epsilon
    assert gaussian_delta(found / 1.0001, mu) < delta
    assert gaussian_delta(found / 1.003, mu) > delta


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Balle & Wang 2018 (arXiv:1805.06530), theorem 8."""
    from mpmath import exp, mp, ncdf

    mp.dps = 40
    return float(ncdf(mu / 2 - epsilon / mu) - exp(epsilon) * ncdf(-mu / 2 - epsilon / mu))


def test_a_run_in_pieces_costs_what_it_costs_as_a_whole() -> None:
    pieces = [Spent(1.2, 0.02, 30), Spent(2.0, 1.0, 2), Spent(1.2, 0.02, 70), Spent(2.0, 1.0, 1)]
    whole = [Spent(2.0, 1.0, 3), Spent(1.2, 0.02, 100)]
    assert math.isclose(spent_epsilon(pieces, 1e-5).epsilon, spent_epsilon(whole, 1e-5).epsilon, rel_tol=1e-9)


@pytest.mark.parametrize(
    ("cheap", "dear"),
    [
        (Spent(1.0, 0.01, 40), Spent(1.0, 0.01, 41)),
        (Spent(1.0, 0.01, 40), Spent(0.99, 0.01, 40)),
        (Spent(1.0, 0.01, 40), Spent(1.0, 0.0101, 40)),
    ],
)
def test_more_steps_less_noise_and_larger_samples_cost_more(cheap: Spent, dear: Spent) -> None:
    assert spent_epsilon([cheap], 1e-5).epsilon < spent_epsilon([dear], 1e-5).epsilon


def test_nothing_costs_nothing() -> None:
    assert spent_epsilon([], 1e-5).epsilon == 0.0


def test_a_thousand_rounds_of_the_same_settings_take_less_than_two_seconds() -> None:
    started = time.process_time()
    found = spent_epsilon([Spent(2.0, 0.01, 40)] * 1000, 1e-5)
    assert time.process_time() - started < 2
    assert math.isclose(found.epsilon, spent_epsilon([Spent(2.0, 0.01, 40_000)], 1e-5).epsilon, rel_tol=1e-12)


@pytest.mark.parametrize("rate", [1e-6, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("noise", [0.001, 0.01, 0.1, 100.0, 1e5])
@pytest.mark.parametrize("steps", [1, 100_000])
def test_extreme_settings_have_a_number_that_is_finite(noise: float, rate: float, steps: int) -> None:
    found = spent_epsilon([Spent(noise, rate, steps)], 1e-6)
    assert 0 <= found.epsilon < math.inf


def test_a_tiny_noise_costs_what_the_oracle_says() -> None:
    # An epsilon of some 300: the oracle's usual grid would take it minutes and is not needed.
    mechanism = Spent(0.05, 0.5, 1)
    expected = oracle([mechanism], 1e-6, grid=0.01)
    assert expected <= spent_epsilon([mechanism], 1e-6).epsilon <= 1.01 * expected


def test_where_rounding_would_count_renyis_bound_takes_over_and_is_no_lower() -> None:
    history = [Spent(50.0, 0.001, 1_000_000)]
    found = spent_epsilon(history, 1e-10)
    assert found.method == "RDP"
    assert found.epsilon >= spent_epsilon(history, 1e-6).epsilon
    assert found.epsilon == renyi_epsilon(merged(history), 1e-10)


@pytest.mark.parametrize(("noise", "rate", "steps", "delta", "epsilon"), VECTORS)
def test_renyis_bound_is_above_the_truth_and_below_half_as_much_again(
    noise: float, rate: float, steps: int, delta: float, epsilon: float
) -> None:
    assert epsilon < renyi_epsilon(merged([Spent(noise, rate, steps)]), delta) < 1.5 * epsilon


@pytest.mark.parametrize(
    ("spent", "says"),
    [
        (Spent(0.0, 0.1, 1), "noise multiplier 0"),
        (Spent(-1.0, 0.1, 1), "noise multiplier -1"),
        (Spent(math.nan, 0.1, 1), "noise multiplier nan"),
        (Spent(math.inf, 0.1, 1), "noise multiplier inf"),
        (Spent(1.0, 0.0, 1), "sample rate 0"),
        (Spent(1.0, 1.5, 1), r"sample rate 1\.5"),
        (Spent(1.0, math.nan, 1), "sample rate nan"),
        (Spent(1.0, 0.1, 0), "0 steps"),
        (Spent(1.0, 0.1, 1.5), r"1\.5 steps"),
    ],
)
def test_what_no_theorem_covers_is_refused(spent: Spent, says: str) -> None:
    with pytest.raises(TaskNotUnderstoodError, match=rf"run 1: {says}"):
        spent_epsilon([Spent(1.0, 0.1, 1), spent], 1e-5)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_a_delta_that_is_no_probability_is_refused(delta: float) -> None:
    with pytest.raises(TaskNotUnderstoodError, match="delta is"):
        spent_epsilon([Spent(1.0, 0.1, 1)], delta)
