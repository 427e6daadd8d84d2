"""
Privacy loss of one step of DP-SGD: the Poisson-subsampled Gaussian mechanism, on a grid, from above.

The pair of a step is M = (1 - q) N(0, σ²) + q N(1, σ²) (the record may be in the batch) and N = N(0, σ²) (it is not there). Both
directions are needed: removing a record compares M with N, adding one compares N with M, and under composition neither has been
proved to be always the worse (Lebeda et al. 2024, arXiv:2405.20769).

Holds: a discretised loss dominates the true one. A bucket's mass goes to its two ends such that the masses of both distributions are
kept ("connecting the dots", Doroshenko et al. 2022, arXiv:2207.04380), which errs by the square of the grid's step instead of by the
step; what lies below the grid is moved up onto it, what lies above counts as a certain disclosure.
Does not: compose or convert (accountant.py).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtr, ndtri

Direction = Literal["add", "remove"]
DIRECTIONS: tuple[Direction, ...] = ("add", "remove")

EXP_RANGE = 600.0
"""exp of more, times the largest sums here, overflows a float64 (at 709)."""


@dataclass(frozen=True)
class Step:
    """sigma: of the noise, in units of the clipping norm; rate: of the sampling, q."""

    sigma: float
    rate: float


@dataclass(frozen=True)
class Discretised:
    """Mass of loss (first + i) * grid step at masses[i]; infinite: mass of a certain disclosure."""

    first: int
    masses: np.ndarray
    infinite: float


def loss_at(step: Step, x: np.ndarray | float) -> np.ndarray | float:
    """log M(x) / N(x), rising in x."""
    return np.logaddexp(log1m(step.rate), np.log(step.rate) + (2 * x - 1) / (2 * step.sigma**2))


def variance(step: Step, direction: Direction) -> float:
    """Of the loss, by plain quadrature: it only chooses the grid and needs no bound."""
    x = np.linspace(-9 * step.sigma, 1 + 9 * step.sigma, 20_001)
    present = np.exp(-(((x - 1) / step.sigma) ** 2) / 2)
    absent = np.exp(-((x / step.sigma) ** 2) / 2)
    weights = absent if direction == "add" else (1 - step.rate) * absent + step.rate * present
    weights = weights / weights.sum()
    loss = loss_at(step, x)
    mean = float(weights @ loss)
    return float(weights @ (loss - mean) ** 2)


def support(step: Step, direction: Direction, tail: float) -> tuple[float, float]:
    """Losses between which all but `tail` of the mass lies, on each side."""
    z = -float(ndtri(tail)) * step.sigma
    if direction == "add":
        return -float(loss_at(step, z)), -float(loss_at(step, -z))
    return float(loss_at(step, -z)), float(loss_at(step, 1 + z))


def discretise(step: Step, direction: Direction, bounds: tuple[float, float], grid: float) -> Discretised:
    first, last = int(np.floor(bounds[0] / grid)), int(np.ceil(bounds[1] / grid))
    losses = np.arange(first, last + 1) * grid
    # The bucket that ends at the first point has no lower end: all its mass moves up to that point.
    edges = np.concatenate([[-np.inf], losses, [np.inf]])
    upper, lower = bucket_masses(step, direction, edges)
    mass, other = upper[1:-1], lower[1:-1]
    starts = losses[:-1]
    with np.errstate(over="ignore", invalid="ignore"):
        up = (mass - other * np.exp(np.minimum(starts, EXP_RANGE))) / -np.expm1(-grid)
    up = np.where(starts < EXP_RANGE, np.clip(up, 0, mass), mass)
    masses = np.zeros(len(losses))
    masses[0] = upper[0]
    masses[:-1] += mass - up
    masses[1:] += up
    return Discretised(first, masses, float(upper[-1]))


def bucket_masses(step: Step, direction: Direction, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mass of the losses between edges, under the direction's first distribution and under its second."""
    if direction == "remove":
        cuts = outcome_at(step, edges)
        return between(step, cuts, step.rate), between(step, cuts, 0.0)
    cuts = outcome_at(step, -edges)[::-1]
    return between(step, cuts, 0.0)[::-1], between(step, cuts, step.rate)[::-1]


def outcome_at(step: Step, losses: np.ndarray) -> np.ndarray:
    """The x whose loss_at is given; -inf where no x has so low a loss."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        # log((e^loss - (1 - q)) / q), without overflow for a large loss and without cancellation for a small q.
        inner = losses + np.log1p(-np.exp(log1m(step.rate) - losses)) - np.log(step.rate)
    reached = losses > log1m(step.rate)
    return np.where(reached, step.sigma**2 * np.where(reached, inner, 0.0) + 0.5, -np.inf)


def between(step: Step, cuts: np.ndarray, rate: float) -> np.ndarray:
    """Mass of (1 - rate) N(0, σ²) + rate N(1, σ²) between rising cuts."""
    absent = normal_between(cuts / step.sigma)
    return absent if rate == 0.0 else (1 - rate) * absent + rate * normal_between((cuts - 1) / step.sigma)


def normal_between(z: np.ndarray) -> np.ndarray:
    # Differences of the nearer tail keep their relative precision; differences of the far one would be rounding errors.
    left = ndtr(z[1:]) - ndtr(z[:-1])
    right = ndtr(-z[:-1]) - ndtr(-z[1:])
    return np.maximum(np.where(z[:-1] > 0, right, left), 0.0)


def log1m(rate: float) -> float:
    return float(np.log1p(-rate)) if rate < 1 else -np.inf
