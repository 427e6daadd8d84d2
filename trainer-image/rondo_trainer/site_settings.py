"""
What the site's pod template says to the trainer: folders, limits and device, from the environment (docs/trainer.md).

Holds: read once, by __main__.py; nothing else looks at the environment.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .exits import TrainerError

HELD_OUT_MAX = 256
"""Records: a few thousand tokens, enough to see a change of 0.01 nats, and seconds of evaluation rather than minutes."""
HELD_OUT_PERCENT = 10
ANSWERS_MAX = 32
CHECKPOINT_SECONDS = 300
LONGEST_CHECKPOINT_SECONDS = 86_400


@dataclass(frozen=True)
class Agent:
    url: str
    ca_file: Path
    token_file: Path


@dataclass(frozen=True)
class Site:
    """
    threads: of the processor, for PyTorch; device and dtype: "auto", or a name that PyTorch knows; checkpoints: None where the site
    keeps none; processes: of one task, one for each GPU.
    """

    model: Path
    data: Path
    out: Path
    held_out_max: int
    held_out_percent: int
    answers_max: int
    threads: int
    device: str
    dtype: str
    checkpoints: Path | None
    checkpoint_seconds: int
    processes: int


def read_agent(env: Mapping[str, str]) -> Agent:
    missing = [name for name in ("RONDO_TASK_URL", "RONDO_TASK_CA", "RONDO_TASK_TOKEN_FILE") if not env.get(name)]
    if missing:
        raise TrainerError(f"{', '.join(missing)} not set; a trainer is started by an agent's Job")
    return Agent(env["RONDO_TASK_URL"], Path(env["RONDO_TASK_CA"]), Path(env["RONDO_TASK_TOKEN_FILE"]))


def read_site(env: Mapping[str, str]) -> Site:
    return Site(
        model=Path(env.get("RONDO_MODEL", "/rondo/model")),
        data=Path(env.get("RONDO_DATA", "/rondo/data")),
        out=Path(env.get("RONDO_OUT", "/rondo/out")),
        held_out_max=whole(env, "RONDO_HELD_OUT_MAX", HELD_OUT_MAX, (0, 1_000_000)),
        held_out_percent=whole(env, "RONDO_HELD_OUT_PERCENT", HELD_OUT_PERCENT, (0, 100)),
        answers_max=whole(env, "RONDO_ANSWERS_MAX", ANSWERS_MAX, (0, 1_000_000)),
        threads=whole(env, "RONDO_THREADS", available_threads(), (1, 1024)),
        device=env.get("RONDO_DEVICE", "auto"),
        dtype=env.get("RONDO_DTYPE", "auto"),
        checkpoints=Path(env["RONDO_CHECKPOINTS"]) if env.get("RONDO_CHECKPOINTS") else None,
        checkpoint_seconds=whole(env, "RONDO_CHECKPOINT_SECONDS", CHECKPOINT_SECONDS, (1, LONGEST_CHECKPOINT_SECONDS)),
        processes=whole(env, "RONDO_PROCESSES", gpus_of_container() if env.get("RONDO_DEVICE", "auto") in ("auto", "cuda") else 1, (1, 64)),
    )


def gpus_of_container(devices: Path = Path("/dev")) -> int:
    """At least 1. The device files that a container gets are those of its own GPUs; PyTorch would take seconds to count them."""
    return max(1, sum(file.name.removeprefix("nvidia").isdecimal() for file in devices.glob("nvidia[0-9]*")))


def whole(env: Mapping[str, str], name: str, default: int, limits: tuple[int, int]) -> int:
    text = env.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or not limits[0] <= int(text) <= limits[1]:
        raise TrainerError(f"{name} is {text!r}; it must be a whole number from {limits[0]} to {limits[1]}")
    return int(text)


def available_threads() -> int:
    """Processors that this container may use: its affinity, cut by its quota. PyTorch would take all that the node has."""
    allowed = len(os.sched_getaffinity(0))
    quota = cpu_quota()
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def cpu_quota() -> float | None:
    """The container's own limit in processors: cgroup v2, else v1, else none."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        folder = Path("/sys/fs/cgroup/cpu")
        quota_us, period_us = (int((folder / name).read_text()) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
        return None if quota_us <= 0 else quota_us / period_us
    except (OSError, ValueError):
        return None
