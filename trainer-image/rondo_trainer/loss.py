"""
Loss of one batch: the sum over its target tokens, in nats.

Holds: padding bears no loss because of its position, never because of its token: pad is often the end token, and a model that
never sees the end token as a target never learns to stop. Of a packed row the loss is the sum of its examples' own losses: none sees
another or predicts another's first token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from .data.packing import Row
from .data.tokenise import IGNORED
from .model import takes_logits_to_keep

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True)
class Batch:
    """
    All of shape (rows, longest row). attention is None where rows are packed: there positions begin anew with each example, by which
    transformers keeps them apart, and only without an attention mask (masking_utils.find_packed_sequence_indices). positions is
    None where every row is one example.
    """

    tokens: torch.Tensor
    attention: torch.Tensor | None
    labels: torch.Tensor
    positions: torch.Tensor | None = None


def collate(rows: Sequence[Row], pad_token: int, device: torch.device | str) -> Batch:
    longest = max(sum(len(part.tokens) for part in row.parts) for row in rows)
    tokens = torch.full((len(rows), longest), pad_token)
    attention = torch.zeros_like(tokens)
    labels = torch.full_like(tokens, IGNORED)
    positions = torch.zeros_like(tokens)
    for index, row in enumerate(rows):
        start = 0
        for part in row.parts:
            end = start + len(part.tokens)
            tokens[index, start:end] = torch.tensor(part.tokens)
            labels[index, start:end] = torch.tensor(part.labels)
            # What stands before it is another example, of which it is no continuation.
            labels[index, start] = IGNORED
            positions[index, start:end] = torch.arange(end - start)
            start = end
        attention[index, :start] = 1
        # Padding is one more example, which nothing learns from: at least it sees itself, for a softmax over nothing is not finite.
        positions[index, start:] = torch.arange(longest - start)
    if all(len(row.parts) == 1 for row in rows):
        return Batch(tokens.to(device), attention.to(device), labels.to(device))
    return Batch(tokens.to(device), None, labels.to(device), positions.to(device))


def loss_sum(model: "PeftModel", batch: Batch) -> tuple[torch.Tensor, int]:
    """The summed loss, and over how many tokens."""
    targets = batch.labels[:, 1:]
    is_target = targets != IGNORED
    # Logits are made only where some row has a target: with prompts masked, half of the largest matrix product is spared.
    kept = is_target.any(dim=0).nonzero().squeeze(1)
    selection = {"logits_to_keep": kept} if takes_logits_to_keep(model) else {}
    placed = {} if batch.positions is None else {"position_ids": batch.positions}
    logits = model(input_ids=batch.tokens, attention_mask=batch.attention, use_cache=False, **placed, **selection).logits
    if not selection:
        logits = logits[:, kept]
    chosen = is_target[:, kept]
    return cross_entropy(logits[chosen].float(), targets[:, kept][chosen], reduction="sum"), int(chosen.sum())
