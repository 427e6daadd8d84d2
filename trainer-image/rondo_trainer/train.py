"""
LoRA training of one task: AdamW on the adapter, the base frozen.

Holds: same seed, data, thread count and hardware: the same adapter, bit for bit. The optimiser starts afresh in each round, for
its moments are of a parent that no longer exists.
Does not: read files or speak with the agent; progress goes to a callback.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .data import Example, Record, Tokeniser
from .exits import DataMalformedError, DivergedError
from .loss import collate, loss_sum
from .task import Training

if TYPE_CHECKING:
    from peft import PeftModel

MAX_GRADIENT_NORM = 1.0
"""The usual value for fine-tuning: one odd record must not throw the adapter away in a round of few steps."""


@dataclass(frozen=True)
class Progress:
    step: int
    steps: int
    loss: float
    tokens_per_second: float


@dataclass(frozen=True)
class Trained:
    """tokens: those that bore loss; loss: their mean over all steps, in nats."""

    steps: int
    tokens: int
    loss: float


def train(
    model: "PeftModel",
    examples: Iterator[Example],
    training: Training,
    pad_token: int,
    report: Callable[[Progress], None],
) -> Trained:
    """
    Raises:
        DivergedError: a loss or a weight is not finite.
    """
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=training.learning_rate, weight_decay=0.0)
    device = model.get_base_model().device
    all_tokens, all_loss, started = 0, 0.0, time.monotonic()
    model.train()
    for step in range(1, training.steps + 1):
        batch = collate([next(examples) for _ in range(training.batch_size)], pad_token, device)
        loss, tokens = loss_sum(model, batch)
        (loss / tokens).backward()
        # A loss can be finite while its gradient is not; both would end in the weights.
        norm = torch.nn.utils.clip_grad_norm_(weights, MAX_GRADIENT_NORM)
        step_loss = loss.item() / tokens
        if not math.isfinite(step_loss) or not math.isfinite(norm.item()):
            raise DivergedError(f"loss {step_loss:g} and gradient norm {norm.item():g} at step {step}; lower training.learningRate")
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        all_tokens, all_loss = all_tokens + tokens, all_loss + loss.item()
        report(Progress(step, training.steps, step_loss, all_tokens / (time.monotonic() - started)))
    if not all(torch.isfinite(weight).all() for weight in weights):
        raise DivergedError("the adapter holds values that are not finite; lower training.learningRate")
    return Trained(training.steps, all_tokens, all_loss / all_tokens)


def endless_examples(records: list[Record], tokeniser: Tokeniser, seed: int) -> Iterator[Example]:
    """Passes over the records without end, each in an order of its own drawn from the seed; tokenised when first needed."""
    generator = torch.Generator().manual_seed(seed)
    known: dict[int, Example] = {}
    while True:
        has_target = False
        for index in torch.randperm(len(records), generator=generator).tolist():
            if index not in known:
                known[index] = tokeniser.example(records[index])
            if known[index].target_count() > 0:
                has_target = True
                yield known[index]
        if not has_target:
            raise DataMalformedError(
                f"none of {len(records)} records has a token to learn within {tokeniser.sequence_length} tokens; "
                "raise training.sequenceLength or shorten the prompts"
            )
