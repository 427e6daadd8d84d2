"""
Several processes that train one adapter together, one per GPU: who takes which row, and how their sums become one.

Holds: every rank draws the same rows in the same order and computes those that are its own; what is added up are sums, never means,
so that the result is that of one process up to rounding. Alone, nothing is exchanged.
Does not: start the processes (launch.py).
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """rank: of this process, 0 to count - 1. Rank 0 speaks with the agent and writes files."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, rows: Sequence[T]) -> Sequence[T]:
        return rows[self.rank :: self.count]

    def add_up(self, tensors: Iterable["torch.Tensor"]) -> None:
        """Each tensor becomes its sum over all ranks, in place."""
        if self.count == 1:
            return
        from accelerate.utils import reduce

        for tensor in tensors:
            tensor.copy_(reduce(tensor, reduction="sum"))

    def any(self, is_so: bool, device: "torch.device") -> bool:
        """Whether it is so at one rank at least: a signal reaches them at different steps, and all have to stop at the same."""
        if self.count == 1:
            return is_so
        import torch

        flag = torch.tensor(float(is_so), device=device)
        self.add_up([flag])
        return flag.item() > 0


ALONE = Ranks()


def read_ranks(env: Mapping[str, str] = os.environ) -> Ranks:
    """As launch.py has set them."""
    return Ranks(int(env.get("RANK", "0")), int(env.get("WORLD_SIZE", "1")))
