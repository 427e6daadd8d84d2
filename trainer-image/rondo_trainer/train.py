"""
LoRA training of one task: AdamW on the adapter, the base frozen.

Holds: same seed, data, thread count and hardware: the same adapter, bit for bit, also when a checkpoint lies between. The optimiser
starts afresh in each round, for its moments are of a parent that no longer exists. A step's gradient is the mean over all target
tokens of its rows, however they are cut into batches or spread over ranks.
Does not: read files or speak with the agent; progress goes to a callback.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch

from .checkpoint import Checkpoints
from .data.order import Rows
from .data.packing import Row
from .exits import DivergedError, TerminatedError
from .loss import collate, loss_sum
from .ranks import ALONE, Ranks
from .task import Matrix, Training

if TYPE_CHECKING:
    from peft import PeftModel

MAX_GRADIENT_NORM = 1.0
"""The usual value for fine-tuning: one odd record must not throw the adapter away in a round of few steps."""


@dataclass(frozen=True)
class Progress:
    """loss: mean of this step in nats, None where it must not be told; seconds: since training began or went on."""

    step: int
    steps: int
    loss: float | None
    tokens_per_second: float
    seconds: float
    done_before: int = 0
    """Steps of an earlier process, from a checkpoint."""

    @property
    def seconds_left(self) -> float:
        return self.seconds / (self.step - self.done_before) * (self.steps - self.step)


@dataclass(frozen=True)
class Trained:
    """tokens: those that bore loss; loss: their mean over all steps, in nats, None where it must not be told."""

    steps: int
    tokens: int
    loss: float | None


@dataclass(frozen=True)
class Run:
    """How a run is done, beside what is trained. stop: asked after each step; then a checkpoint is due, and the run ends."""

    pad_token: int
    report: Callable[[Progress], None]
    checkpoints: Checkpoints
    checkpoint_seconds: float = math.inf
    stop: Callable[[], bool] = lambda: False
    ranks: Ranks = ALONE


def train(model: "PeftModel", rows: Iterator[Row], training: Training, steps: int, run: Run) -> Trained:
    """
    Args:
        rows: without end, the same at every rank.
        steps: optimiser steps.

    Raises:
        DivergedError: a loss or a weight is not finite.
        TerminatedError: `stop` said so; the checkpoint is written.
    """
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    parent = [weight.detach().clone() for weight in weights] if training.proximal_term else []
    device = model.get_base_model().device
    optimiser = torch.optim.AdamW(weights, lr=training.learning_rate, weight_decay=0.0, fused=device.type == "cuda")
    at = run.checkpoints.load(model, optimiser)
    for _ in islice(rows, at.drawn):
        pass
    done_before, saved_at = at.step, time.monotonic()
    tokens_before, started = at.tokens, saved_at
    model.train()
    while at.step < steps:
        taken = list(islice(rows, training.rows_of_a_step))
        loss, tokens = accumulate(model, taken, training, run)
        pull_back(weights, parent, training.proximal_term)
        # A loss can be finite while its gradient is not; both would end in the weights.
        norm = torch.nn.utils.clip_grad_norm_(weights, MAX_GRADIENT_NORM)
        if not math.isfinite(loss) or not math.isfinite(norm.item()):
            found = f"loss {loss / tokens:g} and gradient norm {norm.item():g} at step {at.step + 1}"
            raise DivergedError(f"{found}; lower training.learningRate")
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        at.step, at.drawn, at.tokens, at.loss = at.step + 1, at.drawn + len(taken), at.tokens + tokens, at.loss + loss
        seconds = time.monotonic() - started
        speed = (at.tokens - tokens_before) / seconds
        run.report(Progress(at.step, steps, loss / tokens, speed, seconds, done_before))
        is_stopped = run.ranks.any(run.stop(), device)
        is_due = at.step == steps or time.monotonic() - saved_at > run.checkpoint_seconds
        if is_stopped or is_due:
            if run.ranks.is_first:
                run.checkpoints.save(model, optimiser, at)
            saved_at = time.monotonic()
        if is_stopped and at.step < steps:
            raise TerminatedError(f"stopped after step {at.step} of {steps}")
    if not all(torch.isfinite(weight).all() for weight in weights):
        raise DivergedError("the adapter holds values that are not finite; lower training.learningRate")
    return Trained(steps, at.tokens, at.loss / at.tokens)


def accumulate(model: "PeftModel", rows: Sequence[Row], training: Training, run: Run) -> tuple[float, int]:
    """
    Leaves the gradient of the mean loss over all target tokens of the rows in the weights, the same at every rank.
    Returns the summed loss in nats and over how many tokens it is.
    """
    device = model.get_base_model().device
    tokens = sum(row.target_count() for row in rows)
    own = run.ranks.share(rows)
    total = torch.zeros((), dtype=torch.float64, device="cpu")
    for start in range(0, len(own), training.batch_size):
        loss, _ = loss_sum(model, collate(own[start : start + training.batch_size], run.pad_token, device))
        (loss / tokens).backward()
        total += loss.detach().cpu()
    if run.ranks.count > 1:
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        for weight in weights:
            if weight.grad is None:
                # This rank had no row; the others wait for its part all the same.
                weight.grad = torch.zeros_like(weight)
        run.ranks.add_up([weight.grad for weight in weights if weight.grad is not None])
        on_device = total.to(device, torch.float32)
        run.ranks.add_up([on_device])
        total = on_device.cpu()
    return total.item(), tokens


def pull_back(weights: Sequence[torch.nn.Parameter], parent: Sequence[torch.Tensor], proximal_term: float) -> None:
    """The gradient of mu/2 times the squared distance from the parent (Li et al. 2020, FedProx, eq. 2)."""
    if not proximal_term:
        return
    for weight, origin in zip(weights, parent, strict=True):
        if weight.grad is not None:
            weight.grad.add_(weight.detach() - origin, alpha=proximal_term)


def freeze(model: "PeftModel", matrix: Matrix | None) -> None:
    """Keeps LoRA's A or B as the parent has it (FFA-LoRA, Sun et al. 2024; RoLoRA alternates the two)."""
    if matrix is None:
        return
    for name, parameter in model.named_parameters():
        if f"lora_{matrix}." in name:
            parameter.requires_grad_(False)


def steps_of(training: Training, rows: Rows) -> int:
    """Of the whole run; an epoch is a pass over the rows."""
    if training.steps is not None:
        return training.steps
    assert training.epochs is not None
    return max(1, math.ceil(rows.count(training.epochs) / training.rows_of_a_step))
