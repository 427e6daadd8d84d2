"""
What a graph is checked with: adapters of several ranks, and batches of several shapes, drawn from fixed seeds.

Does not: say what they should give (check.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..data.tokenise import IGNORED, Example
from ..initialise import initial_tensor
from ..loss import Batch, collate
from ..task import Adapter
from .graph import is_second_factor

B_DEVIATION = 0.02
"""Of the random lora_B. As of a fresh weight: enough to be visible in the losses, too little to drown the model."""
ALPHA = 16
"""One for all ranks, so that their scalings differ."""
LENGTHS = ((2,), (17, 9, 2), (40, 33))
"""Records' lengths in each batch: the shortest that has a loss, three with much padding, two longer than those."""


@dataclass(frozen=True)
class Probe:
    """An adapter to check with. says: for people."""

    says: str
    spec: Adapter
    tensors: dict[str, torch.Tensor]

    @property
    def scaling(self) -> float:
        return self.spec.alpha / self.spec.rank


def probes(shapes: dict[str, tuple[int, ...]], modules: tuple[str, ...], ranks: Sequence[int]) -> list[Probe]:
    """shapes: of an adapter of any rank, by PEFT's names. The first probe is zero in B, and so the base model; then one per rank."""
    unchanged = Probe("no change (lora_B is zero)", Adapter(ranks[0], ALPHA, modules), drawn_adapter(shapes, ranks[0], 0.0))
    random = [Probe(f"random, rank {rank}", Adapter(rank, ALPHA, modules), drawn_adapter(shapes, rank, B_DEVIATION)) for rank in ranks]
    return [unchanged, *random]


def drawn_adapter(shapes: dict[str, tuple[int, ...]], rank: int, deviation: float) -> dict[str, torch.Tensor]:
    tensors = {}
    for seed, (name, shape) in enumerate(shapes.items()):
        if is_second_factor(name):
            generator = torch.Generator().manual_seed(seed)
            tensors[name] = torch.randn((shape[0], rank), generator=generator) * deviation
        else:
            tensors[name] = initial_tensor(name, (rank, shape[1]), seed)
    return tensors


def batches(vocabulary: int, max_length: int | None) -> list[Batch]:
    """Random tokens, the first third of each record without loss, as a prompt is."""
    generator = torch.Generator().manual_seed(0)
    longest = max_length or max(max(lengths) for lengths in LENGTHS)
    return [
        collate([drawn_example(min(length, longest), vocabulary, generator) for length in lengths], 0, torch.device("cpu"))
        for lengths in LENGTHS
    ]


def drawn_example(length: int, vocabulary: int, generator: torch.Generator) -> Example:
    tokens = torch.randint(vocabulary, (length,), generator=generator).tolist()
    prompt = length // 3
    return Example(tokens, [IGNORED] * prompt + tokens[prompt:])
