"""
A trainer of a few lines without a model, and the ways in which one goes wrong: `python toy_trainer.py [FAULT]`, started by
rondo-trainer-check in test_trainer_check.py. Without a fault it keeps the whole contract.
"""

import json
import os
import random
import signal
import sys
import time
from hashlib import sha256
from pathlib import Path

from rondo_run import adapter_files, site_files
from rondo_run.__main__ import fetch
from rondo_run.safetensors_file import read_header, values_of
from rondo_run.settings import read_settings
from rondo_run.task_document import read_task
from rondo_trainer.client import TaskClient
from rondo_trainer.exits import RefusedError, TrainerError
from rondo_trainer_check.safetensors_bytes import format_safetensors

FAULT = sys.argv[1] if len(sys.argv) > 1 else ""
GIVEN = {"passes over privacy": {"recordPrivacy"}, "trains what is frozen": {"frozen"}}.get(FAULT, set())


def main() -> int:
    if FAULT == "crash":
        raise RuntimeError("a bug of its own")
    if FAULT == "silence":
        time.sleep(3600)
    settings = read_settings(os.environ)
    client = client_of(settings)
    text = client.task()
    if FAULT == "minds new fields" and b"weather" in text:
        return 64
    task = read_task(text, GIVEN)
    client.deadline_ms = 0 if FAULT == "gives up at once" else task.deadline_ms
    if FAULT != "looks at nothing":
        site_files.check(task, settings)
    fetch(client, task, text, settings.inbox)
    if task.steps > 1000:
        work_until_stopped(client)
    (evaluate if task.kind == "evaluate" else train)(client, json.loads(text), settings)
    return 0


def client_of(settings) -> TaskClient:
    client = TaskClient(settings.url, settings.ca_file, settings.token_file)
    if FAULT == "prints the token":
        print("my token is", settings.token_file.read_text())
    if FAULT == "trusts anybody":
        client.tls.check_hostname, client.tls.verify_mode = False, 0
    if FAULT == "gives up at once":
        client.deadline_ms = 0
    if FAULT == "writes elsewhere":
        Path("cache.bin").write_text("x")
    return client


def work_until_stopped(client: TaskClient) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN if FAULT == "ignores SIGTERM" else signal.SIG_DFL)
    client.progress({"step": 1, "steps": 1_000_000})
    time.sleep(3600)


def train(client: TaskClient, task: dict, settings) -> None:
    source = settings.inbox / "adapter" / adapter_files.WEIGHTS
    is_fresh = task["kind"] == "initialise" or FAULT == "starts afresh"
    if task["kind"] == "initialise":
        source = settings.outbox / "shapes.safetensors"
        source.write_bytes(format_safetensors(fresh_shapes(settings.model, task["adapter"])))
    draw = random.Random(None if FAULT == "another result each time" else task["seed"])
    tensors = {}
    for name, (shape, values) in read_all(source).items():
        start = [0.0] * len(values) if is_fresh else values
        change = 0.0 if FAULT == "trains nothing" else 1e-3
        tensors[name] = (shape, [value + draw.uniform(-change, change) for value in start])
    spoil(tensors)
    file = settings.outbox / "adapter.safetensors"
    file.write_bytes(format_safetensors(tensors))
    if FAULT == "other type":
        file.write_bytes(file.read_bytes().replace(b'"F32"', b'"I32"'))
    for step in range(3 if FAULT == "tells too often" else 1):
        client.progress_not_before = 0
        client.progress({"step": step, "steps": 8, "loss": 2.5})
    counts = {"schema": 1, "examples": 40, "steps": 8, "tokens": 100, "trainLoss": 2.5, "heldOut": None, "recordPrivacy": None}
    result = {**counts, "adapterSha256": sha256(file.read_bytes()).hexdigest(), "seconds": 0.1, "peakGpuBytes": 0}
    deliver(client, file, result)


def spoil(tensors: dict) -> None:
    name = sorted(tensors)[0]
    shape, values = tensors[name]
    if FAULT == "wrong names":
        tensors["model." + name] = tensors.pop(name)
    if FAULT == "wrong shapes":
        tensors[name] = ((shape[1], shape[0]), values)
    if FAULT == "not finite":
        values[-1] = float("nan")


def deliver(client: TaskClient, file: Path, result: dict) -> None:
    if FAULT == "wrong digest":
        result["adapterSha256"] = "0" * 64
    if FAULT == "incomplete result":
        del result["examples"]
    if FAULT == "no result":
        client.upload("/v1/task/adapter", file)
        return
    calls = [lambda: client.upload("/v1/task/adapter", file), lambda: client.put_json("/v1/task/result", result)]
    for call in reversed(calls) if FAULT == "result first" else calls:
        call()
    if FAULT == "late adapter":
        client.upload("/v1/task/adapter", file)


def evaluate(client: TaskClient, task: dict, settings) -> None:
    parent, candidate = (mean_of(settings.inbox / name / adapter_files.WEIGHTS) for name in ("adapter", "candidate"))
    held_out = {"tokens": 50, "parentLoss": 3 + parent, "loss": 3 + (parent if FAULT == "forgets the candidate" else candidate)}
    client.put_json("/v1/task/result", {"schema": 1, "examples": 5, "steps": 0, "tokens": 0, "heldOut": held_out, "seconds": 0.1})


def fresh_shapes(model: Path, adapter: dict) -> dict:
    from rondo_trainer_check.fixtures import FixtureError, adapter_shapes, adapter_values

    try:
        return adapter_values(adapter_shapes(model, tuple(adapter["targetModules"])), 0)
    except FixtureError:
        sys.exit(64)


def read_all(file: Path) -> dict:
    data = file.read_bytes()
    return {name: (each.shape, list(values_of(data[each.start : each.end], each.dtype))) for name, each in read_header(file).items()}


def mean_of(file: Path) -> float:
    values = [value for _, values in read_all(file).values() for value in values]
    return sum(values) / len(values)


def insist(once):
    """Again and again, whatever the answer: the fault "never takes no"."""
    for _ in range(5):
        try:
            return once()
        except RefusedError:
            time.sleep(0.01)
    raise RefusedError("no, no, no, no, no")


if FAULT == "never takes no":
    TaskClient.repeat = lambda _self, once: insist(once)

if __name__ == "__main__":
    try:
        sys.exit(main())
    except TrainerError as error:
        print(f"toy: {error}", file=sys.stderr)
        sys.exit(error.code)
