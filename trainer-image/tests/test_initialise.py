import math
import shutil
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file

from conftest import ADAPTER
from rondo_trainer.export import write_adapter
from rondo_trainer.initialise import initial_adapter
from rondo_trainer.model import load_base, lora_config
from rondo_trainer.task import BaseModel

BASE = BaseModel("tests/tiny", "main", "sha256:" + "0" * 64)


def test_names_and_shapes_are_those_that_peft_saves(model_folder: Path, tmp_path: Path) -> None:
    get_peft_model(load_base(model_folder, "cpu", "float32"), lora_config(ADAPTER)).save_pretrained(tmp_path)
    theirs = load_file(tmp_path / "adapter_model.safetensors")
    mine = initial_adapter(model_folder, ADAPTER, seed=1)
    assert {name: tensor.shape for name, tensor in mine.items()} == {name: tensor.shape for name, tensor in theirs.items()}


def test_no_weights_are_needed(model_folder: Path, tmp_path: Path) -> None:
    shutil.copy(model_folder / "config.json", tmp_path)
    assert initial_adapter(tmp_path, ADAPTER, seed=1).keys() == initial_adapter(model_folder, ADAPTER, seed=1).keys()


def test_b_is_zero_and_a_is_uniform_within_its_bound(model_folder: Path) -> None:
    tensors = initial_adapter(model_folder, ADAPTER, seed=1)
    assert all(not tensor.any() for name, tensor in tensors.items() if "lora_B" in name)
    drawn = torch.cat([tensor.flatten() for name, tensor in tensors.items() if "lora_A" in name])
    bound = 1 / math.sqrt(32)
    assert drawn.abs().max() <= bound
    # 256 draws: the mean is within 4 standard errors, the spread within a fifth.
    assert abs(drawn.mean()) < 4 * bound / math.sqrt(3 * len(drawn))
    assert abs(drawn.std() * math.sqrt(3) / bound - 1) < 0.2


def test_the_file_depends_on_the_seed_alone(model_folder: Path, tmp_path: Path) -> None:
    digests = [write_adapter(initial_adapter(model_folder, ADAPTER, seed), ADAPTER, BASE, tmp_path)[1] for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_the_folder_loads_with_peft_as_any_adapter_does(model_folder: Path, tmp_path: Path) -> None:
    write_adapter(initial_adapter(model_folder, ADAPTER, 1), ADAPTER, BASE, tmp_path)
    model = PeftModel.from_pretrained(load_base(model_folder, "cpu", "float32"), tmp_path)
    assert model.peft_config["default"].base_model_name_or_path == "tests/tiny"
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float32}  # noqa: SIM118, safe_open is no mapping
