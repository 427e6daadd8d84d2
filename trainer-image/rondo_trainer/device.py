"""
PyTorch as this site wants it: device, type, threads, deterministic kernels, nothing from the network, no chatter.

Does not: import PyTorch before prepare_libraries is called, for what can fail early should fail before those seconds.
"""

import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from .exits import TrainerError
from .ranks import Ranks
from .site_settings import Site


@dataclass(frozen=True)
class Device:
    """name and dtype: as PyTorch knows them."""

    name: str
    dtype: str


def prepare_libraries(site: Site) -> None:
    """Imports PyTorch, tamed."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    # PEFT imports it where it is installed, and it looks for a kernel on the hub that few have.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Threads that spin while they wait cost a shared machine more than they save: seen to be ten times slower on a busy one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(site.threads)
    # Some CUDA kernels of some models have no deterministic twin: then a warning, and the run goes on.
    torch.use_deterministic_algorithms(True, warn_only=True)


def choose_device(site: Site, ranks: Ranks) -> Device:
    name = chosen_name(site, ranks)
    if ranks.count > 1:
        join(name)
    return Device(name, chosen_dtype(site, name))


def chosen_name(site: Site, ranks: Ranks) -> str:
    import torch

    if site.device not in ("auto", "cuda"):
        return site.device
    if not torch.cuda.is_available():
        if site.device == "cuda":
            raise TrainerError("RONDO_DEVICE is cuda, but PyTorch sees no GPU; give the template's container one, or unset RONDO_DEVICE")
        return "cpu"
    return f"cuda:{ranks.rank}" if ranks.count > 1 else "cuda"


def join(name: str) -> None:
    """Meets the other ranks: NCCL between GPUs, gloo between processors."""
    import torch
    from accelerate import PartialState

    if name.startswith("cuda"):
        torch.cuda.set_device(name)
    PartialState(cpu=not name.startswith("cuda"))


def chosen_dtype(site: Site, device: str) -> str:
    """
    bfloat16 where the device computes in it (measured on 2 cores, SmolLM2: 0.6 GB and a fifth to a half of the time less than float32,
    losses within 0.01), else float32: elsewhere a processor would emulate it.
    """
    if site.dtype != "auto":
        return site.dtype
    return "bfloat16" if computes_bfloat16(device) else "float32"


def computes_bfloat16(device: str) -> bool:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def peak_gpu_bytes() -> int:
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
