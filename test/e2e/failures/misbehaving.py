#!/usr/bin/env python3
"""
A trainer that does what the site's file /rondo/behaviour/do says, good or bad, or do.<federation> where there is one; read anew by
every pod. Standard library alone, so that it starts in a fraction of a second; `real` becomes the trainer that Rondo ships.

Holds: it keeps the contract of docs/trainer.md wherever the behaviour is not to break it; each start is a line in `starts`, so that a test
sees what was trained twice. Does not: train.
"""

import hashlib
import json
import math
import os
import signal
import struct
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path

from rondo_trainer.client import TaskClient

FOLDER = Path("/rondo/behaviour")
OUT = Path("/rondo/out/adapter.safetensors")


def main() -> int:
    # PID 1 has no default action for SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if said("do") == "real":
        python = "/opt/rondo/venv/bin/python"
        os.execv(python, [python, "-m", "rondo_trainer"])
    environment = os.environ
    agent = TaskClient(environment["RONDO_TASK_URL"], Path(environment["RONDO_TASK_CA"]), Path(environment["RONDO_TASK_TOKEN_FILE"]))
    task = json.loads(agent.task())
    # Where a test moves its cluster's clock, the agent's is moved and this one is not.
    agent.deadline_ms = task["deadline"] - 1000 * int(said("skew") or 0)
    federation = task["federation"].split("/")[-1]
    behaviour = said(f"do.{federation}") or said("do")
    earlier = said("starts").splitlines().count(start := f"{federation} {task['round']}")
    with (FOLDER / "starts").open("a") as starts:
        starts.write(f"{start}\n")
    if behaviour.endswith(" once"):
        behaviour = "train" if earlier else behaviour.removesuffix(" once")
    steps = task["training"]["steps"]
    agent.progress({"step": 1, "steps": steps})
    if behaviour.startswith("exit "):
        return int(behaviour.removeprefix("exit "))
    if behaviour == "oom":
        hoard = [bytearray(1 << 24) for _ in iter(int, 1)]
        return len(hoard)
    if behaviour == "crash":
        raise RuntimeError("the record of Mrs. Miller is the one that crashed it")
    if behaviour == "hang":
        while True:
            time.sleep(1)
    if behaviour == "wait":
        while not ((FOLDER / "go").exists() or (FOLDER / f"go.{federation}").exists()):
            time.sleep(0.2)
    agent.download("/v1/task/adapter", OUT)
    OUT.write_bytes(adapter := CHANGES.get(behaviour, trained)(OUT.read_bytes()))
    agent.upload("/v1/task/adapter", OUT)
    result = {
        "schema": 1,
        "examples": 10,
        "steps": steps,
        "tokens": 100,
        "trainLoss": 2.5,
        "heldOut": None,
        "recordPrivacy": None,
        "adapterSha256": hashlib.sha256(adapter).hexdigest(),
        "seconds": 0.1,
        "peakGpuBytes": 0,
    }
    agent.put_json("/v1/task/result", result)
    return 0


def said(name: str) -> str:
    """What a test has written, or nothing."""
    file = FOLDER / name
    return file.read_text().strip() if file.exists() else ""


def trained(adapter: bytes) -> bytes:
    """The parent with every value a little larger, by this site's own step."""
    step = float(said("step"))
    tensors, data = parsed(adapter)
    values = array("f", data)
    return safetensors(
        {name: tensor["shape"] for name, tensor in tensors.items()},
        array("f", (value + step for value in values)).tobytes(),
    )


def not_a_number(adapter: bytes) -> bytes:
    return first_values(adapter, lambda _: math.nan)


def first_values(adapter: bytes, change: Callable[[float], float]) -> bytes:
    tensors, data = parsed(adapter)
    changed = bytearray(data)
    for tensor in tensors.values():
        at = tensor["data_offsets"][0]
        struct.pack_into("<f", changed, at, change(struct.unpack_from("<f", data, at)[0]))
    return safetensors({name: tensor["shape"] for name, tensor in tensors.items()}, bytes(changed))


def wrong_shape(adapter: bytes) -> bytes:
    """One row more in the last tensor."""
    tensors, data = parsed(adapter)
    shapes = {name: list(tensor["shape"]) for name, tensor in tensors.items()}
    last = list(shapes)[-1]
    shapes[last][0] += 1
    return safetensors(shapes, data + bytes(4 * shapes[last][1]))


def another_rank(adapter: bytes) -> bytes:
    """Half the rank: lora_A is (rank, in_features), lora_B is (out_features, rank)."""
    shapes = {name: list(tensor["shape"]) for name, tensor in parsed(adapter)[0].items()}
    for name, shape in shapes.items():
        shape[0 if "lora_A" in name else 1] //= 2
    return safetensors(shapes, bytes(4 * sum(math.prod(shape) for shape in shapes.values())))


CHANGES = {"nan": not_a_number, "wrong shape": wrong_shape, "another rank": another_rank}


def parsed(adapter: bytes) -> tuple[dict, bytes]:
    """Tensors in the order of their data, F32."""
    length = struct.unpack_from("<Q", adapter)[0]
    header = json.loads(adapter[8 : 8 + length])
    header.pop("__metadata__", None)
    in_order = sorted(header.items(), key=lambda entry: entry[1]["data_offsets"][0])
    assert all(tensor["dtype"] == "F32" for _, tensor in in_order)
    return dict(in_order), adapter[8 + length :]


def safetensors(shapes: dict, data: bytes) -> bytes:
    header, at = {}, 0
    for name, shape in shapes.items():
        end = at + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


if __name__ == "__main__":
    sys.exit(main())
