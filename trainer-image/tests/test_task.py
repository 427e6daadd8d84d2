import json
from typing import Any

import pytest

from rondo_trainer.exits import NOT_UNDERSTOOD, TaskNotUnderstoodError
from rondo_trainer.task import Training, parse_task

TRAINING = {"steps": 1, "batchSize": 1, "sequenceLength": 8}


PRIVACY = {
    "noiseMultiplier": "1.1",
    "maxGradNorm": "0.5",
    "sampleRate": "0.02",
    "budget": {"epsilon": "8", "delta": "1e-5"},
    "spent": [{"noiseMultiplier": "1.1", "sampleRate": "0.02", "steps": 40}],
}


def test_what_training_may_be_told_is_read(task: dict[str, Any]) -> None:
    wishes = {
        "task": "completion",
        "epochs": "0.5",
        "batchSize": 4,
        "sequenceLength": 128,
        "learningRate": "1e-4",
        "gradientAccumulation": 8,
        "gradientCheckpointing": True,
        "packing": True,
        "onBadRecord": "skip",
        "proximalTerm": "0.01",
        "quantization": "nf4",
    }
    read = parse_task(json.dumps({**task, "training": wishes, "learningRate": None, "frozen": "B"}))
    assert read.frozen == "B"
    assert read.training == Training("completion", None, 0.5, 4, 128, 1e-4, 8, True, True, "skip", 0.01, "nf4")
    assert read.training.rows_of_a_step == 32


def test_a_task_of_the_agent_is_read_whole(task: dict[str, Any]) -> None:
    read = parse_task(json.dumps(task))
    assert read.kind == "train"
    assert read.seed == 11
    assert read.adapter.target_modules == ("q_proj", "v_proj")
    assert read.training is not None
    assert read.training.learning_rate == 0.01
    assert read.deadline_ms == 4_102_444_800_000


def test_the_rounds_own_learning_rate_stands_above_the_federations(task: dict[str, Any]) -> None:
    read = parse_task(json.dumps({**task, "learningRate": "5e-4"}))
    assert read.training is not None
    assert read.training.learning_rate == 5e-4


def test_an_initialise_task_needs_no_training(task: dict[str, Any]) -> None:
    assert parse_task(json.dumps({**task, "kind": "initialise", "training": None, "learningRate": None})).training is None


def test_a_field_of_a_newer_agent_is_ignored(task: dict[str, Any]) -> None:
    assert parse_task(json.dumps({**task, "weather": "fine"})).kind == "train"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": 2}, "schema is 2; it must be 1"),
        ({"kind": "dance"}, 'kind is "dance"; it must be one of train, evaluate, initialise'),
        ({"seed": -1}, "seed is -1; it must be an integer from 0"),
        ({"seed": True}, "seed is true"),
        ({"seed": None}, "seed is null"),
        ({"frozen": "C"}, 'frozen is "C"; it must be one of A, B'),
        ({"recordPrivacy": {"noiseMultiplier": "1"}}, "task.json has no recordPrivacy.budget"),
        ({"recordPrivacy": PRIVACY, "training": TRAINING | {"packing": True}}, "training.packing is true; it must be false"),
        ({"recordPrivacy": PRIVACY, "training": {"epochs": "1", "batchSize": 1, "sequenceLength": 8}}, "give steps"),
        ({"baseModel": {"name": "m", "revision": "main", "digest": "sha256:12"}}, 'baseModel.digest is "sha256:12"'),
        ({"adapter": {"rank": 0, "alpha": 4, "targetModules": ["q_proj"]}}, "adapter.rank is 0; it must be an integer from 1 to 1024"),
        ({"adapter": {"rank": 2, "alpha": 4, "targetModules": []}}, "adapter.targetModules is []; it must be a list"),
        ({"adapter": {"rank": 2, "alpha": 4, "targetModules": ["q"], "scaling": 3}}, "adapter.scaling is 3; it must be alpha / rank = 2"),
        ({"training": TRAINING | {"task": "chat"}}, 'training.task is "chat"; it must be one of instruction, completion'),
        ({"training": TRAINING | {"sequenceLength": 4}}, "training.sequenceLength is 4"),
        ({"training": {"batchSize": 1, "sequenceLength": 8}}, "training needs either steps or epochs"),
        ({"training": TRAINING | {"epochs": "1"}}, "training needs either steps or epochs"),
        ({"training": TRAINING | {"warmUp": 3}}, "training.warmUp is nothing that this trainer knows"),
        ({"training": TRAINING | {"packing": "yes"}}, 'training.packing is "yes"; it must be true or false'),
        ({"training": TRAINING | {"gradientAccumulation": 0}}, "training.gradientAccumulation is 0; it must be an integer from 1"),
        ({"training": TRAINING | {"onBadRecord": "cry"}}, 'training.onBadRecord is "cry"; it must be one of fail, skip'),
        ({"training": TRAINING | {"quantization": "int8"}}, 'training.quantization is "int8"; it must be one of nf4'),
        ({"training": TRAINING | {"proximalTerm": "-1"}}, 'training.proximalTerm is "-1"; it must be a positive decimal'),
        ({"training": None}, "training is null; it must be an object"),
        ({"learningRate": "fast"}, 'learningRate is "fast"; it must be a positive decimal'),
        ({"learningRate": "0"}, "learningRate is"),
        ({"learningRate": "-0.1"}, "learningRate is"),
        ({"deadline": "tomorrow"}, "deadline is"),
    ],
)
def test_a_field_out_of_range_is_refused_with_its_name_value_and_remedy(task: dict[str, Any], changes: dict[str, Any], says: str) -> None:
    with pytest.raises(TaskNotUnderstoodError) as refused:
        parse_task(json.dumps({**task, **changes}))
    assert says in str(refused.value)
    assert refused.value.code == NOT_UNDERSTOOD


@pytest.mark.parametrize("text", ["", "<html>", "[]", "null"])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(TaskNotUnderstoodError):
        parse_task(text)
