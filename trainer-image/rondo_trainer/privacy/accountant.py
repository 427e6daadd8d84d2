"""
ε of a history of DP-SGD runs at a given δ: Poisson sampling, neighbours that differ by one record added or removed.

Composes the privacy loss distributions of all steps numerically (Koskela et al. 2020, arXiv:1906.03049; Gopi et al. 2021,
arXiv:2106.02848): each is discretised from above (loss_distribution.py), raised to its number of steps in Fourier space, and what the
window of the transform leaves out is added to δ. Where rounding would count beside δ, Rényi composition takes over (method "RDP").

Opacus' own PRVAccountant is not used: its bound is ε + 0.01 whatever ε is (of a short run with ε = 0.005 it makes 0.015), it looks at
removal only, and says of its own window that it disagrees with the theorem. Its Rényi bound is 5 to 15 % too high.

Holds: never below the true ε; within 1 % of it by the first method.
Does not: know budgets (ledger.py). A history it cannot account for by a theorem is refused, never estimated.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from ..exits import TaskNotUnderstoodError
from .loss_distribution import DIRECTIONS, EXP_RANGE, Direction, Discretised, Step, discretise, support, variance
from .settings import Spent

Method = Literal["PLD", "RDP"]

SLACK = 1e-3
"""Relative: about three times what grid, window and rounding were estimated to cost, so that rounding can never make ε too small."""
CUT = 1e-5
"""Share of δ given to each tail that is cut off; changes ε by about 1e-6 of itself."""
GRID_PER_DEVIATION = 0.04
"""Grid step in standard deviations of one step's loss: adds (0.04)²/4 of variance, hence 2e-4 of ε. Halving it doubles the time."""
LEAST_POINTS_PER_DEVIATION = 256
LEAST_GRID = 1e-9
"""Of the loss itself: what rounding leaves exact."""
MOST_POINTS = 1 << 21
"""Of one transform: 32 MB and a tenth of a second. Only histories beyond ten million steps come to it; their grid is coarser."""
RDP_ORDERS = (*(1 + x / 10 for x in range(5, 100)), *range(11, 64), 80, 96, 128, 192, 256)


@dataclass(frozen=True)
class Accounted:
    """method: which bound epsilon is."""

    epsilon: float
    method: Method


def spent_epsilon(history: Sequence[Spent], delta: float) -> Accounted:
    """
    Raises:
        TaskNotUnderstoodError: a noise, sampling rate, number of steps or δ for which no theorem holds.
    """
    if not 0 < delta < 1:
        raise TaskNotUnderstoodError(f"delta is {delta:g}; it must be between 0 and 1")
    counts = merged(history)
    if not counts:
        return Accounted(0.0, "PLD")
    # Rounding errors of a transform grow with the power to which it is raised.
    rounding = 2**-50 * sum(counts.values())
    if rounding > delta / 100:
        return Accounted(renyi_epsilon(counts, delta), "RDP")
    epsilon = max(composed_epsilon(counts, direction, delta - rounding) for direction in DIRECTIONS)
    return Accounted(epsilon * (1 + SLACK), "PLD")


def merged(history: Sequence[Spent]) -> dict[Step, int]:
    """Steps by setting. Full batches of any noise are together one Gaussian mechanism: its μ² is the sum of theirs."""
    counts: dict[Step, int] = defaultdict(int)
    full = 0.0
    for index, spent in enumerate(history):
        check(spent, index)
        if spent.sample_rate == 1:
            full += spent.steps / spent.noise_multiplier**2
        else:
            counts[Step(spent.noise_multiplier, spent.sample_rate)] += spent.steps
    if full > 0:
        counts[Step(1 / math.sqrt(full), 1.0)] += 1
    return dict(counts)


def check(spent: Spent, index: int) -> None:
    if not 1e-6 <= spent.noise_multiplier <= 1e6:
        raise TaskNotUnderstoodError(f"run {index}: noise multiplier {spent.noise_multiplier:g}; it must be from 1e-6 to 1e6")
    if not 1e-9 <= spent.sample_rate <= 1:
        raise TaskNotUnderstoodError(f"run {index}: sample rate {spent.sample_rate:g}; it must be from 1e-9 to 1")
    if isinstance(spent.steps, bool) or not isinstance(spent.steps, int) or spent.steps < 1:
        raise TaskNotUnderstoodError(f"run {index}: {spent.steps} steps; at least 1 is needed")


def composed_epsilon(counts: Mapping[Step, int], direction: Direction, delta: float) -> float:
    total = sum(counts.values())
    bounds = {step: support(step, direction, CUT * delta / total) for step in counts}
    grid = grid_step(counts, direction, bounds)
    while True:
        parts = {step: discretise(step, direction, bounds[step], grid) for step in counts}
        lowest, highest = window(parts, counts, grid, CUT * delta)
        if highest - lowest < MOST_POINTS:
            break
        grid *= 2
    infinite = sum(count * parts[step].infinite for step, count in counts.items())
    # What leaves the window at its upper end comes back at its lower end, as the transform is periodic: hence it is added here.
    target = delta - infinite - CUT * delta
    return epsilon_at(target, (np.arange(highest - lowest + 1) + lowest) * grid, composed(parts, counts, lowest, highest))


def grid_step(counts: Mapping[Step, int], direction: Direction, bounds: Mapping[Step, tuple[float, float]]) -> float:
    all_variance = sum(count * variance(step, direction) for step, count in counts.items())
    per_step = math.sqrt(all_variance / sum(counts.values()))
    wished = min(GRID_PER_DEVIATION * per_step, math.sqrt(all_variance) / LEAST_POINTS_PER_DEVIATION)
    widest = max(high - low for low, high in bounds.values())
    # Under little noise, adding a record is seen as one and the same loss whatever the outcome: it has no width, and needs some grid.
    largest = max(abs(low) for low, _ in bounds.values())
    return max(wished, widest / MOST_POINTS * 2, largest * LEAST_GRID)


def window(parts: Mapping[Step, Discretised], counts: Mapping[Step, int], grid: float, tail: float) -> tuple[int, int]:
    """Grid indices beyond each of which the composed loss has at most `tail` of its mass: Chernoff's bound, best of several."""
    first = sum(count * parts[step].first for step, count in counts.items())
    last = sum(count * (parts[step].first + len(parts[step].masses) - 1) for step, count in counts.items())
    spread = max(math.sqrt(sum(count * index_variance(parts[step]) for step, count in counts.items())), 1e-3)
    tilts = np.concatenate([np.geomspace(0.1, 100, 24), [1000.0]]) / spread
    high = min(float(last), *((log_moment(parts, counts, tilt) - math.log(tail)) / tilt for tilt in tilts))
    low = max(float(first), *((math.log(tail) - log_moment(parts, counts, -tilt)) / tilt for tilt in tilts))
    return math.floor(low), math.ceil(high)


def index_variance(part: Discretised) -> float:
    index = np.arange(len(part.masses), dtype=float)
    mean = float(part.masses @ index) / float(part.masses.sum())
    return float(part.masses @ (index - mean) ** 2)


def log_moment(parts: Mapping[Step, Discretised], counts: Mapping[Step, int], tilt: float) -> float:
    """log E exp(tilt * index) of the sum over all steps."""
    total = 0.0
    for step, count in counts.items():
        part = parts[step]
        with np.errstate(divide="ignore"):
            exponents = np.log(part.masses) + tilt * np.arange(len(part.masses))
        highest = float(exponents.max())
        total += count * (tilt * part.first + highest + math.log(np.exp(exponents - highest).sum()))
    return total


def composed(parts: Mapping[Step, Discretised], counts: Mapping[Step, int], lowest: int, highest: int) -> np.ndarray:
    """Masses of the sum of all steps' losses at the indices lowest to highest."""
    length = next_fast_len(highest - lowest + 1, real=True)
    spectrum = np.ones(length // 2 + 1, dtype=complex)
    for step, count in counts.items():
        part = parts[step]
        places = np.arange(len(part.masses)) % length
        spectrum *= rfft(np.bincount(places, weights=part.masses, minlength=length)) ** count
    offset = sum(count * parts[step].first for step, count in counts.items())
    masses = np.roll(irfft(spectrum, length), (offset - lowest) % length)
    return np.maximum(masses[: highest - lowest + 1], 0.0)


def epsilon_at(delta: float, losses: np.ndarray, masses: np.ndarray) -> float:
    """The least ε >= 0 with sum over losses > ε of mass * (1 - exp(ε - loss)) <= delta."""
    above = np.cumsum(masses[::-1])[::-1]
    reach = int(np.searchsorted(-above, -delta, side="left"))
    # At this loss the mass above is no more than delta, so that ε is no larger; far below it exp would overflow.
    reference = losses[min(reach, len(losses) - 1)]
    start = max(0.0, float(reference) - EXP_RANGE)
    kept = losses > start
    if not kept.any():
        return start
    losses, above = losses[kept], above[kept]
    discounted = np.cumsum((masses[kept] * np.exp(reference - losses))[::-1])[::-1]
    deltas = above - np.exp(np.minimum(losses - reference, 0.0)) * discounted
    place = min(int(np.searchsorted(-deltas, -delta, side="left")), len(losses) - 1)
    excess = above[place] - delta
    if excess <= 0:
        return start if place == 0 else float(losses[place])
    return max(start, float(np.log(excess / discounted[place]) + reference))


def renyi_epsilon(counts: Mapping[Step, int], delta: float) -> float:
    """Balle et al. 2020 (arXiv:1905.09982), theorem 21, over Opacus' Rényi divergences."""
    from opacus.accountants.analysis.rdp import compute_rdp

    divergences = np.zeros(len(RDP_ORDERS))
    for step, count in counts.items():
        divergences += compute_rdp(q=step.rate, noise_multiplier=step.sigma, steps=count, orders=list(RDP_ORDERS))
    orders = np.array(RDP_ORDERS, dtype=float)
    epsilons = divergences - (math.log(delta) + np.log(orders)) / (orders - 1) + np.log1p(-1 / orders)
    return max(0.0, float(np.nanmin(epsilons)))
