"""
Loss of one batch: the sum over its target tokens, in nats.

Holds: padding bears no loss because of its position, never because of its token: pad is often the end token, and a model that
never sees the end token as a target never learns to stop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from .data import IGNORED, Example
from .model import takes_logits_to_keep

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True)
class Batch:
    """All of shape (records, longest record)."""

    tokens: torch.Tensor
    attention: torch.Tensor
    labels: torch.Tensor


def collate(examples: Sequence[Example], pad_token: int, device: torch.device) -> Batch:
    longest = max(len(example.tokens) for example in examples)
    tokens = torch.full((len(examples), longest), pad_token)
    attention = torch.zeros_like(tokens)
    labels = torch.full_like(tokens, IGNORED)
    for row, example in enumerate(examples):
        length = len(example.tokens)
        tokens[row, :length] = torch.tensor(example.tokens)
        attention[row, :length] = 1
        labels[row, :length] = torch.tensor(example.labels)
    return Batch(tokens.to(device), attention.to(device), labels.to(device))


def loss_sum(model: "PeftModel", batch: Batch) -> tuple[torch.Tensor, int]:
    """The summed loss, and over how many tokens."""
    targets = batch.labels[:, 1:]
    is_target = targets != IGNORED
    # Logits are made only where some row has a target: with prompts masked, half of the largest matrix product is spared.
    kept = is_target.any(dim=0).nonzero().squeeze(1)
    selection = {"logits_to_keep": kept} if takes_logits_to_keep(model) else {}
    logits = model(input_ids=batch.tokens, attention_mask=batch.attention, use_cache=False, **selection).logits
    if not selection:
        logits = logits[:, kept]
    chosen = is_target[:, kept]
    return cross_entropy(logits[chosen].float(), targets[:, kept][chosen], reduction="sum"), int(chosen.sum())
