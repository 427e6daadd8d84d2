"""Whole tasks through a real HTTPS server: what is handed back, and every exit code."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load, save

from conftest import environment, write_records
from rondo_trainer import exits
from task_server import Agent, TaskServer

Run = Callable[..., int]


def test_a_train_task_hands_back_adapter_and_result(agent: Agent, run: Run) -> None:
    assert run() == exits.DONE
    assert agent.calls[:2] == ["GET /v1/task", "GET /v1/task/adapter"]
    assert agent.calls[-2:] == ["PUT /v1/task/adapter", "PUT /v1/task/result"]
    result = agent.result
    assert result["schema"] == 1
    assert (result["steps"], result["examples"]) == (3, 40 - held_out_count(agent))
    assert result["adapterSha256"] == sha256(agent.adapter).hexdigest()
    assert result["heldOut"]["tokens"] > 0
    assert result["heldOut"]["loss"] != result["heldOut"]["parentLoss"]
    assert result["trainLoss"] > 0
    assert result["seconds"] > 0
    parent, trained = load(agent.files["/v1/task/adapter"]), load(agent.adapter)
    assert {name: tensor.shape for name, tensor in trained.items()} == {name: tensor.shape for name, tensor in parent.items()}
    assert agent.progress[0]["steps"] == 3


def held_out_count(agent: Agent) -> int:
    return 40 - agent.result["examples"]


def test_the_same_task_twice_is_the_same_adapter(agent: Agent, run: Run) -> None:
    assert run() == exits.DONE
    first = agent.adapter
    assert run() == exits.DONE
    assert agent.adapter == first


def test_an_evaluate_task_compares_two_adapters_on_one_base(agent: Agent, run: Run) -> None:
    assert run() == exits.DONE
    trained, of_training = agent.adapter, agent.result["heldOut"]
    agent.task["kind"], agent.files["/v1/task/candidate"], agent.adapter = "evaluate", trained, None
    assert run() == exits.DONE
    assert agent.adapter is None
    assert agent.result["heldOut"].pop("answers") is None
    assert agent.result["heldOut"] == pytest.approx(of_training, rel=1e-5)
    assert agent.result["steps"] == 0
    assert not {"trainLoss", "adapterSha256"} & agent.result.keys()


def test_an_evaluate_task_compares_answers_where_there_is_room_for_them(agent: Agent, run: Run) -> None:
    agent.task.update(kind="evaluate", training=agent.task["training"] | {"sequenceLength": 160})
    agent.files["/v1/task/candidate"] = agent.files["/v1/task/adapter"]
    assert run(RONDO_ANSWERS_MAX="2") == exits.DONE
    answers = agent.result["heldOut"]["answers"]
    assert answers["count"] == 2
    assert answers["parent"] == answers["candidate"]
    assert answers["parent"].keys() == {"exactMatch", "rougeL"}
    assert run(RONDO_ANSWERS_MAX="0") == exits.DONE
    assert agent.result["heldOut"]["answers"] is None


def test_packed_rows_train_a_whole_task(agent: Agent, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    wishes = {"packing": True, "epochs": "1", "onBadRecord": "skip", "gradientAccumulation": 2, "gradientCheckpointing": True}
    agent.task["training"] = (
        {key: value for key, value in agent.task["training"].items() if key != "steps"} | wishes | {"sequenceLength": 128}
    )
    assert run() == exits.DONE
    assert 0 < agent.result["steps"] < 40
    assert "40 records: " in capsys.readouterr().err


PRIVACY = {"noiseMultiplier": "1.1", "maxGradNorm": "0.5", "sampleRate": "0.1", "budget": {"epsilon": "8", "delta": "1e-5"}, "spent": []}


def test_a_task_with_record_privacy_tells_what_is_spent_and_no_loss(agent: Agent, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    agent.task["recordPrivacy"] = PRIVACY
    assert run() == exits.DONE
    assert 0 < agent.result["recordPrivacy"]["epsilon"] < 8
    assert agent.result["recordPrivacy"]["delta"] == 1e-5
    assert agent.result["trainLoss"] is None
    assert all(said["loss"] is None for said in agent.progress)
    assert re.search(r"^rondo-trainer: step 3/3  [\d ]+ tok/s  eta 0:00$", capsys.readouterr().err, re.MULTILINE)
    assert load(agent.adapter).keys() == load(agent.files["/v1/task/adapter"]).keys()


def test_a_task_beyond_the_sites_budget_trains_nothing(agent: Agent, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    spent = {"noiseMultiplier": "1.1", "sampleRate": "0.1", "steps": 5000}
    agent.task["recordPrivacy"] = {**PRIVACY, "spent": [spent]}
    assert run() == exits.BUDGET_EXCEEDED
    assert "let the site's owner raise the budget" in capsys.readouterr().err
    assert agent.adapter is None
    assert agent.progress == []


def test_an_initialise_task_needs_neither_data_nor_weights(
    agent: Agent, run: Run, model_folder: Path, tmp_path: Path, parent_adapter: bytes
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(model_folder / "config.json", bare)
    agent.task.update(kind="initialise", training=None, learningRate=None, seed=5)
    assert run(RONDO_MODEL=str(bare), RONDO_DATA=str(tmp_path / "none")) == exits.DONE
    assert agent.calls == ["GET /v1/task", "PUT /v1/task/adapter", "PUT /v1/task/result"]
    assert agent.adapter == parent_adapter
    assert agent.result["adapterSha256"] == sha256(agent.adapter).hexdigest()


def test_the_held_out_records_can_be_bounded_and_switched_off(agent: Agent, run: Run) -> None:
    assert run(RONDO_HELD_OUT_MAX="1") == exits.DONE
    one = agent.result["heldOut"]["tokens"]
    assert run(RONDO_HELD_OUT_MAX="2") == exits.DONE
    assert 0 < one < agent.result["heldOut"]["tokens"]
    assert run(RONDO_HELD_OUT_PERCENT="0") == exits.DONE
    assert agent.result["heldOut"] is None
    assert agent.result["examples"] == 40


def test_a_bfloat16_base_rounds_nothing_of_the_adapter(agent: Agent, run: Run) -> None:
    import torch

    agent.task["frozen"] = "A"
    assert run(RONDO_DTYPE="bfloat16") == exits.DONE
    before, after = load(agent.files["/v1/task/adapter"]), load(agent.adapter)
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    assert all(torch.equal(after[name], before[name]) for name in before if "lora_A" in name)
    assert any(not torch.equal(after[name], after[name].bfloat16().float()) for name in after if "lora_B" in name)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("schema", 9, exits.NOT_UNDERSTOOD),
        ("adapter", {"rank": 4, "alpha": 4, "targetModules": ["q_proj", "v_proj"]}, exits.NOT_UNDERSTOOD),
        ("adapter", {"rank": 2, "alpha": 4, "targetModules": ["w_proj"]}, exits.NOT_UNDERSTOOD),
        ("baseModel", {"name": "tests/tiny", "revision": "main", "digest": "sha256:" + "a" * 64}, exits.OTHER_BASE_MODEL),
        ("learningRate", "1e30", exits.DIVERGED),
    ],
)
def test_a_task_that_cannot_be_done_ends_with_its_code_and_hands_back_nothing(
    agent: Agent, run: Run, field: str, value: Any, code: int
) -> None:
    agent.task[field] = value
    assert run() == code
    assert agent.adapter is None
    assert agent.result is None


def test_line_7_is_named_and_not_quoted(agent: Agent, run: Run, data_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (data_folder / "train.jsonl").read_text().splitlines()
    lines[6] = '{"prompt": "Mrs. Miller, 43, presents'
    (data_folder / "train.jsonl").write_text("\n".join(lines))
    assert run() == exits.DATA_MALFORMED
    said = capsys.readouterr().err
    assert "train.jsonl line 7: not JSON" in said
    assert "Miller" not in said
    assert agent.calls == ["GET /v1/task"]


def test_an_empty_file_is_malformed_and_a_missing_one_is_missing(run: Run, data_folder: Path) -> None:
    (data_folder / "train.jsonl").write_text("")
    assert run() == exits.DATA_MALFORMED
    (data_folder / "train.jsonl").unlink()
    assert run() == exits.INPUT_MISSING


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_base_model_with_a_file_missing_is_missing(run: Run, model_folder: Path, tmp_path: Path, missing: str) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model_folder, broken)
    (broken / missing).unlink()
    assert run(RONDO_MODEL=str(broken)) == exits.INPUT_MISSING


def test_a_parent_with_values_that_are_not_finite_diverges(agent: Agent, run: Run) -> None:
    tensors = load(agent.files["/v1/task/adapter"])
    next(iter(tensors.values())).fill_(float("nan"))
    agent.files["/v1/task/adapter"] = save(tensors)
    assert run() == exits.DIVERGED


def test_an_adapter_that_the_agent_refuses_ends_the_task(agent: Agent, run: Run) -> None:
    agent.failures["PUT /v1/task/adapter"] = [422]
    assert run() == exits.REFUSED
    assert agent.result is None


def test_nothing_held_out_by_mistake_of_the_site(run: Run, data_folder: Path) -> None:
    write_records(data_folder / "train.jsonl", 3)
    assert run(RONDO_HELD_OUT_PERCENT="100") == exits.DATA_MALFORMED


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("RONDO_HELD_OUT_MAX", "many", "RONDO_HELD_OUT_MAX is 'many'; it must be a whole number"),
        ("RONDO_THREADS", "0", "RONDO_THREADS is '0'"),
        ("RONDO_TASK_URL", "", "RONDO_TASK_URL not set; a trainer is started by an agent's Job"),
    ],
)
def test_a_wrong_setting_of_the_site_is_named(run: Run, capsys: pytest.CaptureFixture[str], name: str, value: str, says: str) -> None:
    assert run(**{name: value}) == exits.RETRY
    assert says in capsys.readouterr().err


def start(server: TaskServer, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """The trainer as a process of its own."""
    package = Path(__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-m", "rondo_trainer"],
        env={**env, "PYTHONPATH": str(package), "PATH": "/usr/bin"},
        stderr=subprocess.PIPE,
    )


def wait_for_a_step(agent: Agent, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not agent.progress and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)


def test_sigterm_ends_a_real_process_within_seconds(agent: Agent, model_folder: Path, data_folder: Path, tmp_path: Path) -> None:
    agent.task["training"]["steps"] = 1_000_000
    with TaskServer(agent, tmp_path) as server:
        process = start(server, environment(server, model_folder, data_folder, tmp_path / "out"))
        wait_for_a_step(agent, process)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == exits.TERMINATED, said
    assert b"SIGTERM" in said
    assert agent.result is None


def test_a_preempted_task_goes_on_in_its_next_pod_and_hands_back_the_same_adapter(
    agent: Agent, run: Run, model_folder: Path, data_folder: Path, tmp_path: Path
) -> None:
    agent.task["training"]["steps"] = 400
    assert run() == exits.DONE
    undisturbed, agent.adapter = agent.adapter, None
    agent.progress.clear()
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    with TaskServer(agent, tmp_path) as server:
        env = {**environment(server, model_folder, data_folder, tmp_path / "out"), "RONDO_CHECKPOINTS": str(checkpoints)}
        process = start(server, env)
        wait_for_a_step(agent, process)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert process.returncode == exits.TERMINATED, said
        assert b"of 400" in said
        assert agent.adapter is None
        agent.progress.clear()
        process = start(server, env)
        _, said = process.communicate(timeout=240)
    assert process.returncode == exits.DONE, said
    assert b"step 1/400" not in said
    assert agent.adapter == undisturbed
    assert list(checkpoints.iterdir()) == []


def test_two_processes_hand_back_what_one_does(agent: Agent, run: Run) -> None:
    assert run() == exits.DONE
    alone, of_one = load(agent.adapter), agent.result
    agent.calls.clear()
    assert run(RONDO_PROCESSES="2") == exits.DONE
    together = load(agent.adapter)
    for name, tensor in alone.items():
        assert (tensor - together[name]).abs().max() < 1e-4, name
    assert agent.calls.count("PUT /v1/task/adapter") == 1
    assert agent.calls.count("PUT /v1/task/result") == 1
    assert agent.result["trainLoss"] == pytest.approx(of_one["trainLoss"], rel=1e-4)
    assert (agent.result["steps"], agent.result["tokens"]) == (of_one["steps"], of_one["tokens"])


def test_of_two_processes_the_one_that_finds_the_fault_gives_the_exit_code(run: Run, data_folder: Path) -> None:
    (data_folder / "train.jsonl").write_text("{}\n")
    assert run(RONDO_PROCESSES="2") == exits.DATA_MALFORMED


def test_each_step_is_a_line_for_people(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == exits.DONE
    said = capsys.readouterr().err
    assert re.search(r"^rondo-trainer: step 1/3  loss \d+\.\d\d  [\d ]+ tok/s  eta \d+:\d\d$", said, re.MULTILINE)
    assert re.search(r"^rondo-trainer: step 3/3  loss \d+\.\d\d  [\d ]+ tok/s  eta 0:00$", said, re.MULTILINE)


def test_every_exit_code_has_a_meaning() -> None:
    codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert codes == exits.MEANING.keys()
    assert json.dumps(sorted(codes)) == "[0, 1, 64, 65, 66, 69, 70, 76, 77, 143]"
