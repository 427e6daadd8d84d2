"""rondo-run: what a program that knows files only gets to see, and what of it reaches the agent."""

import ast
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from conftest import ADAPTER, environment
from rondo_run import settings as settings_module
from rondo_run.__main__ import EPILOG, main
from rondo_run.bundle import write_bundle
from rondo_run.progress_file import ProgressFile, parse_line
from rondo_run.safetensors_file import SafetensorsError, Tensor, first_not_finite, read_header
from rondo_run.settings import GRACE_SECONDS, chosen_inbox
from rondo_run.site_files import weights_digest
from rondo_trainer import exits, model
from rondo_trainer.export import write_adapter
from rondo_trainer.initialise import initial_adapter
from rondo_trainer.task import BaseModel
from task_server import Agent, TaskServer

PACKAGE = Path(__file__).parents[1]
TOY = Path(__file__).parent / "toy_command.py"
BEFORE = ["GET /v1/task", "GET /v1/task/adapter"]
AFTER = ["PUT /v1/task/adapter", "PUT /v1/task/result"]

Run = Callable[..., int]
Refused = Callable[[str, int, str], None]


@pytest.fixture
def run(agent: Agent, model_folder: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """rondo-run in this process with the toy command, or another one, and its exit code."""

    def once(fault: str = "", command: list[str] | None = None, honours: tuple[str, ...] = (), **changed: str) -> int:
        secret = tmp_path / "secret"
        secret.mkdir(exist_ok=True)
        with TaskServer(agent, secret) as server:
            usual = environment(server, model_folder, data_folder, tmp_path / "out")
            for name, value in {**usual, "RONDO_IN": str(tmp_path / "in"), "RONDO_GRACE_SECONDS": "2", **changed}.items():
                monkeypatch.setenv(name, value)
            handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
            try:
                flags = [word for field in honours for word in ("--honours", field)]
                return main([*flags, *(command or [sys.executable, str(TOY), *([fault] if fault else [])])])
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)

    return once


@pytest.fixture
def refused(run: Run, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs the toy command with a fault and asks for an exit code and, as an expression, for what was said."""

    def once(fault: str, code: int, says: str) -> None:
        assert run(fault) == code
        assert re.search(says, capsys.readouterr().err)

    return once


def test_a_train_task_is_a_folder_in_and_a_folder_out(agent: Agent, run: Run, tmp_path: Path) -> None:
    assert run() == exits.DONE
    assert agent.calls == BEFORE + AFTER
    assert json.loads((tmp_path / "in/task.json").read_text()) == agent.task
    parent = agent.files["/v1/task/adapter"]
    assert (tmp_path / "in/adapter/adapter_model.safetensors").read_bytes() == parent
    assert agent.adapter == parent[:-4] + struct.pack("<f", 0.25)
    seconds = agent.result.pop("seconds")
    assert seconds > 0
    assert agent.result == {
        "schema": 1,
        "examples": 5,
        "steps": 3,
        "tokens": 60,
        "trainLoss": 2.75,
        "heldOut": {"tokens": 10, "parentLoss": 3.0, "loss": 2.5},
        "recordPrivacy": None,
        "peakGpuBytes": 0,
        "adapterSha256": sha256(agent.adapter).hexdigest(),
    }


def test_peft_loads_the_adapter_folder_with_the_plans_settings(run: Run, agent: Agent, tmp_path: Path, model_folder: Path) -> None:
    from peft import PeftConfig, PeftModel

    assert run() == exits.DONE
    base = BaseModel("tests/tiny", "main", weights_digest(model_folder))
    write_adapter(initial_adapter(model_folder, ADAPTER, 5), ADAPTER, base, tmp_path / "ours")
    given, ours = (PeftConfig.from_pretrained(folder).to_dict() for folder in (tmp_path / "in/adapter", tmp_path / "ours"))
    assert given == ours
    PeftModel.from_pretrained(model.load_base(model_folder, "cpu", "float32"), tmp_path / "in/adapter")


def test_an_evaluate_task_has_a_candidate_and_hands_back_no_adapter(agent: Agent, run: Run, tmp_path: Path) -> None:
    agent.task["kind"], agent.files["/v1/task/candidate"] = "evaluate", agent.files["/v1/task/adapter"]
    assert run('{"trainLoss": 1.0, "adapterSha256": null}') == exits.DONE
    assert agent.calls == [*BEFORE, "GET /v1/task/candidate", "PUT /v1/task/result"]
    assert {file.name for file in (tmp_path / "in/candidate").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert agent.result["steps"] == 0
    assert not {"trainLoss", "adapterSha256"} & agent.result.keys()


def test_an_initialise_task_needs_neither_data_nor_result_file(agent: Agent, run: Run) -> None:
    agent.task.update(kind="initialise", training=None, learningRate=None)
    agent.task["adapter"]["targetModules"] = ["q_proj"]
    assert run(RONDO_DATA="/no/such/folder") == exits.DONE
    assert agent.calls == ["GET /v1/task", *AFTER]
    assert (agent.result["examples"], agent.result["steps"]) == (0, 0)
    agent.task["adapter"]["targetModules"] = ["q_proj", "v_proj"]
    assert run() == exits.REFUSED


def test_the_command_sees_folders_and_no_way_to_the_agent(run: Run, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("shows its environment") == exits.DONE
    seen = json.loads(capfd.readouterr().out)
    assert seen["stdin"] == ""
    assert not [name for name in seen["environment"] if name.startswith("RONDO_TASK_")]
    assert seen["environment"]["RONDO_IN"] == str((tmp_path / "in").resolve())
    assert {"RONDO_OUT", "RONDO_MODEL", "RONDO_DATA"} <= seen["environment"].keys()


@pytest.mark.parametrize(
    ("fault", "code"), [("1", 1), ("3", 3), ("70", 70), ("kills itself", 128 + signal.SIGKILL)], ids=["1", "3", "70", "SIGKILL"]
)
def test_the_commands_own_end_is_the_exit_code(agent: Agent, run: Run, fault: str, code: int) -> None:
    assert run(fault) == code
    assert agent.calls == BEFORE


def test_a_command_that_cannot_be_started_ends_as_in_a_shell(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command=["no-such-program"]) == 127
    assert "there is no no-such-program in this image" in capsys.readouterr().err
    (tmp_path / "plain").write_text("x")
    assert run(command=[str(tmp_path / "plain")]) == 126


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        ("other name", exits.REFUSED, r"lora_A.weight is absent and should be \(2, 32\)|lora_C.*should be absent"),
        ("other type", exits.REFUSED, "is I32; it must be F32, F16 or BF16"),
        ("cut short", exits.REFUSED, "was it written whole"),
        ("not finite", exits.DIVERGED, "holds values that are not finite; lower training.learningRate"),
        ("no result", exits.REFUSED, r"result.json cannot be read \(No such file or directory\); the command must write it"),
        ("half a result", exits.REFUSED, "result.json is not JSON"),
        ('{"examples": -1}', exits.REFUSED, "examples is -1; it must be a whole number"),
        ('{"steps": true}', exits.REFUSED, "steps is true"),
        ('{"trainLoss": null}', exits.REFUSED, "result.json has no trainLoss"),
        ('{"trainLoss": NaN}', exits.DIVERGED, "trainLoss is nan; lower training.learningRate"),
        ('{"trainLoss": "2.5"}', exits.REFUSED, 'trainLoss is "2.5"; it must be a finite number'),
        ('{"heldOut": {"tokens": 3}}', exits.REFUSED, "heldOut is .* it must be null or"),
        ('{"adapterSha256": "00"}', exits.REFUSED, 'adapterSha256 is "00", and the file has .* leave it out'),
    ],
)
def test_what_the_agent_would_refuse_is_not_delivered(agent: Agent, refused: Refused, fault: str, code: int, says: str) -> None:
    refused(fault, code, says)
    assert agent.calls == BEFORE


def test_a_missing_adapter_and_a_missing_field_are_named(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command=["true"]) == exits.REFUSED
    assert "adapter_model.safetensors does not exist; the command must write the adapter there" in capsys.readouterr().err
    adapter, result = "adapter/adapter_model.safetensors", "echo '{\"examples\": 1}' > $RONDO_OUT/result.json"
    script = f"cp $RONDO_IN/{adapter} $RONDO_OUT/{adapter}; {result}"
    assert run(command=["sh", "-c", script]) == exits.REFUSED
    assert "result.json has no steps; train tasks need examples, steps, tokens, trainLoss" in capsys.readouterr().err


def test_what_an_earlier_run_left_is_not_delivered(agent: Agent, run: Run) -> None:
    assert run() == exits.DONE
    assert run(command=["true"]) == exits.REFUSED
    assert agent.calls[-2:] == BEFORE


def test_an_adapter_that_the_agent_refuses_ends_the_task(agent: Agent, run: Run) -> None:
    agent.failures["PUT /v1/task/adapter"] = [422]
    assert run() == exits.REFUSED
    assert agent.result is None


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"schema": 2}, exits.NOT_UNDERSTOOD, "schema is 2; it must be 1"),
        ({"kind": "dance"}, exits.NOT_UNDERSTOOD, 'kind is "dance"'),
        ({"frozen": "A"}, exits.NOT_UNDERSTOOD, "run with --honours frozen"),
        ({"recordPrivacy": {"noiseMultiplier": "1"}}, exits.NOT_UNDERSTOOD, "run with --honours recordPrivacy"),
        ({"training": None}, exits.NOT_UNDERSTOOD, "training is null; it must be an object"),
        ({"training": {"steps": "many"}}, exits.NOT_UNDERSTOOD, 'training.steps is "many"'),
        ({"adapter": {"rank": 4, "alpha": 4, "targetModules": ["q_proj", "v_proj"]}}, exits.NOT_UNDERSTOOD, "adapter.rank is 4"),
        ({"adapter": {"rank": 2, "alpha": 4, "targetModules": ["q_proj"]}}, exits.NOT_UNDERSTOOD, "is of none of adapter.targetModules"),
        (
            {"adapter": {"rank": 2, "alpha": 4, "targetModules": ["q_proj", "up_proj", "v_proj"]}},
            exits.NOT_UNDERSTOOD,
            "adapter.targetModules names up_proj, which it lacks",
        ),
        ({"baseModel": {"name": "x", "revision": "y", "digest": "sha256:" + "a" * 64}}, exits.OTHER_BASE_MODEL, "mount that model"),
        ({"deadline": 1}, exits.RETRY, "too soon to begin"),
    ],
)
def test_a_task_that_cannot_be_done_ends_before_the_command_begins(
    agent: Agent, refused: Refused, changes: dict[str, Any], code: int, says: str
) -> None:
    agent.task.update(changes)
    refused("3", code, says)


def test_a_command_that_honours_a_field_gets_the_task(agent: Agent, run: Run) -> None:
    agent.task["frozen"] = "A"
    assert run(honours=("frozen",)) == exits.DONE


def test_a_parent_that_is_no_safetensors_file_is_not_understood(agent: Agent, run: Run) -> None:
    agent.files["/v1/task/adapter"] = b"no tensors here"
    assert run("3") == exits.NOT_UNDERSTOOD


def test_data_and_base_model_are_looked_at_before_the_command_begins(run: Run, data_folder: Path, tmp_path: Path) -> None:
    assert run("3", RONDO_MODEL=str(tmp_path)) == exits.INPUT_MISSING
    (data_folder / "train.jsonl").write_text("")
    assert run("3") == exits.DATA_MALFORMED
    (data_folder / "train.jsonl").unlink()
    assert run("3") == exits.INPUT_MISSING
    data_folder.rmdir()
    assert run("3") == exits.INPUT_MISSING


def test_the_digest_is_the_trainers_own(model_folder: Path) -> None:
    assert weights_digest(model_folder) == model.weights_digest(model_folder)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("RONDO_TASK_URL", "", "RONDO_TASK_URL not set; rondo-run is started by an agent's Job"),
        ("RONDO_GRACE_SECONDS", "soon", "RONDO_GRACE_SECONDS is 'soon'; it must be a whole number"),
    ],
)
def test_a_wrong_setting_is_named(run: Run, capsys: pytest.CaptureFixture[str], name: str, value: str, says: str) -> None:
    assert run(**{name: value}) == exits.RETRY
    assert says in capsys.readouterr().err


def test_without_a_volume_at_rondo_in_the_inputs_go_below_the_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(settings_module, "USUAL_INBOX", tmp_path / "file/in")
    assert chosen_inbox(None, tmp_path / "out") == (tmp_path / "out/in").resolve()
    monkeypatch.setattr(settings_module, "USUAL_INBOX", tmp_path / "in")
    assert chosen_inbox(None, tmp_path / "out") == (tmp_path / "in").resolve()


# Signals and the deadline: real processes.


@pytest.fixture
def started(agent: Agent, model_folder: Path, data_folder: Path, tmp_path: Path):
    """Starts rondo-run with the toy command and waits until that has told progress."""
    processes: list[subprocess.Popen[bytes]] = []
    with TaskServer(agent, tmp_path) as server:

        def start(fault: str) -> subprocess.Popen[bytes]:
            usual = environment(server, model_folder, data_folder, tmp_path / "out")
            env = {**os.environ, **usual, "RONDO_IN": str(tmp_path / "in"), "RONDO_GRACE_SECONDS": "2", "PYTHONPATH": str(PACKAGE)}
            command = [sys.executable, "-m", "rondo_run", sys.executable, str(TOY), fault]
            processes.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE))
            limit = time.monotonic() + 30
            while not agent.progress and processes[-1].poll() is None and time.monotonic() < limit:
                time.sleep(0.05)
            return processes[-1]

        yield start
    for process in processes:
        process.kill()
        process.communicate()


def is_beating(out: Path) -> bool:
    """Whether the command's own child still writes."""
    before = (out / "heartbeat").stat().st_size
    time.sleep(0.3)
    return (out / "heartbeat").stat().st_size > before


@pytest.mark.parametrize("fault", ["waits", "ignores SIGTERM"])
def test_sigterm_ends_the_whole_group_within_the_grace(agent: Agent, started, tmp_path: Path, fault: str) -> None:
    process = started(fault)
    assert is_beating(tmp_path / "out")
    process.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    _, said = process.communicate(timeout=20)
    assert process.returncode == exits.TERMINATED
    assert b"stopped by SIGTERM" in said
    assert time.monotonic() - begin < 5
    assert not is_beating(tmp_path / "out")
    assert agent.result is None


def test_before_the_deadline_the_command_is_asked_to_end_and_what_it_leaves_is_delivered(agent: Agent, started) -> None:
    agent.task["deadline"] = int(time.time() * 1000) + 12_000
    process = started("ends well")
    _, said = process.communicate(timeout=30)
    assert process.returncode == exits.DONE, said
    assert b"the deadline is near" in said
    assert agent.result["steps"] == 3
    assert time.time() * 1000 < agent.task["deadline"]


# Progress.


def lines_of(*documents: Any) -> str:
    return "".join(json.dumps(document) + "\n" for document in documents)


@pytest.fixture
def sent() -> list[dict[str, Any]]:
    return []


def test_the_newest_whole_line_is_told(tmp_path: Path, sent: list[dict[str, Any]]) -> None:
    file = tmp_path / "progress.jsonl"
    progress = ProgressFile(file, 40, lambda document: sent.append(document) is None, lambda _: None)
    progress.follow()
    file.write_text(lines_of({"step": 1}, {"step": 2, "loss": 2.5, "tokensPerSecond": 9, "text": "private"}) + '{"step": 3, "lo')
    progress.follow()
    assert sent == [{"step": 2, "steps": 40, "loss": 2.5, "tokensPerSecond": 9}]
    with file.open("a") as more:
        more.write('ss": 1}\n')
    progress.follow()
    progress.follow()
    assert sent[1:] == [{"step": 3, "steps": 40, "loss": 1}]


def test_a_line_that_came_too_early_waits_until_it_or_a_newer_one_may_be_sent(tmp_path: Path, sent: list[dict[str, Any]]) -> None:
    turns = iter([False, True])
    file = tmp_path / "progress.jsonl"
    progress = ProgressFile(file, 40, lambda document: next(turns) and sent.append(document) is None, lambda _: None)
    for step in (1, 2):
        file.write_text(lines_of(*({"step": each} for each in range(1, step + 1))))
        progress.follow()
    assert sent == [{"step": 2, "steps": 40}]


def test_broken_lines_are_passed_over_and_mentioned_once(tmp_path: Path, sent: list[dict[str, Any]]) -> None:
    said: list[str] = []
    file = tmp_path / "progress.jsonl"
    progress = ProgressFile(file, 40, lambda document: sent.append(document) is None, said.append)
    file.write_bytes(b'step 1\n\xff\n[]\n{"step": "1"}\n' + b"x" * 10_000)
    progress.follow()
    with file.open("ab") as more:
        more.write(b'x\n\n{"step": 4}\n')
    progress.follow()
    assert sent == [{"step": 4, "steps": 40}]
    assert len(said) == 1


def test_a_file_that_is_written_anew_is_read_from_its_start(tmp_path: Path, sent: list[dict[str, Any]]) -> None:
    file = tmp_path / "progress.jsonl"
    progress = ProgressFile(file, 40, lambda document: sent.append(document) is None, lambda _: None)
    file.write_text(lines_of({"step": 10, "steps": 40}))
    progress.follow()
    file.write_text(lines_of({"step": 1}))
    progress.follow()
    assert [document["step"] for document in sent] == [10, 1]


@pytest.mark.parametrize(
    "line", [b'{"step": true}', b'{"step": -1}', b'{"step": 1, "steps": "x"}', b"[" * 4000, b'{"step": 1}' + b" " * 5000]
)
def test_what_is_no_progress_is_none(line: bytes) -> None:
    assert parse_line(line, 40) is None


def test_a_loss_that_is_no_number_is_left_out() -> None:
    assert parse_line(b'{"step": 1, "loss": NaN, "tokensPerSecond": "fast"}', 40) == {"step": 1, "steps": 40}


# Adapters.


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is no safetensors file: 0 bytes"),
        (struct.pack("<Q", 1 << 40), "its header would have 1099511627776"),
        (struct.pack("<Q", 2) + b"{x", "has a header that is not JSON"),
        (struct.pack("<Q", 2) + b"[]", "has a header that is no JSON object"),
        (struct.pack("<Q", 14) + b'{"a":1, "a":2}', "names something twice"),
        (struct.pack("<Q", 7) + b'{"a":1}', "lacks dtype, shape or data_offsets"),
    ],
)
def test_a_file_that_is_no_safetensors_file_says_why(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(SafetensorsError, match=re.escape(says)):
        read_header(tmp_path / "x")


@pytest.mark.parametrize(
    ("entries", "size", "says"),
    [
        ({"a": ("F32", [2], 0, 8)}, 12, "its tensors end at"),
        ({"a": ("F32", [2], 0, 8)}, 4, "its tensors end at"),
        ({"a": ("F32", [2], 4, 12)}, 12, "a gap or an overlap before a"),
        ({"a": ("F32", [2], 0, 8), "b": ("F32", [2], 4, 12)}, 12, "a gap or an overlap before b"),
        ({"a": ("F32", [3], 0, 8)}, 8, "a tensor a whose shape does not fit"),
        ({"a": ("F32", [-2], 0, 8)}, 8, "lacks dtype, shape or data_offsets"),
    ],
)
def test_tensors_that_do_not_cover_the_file_are_refused(tmp_path: Path, entries: dict[str, Any], size: int, says: str) -> None:
    header = {name: {"dtype": dtype, "shape": shape, "data_offsets": [start, end]} for name, (dtype, shape, start, end) in entries.items()}
    text = json.dumps(header).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    with pytest.raises(SafetensorsError, match=says):
        read_header(tmp_path / "x")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_one_value_that_is_not_finite_is_found_in_each_type(tmp_path: Path, dtype: str, value: str) -> None:
    import torch
    from safetensors.torch import save_file

    values = torch.linspace(-60_000, 60_000, 700_001).to(getattr(torch, dtype))
    save_file({"sound": values.clone(), "spoilt": values}, tmp_path / "x")
    assert first_not_finite(tmp_path / "x", read_header(tmp_path / "x")) is None
    values[600_000] = float(value)
    save_file({"sound": torch.zeros(3), "spoilt": values}, tmp_path / "x")
    tensors: dict[str, Tensor] = read_header(tmp_path / "x")
    assert first_not_finite(tmp_path / "x", tensors) == "spoilt"


# One file for any image.


def test_the_bundle_runs_a_task_with_the_standard_library_alone(
    agent: Agent, model_folder: Path, data_folder: Path, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "rondo-run")
    with TaskServer(agent, tmp_path) as server:
        usual = environment(server, model_folder, data_folder, tmp_path / "out")
        env = {**usual, "RONDO_IN": str(tmp_path / "in"), "PATH": "/usr/bin:/bin"}
        # -I -S: neither this folder's packages nor installed ones.
        command = [sys.executable, "-I", "-S", tmp_path / "rondo-run", sys.executable, TOY]
        done = subprocess.run(command, env=env, capture_output=True, cwd=tmp_path, check=False)
    assert done.returncode == exits.DONE, done.stderr
    assert agent.calls == BEFORE + AFTER


def test_equal_sources_make_an_equal_bundle(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_bundle(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert os.access(tmp_path / "one", os.X_OK)


OLD_PYTHON = [
    *PACKAGE.glob("rondo_run/*.py"),
    *PACKAGE.glob("rondo_trainer_check/*.py"),
    *(PACKAGE / "rondo_trainer" / name for name in ("exits.py", "client.py")),
]


@pytest.mark.parametrize("file", OLD_PYTHON, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_every_module_is_read_by_an_older_python(file: Path) -> None:
    tree = ast.parse(file.read_text(), feature_version=(3, 9))
    annotated = [node for node in ast.walk(tree) if isinstance(node, ast.AnnAssign) or (isinstance(node, ast.FunctionDef) and node.returns)]
    assert not annotated or "from __future__ import annotations" in file.read_text()


def test_the_help_names_every_exit_code_and_the_defaults() -> None:
    for code in exits.MEANING:
        assert re.search(rf"\b{code}\b", EPILOG)
    assert f"default {GRACE_SECONDS}" in EPILOG
