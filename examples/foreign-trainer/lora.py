"""
LoRA by hand: y = W x + scaling · B A x on the linear layers that an adapter's tensors name.

Holds: the base's weights never change; a file that is written has the names of the file that was read.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

PREFIX = "base_model.model."
WEIGHTS = "adapter_model.safetensors"


class LoraLinear(nn.Module):
    """base: (out, in), frozen; a: (rank, in); b: (out, rank)."""

    def __init__(self, base: nn.Linear, scaling: float, a: torch.Tensor, b: torch.Tensor) -> None:
        super().__init__()
        self.base = base
        self.scaling = scaling
        self.a, self.b = nn.Parameter(a), nn.Parameter(b)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.scaling * (x.to(self.a.dtype) @ self.a.T @ self.b.T).to(x.dtype)


def attach(model: nn.Module, folder: Path, scaling: float) -> dict[str, LoraLinear]:
    """Puts the adapter in the folder onto the model; its layers by their names in the model."""
    model.requires_grad_(False)
    tensors = load_file(folder / WEIGHTS)
    layers = {}
    for module in sorted({name.removeprefix(PREFIX).rpartition(".lora_")[0] for name in tensors}):
        parent, _, child = module.rpartition(".")
        a, b = (tensors[f"{PREFIX}{module}.lora_{half}.weight"].float() for half in "AB")
        layers[module] = LoraLinear(model.get_submodule(module), scaling, a, b)
        setattr(model.get_submodule(parent), child, layers[module])
    return layers


def replace(layers: dict[str, LoraLinear], folder: Path) -> None:
    """Takes another adapter of the same names and shapes in place of the one that is there."""
    tensors = load_file(folder / WEIGHTS)
    with torch.no_grad():
        for module, layer in layers.items():
            layer.a.copy_(tensors[f"{PREFIX}{module}.lora_A.weight"])
            layer.b.copy_(tensors[f"{PREFIX}{module}.lora_B.weight"])


def write(layers: dict[str, LoraLinear], folder: Path) -> None:
    halves = {
        f"{PREFIX}{module}.lora_{name}.weight": half for module, layer in layers.items() for name, half in (("A", layer.a), ("B", layer.b))
    }
    save_file({name: half.detach().contiguous() for name, half in halves.items()}, folder / WEIGHTS)


def write_fresh(model: nn.Module, target_modules: list[str], rank: int, folder: Path) -> int:
    """
    The adapter that a federation begins with: B is zero, so that it changes nothing; A is drawn. Shapes are enough, the model may be on
    the meta device. Returns how many layers it is for.
    """
    tensors = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and name.rpartition(".")[2] in target_modules:
            bound = layer.in_features**-0.5
            tensors[f"{PREFIX}{name}.lora_A.weight"] = torch.empty(rank, layer.in_features).uniform_(-bound, bound)
            tensors[f"{PREFIX}{name}.lora_B.weight"] = torch.zeros(layer.out_features, rank)
    if tensors:
        save_file(tensors, folder / WEIGHTS)
    return len(tensors) // 2
