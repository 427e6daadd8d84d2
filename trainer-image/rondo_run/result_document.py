"""
$RONDO_OUT/result.json: read, filled in and checked, so that the agent takes it (docs/trainer.md).

Holds: only fields that the contract has are delivered; a field that CMD got wrong is named with its value, which is a number about the
training and never a record.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rondo_trainer.exits import DivergedError

from .adapter_files import HandedBackError
from .progress_file import is_count, is_finite_number
from .task_document import Task

RESULT_BYTES = 64 << 10
"""The agent takes no more; a result has a few hundred."""

COUNTS = ("examples", "steps", "tokens", "peakGpuBytes")
REQUIRED = {"train": ("examples", "steps", "tokens", "trainLoss"), "evaluate": ("examples", "heldOut"), "initialise": ()}
ALLOWED = {
    "train": ("examples", "steps", "tokens", "trainLoss", "heldOut", "recordPrivacy", "adapterSha256", "seconds", "peakGpuBytes"),
    "evaluate": ("examples", "heldOut", "recordPrivacy", "seconds", "peakGpuBytes"),
    "initialise": ("adapterSha256", "seconds", "peakGpuBytes"),
}


def complete(file: Path, task: Task, measured: dict[str, Any]) -> dict[str, Any]:
    """
    Args:
        measured: what rondo-run knows itself: seconds, and adapterSha256 where there is an adapter.

    Raises:
        HandedBackError: no such file, or a field is missing or wrong.
        DivergedError: a loss is not finite.
    """
    given = read(file, is_needed=bool(REQUIRED[task.kind]))
    for name in REQUIRED[task.kind]:
        # heldOut is null where nothing is held out; of the others null says nothing.
        if name not in given or (given[name] is None and name != "heldOut"):
            raise HandedBackError(f"result.json has no {name}; {task.kind} tasks need {', '.join(REQUIRED[task.kind])}")
    digest = given.get("adapterSha256")
    if "adapterSha256" in measured and digest not in (None, measured["adapterSha256"], f"sha256:{measured['adapterSha256']}"):
        raise HandedBackError(
            f"result.json: adapterSha256 is {show(digest)}, and the file has {measured['adapterSha256']}; "
            "leave it out, or write the adapter first and never again"
        )
    kept = {name: given[name] for name in ALLOWED[task.kind] if given.get(name) is not None}
    defaults = {"examples": 0, "steps": 0, "tokens": 0, "heldOut": None, "recordPrivacy": None, "peakGpuBytes": 0}
    result = {"schema": 1, **defaults, "seconds": measured["seconds"], **kept}
    if "adapterSha256" in measured:
        result["adapterSha256"] = measured["adapterSha256"]
    check(result)
    return result


def read(file: Path, *, is_needed: bool) -> dict[str, Any]:
    if not file.exists() and not is_needed:
        return {}
    try:
        with file.open("rb") as content:
            text = content.read(RESULT_BYTES + 1)
        document = json.loads(text) if len(text) <= RESULT_BYTES else None
    except OSError as error:
        raise HandedBackError(f"$RONDO_OUT/result.json cannot be read ({error.strerror}); the command must write it") from None
    except (ValueError, RecursionError):
        raise HandedBackError("$RONDO_OUT/result.json is not JSON") from None
    if not isinstance(document, dict):
        raise HandedBackError(f"$RONDO_OUT/result.json must be one JSON object of at most {RESULT_BYTES} bytes")
    return document


def check(result: dict[str, Any]) -> None:
    for name in COUNTS:
        require(is_count(result[name]), name, result[name], "a whole number, 0 or more")
    require_number("seconds", result["seconds"])
    require(result["seconds"] >= 0, "seconds", result["seconds"], "0 or more")
    if "trainLoss" in result:
        require_number("trainLoss", result["trainLoss"])
    held_out = result["heldOut"]
    if held_out is None:
        return
    wanted = 'null or {"tokens": 917, "parentLoss": 3.99, "loss": 3.81}'
    require(isinstance(held_out, dict) and held_out.keys() >= {"tokens", "parentLoss", "loss"}, "heldOut", held_out, wanted)
    require(is_count(held_out["tokens"]), "heldOut.tokens", held_out["tokens"], "a whole number, 0 or more")
    for name in ("parentLoss", "loss"):
        require_number(f"heldOut.{name}", held_out[name])


def require_number(name: str, value: Any) -> None:
    # Python's JSON reads NaN and Infinity, which are no JSON: a loss that has become one.
    if isinstance(value, float) and not is_finite_number(value):
        raise DivergedError(f"result.json: {name} is {value}; lower training.learningRate")
    require(is_finite_number(value), name, value, "a finite number")


def require(is_allowed: bool, name: str, value: Any, allowed: str) -> None:
    if not is_allowed:
        raise HandedBackError(f"result.json: {name} is {show(value)}; it must be {allowed}")


def show(value: Any) -> str:
    return json.dumps(value)[:120]
