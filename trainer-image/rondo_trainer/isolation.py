"""
Whether a base model keeps the examples of a packed row apart.

Holds: what is asked is the model itself, not a list of its kinds: a state that runs along the row (Mamba and its kin) or a forward that
ignores positions would let each example read the one before it, and the loss alone would not show it.
Does not: know what is packed (data/packing.py).
"""

import inspect
from typing import TYPE_CHECKING, Any

import torch

from .data.packing import Packed
from .data.tokenise import Example
from .exits import TaskNotUnderstoodError
from .loss import collate

if TYPE_CHECKING:
    from peft import PeftModel

PROBE = Packed(2 * (Example([0, 1, 2, 3], [0, 1, 2, 3]),))
"""Two examples of four tokens that every vocabulary has."""


def require_isolation(model: "PeftModel") -> None:
    """
    Raises:
        TaskNotUnderstoodError: an example of a packed row would see the one before it.
    """
    if "position_ids" not in inspect.signature(model.get_base_model().forward).parameters or second_sees_first(model):
        raise TaskNotUnderstoodError("training.packing is true, but this base model mixes the examples of a packed row; set it to false")


def second_sees_first(model: "PeftModel") -> bool:
    """By the gradient of the second example's logits with respect to the first one's embeddings: exactly 0, or it sees them."""
    embedded: list[torch.Tensor] = []

    def follow(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    batch = collate([PROBE], 0, model.get_base_model().device)
    hook = model.get_base_model().get_input_embeddings().register_forward_hook(follow)
    try:
        logits = model(input_ids=batch.tokens, position_ids=batch.positions, use_cache=False).logits
    finally:
        hook.remove()
    border = len(PROBE.parts[0].tokens)
    (gradient,) = torch.autograd.grad(logits[0, border:].float().square().sum(), embedded[0])
    return bool(gradient[0, :border].any())
