"""
DP-SGD of one task: Poisson-sampled batches, every record's gradient clipped, noise on the sum (Abadi et al. 2016, arXiv:1607.00133).

A record's loss is the mean over its own target tokens, not the sum. Clipping bounds a record's influence either way; but a norm that
grows with a record's length would leave short records unclipped, hence weak, and long ones cut to nothing but a direction. With the
mean, one clipping norm fits them all.

Holds: what leaves this file depends on the records only through clipped sums with noise, with two exceptions, which ε does not cover:
the number of records (it divides the sum, and result.json has it), and losses where the site asks for them. In particular a record
whose gradient is not finite counts as zero instead of ending the task, and divergence is judged by the noised weights on fixed tokens.
Does not: pack (a row of several records could not be clipped by record), be reproducible (sampling.py), or keep the ledger.
"""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn.functional import cross_entropy

from ..data.tokenise import IGNORED, Example
from ..exits import DataMalformedError, DivergedError, TaskNotUnderstoodError
from ..loss import Batch, collate
from ..model import takes_logits_to_keep
from ..train import Progress, Trained
from .noise import gaussian_noise
from .sampling import poisson_sample

if TYPE_CHECKING:
    from peft import PeftModel

PROBE_TOKENS = 8
"""Of the fixed text on which the noised weights are tried: enough for attention to mix several positions."""


@dataclass(frozen=True)
class PrivateTraining:
    """
    batch_size: records computed at a time; it bounds memory and changes nothing else. The expected batch is sample_rate times the
    number of records. losses: "reported" puts them, unprotected, into Progress and Trained; else both have None.
    """

    steps: int
    batch_size: int
    learning_rate: float
    noise_multiplier: float
    max_grad_norm: float
    sample_rate: float
    losses: Literal["withheld", "reported"] = "withheld"


@dataclass(frozen=True)
class ClippedSum:
    """gradients: sums of clipped per-record gradients, float32, one per weight; loss: summed over tokens, in nats."""

    gradients: list[torch.Tensor]
    tokens: int
    loss: float


def train_privately(
    model: "PeftModel",
    examples: list[Example],
    settings: PrivateTraining,
    pad_token: int,
    report: Callable[[Progress], None],
) -> Trained:
    """
    AdamW without weight decay, as train.py has it. Leaves a plain model behind, whatever happens.

    Raises:
        DataMalformedError: no records.
        DivergedError: a weight is not finite, or the trained model's output is not.
        TaskNotUnderstoodError: a trainable weight whose per-record gradients cannot be had.
    """
    if not examples:
        raise DataMalformedError("no record has a token to learn; raise training.sequenceLength or add records")
    weights = trainable(model)
    optimiser = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0)
    tokens, loss, started = 0, 0.0, time.monotonic()
    model.train()
    with per_record_gradients(model):
        for step in range(1, settings.steps + 1):
            sample = [examples[index] for index in poisson_sample(len(examples), settings.sample_rate)]
            found = clipped_sum(model, sample, settings, pad_token)
            take_step(optimiser, found.gradients, settings, len(examples))
            require_finite(weights, step)
            tokens, loss = tokens + found.tokens, loss + found.loss
            seconds = time.monotonic() - started
            report(Progress(step, settings.steps, shown(found.loss, found.tokens, settings), tokens / seconds, seconds))
    require_sound(model)
    return Trained(settings.steps, tokens, shown(loss, tokens, settings))


def trainable(model: "PeftModel") -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


@contextmanager
def per_record_gradients(model: "PeftModel") -> Iterator[None]:
    """While it lasts, a backward pass leaves each weight's per-record gradients in `grad_sample`; afterwards no trace of it."""
    from opacus.grad_sample import GradSampleHooks

    require_linear(model)
    hooks = GradSampleHooks(model, loss_reduction="sum")
    try:
        with warnings.catch_warnings():
            # Of the first layers: the frozen embedding below them needs no gradient, and they have theirs all the same.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            yield
    finally:
        hooks.cleanup()
        for module in model.modules():
            # An exception between forward and backward leaves these behind, and with them the activations of records.
            for name in ("activations", "max_batch_len"):
                module.__dict__.pop(name, None)


def require_linear(model: "PeftModel") -> None:
    """
    Only weights of linear layers: their per-record gradients are an outer product. Elsewhere Opacus takes a generic way which
    copies the module, and of a bare parameter (an embedding's LoRA) it has no gradients at all.
    """
    for name, module in model.named_modules():
        own = [weight for weight in module.parameters(recurse=False) if weight.requires_grad]
        if own and type(module) is not torch.nn.Linear:
            kind = type(module).__name__
            raise TaskNotUnderstoodError(f"{name} is a {kind}: record privacy needs linear layers; take it from adapter.targetModules")


def clipped_sum(model: "PeftModel", sample: Sequence[Example], settings: PrivateTraining, pad_token: int) -> ClippedSum:
    """To be called within per_record_gradients. One record more or less changes the gradients by at most max_grad_norm, all together."""
    weights = trainable(model)
    sums = [torch.zeros_like(weight) for weight in weights]
    device = model.get_base_model().device
    tokens, loss = 0, 0.0
    for chunk in chunks(sample, settings.batch_size):
        batch = collate(chunk, pad_token, device)
        token_losses, targets = losses_by_token(model, batch)
        counts = targets.sum(dim=1)
        (token_losses.sum(dim=1) / counts.clamp(min=1)).sum().backward()
        add_clipped(sums, weights, settings.max_grad_norm)
        tokens, loss = tokens + int(counts.sum()), loss + token_losses.sum().item()
    return ClippedSum(sums, tokens, loss)


def chunks(sample: Sequence[Example], size: int) -> Iterable[Sequence[Example]]:
    # By length, so that little is padded: the order of a sum does not matter.
    by_length = sorted(sample, key=lambda example: len(example.tokens))
    return (by_length[start : start + size] for start in range(0, len(by_length), size))


def losses_by_token(model: "PeftModel", batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Both (records, kept positions): the loss in nats, 0 where there is no target; whether there is one."""
    labels = batch.labels[:, 1:]
    kept = (labels != IGNORED).any(dim=0).nonzero().squeeze(1)
    # As loss.py: logits only where some row has a target.
    selection = {"logits_to_keep": kept} if takes_logits_to_keep(model) else {}
    logits = model(input_ids=batch.tokens, attention_mask=batch.attention, use_cache=False, **selection).logits
    if not selection:
        logits = logits[:, kept]
    chosen = labels[:, kept]
    losses = cross_entropy(logits.float().transpose(1, 2), chosen, ignore_index=IGNORED, reduction="none")
    return losses, chosen != IGNORED


def add_clipped(sums: list[torch.Tensor], weights: list[torch.nn.Parameter], most: float) -> None:
    """Adds each record's gradient, scaled down to norm `most` over all weights together, and forgets it."""
    norms = record_norms([weight.grad_sample for weight in weights])
    scales = torch.where(torch.isfinite(norms), most / norms.clamp(min=most), 0.0)
    for total, weight in zip(sums, weights, strict=True):
        # 0 times what is not finite would not be 0.
        samples = torch.nan_to_num(weight.grad_sample, nan=0.0, posinf=0.0, neginf=0.0)
        total.add_(torch.einsum("n,n...->...", scales.to(samples.dtype), samples))
        weight.grad_sample = None
        weight.grad = None


def record_norms(samples: list[torch.Tensor]) -> torch.Tensor:
    """(records,), float64: a rounding error here would be one of the clipping bound."""
    norms = [torch.linalg.vector_norm(sample.flatten(1), dim=1, dtype=torch.float64) for sample in samples]
    return torch.linalg.vector_norm(torch.stack(norms), dim=0)


def take_step(optimiser: torch.optim.Optimizer, sums: list[torch.Tensor], settings: PrivateTraining, records: int) -> None:
    """
    Divides by the expected batch, never by the actual one, whose size is a secret of the sample.

    Sum and noise meet in float64: the cast to the weights' type then happens to a value that is already private (noise.py).
    """
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    deviation = settings.noise_multiplier * settings.max_grad_norm
    for weight, total in zip(weights, sums, strict=True):
        noise = torch.from_numpy(gaussian_noise(total.numel(), deviation)).to(total.device).view_as(total)
        weight.grad = ((total.double() + noise) / (settings.sample_rate * records)).to(weight.dtype)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def require_finite(weights: list[torch.nn.Parameter], step: int) -> None:
    if not all(torch.isfinite(weight).all() for weight in weights):
        raise DivergedError(f"the adapter holds values that are not finite after step {step}; lower training.learningRate")


def require_sound(model: "PeftModel") -> None:
    """On fixed tokens, not on records: an exit code that depended on a record would be a release without noise."""
    base = model.get_base_model()
    tokens = torch.arange(PROBE_TOKENS, device=base.device).remainder(base.config.get_text_config().vocab_size).unsqueeze(0)
    model.eval()
    with torch.inference_mode():
        logits = model(input_ids=tokens, use_cache=False).logits
    if not torch.isfinite(logits).all():
        raise DivergedError("the trained model's output is not finite; lower training.learningRate")


def shown(loss: float, tokens: int, settings: PrivateTraining) -> float | None:
    return loss / tokens if settings.losses == "reported" and tokens > 0 else None
