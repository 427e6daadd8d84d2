"""
Version 0 of a federation's adapter, from the base model's configuration alone: shapes on the meta device, no weights.

Holds: B is zero, so version 0 changes nothing; A is drawn as PEFT draws it, uniform within 1/sqrt(inputs), each tensor from the
seed and its own name, so that the file depends on seed, configuration, rank and target modules only.
"""

import hashlib
import math
from pathlib import Path

import torch

from .exits import InputMissingError, TaskNotUnderstoodError
from .model import attach, first_line
from .task import Adapter


def initial_adapter(folder: Path, adapter: Adapter, seed: int) -> dict[str, torch.Tensor]:
    """Tensors by PEFT name, float32."""
    return {name: initial_tensor(name, shape, seed) for name, shape in adapter_shapes(folder, adapter).items()}


def adapter_shapes(folder: Path, adapter: Adapter) -> dict[str, tuple[int, ...]]:
    from peft import get_peft_model_state_dict
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            base = AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError) as error:
        raise InputMissingError(f"{folder}/config.json describes no causal language model ({first_line(error)})") from None
    return {name: tuple(tensor.shape) for name, tensor in get_peft_model_state_dict(attach(base, adapter)).items()}


def initial_tensor(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    if name.endswith("lora_B.weight"):
        return torch.zeros(shape)
    if not name.endswith("lora_A.weight") or len(shape) != 2:
        raise TaskNotUnderstoodError(f"adapter.targetModules: {name} is not the adapter of a linear layer")
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big") >> 1)
    bound = 1 / math.sqrt(shape[1])
    return torch.rand(shape, generator=generator) * (2 * bound) - bound
