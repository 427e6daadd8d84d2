"""
What the graph computes: the loss of each target token, in nats, of a base model with an adapter that comes as tensors.

Holds: adapter tensors are inputs and never weights, in the order and with the names of a PEFT file; alpha / rank is an input too,
so that one graph serves all adapters of these modules. A token without loss has exactly 0, whatever the model makes of it.
Does not: trace (trace.py) or compare (check.py).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.func import functional_call
from torch.nn.functional import pad

from ..data.tokenise import IGNORED

if TYPE_CHECKING:
    from peft import PeftModel

INPUTS = ("input_ids", "attention_mask", "labels", "scaling")
"""Before the adapter's own: int64 (batch, length) thrice, float32 ()."""
OUTPUTS = ("loss", "targets")
"""float32 (batch, length - 1): of predicting token i + 1; int64 (): how many of them are targets."""


class GateGraph(torch.nn.Module):
    """A PeftModel of scaling 1 whose adapter is given anew with each call."""

    def __init__(self, model: "PeftModel", names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(
        self,
        tokens: torch.Tensor,
        attention: torch.Tensor,
        labels: torch.Tensor,
        scaling: torch.Tensor,
        *adapter: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            tokens, attention, labels: as in loss.Batch, padded on the right; a label is the token itself or IGNORED.
            adapter: in the order of names; lora_A (rank, inputs) and lora_B (outputs, rank).
        """
        weights = {
            parameter_name(name): tensor * scaling if is_second_factor(name) else tensor
            for name, tensor in zip(self.names, adapter, strict=True)
        }
        asked = {"input_ids": tokens, "attention_mask": attention, "use_cache": False}
        logits = functional_call(self.model, weights, (), asked).logits.float()
        # The losses are cut to length - 1 and not the logits, of which a slice would be a copy of the largest tensor there is.
        targets = pad(labels[:, 1:], (0, 1), value=IGNORED)
        is_target = targets != IGNORED
        chosen = torch.gather(logits, -1, torch.where(is_target, targets, 0).unsqueeze(-1)).squeeze(-1)
        # log-softmax of the target alone: the whole of it would be a second tensor of that size.
        loss = torch.logsumexp(logits, -1) - chosen
        return torch.where(is_target, loss, 0.0)[:, :-1], is_target.sum()


def parameter_name(name: str) -> str:
    """In the model, PEFT puts the adapter's own name before the last part: ….lora_A.weight is ….lora_A.default.weight."""
    module, _, last = name.rpartition(".")
    return f"{module}.default.{last}"


def is_second_factor(name: str) -> bool:
    return name.endswith("lora_B.weight")
