"""
An adapter of given tensors on the base, by the way that a trainer takes: PEFT's layers, filled from a safetensors file.

Does not: copy the base; it is the caller's, and has the adapter on it until the model is unloaded.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save

from ..model import attach, load_adapter
from ..task import Adapter

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


def adapted(base: "torch.nn.Module", spec: Adapter, tensors: dict[str, "torch.Tensor"], folder: Path) -> "PeftModel":
    """folder: may be written, for the file."""
    file = folder / "adapter.safetensors"
    # save_file would wrap a full disk into an error of its own.
    file.write_bytes(save(tensors))
    model = attach(base, spec)
    load_adapter(model, file)
    file.unlink()
    return model.eval()
