"""
What a trainer is checked with: base model, data, two adapters on that model, and the task that names them.

Holds: a model or data of the caller's own are only read; what is missing is made in a folder of ours.
"""

from __future__ import annotations

import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rondo_run.safetensors_file import SafetensorsError, read_header
from rondo_run.site_files import weights_digest

from .safetensors_bytes import Values, format_safetensors
from .tiny_llama import write_tiny_llama

RANK, ALPHA = 2, 4
STEPS = 8
RECORDS = 48
HOUR_MS = 3_600_000
NAME_OF_BASE = "rondo-trainer-check/base"


class FixtureError(Exception):
    """The caller's model or data cannot be used; a sentence with a remedy."""


@dataclass(frozen=True)
class Fixtures:
    """parent, other: adapters of equal names and shapes and clearly different values, as safetensors files."""

    model: Path
    data: Path
    target_modules: tuple[str, ...]
    digest: str
    parent: Path
    other: Path

    def task(self, kind: str) -> dict[str, Any]:
        trains = kind != "initialise"
        return {
            "schema": 1,
            "kind": kind,
            "federation": "example.org/rondo/trainer-check",
            "round": 1 if trains else 0,
            "attempt": 1,
            "participant": "checker",
            "seed": 20_260_101,
            "baseModel": {"name": NAME_OF_BASE, "revision": "main", "digest": self.digest},
            "adapter": {"rank": RANK, "alpha": ALPHA, "targetModules": list(self.target_modules), "scaling": ALPHA / RANK},
            # A small rate: what is trained stays nearer to its parent than to the other adapter.
            "training": {"task": "instruction", "steps": STEPS, "batchSize": 2, "sequenceLength": 64, "learningRate": "1e-3"}
            if trains
            else None,
            "learningRate": "1e-3" if trains else None,
            "frozen": None,
            "recordPrivacy": None,
            "deadline": int(time.time() * 1000) + HOUR_MS,
        }


def make_fixtures(folder: Path, model: Path | None, data: Path | None, target_modules: tuple[str, ...]) -> Fixtures:
    if model is None:
        model = folder / "model"
        write_tiny_llama(model)
    if data is None:
        data = folder / "data"
        write_records(data)
    shapes = adapter_shapes(model, target_modules)
    files = folder / "parent.safetensors", folder / "other.safetensors"
    for seed, file in enumerate(files):
        file.write_bytes(format_safetensors(adapter_values(shapes, seed)))
    return Fixtures(model, data, target_modules, weights_digest(model), *files)


def write_records(folder: Path) -> None:
    """JSONL of prompt and completion: what Rondo's own trainer reads. Who reads another format brings data of that format."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [{"prompt": f"What is {n} plus {n}?", "completion": f"It is {2 * n}."} for n in range(RECORDS)]
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def adapter_shapes(model: Path, target_modules: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """PEFT's names and shapes from the weights' own: a linear layer `x.weight` of (out, in) takes A (rank, in) and B (out, rank)."""
    shapes: dict[str, tuple[int, int]] = {}
    met = set()
    for file in sorted(model.glob("*.safetensors")):
        try:
            tensors = read_header(file)
        except SafetensorsError as error:
            raise FixtureError(f"{file} {error}") from None
        for tensor in tensors.values():
            module, _, kind = tensor.name.rpartition(".")
            name = module.rpartition(".")[2]
            if kind == "weight" and name in target_modules and len(tensor.shape) == 2:
                met.add(name)
                shapes[f"base_model.model.{module}.lora_A.weight"] = (RANK, tensor.shape[1])
                shapes[f"base_model.model.{module}.lora_B.weight"] = (tensor.shape[0], RANK)
    if missing := sorted(set(target_modules) - met):
        raise FixtureError(f"{model} has no linear layer {missing[0]}; name its own with --target-modules q_proj,v_proj")
    return shapes


def adapter_values(shapes: dict[str, tuple[int, int]], seed: int) -> dict[str, Values]:
    """Neither half is zero: else a trainer that starts from B = 0 would pass for one that starts from its parent."""
    draw = random.Random(seed)
    values: dict[str, Values] = {}
    for name, shape in sorted(shapes.items()):
        bound = 1 / math.sqrt(shape[1]) if ".lora_A." in name else 0.1
        values[name] = (shape, [draw.uniform(-bound, bound) for _ in range(shape[0] * shape[1])])
    return values
