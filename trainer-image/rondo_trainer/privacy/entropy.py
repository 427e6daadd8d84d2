"""
Random integers from the operating system's cryptographic generator, for noise.py and sampling.py alone.

Holds: no seed, no state, nothing that a test or a task could fix: whoever can predict the noise can subtract it.
"""

import os

import numpy as np

BITS = 53
"""Of each integer: as many as a float64 holds exactly."""


def random_integers(count: int) -> np.ndarray:
    """count integers, uniform in [0, 2^53), uint64."""
    return np.frombuffer(os.urandom(8 * count), dtype=np.uint64) >> np.uint64(64 - BITS)
