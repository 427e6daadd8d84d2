"""
Loss of an adapter on the site's held-out records: the mean over target tokens, in nats.

Holds: each token weighs the same, whatever its record or batch; records are batched by length, which changes time and not the result
beyond rounding. Does not: choose the records (data/split.py) or judge the number (the operator's gate).
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .data.tokenise import Example
from .exits import DivergedError
from .loss import collate, loss_sum

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True)
class HeldOutLoss:
    tokens: int
    loss: float


def evaluate(model: "PeftModel", examples: list[Example], batch_size: int, pad_token: int) -> HeldOutLoss | None:
    """None where nothing is held out."""
    if not examples:
        return None
    device = model.get_base_model().device
    by_length = sorted(examples, key=lambda example: len(example.tokens))
    total, tokens = 0.0, 0
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(by_length), batch_size):
            loss, count = loss_sum(model, collate(by_length[start : start + batch_size], pad_token, device))
            total, tokens = total + loss.item(), tokens + count
    if not math.isfinite(total):
        raise DivergedError("the loss on the held-out records is not finite")
    return HeldOutLoss(tokens, total / tokens)
