"""
Noise and sampling. Neither can be seeded, so the bounds are wide: each is seven standard deviations of what it bounds or more, and the
whole file fails by chance less than once in 10^10 runs.
"""

import math

import numpy as np
import pytest
import torch

from rondo_trainer.privacy.entropy import random_integers
from rondo_trainer.privacy.noise import CHUNK, gaussian_noise
from rondo_trainer.privacy.sampling import poisson_sample

DRAWS = 1_000_000
DEVIATIONS = 7


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return gaussian_noise(DRAWS, 3.0) / 3.0


def test_noise_has_the_moments_of_a_gaussian(noise) -> None:
    within = DEVIATIONS / math.sqrt(DRAWS)
    assert noise.dtype == np.float64
    assert abs(noise.mean()) < within
    assert abs((noise**2).mean() - 1) < within * math.sqrt(2)
    assert abs((noise**3).mean()) < within * math.sqrt(15)
    assert abs((noise**4).mean() - 3) < within * math.sqrt(96)


@pytest.mark.parametrize("z", [0.5, 1.0, 2.0, 3.0, 4.0])
def test_noise_has_the_tails_of_a_gaussian(noise, z: float) -> None:
    expected = DRAWS * math.erfc(z / math.sqrt(2)) / 2
    # Poisson's own tail is heavier than a Gaussian's where few are expected (32 beyond z = 4): ten deviations there.
    within = 10 * math.sqrt(expected)
    assert abs((noise > z).sum() - expected) < within
    assert abs((noise < -z).sum() - expected) < within


@pytest.mark.parametrize("lag", [1, 2, DRAWS // 4, DRAWS // 2, CHUNK])
def test_draws_are_uncorrelated_with_each_other_and_so_are_their_squares(noise, lag: int) -> None:
    # Neighbours share a pair of Box-Muller: its sine and cosine are independent, and so must be what is made of them.
    others = np.roll(noise, lag)
    within = DEVIATIONS / math.sqrt(DRAWS)
    assert abs((noise * others).mean()) < within
    assert abs(((noise**2 - 1) * (others**2 - 1)).mean()) < 2 * within * math.sqrt(2)


def test_calls_are_independent_whatever_the_seeds() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    first = gaussian_noise(100_000, 1.0)
    torch.manual_seed(1)
    np.random.seed(1)
    second = gaussian_noise(100_000, 1.0)
    assert not np.any(first == second)
    assert abs((first * second).mean()) < DEVIATIONS / math.sqrt(100_000)


@pytest.mark.parametrize("count", [0, 1, 2, 3, CHUNK, CHUNK + 1])
def test_as_much_noise_as_asked_for_at_any_size(count: int) -> None:
    noise = gaussian_noise(count, 1.0)
    assert noise.shape == (count,)
    assert np.all(noise != 0)


def test_integers_use_all_their_bits() -> None:
    integers = random_integers(100_000)
    assert integers.max() < 2**53
    for bit in range(53):
        assert abs((integers >> np.uint64(bit) & np.uint64(1)).mean() - 0.5) < DEVIATIONS * 0.5 / math.sqrt(100_000)


def test_each_record_joins_with_the_rate_and_the_batch_is_binomial() -> None:
    records, rate, steps = 200, 0.1, 5000
    joined = np.zeros((steps, records), dtype=bool)
    for step in range(steps):
        joined[step, poisson_sample(records, rate)] = True
    deviation = math.sqrt(rate * (1 - rate))
    assert np.all(np.abs(joined.mean(axis=0) - rate) < 8 * deviation / math.sqrt(steps))
    sizes = joined.sum(axis=1)
    variance = records * rate * (1 - rate)
    assert abs(sizes.mean() - records * rate) < DEVIATIONS * math.sqrt(variance / steps)
    # A fixed batch size would have no variance at all.
    assert abs(sizes.var() / variance - 1) < DEVIATIONS * math.sqrt(2.2 / steps)
    together = (joined[:, 0] & joined[:, 1]).mean()
    assert abs(together - rate**2) < 8 * math.sqrt(rate**2 / steps)


def test_empty_batches_occur() -> None:
    # Of 200 tries, each empty with probability 0.9^10 = 0.35: none would be a chance of 10^-37.
    assert any(len(poisson_sample(10, 0.1)) == 0 for _ in range(200))


def test_at_rate_one_every_record_joins_in_order() -> None:
    assert poisson_sample(1000, 1.0).tolist() == list(range(1000))


def test_samples_do_not_follow_a_seed() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        np.random.seed(5)
        drawn.append(poisson_sample(1000, 0.5).tolist())
    assert drawn[0] != drawn[1]
