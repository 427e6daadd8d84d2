"""examples/foreign-trainer stays true: it trains, PEFT agrees with it, and its README shows what the checker says of it."""

import importlib.util
import json
import re
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from conftest import environment
from rondo_run.__main__ import main as rondo_run
from rondo_trainer import exits
from rondo_trainer.model import load_base
from rondo_trainer_check.checks import Bench, run_checks
from rondo_trainer_check.fixtures import make_fixtures
from rondo_trainer_check.launch import CommandLaunch
from rondo_trainer_check.trial import Limits, Stand
from task_server import Agent, TaskServer

PACKAGE = Path(__file__).parents[1]
EXAMPLE = PACKAGE.parent / "examples/foreign-trainer"
README = (EXAMPLE / "README.md").read_text()
KINDS = ("train", "evaluate", "initialise")


@pytest.fixture
def lora() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lora_of_the_example", EXAMPLE / "lora.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(agent: Agent, model_folder: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def once() -> int:
        secret = tmp_path / "secret"
        secret.mkdir(exist_ok=True)
        with TaskServer(agent, secret) as server:
            usual = environment(server, model_folder, data_folder, tmp_path / "out")
            for name, value in {**usual, "RONDO_IN": str(tmp_path / "in"), "OMP_NUM_THREADS": "1"}.items():
                monkeypatch.setenv(name, value)
            return rondo_run([sys.executable, str(EXAMPLE / "train.py")])

    return once


def test_it_lowers_the_loss_on_records_it_never_saw(agent: Agent, run) -> None:
    agent.task["training"]["steps"] = 30
    assert run() == exits.DONE
    held_out = agent.result["heldOut"]
    assert held_out["loss"] < held_out["parentLoss"] - 0.02
    assert agent.progress[0]["steps"] == 30


def test_a_line_that_is_no_record_ends_it_with_65_and_is_not_quoted(run, data_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (data_folder / "train.jsonl").write_text('{"prompt": "Mrs. Miller, 43, presents"}\n')
    assert run() == exits.DATA_MALFORMED
    said = capfd.readouterr().err
    assert "train.jsonl line 1" in said
    assert "Miller" not in said


@pytest.mark.parametrize("wish", [{"packing": True}, {"proximalTerm": "0.1"}, {"task": "completion"}])
def test_a_wish_that_it_does_not_know_is_refused_and_not_passed_over(agent: Agent, run, wish: dict[str, Any]) -> None:
    agent.task["training"] |= wish
    assert run() == exits.NOT_UNDERSTOOD
    assert agent.adapter is None


def test_its_layers_compute_what_peft_computes(model_folder: Path, tmp_path: Path, agent: Agent, run, lora: ModuleType) -> None:
    from peft import PeftModel
    from safetensors.torch import load, save

    drawn = torch.Generator().manual_seed(1)
    tensors = {name: torch.randn(tensor.shape, generator=drawn) for name, tensor in load(agent.files["/v1/task/adapter"]).items()}
    agent.files["/v1/task/adapter"] = save(tensors)
    assert run() == exits.DONE
    by_peft = PeftModel.from_pretrained(load_base(model_folder, "cpu", "float32"), tmp_path / "in/adapter")
    by_hand = load_base(model_folder, "cpu", "float32")
    lora.attach(by_hand, tmp_path / "in/adapter", agent.task["adapter"]["scaling"])
    tokens = torch.arange(20)[None]
    with torch.inference_mode():
        assert torch.allclose(by_peft(tokens).logits, by_hand(tokens).logits, atol=1e-5)


def test_the_report_in_its_readme_is_the_checkers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = [sys.executable, str(PACKAGE / "bin/rondo-run"), sys.executable, str(EXAMPLE / "train.py")]
    stand = Stand(CommandLaunch(command), make_fixtures(tmp_path, None, None, ("q_proj", "v_proj")), Limits(300, 30), tmp_path)
    found = [(verdict.status, verdict.check, verdict.sentence) for verdict in run_checks(Bench(stand, KINDS, tmp_path))]
    assert [sentence for status, _, sentence in found if status == "broken"] == []
    shown = re.findall(r"^(ok|warning|broken|not tried) +([a-z-]+) ", README, re.MULTILINE)
    assert shown == [(status, check) for status, check, _ in found]


def test_a_site_that_copies_the_lines_of_the_readme_allows_the_image() -> None:
    image = re.search(r"^    image: (\S+)$", README, re.MULTILINE)[1]
    allowed: list[Any] = json.loads(re.search(r"^  images: (\[.*\])$", README, re.MULTILINE)[1])
    assert any(fnmatch(image, pattern) for pattern in allowed)


def test_it_needs_the_packages_that_rondos_own_trainer_is_tested_with() -> None:
    ours = (PACKAGE / "requirements.in").read_text().splitlines()
    assert set((EXAMPLE / "requirements.txt").read_text().split()) <= set(ours)
