"""
The situations that a trainer is put in, by name. Those of a fault take one kind of task, the first of those that are checked.

Holds: each says to the trainer exactly one thing that is out of the ordinary.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from .agent import Call
from .fixtures import ALPHA, RANK, Fixtures
from .trial import Situation

SETTLE_SECONDS = 3
"""From the last input to SIGTERM where a trainer tells no progress: by then it is loading its model or training."""

MUCH_WORK = 1_000_000
PRIVACY = {
    "noiseMultiplier": "1.0",
    "maxGradNorm": "1.0",
    "sampleRate": "0.1",
    "budget": {"epsilon": "1000", "delta": "1e-5"},
    "spent": [],
}


def situations(fixtures: Fixtures, kind: str, folder: Path) -> dict[str, Situation]:
    usual = {each: Situation(each, data=None if each == "initialise" else fixtures.data) for each in ("train", "evaluate", "initialise")}
    main, task = usual[kind], fixtures.task(kind)
    adapter = task["adapter"]
    first_input = "GET /v1/task" if kind == "initialise" else "GET /v1/task/adapter"
    delivery = "PUT /v1/task/result" if kind == "evaluate" else "PUT /v1/task/adapter"
    return {
        **usual,
        "again": replace(usual["train"], task={"weather": "fine", "season": {"of": [1, 2]}}),
        "other-parent": replace(usual["train"], parent=fixtures.other),
        "other-rank": replace(main, task={"adapter": {**adapter, "rank": 2 * RANK, "scaling": ALPHA / RANK / 2}}),
        "other-modules": replace(main, task={"adapter": {**adapter, "targetModules": ["no_such_proj"]}}),
        "other-schema": replace(main, task={"schema": 999}),
        "frozen": replace(main, task={"frozen": "A"}),
        "record-privacy": replace(main, task={"recordPrivacy": PRIVACY}),
        "other-base": replace(main, task={"baseModel": {**task["baseModel"], "digest": "sha256:" + "a" * 64}}),
        "empty-data": replace(main, data=emptied(fixtures.data, folder)),
        "no-data": replace(main, data=None),
        "restart": replace(main, agent={"drops": 1, "failures": {"GET /v1/task": [503], first_input: [503], delivery: [503, 401]}}),
        "refusal": replace(main, agent={"refusals": {delivery: 422}}),
        "deadline": replace(main, task={"deadline": int(time.time() * 1000) - 60_000}, agent={"is_gone_after": "GET /v1/task"}),
        "stop": replace(main, task={"training": {**(task["training"] or {}), "steps": MUCH_WORK}}, stop_when=Settled(first_input)),
        "stranger": replace(main, is_strange=True),
    }


class Settled:
    """Whether the trainer works: it told some progress, or it has had its inputs for a while."""

    def __init__(self, last_input: str) -> None:
        self.last_input = last_input
        self.seen_at: float | None = None

    def __call__(self, calls: list[Call]) -> bool:
        if any(call.name == "POST /v1/task/progress" for call in calls):
            return True
        if self.seen_at is None and any(call.name == self.last_input for call in calls):
            self.seen_at = time.monotonic()
        return self.seen_at is not None and time.monotonic() - self.seen_at > SETTLE_SECONDS


def emptied(data: Path, folder: Path) -> Path:
    """The site's files by name, with nothing in them."""
    into = folder / "emptied"
    for file in data.rglob("*"):
        if file.is_file():
            (into / file.relative_to(data)).parent.mkdir(parents=True, exist_ok=True)
            (into / file.relative_to(data)).touch()
    return into
