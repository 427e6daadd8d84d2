"""
Poisson sampling of records: in each step every record joins by itself with probability q.

Amplification by sampling rests on nobody knowing who was in a batch. The seed of a task is known to the agent, the same in every
attempt, and may be known to the coordinator: it must determine neither the sample nor the noise. Hence both come from the
operating system's cryptographic generator, and training with record privacy is deliberately not reproducible.

Holds: batches are of any size, none included; a fixed or rounded size would be another mechanism with another ε.
"""

import numpy as np

from .entropy import BITS, random_integers


def poisson_sample(records: int, rate: float) -> np.ndarray:
    """Indices, rising, of the records that joined. The rate is rounded down to a multiple of 2^-53, never up."""
    return np.flatnonzero(random_integers(records) < np.uint64(int(rate * 2**BITS)))
