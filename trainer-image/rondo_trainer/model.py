"""
The base model at the site, and an adapter on it.

Holds: the base is loaded once, from the folder alone and only as safetensors, and never changed; the adapter's weights are
float32 whatever the base's type. The base's digest (Federation.spec.baseModel.digest) is of what `LC_ALL=C sha256sum *.safetensors`
prints in the folder.
Does not: train or evaluate.
"""

import hashlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .exits import InputMissingError, OtherBaseModelError, TaskNotUnderstoodError
from .task import Adapter, BaseModel, Quantization

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel

READ_BYTES = 1 << 22
ADAPTER_NAME = "default"
"""PEFT's own, in the names of parameters."""


def check_digest(folder: Path, base: BaseModel) -> None:
    found = weights_digest(folder)
    if found != base.digest:
        raise OtherBaseModelError(
            f"{folder} holds weights of {found}, but the federation trains on {base.name} ({base.revision}) "
            f"of {base.digest}; mount that model, or ask the coordinator to correct baseModel.digest"
        )


def weights_digest(folder: Path) -> str:
    """sha256:… of the lines that sha256sum prints, in the order of LC_ALL=C."""
    files = sorted((file for file in folder.glob("*.safetensors") if not file.name.startswith(".")), key=by_bytes)
    if not files:
        raise InputMissingError(f"{folder} holds no *.safetensors file; mount the base model there in the agent's pod template")
    listing = "".join(f"{file_sha256(file)}  {file.name}\n" for file in files)
    return f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}"


def by_bytes(file: Path) -> bytes:
    return file.name.encode("utf-8", "surrogateescape")


def file_sha256(file: Path) -> str:
    digest = hashlib.sha256()
    try:
        with file.open("rb", buffering=0) as content:
            while block := content.read(READ_BYTES):
                digest.update(block)
    except OSError as error:
        raise InputMissingError(f"{file} cannot be read: {error.strerror}; the trainer runs as a user without rights") from None
    return digest.hexdigest()


def require_config(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise InputMissingError(f"{folder}/config.json does not exist; mount the base model there in the agent's pod template")


def load_tokeniser(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputMissingError(f"{folder} holds no tokeniser ({first_line(error)}); mount the whole model folder") from None


def load_base(folder: Path, device: str, dtype: str, quantization: Quantization | None = None) -> "torch.nn.Module":
    """sdpa: PyTorch's own attention, which takes a fused kernel where the device has one for the type and the mask."""
    from transformers import AutoModelForCausalLM

    how = {"quantization_config": four_bits(dtype)} if quantization else {}
    try:
        base = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            attn_implementation="sdpa",
            device_map={"": device},
            **how,
        )
    except (OSError, ValueError) as error:
        raise InputMissingError(f"{folder} holds no model that loads ({first_line(error)})") from None
    if quantization:
        keep_differentiable(base)
    return base.requires_grad_(False)


def keep_differentiable(base: "torch.nn.Module") -> None:
    """
    bitsandbytes 0.50 packs the weights of a model on a processor at its first evaluation, for a kernel through which no gradient flows;
    training after it would go on without an error and learn nothing.
    """
    for module in base.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def four_bits(dtype: str) -> Any:
    """
    NF4 with double quantisation, computed in `dtype` (Dettmers et al. 2023, QLoRA, section 3).

    Raises:
        TaskNotUnderstoodError: bitsandbytes is not installed.
    """
    from importlib.util import find_spec

    import torch
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise TaskNotUnderstoodError(
            "training.quantization is nf4, and this image has no bitsandbytes; use an image that has it, or quantization none"
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def save_activations(model: "PeftModel") -> None:
    """Keeps only each layer's input and computes the rest again in the backward pass (Chen et al. 2016)."""
    model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})


def lora_config(adapter: Adapter) -> "LoraConfig":
    from peft import LoraConfig

    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        target_modules=list(adapter.target_modules),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )


def attach(base: "torch.nn.Module", adapter: Adapter) -> "PeftModel":
    """An adapter of the planned shape on the base; its values are undefined until load_adapter has set them."""
    from peft import get_peft_model

    try:
        return get_peft_model(base, lora_config(adapter), low_cpu_mem_usage=True)
    except ValueError as error:
        raise TaskNotUnderstoodError(f"adapter.targetModules do not fit the base model: {first_line(error)}") from None


def load_adapter(model: "PeftModel", file: Path) -> None:
    """
    Puts a safetensors file with PEFT names onto the model.

    Raises:
        TaskNotUnderstoodError: names or shapes differ from what rank and targetModules make of this base model.
    """
    from peft import get_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        given = load_file(file)
    except (SafetensorError, OSError) as error:
        raise TaskNotUnderstoodError(f"the adapter from the agent is no safetensors file ({first_line(error)})") from None
    wanted = {name: tuple(tensor.shape) for name, tensor in get_peft_model_state_dict(model).items()}
    found = {name: tuple(tensor.shape) for name, tensor in given.items()}
    if wanted != found:
        name = min(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise TaskNotUnderstoodError(
            f"the adapter from the agent does not fit the base model: {name} is {found.get(name, 'absent')} "
            f"and should be {wanted.get(name, 'absent')}; check adapter.rank and adapter.targetModules"
        )
    set_adapter(model, given)


def set_adapter(model: "PeftModel", tensors: "dict[str, torch.Tensor]") -> None:
    """Copies values by PEFT name onto the model, as float32; what was frozen before may be trained again."""
    import torch
    from peft import set_peft_model_state_dict

    # low_cpu_mem_usage left the parameters on the meta device: they take the tensors instead of copying into them.
    set_peft_model_state_dict(model, tensors, low_cpu_mem_usage=True)
    base_device = model.get_base_model().device
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            # On its way to the base's device PEFT 0.21 has rounded them to the base's type, which loses what one round learns.
            parameter.data = tensors[name.replace(f".{ADAPTER_NAME}.", ".")].to(base_device, torch.float32, copy=True)
            parameter.requires_grad_(True)


def takes_logits_to_keep(model: "PeftModel") -> bool:
    return "logits_to_keep" in inspect.signature(model.get_base_model().forward).parameters


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300]
