"""
Judges of what a trainer hands back: each looks at trials that are over, and returns a sentence or raises a finding.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rondo_run.safetensors_file import VALUE_BYTES, SafetensorsError, Tensor, first_not_finite, read_header, values_of

from .agent import sha256
from .trial import Trial
from .verdict import Broken, NotTried, Warned

ADAPTER, RESULT, PROGRESS = "PUT /v1/task/adapter", "PUT /v1/task/result", "POST /v1/task/progress"
SECOND = 0.9
"""Calls a second apart may arrive closer than they were sent."""
COMPARED_VALUES = 1 << 18
"""Of each tensor, from its start: enough to tell two adapters apart."""


def ended(trial: Trial) -> int:
    if trial.exit_code is None:
        calls = "it made no call to the agent at all" if not trial.calls else f"its last call was {trial.calls[-1].name}"
        raise Broken(f"it did not end within {trial.seconds:.0f} s and was killed; {calls}")
    return trial.exit_code


def done(trial: Trial) -> str:
    code = ended(trial)
    if code != 0:
        raise Broken(f"exit {code} instead of 0{last_words(trial)}")
    results = [call for call in trial.named(RESULT) if call.status == 204]
    if not results:
        raise Broken("exit 0, but no result was delivered that the agent takes; nobody would ever know that it is done")
    return f"exit 0 after {trial.seconds:.1f} s"


def last_words(trial: Trial) -> str:
    words = trial.output.strip().rpartition("\n")[2].strip()[:200].replace(trial.token, "<the token>")
    return f'; its last words: "{words}"' if words else "; it printed nothing"


def adapter_of(trial: Trial) -> Path:
    """The adapter last handed over."""
    files = [call.file for call in trial.named(ADAPTER) if call.file is not None]
    if not files:
        raise NotTried(f"the {trial.kind} task handed back no adapter")
    return files[-1]


def result_of(trial: Trial) -> dict[str, Any]:
    """The result last handed over, taken or not."""
    results = [call.document for call in trial.named(RESULT)]
    if not results:
        raise NotTried(f"the {trial.kind} task handed back no result")
    if not isinstance(results[-1], dict):
        raise Broken("the result is no JSON object of at most 64 KiB")
    return results[-1]


def order(trial: Trial) -> str:
    names = [call.name for call in trial.calls]
    if RESULT not in names:
        raise NotTried(f"the {trial.kind} task handed back no result")
    if trial.kind != "evaluate" and ADAPTER not in names[: names.index(RESULT)]:
        raise Broken("the result came before the adapter; the agent answers 409 to that")
    taken = next((index for index, call in enumerate(trial.calls) if call.name == RESULT and call.status == 204), None)
    after = [] if taken is None else names[taken + 1 :]
    if after:
        raise Broken(f"{after[0]} came after the result; for the agent the task was over")
    return "the result came last"


def adapter(trial: Trial, parent: Path) -> str:
    file = adapter_of(trial)
    try:
        tensors, wanted = read_header(file), read_header(parent)
    except SafetensorsError as error:
        raise Broken(f"the adapter {error}") from None
    fault = fault_of_names(tensors, wanted) or fault_of_types(tensors)
    if fault:
        raise Broken(fault)
    if name := first_not_finite(file, tensors):
        raise Broken(f"{name} holds values that are not finite; end with 70 instead")
    return f"{len(tensors)} tensors of the parent's names and shapes, all finite"


def fault_of_names(tensors: dict[str, Tensor], wanted: dict[str, Tensor]) -> str | None:
    if missing := sorted(wanted.keys() - tensors.keys()):
        return f"{len(missing)} of {len(wanted)} tensors are missing, the first is {missing[0]}"
    if added := sorted(tensors.keys() - wanted.keys()):
        return f"{added[0]} is no tensor of the parent's ({len(added)} such)"
    wrong = next((name for name in sorted(wanted) if tensors[name].shape != wanted[name].shape), None)
    return wrong and f"{wrong} has shape {tensors[wrong].shape}, and the parent's has {wanted[wrong].shape}"


def fault_of_types(tensors: dict[str, Tensor]) -> str | None:
    wrong = next((tensor for tensor in tensors.values() if tensor.dtype not in VALUE_BYTES), None)
    return wrong and f"{wrong.name} is {wrong.dtype}; the agent reads F32, F16 and BF16"


def trained(trial: Trial, parent: Path) -> str:
    if distance(adapter_of(trial), parent) == 0:
        raise Broken("the adapter handed back is the parent itself: nothing was trained, or the wrong file was sent")
    return "the adapter handed back differs from its parent"


def parent_used(first: Trial, second: Trial, parents: tuple[Path, Path]) -> str:
    """Each trained adapter must lie nearer to the adapter that its training began with."""
    for trial, own, other in ((first, parents[0], parents[1]), (second, parents[1], parents[0])):
        if distance(adapter_of(trial), own) >= distance(adapter_of(trial), other):
            raise Broken("trained from two very different parents it gave adapters that do not lie near them; does it start from its own?")
    return "two different parents gave two adapters, each near its own"


def distance(first: Path, second: Path, of: str = "") -> float:
    """Squared, over the tensors with this in their names."""
    try:
        left, right = read_header(first), read_header(second)
    except SafetensorsError as error:
        raise NotTried(f"an adapter {error}") from None
    if fault_of_names(left, right) or fault_of_types(left):
        raise NotTried("the adapter has not the parent's tensors")
    with first.open("rb") as one, second.open("rb") as two:
        return math.fsum(gap(beginning(one, left[name]), beginning(two, right[name])) for name in left if of in name)


def beginning(content: Any, tensor: Tensor) -> tuple[float, ...]:
    content.seek(tensor.start)
    width = VALUE_BYTES[tensor.dtype]
    return values_of(content.read(min(tensor.end - tensor.start, COMPARED_VALUES * width)), tensor.dtype)


def gap(left: tuple[float, ...], right: tuple[float, ...]) -> float:
    return math.fsum((left[index] - right[index]) ** 2 for index in range(len(left)))


def same_seed(first: Trial, second: Trial) -> str:
    if sha256(adapter_of(first)) != sha256(adapter_of(second)):
        raise Warned("not deterministic: the same task twice gave two different adapters, so a retried round cannot be compared")
    return "the same task twice gave the same adapter, byte for byte"


def digest(trial: Trial) -> str:
    said = result_of(trial).get("adapterSha256")
    found = sha256(adapter_of(trial))
    if said is None:
        raise Warned("the result has no adapterSha256; an adapter that was damaged on its way would not be noticed")
    if said not in (found, f"sha256:{found}"):
        raise Broken(f"adapterSha256 is {str(said)[:80]}, but the adapter received has {found}; the agent answers 422 to that")
    return "adapterSha256 is that of the adapter received"


def result(trial: Trial) -> str:
    document = result_of(trial)
    if document.get("schema") != 1:
        raise Broken(f"schema is {document.get('schema')!r}; it must be 1")
    for name in ("examples", "steps", "tokens"):
        require(is_count(document.get(name)), name, document.get(name), "a whole number, 0 or more")
    if trial.kind == "train":
        require(is_number(document.get("trainLoss")), "trainLoss", document.get("trainLoss"), "a finite number")
    if trial.kind == "evaluate":
        require(document["steps"] == 0, "steps", document["steps"], "0 in an evaluate task")
        extra = sorted({"trainLoss", "adapterSha256"} & document.keys())
        if extra:
            raise Broken(f"an evaluate task's result has no {extra[0]}")
    optional(document)
    held_out(document.get("heldOut"))
    return "every field is there and has its type"


def optional(document: dict[str, Any]) -> None:
    seconds, peak = document.get("seconds"), document.get("peakGpuBytes")
    require(seconds is None or (is_number(seconds) and seconds >= 0), "seconds", seconds, "a number, 0 or more")
    require(peak is None or is_count(peak), "peakGpuBytes", peak, "a whole number, 0 or more")


def held_out(value: Any) -> None:
    if value is None:
        return
    require(isinstance(value, dict), "heldOut", value, "null or an object")
    require(is_count(value.get("tokens")), "heldOut.tokens", value.get("tokens"), "a whole number, 0 or more")
    for name in ("parentLoss", "loss"):
        require(is_number(value.get(name)), f"heldOut.{name}", value.get(name), "a finite number")


def require(is_allowed: bool, name: str, value: Any, allowed: str) -> None:
    if not is_allowed:
        raise Broken(f"{name} is {str(value)[:80]}; it must be {allowed}")


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def candidate_used(trial: Trial) -> str:
    held = result_of(trial).get("heldOut")
    if held is None:
        raise Warned("heldOut is null: nothing is held out, and so nothing was compared")
    held_out(held)
    if held["loss"] == held["parentLoss"]:
        raise Broken("two very different adapters have the same loss to the last digit; is the candidate looked at?")
    return "parent and candidate have losses of their own"


def progress(trial: Trial) -> str:
    calls = trial.named(PROGRESS)
    for call in calls:
        now = call.document if isinstance(call.document, dict) else {}
        if not (is_count(now.get("step")) and is_count(now.get("steps")) and now["step"] <= now["steps"]):
            raise Broken(f"step {now.get('step')} of {now.get('steps')}: both must be whole numbers, the first at most the second")
        if not all(now.get(name) is None or is_number(now[name]) for name in ("loss", "tokensPerSecond")):
            raise Broken("loss and tokensPerSecond must be finite numbers; leave out what is not")
    gaps = [calls[index + 1].at - calls[index].at for index in range(len(calls) - 1)]
    if gaps and min(gaps) < SECOND:
        raise Broken(f"two calls came {min(gaps):.2f} s apart")
    return f"calls seen: {len(calls)}" if calls else "tells none, which is allowed"
