"""
An adapter as files: safetensors with PEFT's names, float32, and the adapter_config.json that PEFT loads it by.

Holds: names ascend and nothing in the file depends on time or place, so that equal weights make equal bytes.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from .model import file_sha256, lora_config
from .task import Adapter, BaseModel

if TYPE_CHECKING:
    from peft import PeftModel

WEIGHTS = "adapter_model.safetensors"


def adapter_tensors(model: "PeftModel") -> dict[str, torch.Tensor]:
    from peft import get_peft_model_state_dict

    return get_peft_model_state_dict(model)


def write_adapter(tensors: dict[str, torch.Tensor], adapter: Adapter, base: BaseModel, folder: Path) -> tuple[Path, str]:
    """The weights' file and its sha256 in hexadecimal digits."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / WEIGHTS
    plain = {name: tensors[name].detach().to("cpu", torch.float32).contiguous() for name in sorted(tensors)}
    save_file(plain, file, metadata={"format": "pt"})
    config = lora_config(adapter)
    config.base_model_name_or_path, config.revision, config.inference_mode = base.name, base.revision, True
    config.save_pretrained(folder)
    return file, file_sha256(file)
