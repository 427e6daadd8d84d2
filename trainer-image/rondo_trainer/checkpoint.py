"""
Where training stands, on a volume that outlives the pod: a task that was preempted goes on instead of beginning anew.

Holds: a checkpoint belongs to one task (same federation, round, participant, seed, parent adapter and training); of any other nothing is
taken, and it is removed. A file is whole or absent: written aside, flushed, renamed. What goes on from it ends with the very adapter
that an uninterrupted run makes.
Does not: decide when one is due (train.py), nor hold data of the site: weights, moments and counters only.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .say import say
from .task import Task

if TYPE_CHECKING:
    from peft import PeftModel

SUFFIX = ".checkpoint"


@dataclass
class Position:
    """
    step: optimiser steps that are done; drawn: rows taken from the data's order so far; tokens and loss: sums over those steps
    (loss in nats).
    """

    step: int = 0
    drawn: int = 0
    tokens: int = 0
    loss: float = 0.0


class Checkpoints:
    """folder None: none are kept, and each method does nothing."""

    def __init__(self, folder: Path | None, name: str) -> None:
        self.folder = folder
        self.name = name

    @property
    def file(self) -> Path | None:
        return None if self.folder is None else self.folder / f"{self.name}{SUFFIX}"

    def load(self, model: "PeftModel", optimiser: torch.optim.Optimizer) -> Position:
        """Puts weights and moments back. A file that cannot be read counts as none: training anew is never wrong."""
        self.remove_others()
        if self.file is None or not self.file.is_file():
            return Position()
        device = model.get_base_model().device
        try:
            kept = torch.load(self.file, map_location=device, weights_only=True)
            weights = trainable(model)
            if kept["weights"].keys() != weights.keys():
                return Position()
            with torch.no_grad():
                for name, weight in weights.items():
                    weight.copy_(kept["weights"][name])
            optimiser.load_state_dict(kept["optimiser"])
            return Position(**kept["position"])
        except (OSError, RuntimeError, KeyError, TypeError, ValueError, EOFError):
            return Position()

    def save(self, model: "PeftModel", optimiser: torch.optim.Optimizer, position: Position) -> None:
        """Where the volume is full or gone the checkpoint before stays, and training goes on."""
        if self.file is None:
            return
        aside = self.file.with_suffix(".partial")
        weights = {name: weight.detach() for name, weight in trainable(model).items()}
        try:
            with aside.open("wb") as out:
                torch.save({"weights": weights, "optimiser": optimiser.state_dict(), "position": asdict(position)}, out)
                out.flush()
                os.fsync(out.fileno())
            aside.replace(self.file)
        except (OSError, RuntimeError) as error:
            # torch reports a full volume as a RuntimeError of its own.
            aside.unlink(missing_ok=True)
            say(f"no checkpoint at step {position.step}: {error}; training goes on, and a preemption costs what came since the last one")

    def remove(self) -> None:
        """The adapter is delivered."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)

    def remove_others(self) -> None:
        """Of tasks that are over: one site trains one task of a federation at a time."""
        if self.folder is None:
            return
        for file in [*self.folder.glob(f"*{SUFFIX}"), *self.folder.glob("*.partial")]:
            if file != self.file and file.name.startswith(self.name.split("-", maxsplit=1)[0]):
                file.unlink(missing_ok=True)


def trainable(model: "PeftModel") -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def checkpoint_name(task: Task, parent_sha256: str, rows: int) -> str:
    """`<federation>-<everything else that decides what is trained>`, both as hashes. rows: how many the site trains on."""
    said = {"round": task.round, "participant": task.participant, "seed": task.seed, "parent": parent_sha256, "rows": rows}
    shape = {"adapter": asdict(task.adapter), "training": asdict(task.training) if task.training else None, "frozen": task.frozen}
    return f"{short_hash(task.federation)}-{short_hash(json.dumps({**said, **shape}, sort_keys=True))}"


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
