"""
Of task.json what rondo-run itself acts by; the rest is CMD's business and reaches it as it came.

Holds: a field that changes what training means (frozen, recordPrivacy) is refused unless CMD is said to honour it: a trainer that
passes over recordPrivacy would hand back an adapter without the noise that its records were promised.
Does not: check what only CMD reads, such as training.steps.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from rondo_trainer.exits import TaskNotUnderstoodError

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Task:
    """deadline_ms counts from 1970 by the agent's clock; steps: planned, 0 where nothing is trained."""

    kind: str
    base_name: str
    base_revision: str
    base_digest: str
    rank: int
    alpha: int
    target_modules: tuple[str, ...]
    steps: int
    deadline_ms: int | None

    @property
    def makes_adapter(self) -> bool:
        return self.kind != "evaluate"

    @property
    def adapters(self) -> tuple[str, ...]:
        """What the agent has for this task; each is a path below /v1/task/ and a folder below $RONDO_IN."""
        return {"train": ("adapter",), "evaluate": ("adapter", "candidate"), "initialise": ()}[self.kind]


def read_task(text: bytes, honoured: set[str]) -> Task:
    """
    Raises:
        TaskNotUnderstoodError: with the field, its value and what is allowed.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise TaskNotUnderstoodError(f"task.json is not JSON ({error}); is RONDO_TASK_URL the agent's?") from None
    if not isinstance(document, dict):
        raise TaskNotUnderstoodError(f"task.json is a {type(document).__name__}; an object is needed")
    require(document.get("schema") == 1, "schema", document.get("schema"), "1; use a rondo-run of the agent's release")
    kind = document.get("kind")
    require(kind in ("train", "evaluate", "initialise"), "kind", kind, "train, evaluate or initialise")
    for field in ("frozen", "recordPrivacy"):
        allowed = f"null, or CMD must honour it and be run with --honours {field}"
        require(document.get(field) is None or field in honoured, field, document.get(field), allowed)
    base, adapter = part(document, "baseModel"), part(document, "adapter")
    modules = adapter.get("targetModules")
    is_names = isinstance(modules, list) and modules and all(isinstance(name, str) and name for name in modules)
    require(is_names, "adapter.targetModules", modules, "a list of module names")
    digest = base.get("digest")
    require(isinstance(digest, str) and DIGEST.fullmatch(digest), "baseModel.digest", digest, "sha256: and 64 hexadecimal digits")
    return Task(
        kind=kind,
        base_name=str(base.get("name", "")),
        base_revision=str(base.get("revision", "")),
        base_digest=digest,
        rank=whole(adapter.get("rank"), "adapter.rank", 1024),
        alpha=whole(adapter.get("alpha"), "adapter.alpha", 65_536),
        target_modules=tuple(sorted(set(modules))),
        steps=whole(part(document, "training").get("steps"), "training.steps", 10_000_000) if kind == "train" else 0,
        deadline_ms=None if document.get("deadline") is None else whole(document["deadline"], "deadline", 2**53),
    )


def part(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    require(isinstance(value, dict), name, value, "an object")
    return value


def whole(value: Any, field: str, most: int) -> int:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    require(is_whole and 1 <= value <= most, field, value, f"an integer from 1 to {most}")
    return value


def require(is_allowed: Any, field: str, value: Any, allowed: str) -> None:
    if not is_allowed:
        raise TaskNotUnderstoodError(f"{field} is {json.dumps(value)[:120]}; it must be {allowed}")
