"""
Gaussian noise for DP-SGD, from the operating system's cryptographic generator.

A float64 drawn by Box-Muller is no real number: which values can occur depends on what it is added to, and with that an observer can
tell a gradient from its neighbour (Mironov 2012; Jin et al. 2021, arXiv:2112.05307). The defence is that of Opacus' secure mode, from
Holohan & Braghin 2021 (arXiv:2107.10138, section 5.1): the sum of 2n Gaussians, divided by sqrt(2n), with n = 2; the search for the
draws behind a value then takes 2^(53 (2n - 1)) = 2^159 tries.

Holds: float64 throughout; the caller adds the noise in float64 and casts afterwards, so that the cast is mere post-processing.
Does not: use PyTorch's or numpy's generators, which a seed determines.
"""

import math

import numpy as np

from .entropy import BITS, random_integers

SUMMED = 4
CHUNK = 1 << 18
"""Values at a time: 8 MB of random bytes, whatever the size of the adapter."""


def gaussian_noise(count: int, deviation: float) -> np.ndarray:
    """count independent draws of N(0, deviation²), float64."""
    noise = np.empty(count)
    for start in range(0, count, CHUNK):
        part = noise[start : start + CHUNK]
        # At least two, so that a value and its neighbour are two.
        part[:] = summed_gaussians(max(2, len(part)))[: len(part)]
    noise *= deviation / math.sqrt(SUMMED)
    return noise


def summed_gaussians(count: int) -> np.ndarray:
    """count independent sums of four standard Gaussians."""
    cosines, sines = gaussian_pairs(2 * count)
    # The two Gaussians of one pair add up to one Gaussian of one pair: each sum takes its four from four pairs.
    return cosines[:count] + cosines[count:] + np.roll(sines[:count], 1) + np.roll(sines[count:], 1)


def gaussian_pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Box-Muller: twice count independent draws of N(0, 1)."""
    integers = random_integers(2 * count)
    # (0, 1]: a logarithm of 0 would be an infinite gradient.
    radius = np.sqrt(-2 * np.log((integers[:count] + np.uint64(1)) * 2.0**-BITS))
    angle = integers[count:] * (2 * math.pi * 2.0**-BITS)
    return radius * np.cos(angle), radius * np.sin(angle)
