"""
An adapter's folder: adapter_config.json as PEFT loads it, and what an adapter_model.safetensors must be.

Holds: an adapter that CMD hands back has exactly the parent's names and shapes, in a type that the agent reads, and only finite values.
"""

from __future__ import annotations

import json
from pathlib import Path

from rondo_trainer.exits import REFUSED, DivergedError, TaskNotUnderstoodError, TrainerError

from .safetensors_file import VALUE_BYTES, SafetensorsError, Tensor, first_not_finite, read_header
from .site_files import file_sha256
from .task_document import Task

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


class HandedBackError(TrainerError):
    """CMD ended with 0 and left something that the agent would refuse."""

    code = REFUSED


def config_text(task: Task) -> str:
    """What decides the meaning of the weights, under PEFT's names and as the operator publishes it; PEFT has defaults for the rest."""
    config = {
        "alpha_pattern": {},
        "base_model_name_or_path": task.base_name,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": task.alpha,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": task.rank,
        "rank_pattern": {},
        "revision": task.base_revision,
        "target_modules": list(task.target_modules),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    return json.dumps(config, indent=2) + "\n"


def check_given(file: Path, task: Task, name: str) -> None:
    """
    Raises:
        TaskNotUnderstoodError: the agent's adapter is not of the rank and the modules that task.json names.
    """
    try:
        tensors = read_header(file)
        fault = fault_of_plan(tensors, task)
    except SafetensorsError as error:
        fault = f"it {error}"
    if fault:
        raise TaskNotUnderstoodError(f"the {name} from the agent does not fit task.json: {fault}")


def fault_of_plan(tensors: dict[str, Tensor], task: Task) -> str | None:
    met: set[str] = set()
    for tensor in tensors.values():
        module, _, half = tensor.name.rpartition(".lora_")
        rank_at = {"A.weight": 0, "B.weight": 1}.get(half)
        if rank_at is None or len(tensor.shape) != 2:
            return f"{tensor.name} is not the adapter of a linear layer"
        if tensor.shape[rank_at] != task.rank:
            return f"{tensor.name} is {tensor.shape}, and adapter.rank is {task.rank}"
        named = {target for target in task.target_modules if f".{module}".endswith(f".{target}")}
        if not named:
            return f"{tensor.name} is of none of adapter.targetModules"
        met |= named
    lacking = sorted(set(task.target_modules) - met)
    return f"adapter.targetModules names {lacking[0]}, which it lacks" if lacking else None


def check_made(file: Path, parent: Path | None, task: Task) -> str:
    """
    sha256 of CMD's adapter in hexadecimal digits, once it is fit to be delivered.

    Raises:
        HandedBackError: absent, or of other names, shapes or types than the parent's (or than the plan's, where there is no parent).
        DivergedError: a value is not finite.
    """
    shown = f"$RONDO_OUT/adapter/{WEIGHTS}"
    if not file.is_file():
        raise HandedBackError(f"{shown} does not exist; the command must write the adapter there before it ends with 0")
    try:
        tensors = read_header(file)
    except SafetensorsError as error:
        raise HandedBackError(f"{shown} {error}; write it with safetensors' save_file") from None
    fault = fault_of_types(tensors) or (fault_of_plan(tensors, task) if parent is None else fault_beside(tensors, read_header(parent)))
    if fault:
        raise HandedBackError(f"{shown}: {fault}")
    if name := first_not_finite(file, tensors):
        raise DivergedError(f"{shown}: {name} holds values that are not finite; lower training.learningRate")
    return file_sha256(file)


def fault_of_types(tensors: dict[str, Tensor]) -> str | None:
    wrong = next((tensor for tensor in tensors.values() if tensor.dtype not in VALUE_BYTES), None)
    return wrong and f"{wrong.name} is {wrong.dtype}; it must be F32, F16 or BF16"


def fault_beside(tensors: dict[str, Tensor], parent: dict[str, Tensor]) -> str | None:
    found = {name: tensor.shape for name, tensor in tensors.items()}
    wanted = {name: tensor.shape for name, tensor in parent.items()}
    name = min((name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)), default=None)
    return name and f"{name} is {found.get(name, 'absent')} and should be {wanted.get(name, 'absent')}, as in $RONDO_IN/adapter"
