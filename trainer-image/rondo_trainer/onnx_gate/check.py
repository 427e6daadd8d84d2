"""
The graph against PyTorch and PEFT: the same adapters, the same batches, token by token.

Holds: the reference is what a trainer computes (PEFT's own layers, its own scaling, the attention that training uses); the
graph is read from its file by onnxruntime, with nothing of PyTorch in between. An adapter that changes nothing worth measuring
proves nothing: such a check errs instead of passing.
Does not: choose what to check with (probes.py), or say what becomes of a graph that fails (__main__.py).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from ..data.tokenise import IGNORED
from ..exits import NOT_UNDERSTOOD, TrainerError
from ..loss import Batch
from ..model import first_line
from .adapted import adapted
from .graph import INPUTS, OUTPUTS
from .probes import Probe

if TYPE_CHECKING:
    from peft import PeftModel

TOLERANCE = 1e-4
"""
Nats per token, absolute. Seen between PyTorch and onnxruntime, both in float32: 5e-7 with a few thousand parameters, 3e-5 with
SmolLM2-135M, whose losses of random tokens are 14 nats. A wrong mask or scaling costs 1e-2 and more.
"""
VISIBLE = 10 * TOLERANCE
"""A random adapter must change some loss by so much, or a graph that ignores it would pass."""


class DisagreementError(TrainerError):
    """The graph computes something else than PyTorch, or does not run, or nobody could tell; it would be so again."""

    code = NOT_UNDERSTOOD


@dataclass(frozen=True)
class Losses:
    """of: (batch, length - 1), float32, 0 where nothing is a target; targets: how many are."""

    of: torch.Tensor
    targets: int


@dataclass(frozen=True)
class Trial:
    """What the graph has to agree with: expected[p][b] are the losses of probe p on batch b. The first probe is the base model."""

    probes: Sequence[Probe]
    batches: Sequence[Batch]
    expected: Sequence[Sequence[Losses]]


def references(base: torch.nn.Module, probe: Probe, given: Sequence[Batch], folder: Path) -> list[Losses]:
    """What PyTorch and PEFT make of the probe on each batch; the base is bare again afterwards."""
    model = adapted(base, probe.spec, probe.tensors, folder)
    try:
        with torch.inference_mode():
            return [reference(model, batch) for batch in given]
    finally:
        model.unload()


def reference(model: "PeftModel", batch: Batch) -> Losses:
    logits = model(input_ids=batch.tokens, attention_mask=batch.attention, use_cache=False).logits[:, :-1].float()
    targets = batch.labels[:, 1:]
    return Losses(cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"), int((targets != IGNORED).sum()))


def open_graph(file: Path, threads: int) -> Any:
    """An onnxruntime session on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    with ran():
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def score(session: Any, probe: Probe, batch: Batch) -> Losses:
    values = (batch.tokens, batch.attention, batch.labels, torch.tensor(probe.scaling))
    feeds = dict(zip(INPUTS, values, strict=True)) | probe.tensors
    with ran():
        loss, targets = session.run(list(OUTPUTS), {name: value.numpy() for name, value in feeds.items()})
    return Losses(torch.from_numpy(loss), int(targets))


@contextmanager
def ran() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # onnxruntime's have no class in common
        raise DisagreementError(f"onnxruntime does not run the graph ({first_line(error)})") from None


def require_visible(trial: Trial) -> None:
    """
    Raises:
        DisagreementError: an adapter is too weak to tell anything.
    """
    base, *changed = trial.expected
    for probe, losses in zip(trial.probes[1:], changed, strict=True):
        moved = max((own.of - without.of).abs().max().item() for own, without in zip(losses, base, strict=True))
        if not moved > VISIBLE:
            raise DisagreementError(
                f"the adapter of the check ({probe.says}) changes no loss by more than {moved:.1e} nats, so that the check would "
                f"prove nothing; do {', '.join(probe.spec.target_modules)} take part in the model's output?"
            )


def compare(trial: Trial, found: Callable[[Probe, Batch], Losses]) -> float:
    """
    The largest difference of a token's loss, in nats.

    Raises:
        DisagreementError: a difference is above the tolerance.
    """
    worst = 0.0
    for probe, references in zip(trial.probes, trial.expected, strict=True):
        for batch, expected in zip(trial.batches, references, strict=True):
            case = f"{probe.says}; {' x '.join(map(str, batch.tokens.shape))} tokens"
            worst = max(worst, difference(case, expected, found(probe, batch)))
    return worst


def difference(case: str, expected: Losses, found: Losses) -> float:
    if found.of.shape != expected.of.shape or found.targets != expected.targets:
        raise DisagreementError(
            f"the graph has losses {tuple(found.of.shape)} of {found.targets} targets where PyTorch has "
            f"{tuple(expected.of.shape)} of {expected.targets} ({case})"
        )
    # Where nothing is a target both are 0, so that a loss which the graph lets through there is a difference too.
    apart = (found.of - expected.of).abs()
    worst = int(apart.nan_to_num(nan=torch.inf).argmax())
    # Written so that what is not a number fails.
    if not apart.flatten()[worst] <= TOLERANCE:
        row, column = divmod(worst, apart.shape[1])
        raise DisagreementError(
            f"the graph disagrees with PyTorch by {apart[row, column]:.2e} nats, more than {TOLERANCE:.0e}: record {row}, token "
            f"{column + 1} has {found.of[row, column]:.6f} instead of {expected.of[row, column]:.6f} ({case})"
        )
    return apart.max().item()
