"""A task that is preempted goes on where it stood, and ends with the adapter of an undisturbed run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import get_peft_model_state_dict

from conftest import ADAPTER
from rondo_trainer.checkpoint import Checkpoints, checkpoint_name
from rondo_trainer.data.order import endless_examples
from rondo_trainer.data.reading import read_data
from rondo_trainer.data.tokenise import Tokeniser
from rondo_trainer.exits import TERMINATED, TerminatedError
from rondo_trainer.model import attach, load_adapter, load_base, load_tokeniser
from rondo_trainer.task import BaseModel, Task, Training
from rondo_trainer.train import Progress, Run, Trained, train

TRAINING = Training("instruction", 6, None, batch_size=2, sequence_length=64, learning_rate=0.01, proximal_term=0.1)
TASK = Task("train", "example.org/fl/notes", "3", "a", 5, BaseModel("m", "main", "sha256:" + "0" * 64), ADAPTER, TRAINING, None, None, None)


@pytest.fixture
def parent_file(tmp_path: Path, parent_adapter: bytes) -> Path:
    file = tmp_path / "parent.safetensors"
    file.write_bytes(parent_adapter)
    return file


Begin = Callable[..., tuple[dict[str, torch.Tensor], Trained]]


@pytest.fixture
def begin(model_folder: Path, data_folder: Path, parent_file: Path) -> Begin:
    """Trains from the parent as a new process does: weights by name, and what was trained."""

    def once(run: Run, steps: int = 6) -> tuple[dict[str, torch.Tensor], Trained]:
        model = attach(load_base(model_folder, "cpu", "float32"), ADAPTER)
        load_adapter(model, parent_file)
        rows = endless_examples(read_data(data_folder).records, Tokeniser(load_tokeniser(model_folder), 64), 3)
        done = train(model, rows, TRAINING, steps, run)
        return {name: tensor.clone() for name, tensor in get_peft_model_state_dict(model).items()}, done

    return once


def stopping_run(checkpoints: Checkpoints) -> Run:
    return Run(1, lambda _: None, checkpoints, stop=lambda: True)


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return Checkpoints(folder, checkpoint_name(TASK, "ab", 40))


@pytest.mark.parametrize("stopped_after", [1, 3, 5])
def test_a_run_that_was_stopped_and_goes_on_makes_the_same_adapter_bit_for_bit(begin: Begin, kept: Checkpoints, stopped_after: int) -> None:
    undisturbed, whole = begin(Run(1, lambda _: None, Checkpoints(None, "")))
    seen: list[Progress] = []
    with pytest.raises(TerminatedError, match=f"stopped after step {stopped_after} of 6") as stopped:
        begin(Run(1, seen.append, kept, stop=lambda: len(seen) == stopped_after))
    assert stopped.value.code == TERMINATED
    seen.clear()
    resumed, trained = begin(Run(1, seen.append, kept))
    assert [now.step for now in seen] == list(range(stopped_after + 1, 7))
    assert trained == whole
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)


def test_a_run_that_was_whole_but_not_delivered_is_not_trained_again(begin: Begin, kept: Checkpoints) -> None:
    whole, trained = begin(Run(1, lambda _: None, kept))
    seen: list[Progress] = []
    again, same = begin(Run(1, seen.append, kept))
    assert seen == []
    assert same == trained
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize(
    "other",
    [
        replace(TASK, round="4"),
        replace(TASK, seed=6),
        replace(TASK, frozen="A"),
        replace(TASK, training=replace(TRAINING, learning_rate=0.02)),
        replace(TASK, adapter=replace(ADAPTER, alpha=8)),
    ],
)
def test_nothing_is_taken_from_another_task_and_what_it_left_is_removed(begin: Begin, kept: Checkpoints, other: Task) -> None:
    with pytest.raises(TerminatedError):
        begin(stopping_run(kept))
    assert kept.file is not None
    assert kept.file.is_file()
    seen: list[Progress] = []
    begin(Run(1, seen.append, Checkpoints(kept.folder, checkpoint_name(other, "ab", 40))), 2)
    assert [now.step for now in seen] == [1, 2]
    assert not kept.file.exists()


def test_another_parent_or_other_data_is_another_task() -> None:
    names = {checkpoint_name(TASK, parent, rows) for parent in ("ab", "cd") for rows in (40, 41)}
    assert len(names) == 4


def test_another_federations_checkpoint_on_the_same_volume_stays(begin: Begin, kept: Checkpoints) -> None:
    other = Checkpoints(kept.folder, checkpoint_name(replace(TASK, federation="example.org/fl/reports"), "ab", 40))
    assert other.file is not None
    other.file.write_bytes(b"theirs")
    begin(Run(1, lambda _: None, kept), 1)
    assert other.file.read_bytes() == b"theirs"


@pytest.mark.parametrize("content", [b"", b"half a file", b"PK\x03\x04" + b"\0" * 100])
def test_a_file_that_cannot_be_read_counts_as_none(begin: Begin, kept: Checkpoints, content: bytes) -> None:
    assert kept.file is not None
    kept.file.write_bytes(content)
    seen: list[Progress] = []
    begin(Run(1, seen.append, kept), 2)
    assert [now.step for now in seen] == [1, 2]


def test_a_full_volume_keeps_the_checkpoint_before_and_costs_no_training(begin: Begin, kept: Checkpoints, monkeypatch, capsys) -> None:
    with pytest.raises(TerminatedError):
        begin(stopping_run(kept))
    assert kept.file is not None
    assert kept.folder is not None
    before = kept.file.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    begin(Run(1, lambda _: None, kept))
    assert "No space left on device; training goes on" in capsys.readouterr().err
    assert kept.file.read_bytes() == before
    assert [file.name for file in kept.folder.iterdir()] == [kept.file.name]
