"""
One task as the agent describes it: task.json, schema 1 (docs/trainer.md).

Holds: a Task is complete and in range, so that nothing behind this file checks it again. Unknown fields are ignored, for a
newer agent may say more; inside `training` they are refused, for there they would change what is trained.
Does not: fetch it (client.py) or look at the site's files.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal, cast

from .data.records import OnBadRecord, Style
from .exits import TaskNotUnderstoodError
from .privacy.settings import RecordPrivacy, parse_record_privacy

Kind = Literal["train", "evaluate", "initialise"]
KINDS = ("train", "evaluate", "initialise")
Matrix = Literal["A", "B"]
"""Of LoRA's two."""
Quantization = Literal["nf4"]

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
DECIMAL = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?(e-?[0-9]+)?")


@dataclass(frozen=True)
class BaseModel:
    name: str
    revision: str
    digest: str


@dataclass(frozen=True)
class Adapter:
    rank: int
    alpha: int
    target_modules: tuple[str, ...]


@dataclass(frozen=True)
class Training:
    """
    Either steps or epochs is None. batch_size counts rows that are computed at once, gradient_accumulation such batches in one step;
    learning_rate is that of the whole round; proximal_term is FedProx' mu, 0: none.
    """

    style: Style
    steps: int | None
    epochs: float | None
    batch_size: int
    sequence_length: int
    learning_rate: float
    gradient_accumulation: int = 1
    gradient_checkpointing: bool = False
    packing: bool = False
    on_bad_record: OnBadRecord = "fail"
    proximal_term: float = 0.0
    quantization: Quantization | None = None

    @property
    def rows_of_a_step(self) -> int:
        return self.batch_size * self.gradient_accumulation


@dataclass(frozen=True)
class Task:
    """training is None in an `initialise` task and never else; deadline_ms counts from 1970 by the agent's clock."""

    kind: Kind
    federation: str
    round: str
    participant: str
    seed: int
    base_model: BaseModel
    adapter: Adapter
    training: Training | None
    frozen: Matrix | None
    record_privacy: RecordPrivacy | None
    deadline_ms: int | None


def parse_task(text: bytes | str) -> Task:
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
    task = Fields("", document)

    if (schema := document.get("schema")) != 1:
        raise refuse("schema", schema, "1; use the trainer image of the agent's release")
    if (kind := document.get("kind")) not in KINDS:
        raise refuse("kind", kind, f"one of {', '.join(KINDS)}")

    return Task(
        kind=cast(Kind, kind),
        federation=task.text("federation"),
        round=str(document.get("round", "")),
        participant=str(document.get("participant") or ""),
        seed=task.integer("seed", 0, 2**63 - 1),
        base_model=parse_base_model(task.object("baseModel")),
        adapter=parse_adapter(task.object("adapter")),
        training=None if kind == "initialise" else parse_training(task),
        frozen=task.choice("frozen", ("A", "B"), None),
        record_privacy=parse_privacy(task),
        deadline_ms=None if document.get("deadline") is None else task.integer("deadline", 0, 2**53),
    )


def parse_base_model(fields: "Fields") -> BaseModel:
    digest = fields.text("digest")
    if not DIGEST.fullmatch(digest):
        raise refuse("baseModel.digest", digest, "sha256: and 64 hexadecimal digits")
    return BaseModel(name=fields.text("name"), revision=fields.text("revision"), digest=digest)


def parse_adapter(fields: "Fields") -> Adapter:
    modules = fields.value("targetModules")
    if not isinstance(modules, list) or not modules or not all(isinstance(name, str) and name for name in modules):
        raise refuse("adapter.targetModules", modules, 'a list of module names such as ["q_proj", "v_proj"]')
    adapter = Adapter(
        rank=fields.integer("rank", 1, 1024),
        alpha=fields.integer("alpha", 1, 65_536),
        target_modules=tuple(sorted(set(modules))),
    )
    scaling = fields.values.get("scaling")
    if scaling is not None and abs(fields.decimal("scaling") - adapter.alpha / adapter.rank) > 1e-6:
        raise refuse("adapter.scaling", scaling, f"alpha / rank = {adapter.alpha / adapter.rank:g}")
    return adapter


def parse_privacy(task: "Fields") -> RecordPrivacy | None:
    """Only for training: an evaluation computes no gradient."""
    if task.values.get("recordPrivacy") is None or task.values["kind"] != "train":
        return None
    if "steps" not in task.object("training").values:
        raise TaskNotUnderstoodError("training.epochs with recordPrivacy: with sampling there are no passes over the records; give steps")
    return parse_record_privacy(task.object("recordPrivacy"))


TRAINING_FIELDS = {
    "task", "steps", "epochs", "batchSize", "sequenceLength", "learningRate", "gradientAccumulation", "gradientCheckpointing",
    "packing", "onBadRecord", "proximalTerm", "quantization",
}  # fmt: skip


def parse_training(task: "Fields") -> Training:
    fields = task.object("training")
    if unknown := sorted(fields.values.keys() - TRAINING_FIELDS):
        raise TaskNotUnderstoodError(f"training.{unknown[0]} is nothing that this trainer knows; use the image of the agent's release")
    if ("steps" in fields.values) == ("epochs" in fields.values):
        raise TaskNotUnderstoodError("training needs either steps or epochs")
    if fields.flag("packing") and task.values.get("recordPrivacy") is not None:
        raise refuse("training.packing", True, "false with recordPrivacy: a row of several records has no gradient of one record")
    # The round's own rate stands beside training; without a schedule it is training's.
    rate = task.decimal("learningRate") if task.values.get("learningRate") is not None else fields.decimal("learningRate")
    return Training(
        style=fields.choice("task", ("instruction", "completion"), "instruction"),
        steps=fields.integer("steps", 1, 10_000_000) if "steps" in fields.values else None,
        epochs=fields.decimal("epochs") if "epochs" in fields.values else None,
        batch_size=fields.integer("batchSize", 1, 65_536),
        sequence_length=fields.integer("sequenceLength", 8, 1_048_576),
        learning_rate=rate,
        gradient_accumulation=fields.integer("gradientAccumulation", 1, 1024) if "gradientAccumulation" in fields.values else 1,
        gradient_checkpointing=fields.flag("gradientCheckpointing"),
        packing=fields.flag("packing"),
        on_bad_record=fields.choice("onBadRecord", ("fail", "skip"), "fail"),
        proximal_term=fields.decimal("proximalTerm") if "proximalTerm" in fields.values else 0.0,
        quantization=fields.choice("quantization", ("nf4",), None),
    )


@dataclass(frozen=True)
class Fields:
    """One object of task.json and where it stands in it, so that a refusal can name the field."""

    path: str
    values: dict[str, Any]

    def value(self, name: str) -> Any:
        if name not in self.values:
            raise TaskNotUnderstoodError(f"task.json has no {self.path}{name}; it is required")
        return self.values[name]

    def object(self, name: str) -> "Fields":
        value = self.value(name)
        if not isinstance(value, dict):
            raise refuse(self.path + name, value, "an object")
        return Fields(f"{self.path}{name}.", value)

    def text(self, name: str) -> str:
        value = self.value(name)
        if not isinstance(value, str) or not value:
            raise refuse(self.path + name, value, "a text that is not empty")
        return value

    def integer(self, name: str, least: int, most: int) -> int:
        value = self.value(name)
        # A seed may exceed what JSON's readers keep exactly, so digits in a string will do.
        if isinstance(value, str) and re.fullmatch(r"0|[1-9][0-9]{0,18}", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise refuse(self.path + name, value, f"an integer from {least} to {most}")
        return value

    def flag(self, name: str) -> bool:
        value = self.values.get(name, False)
        if not isinstance(value, bool):
            raise refuse(self.path + name, value, "true or false")
        return value

    def choice(self, name: str, allowed: tuple[str, ...], default: Any) -> Any:
        """default: of a field that is absent or null."""
        value = self.values.get(name)
        if value is None:
            return default
        if value not in allowed:
            raise refuse(self.path + name, value, f"one of {', '.join(allowed)}")
        return value

    def decimal(self, name: str) -> float:
        value = self.value(name)
        if isinstance(value, str) and DECIMAL.fullmatch(value):
            value = float(value)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e300:
            raise refuse(self.path + name, value, 'a positive decimal such as "0.0002"')
        return float(value)


def refuse(field: str, value: Any, allowed: str) -> TaskNotUnderstoodError:
    return TaskNotUnderstoodError(f"{field} is {json.dumps(value)[:120]}; it must be {allowed}")
