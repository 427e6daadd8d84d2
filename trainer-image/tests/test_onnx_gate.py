"""The graph of the evaluation gate: what onnxruntime makes of an adapter's file, what is refused, and what a failure leaves."""

import functools
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
import onnx
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from conftest import ADAPTER
from rondo_trainer import exits
from rondo_trainer.data.reading import read_data
from rondo_trainer.data.split import split_records
from rondo_trainer.data.tokenise import IGNORED, Tokeniser
from rondo_trainer.evaluate import evaluate
from rondo_trainer.exits import TrainerError
from rondo_trainer.initialise import initial_adapter
from rondo_trainer.loss import collate
from rondo_trainer.model import attach, load_adapter, load_base, load_tokeniser, weights_digest
from rondo_trainer.onnx_gate import graph
from rondo_trainer.onnx_gate.__main__ import main, weights_bytes
from rondo_trainer.onnx_gate.check import DisagreementError, Losses, Trial, difference, require_visible
from rondo_trainer.onnx_gate.place import require_room
from rondo_trainer.onnx_gate.probes import Probe
from rondo_trainer.task import Adapter

PACKAGE = Path(__file__).parents[1]
MODULES = "q_proj,v_proj"
COMMAND = [str(PACKAGE / "bin/rondo-export-onnx")]
ENVIRONMENT = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
"""The command finds its own package; the image's python3 is the tests' one."""


def export(model: Path, out: Path, modules: str = MODULES, *more: str) -> int:
    return main(["--model", str(model), "--target-modules", modules, "--out", str(out), *more])


@dataclass(frozen=True)
class Gate:
    """The graph, and how the operator's gate uses it: an adapter's file in, losses out."""

    file: Path
    session: onnxruntime.InferenceSession

    def losses(self, adapter: Path, scaling: float, tokens: numpy.ndarray, labels: numpy.ndarray) -> tuple[numpy.ndarray, int]:
        feeds = load_file(adapter) | {
            "input_ids": tokens,
            "attention_mask": numpy.ones_like(tokens),
            "labels": labels,
            "scaling": numpy.array(scaling, dtype=numpy.float32),
        }
        loss, targets = self.session.run(["loss", "targets"], feeds)
        return loss, int(targets)


def command(model: Path, out: Path) -> list[str]:
    return [*COMMAND, "--model", str(model), "--target-modules", MODULES, "--out", str(out)]


@pytest.fixture(scope="session")
def gate(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Gate:
    file = tmp_path_factory.mktemp("gate") / "gate.onnx"
    assert export(model_folder, file) == exits.DONE
    return Gate(file, onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]))


@pytest.fixture(scope="session")
def adapters(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Adapter]]:
    """By name: "base" changes nothing, "trained" is of the federation's rank, "wide" of another rank and scaling."""
    folder = tmp_path_factory.mktemp("adapters")
    specs = {"base": ADAPTER, "trained": ADAPTER, "wide": Adapter(7, 21, ADAPTER.target_modules)}
    for name, spec in specs.items():
        tensors = initial_adapter(model_folder, spec, seed=2)
        generator = torch.Generator().manual_seed(len(name))
        for tensor_name, tensor in tensors.items():
            if name != "base" and "lora_B" in tensor_name:
                tensors[tensor_name] = torch.randn(tensor.shape, generator=generator) * 0.1
        save_file(tensors, folder / f"{name}.safetensors")
    return {name: (folder / f"{name}.safetensors", spec) for name, spec in specs.items()}


@pytest.mark.parametrize("name", ["base", "trained", "wide"])
def test_an_adapters_file_has_the_loss_that_the_trainer_finds(
    gate: Gate, adapters: dict[str, tuple[Path, Adapter]], model_folder: Path, data_folder: Path, name: str
) -> None:
    file, spec = adapters[name]
    tokeniser = Tokeniser(load_tokeniser(model_folder), 64)
    examples = tokeniser.examples(split_records(read_data(data_folder).records, percent=30, most=256).held_out)
    model = attach(load_base(model_folder, "cpu", "float32"), spec)
    load_adapter(model, file)
    batch = collate(examples, 1, torch.device("cpu"))
    losses, targets = gate.losses(file, spec.alpha / spec.rank, batch.tokens.numpy(), batch.labels.numpy())
    trainers = evaluate(model, examples, 2, 1)
    assert trainers is not None
    assert targets == trainers.tokens
    assert losses.sum() / targets == pytest.approx(trainers.loss, abs=1e-5)


def test_adapters_differ_and_one_that_changes_nothing_is_the_base(gate: Gate, adapters: dict[str, tuple[Path, Adapter]]) -> None:
    tokens = numpy.arange(2, 26, dtype=numpy.int64).reshape(2, 12)
    base, _ = gate.losses(adapters["base"][0], 2.0, tokens, tokens)
    trained, _ = gate.losses(adapters["trained"][0], 2.0, tokens, tokens)
    switched_off, _ = gate.losses(adapters["trained"][0], 0.0, tokens, tokens)
    assert numpy.abs(trained - base).max() > 1e-2
    assert numpy.array_equal(switched_off, base)


def test_tokens_without_loss_and_padding_are_zero_and_change_nothing(gate: Gate, adapters: dict[str, tuple[Path, Adapter]]) -> None:
    file, spec = adapters["trained"]
    tokens = numpy.arange(2, 14, dtype=numpy.int64).reshape(1, 12)
    labels = numpy.where(numpy.arange(12) < 4, IGNORED, tokens)
    losses, targets = gate.losses(file, spec.alpha / spec.rank, tokens, labels)
    assert losses.shape == (1, 11)
    assert targets == 8
    assert (losses[0, :3] == 0).all()
    assert (losses[0, 3:] > 0).all()
    padded_tokens, padded_labels = (
        numpy.pad(values, ((0, 1), (0, 5)), constant_values=fill) for values, fill in ((tokens, 1), (labels, IGNORED))
    )
    feeds = load_file(file) | {
        "input_ids": padded_tokens,
        "attention_mask": (padded_labels != IGNORED).astype(numpy.int64) | (padded_tokens != 1),
        "labels": padded_labels,
        "scaling": numpy.array(2, dtype=numpy.float32),
    }
    again, count = gate.session.run(["loss", "targets"], feeds)
    assert int(count) == 8
    assert again[:1, :11] == pytest.approx(losses, abs=1e-5)
    assert (again[:, 11:] == 0).all()
    assert (again[1] == 0).all()


def test_every_tensor_of_an_adapter_is_an_input_of_any_rank_and_none_is_a_weight(
    gate: Gate, adapters: dict[str, tuple[Path, Adapter]]
) -> None:
    loaded = onnx.load(gate.file, load_external_data=False).graph
    inputs = {value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in loaded.input}
    names = list(load_file(adapters["trained"][0]))
    assert list(inputs) == ["input_ids", "attention_mask", "labels", "scaling", *sorted(names)]
    assert inputs["labels"] == ["batch", "length"]
    assert inputs["scaling"] == []
    first = "base_model.model.model.layers.0.self_attn.q_proj"
    assert inputs[f"{first}.lora_A.weight"] == ["rank", 32]
    assert inputs[f"{first}.lora_B.weight"] == [32, "rank"]
    assert not any("lora" in weight.name for weight in loaded.initializer)


def test_a_missing_adapter_tensor_is_an_error_and_not_the_base_model(
    gate: Gate, adapters: dict[str, tuple[Path, Adapter]], tmp_path: Path
) -> None:
    tensors = load_file(adapters["trained"][0])
    tensors.pop(min(tensors))
    save_file({name: torch.from_numpy(value) for name, value in tensors.items()}, tmp_path / "less.safetensors")
    tokens = numpy.full((1, 4), 5, dtype=numpy.int64)
    with pytest.raises(ValueError, match="lora_A"):
        gate.losses(tmp_path / "less.safetensors", 2.0, tokens, tokens)


def test_the_file_says_what_it_was_made_of(gate: Gate, model_folder: Path) -> None:
    said = gate.session.get_modelmeta().custom_metadata_map
    assert said["rondo.format"] == "rondo-onnx-gate/1"
    assert said["rondo.baseModelDigest"] == weights_digest(model_folder)
    assert json.loads(said["rondo.targetModules"]) == ["q_proj", "v_proj"]
    assert json.loads(said["rondo.adapterInputs"]) == [value.name for value in gate.session.get_inputs()][4:]
    assert json.loads(said["rondo.maxLength"]) == 256
    assert said["rondo.dtype"] == "float32"
    assert said["rondo.torch"] == torch.__version__


def test_the_same_model_gives_the_same_bytes_and_no_path_of_this_machine(gate: Gate, model_folder: Path, tmp_path: Path) -> None:
    again = tmp_path / gate.file.name
    # In a process of its own: what this one has exported before must not matter.
    started = subprocess.run(command(model_folder, again), capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert started.returncode == exits.DONE, started.stderr
    for name in (gate.file.name, f"{gate.file.name}.data"):
        assert (tmp_path / name).read_bytes() == gate.file.with_name(name).read_bytes()
    assert b"/rondo_trainer" not in again.read_bytes()
    assert b"site-packages" not in again.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["gate.onnx", "gate.onnx.data"]


@pytest.mark.parametrize("kind", ["qwen2", "gpt_neox", "gpt2"])
def test_other_architectures_export_too(tmp_path: Path, kind: str) -> None:
    modules = {"qwen2": "q_proj,v_proj", "gpt_neox": "query_key_value", "gpt2": "c_attn"}[kind]
    folder = tmp_path / kind
    other_model(kind).save_pretrained(folder)
    assert export(folder, tmp_path / "gate.onnx", modules) == exits.DONE
    session = onnxruntime.InferenceSession(tmp_path / "gate.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["rondo.baseModelDigest"] == weights_digest(folder)
    assert (tmp_path / "gate.onnx.data").stat().st_size <= weights_bytes(load_base(folder, "cpu", "float32"))


def other_model(kind: str) -> torch.nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "qwen2": {"num_key_value_heads": 2, "intermediate_size": 64, "use_sliding_window": False, "tie_word_embeddings": True},
        "gpt_neox": {"intermediate_size": 64},
        "gpt2": {"n_inner": 64},
    }[kind]
    torch.manual_seed(4)
    config = AutoConfig.for_model(
        kind, vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64, **sizes
    )
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ({"--model": "{tmp}/none"}, exits.INPUT_MISSING, "there is no such folder"),
        ({"--model": "{tmp}"}, exits.INPUT_MISSING, "config.json does not exist"),
        ({"--target-modules": "q_proj,w_proj"}, exits.NOT_UNDERSTOOD, "the base model has no w_proj"),
        ({"--target-modules": "w_proj"}, exits.NOT_UNDERSTOOD, "do not fit the base model"),
        ({"--target-modules": "embed_tokens"}, exits.NOT_UNDERSTOOD, "is not the adapter of a linear layer"),
        ({"--target-modules": "input_layernorm"}, exits.NOT_UNDERSTOOD, "do not fit the base model"),
        ({"--target-modules": " ,"}, exits.NOT_UNDERSTOOD, "--target-modules is empty"),
        ({"--rank-check": "4"}, exits.NOT_UNDERSTOOD, "--rank-check is '4'; it must be two or more different ranks"),
        ({"--rank-check": "4,4"}, exits.NOT_UNDERSTOOD, "two or more different ranks"),
        ({"--rank-check": "4,many"}, exits.NOT_UNDERSTOOD, "two or more different ranks"),
        ({"--rank-check": "0,2000"}, exits.NOT_UNDERSTOOD, "from 1 to 1024"),
        ({"--out": "{tmp}/none/gate.onnx"}, exits.NOT_UNDERSTOOD, "there is no folder"),
        ({"--out": "{tmp}/gate.bin"}, exits.NOT_UNDERSTOOD, "must be the name of a file that ends in .onnx"),
        ({"--out": "{tmp}/there.onnx"}, exits.NOT_UNDERSTOOD, "there.onnx exists; remove it"),
    ],
)
def test_a_wrong_argument_is_named_and_nothing_is_written(
    export_here: Callable[..., tuple[int, str]], tmp_path: Path, arguments: dict[str, str], code: int, says: str
) -> None:
    (tmp_path / "there.onnx").write_text("another")
    found, said = export_here({name: value.format(tmp=tmp_path) for name, value in arguments.items()})
    assert found == code
    assert says in said
    assert [file.name for file in tmp_path.iterdir()] == ["there.onnx"]
    assert (tmp_path / "there.onnx").read_text() == "another"


@pytest.fixture
def export_here(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs the command with some arguments changed: exit code, and what it said last."""

    def once(changed: dict[str, str]) -> tuple[int, str]:
        given = {"--model": str(model_folder), "--target-modules": MODULES, "--out": str(tmp_path / "gate.onnx")} | changed
        code = main([part for pair in given.items() for part in pair])
        return code, capsys.readouterr().err.splitlines()[-1]

    return once


def token_by_token(once: Callable[..., torch.Tensor], module: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
    return torch.cat([once(module, states[:, place : place + 1]) for place in range(states.shape[1])], dim=1)


def as_values_tell(once: Callable[..., torch.Tensor], module: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
    return once(module, states) if states.sum() > 0 else once(module, states.clone())


@pytest.mark.parametrize("way", [token_by_token, as_values_tell])
def test_a_model_that_cannot_be_traced_is_a_sentence_with_a_remedy(
    export_here: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[..., torch.Tensor]
) -> None:
    from transformers.models.llama.modeling_llama import LlamaMLP

    # A Llama written as models are that torch.export freezes, or refuses.
    monkeypatch.setattr(LlamaMLP, "forward", functools.partialmethod(way_of, way, LlamaMLP.forward))
    code, said = export_here({})
    assert code == exits.NOT_UNDERSTOOD
    assert "cannot export a model of type llama" in said
    assert "let participants evaluate instead" in said
    assert list(tmp_path.iterdir()) == []


def way_of(
    module: torch.nn.Module, way: Callable[..., torch.Tensor], once: Callable[..., torch.Tensor], states: torch.Tensor
) -> torch.Tensor:
    return way(once, module, states)


def test_a_full_disk_is_told_before_the_work_and_met_while_writing(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrainerError, match="has 1 MB free, but the graph takes 1,067 MB; choose another folder"):
        require_room(1_000_000, 1_000_000_000, tmp_path / "gate.onnx")
    with files_of_at_most(32_768):
        assert export(model_folder, tmp_path / "gate.onnx") == exits.RETRY
    assert "gate.onnx cannot be written: File too large; nothing of it is left" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """What a full disk is to a process: a write fails in the middle of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_graph_that_disagrees_is_told_by_how_much_and_removed(
    export_here: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a graph would that has a mistake in its scaling.
    monkeypatch.setattr(graph, "is_second_factor", lambda _: False)
    code, said = export_here({"--rank-check": "2,16"})
    assert code == exits.NOT_UNDERSTOOD
    assert "the graph disagrees with PyTorch by" in said
    assert "(random, rank 2; " in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda found: replace(found, of=found.of + 2e-4), "disagrees with PyTorch by 2.00e-04 nats, more than 1e-04: record "),
        (lambda found: replace(found, of=found.of * torch.nan), "disagrees with PyTorch by nan nats"),
        (lambda found: replace(found, of=found.of[:, 1:]), "the graph has losses (2, 3)"),
        (lambda found: replace(found, targets=7), "of 7 targets where PyTorch has (2, 4) of 6"),
    ],
)
def test_the_check_names_record_token_and_difference(change: Callable[[Losses], Losses], says: str) -> None:
    assert difference("a case", LOSSES, LOSSES) == 0
    with pytest.raises(DisagreementError) as refused:
        difference("a case", LOSSES, change(LOSSES))
    assert says in str(refused.value)
    assert str(refused.value).endswith("(a case)")


LOSSES = Losses(torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]]), 6)


def test_an_adapter_that_moves_no_loss_cannot_check_anything() -> None:
    probe = Probe("a probe", ADAPTER, {})
    with pytest.raises(DisagreementError, match=r"\(a probe\) changes no loss by more than 0\.0e\+00 nats.*do q_proj, v_proj take part"):
        require_visible(Trial([probe, probe], [], [[LOSSES], [LOSSES]]))


@pytest.mark.parametrize("moment", ["the graph is traced", "onnxruntime opens"])
def test_sigterm_leaves_nothing(model_folder: Path, tmp_path: Path, moment: str) -> None:
    process = subprocess.Popen(command(model_folder, tmp_path / "gate.onnx"), stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stderr is not None
    for line in process.stderr:
        if moment in line:
            break
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == exits.TERMINATED, said
    assert "SIGTERM; nothing is left of the graph" in said
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_it_takes() -> None:
    told = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert told.returncode == 0, told.stderr
    assert "--rank-check" in told.stdout
