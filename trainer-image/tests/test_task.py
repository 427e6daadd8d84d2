import json
from typing import Any

import pytest

from rondo_trainer.exits import NOT_UNDERSTOOD, TaskNotUnderstoodError
from rondo_trainer.task import parse_task


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
        ({"frozen": "A"}, 'frozen is "A"; it must be null: this trainer does not support it'),
        ({"recordPrivacy": {"noiseMultiplier": "1"}}, "recordPrivacy is"),
        ({"baseModel": {"name": "m", "revision": "main", "digest": "sha256:12"}}, 'baseModel.digest is "sha256:12"'),
        ({"adapter": {"rank": 0, "alpha": 4, "targetModules": ["q_proj"]}}, "adapter.rank is 0; it must be an integer from 1 to 1024"),
        ({"adapter": {"rank": 2, "alpha": 4, "targetModules": []}}, "adapter.targetModules is []; it must be a list"),
        ({"adapter": {"rank": 2, "alpha": 4, "targetModules": ["q"], "scaling": 3}}, "adapter.scaling is 3; it must be alpha / rank = 2"),
        ({"training": {"task": "completion"}}, 'training.task is "completion"; it must be instruction'),
        ({"training": {"steps": 1, "batchSize": 1, "sequenceLength": 4}}, "training.sequenceLength is 4"),
        ({"training": {"batchSize": 1, "sequenceLength": 8}}, "task.json has no training.steps"),
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
