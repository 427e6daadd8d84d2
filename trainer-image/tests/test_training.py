import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict

from conftest import ADAPTER, write_model
from rondo_trainer.checkpoint import Checkpoints
from rondo_trainer.data.order import Rows, endless_examples
from rondo_trainer.data.reading import read_data
from rondo_trainer.data.split import Split, split_records
from rondo_trainer.data.tokenise import Example, Tokeniser
from rondo_trainer.data.tokenised import TokenisedRecords
from rondo_trainer.evaluate import evaluate
from rondo_trainer.exits import DivergedError, TaskNotUnderstoodError
from rondo_trainer.initialise import initial_adapter
from rondo_trainer.loss import collate, loss_sum
from rondo_trainer.model import attach, load_adapter, load_base, load_tokeniser, save_activations, set_adapter
from rondo_trainer.task import Adapter, Training
from rondo_trainer.train import Progress, Run, accumulate, freeze, pull_back, steps_of, train

TRAINING = Training("instruction", steps=4, epochs=None, batch_size=2, sequence_length=64, learning_rate=0.01)
NO_CHECKPOINTS = Checkpoints(None, "")


@pytest.fixture
def parent_file(tmp_path: Path, parent_adapter: bytes) -> Path:
    file = tmp_path / "parent.safetensors"
    file.write_bytes(parent_adapter)
    return file


@pytest.fixture
def tokeniser(model_folder: Path) -> Tokeniser:
    return Tokeniser(load_tokeniser(model_folder), 64)


@pytest.fixture
def split(data_folder: Path) -> Split:
    return split_records(read_data(data_folder).records, percent=10, most=256)


def model_on(folder: Path, parent_file: Path) -> PeftModel:
    model = attach(load_base(folder, "cpu", "float32"), ADAPTER)
    load_adapter(model, parent_file)
    return model


def trained(model: PeftModel, split: Split, tokeniser: Tokeniser, seed: int = 3, **changes: Any) -> dict[str, torch.Tensor]:
    rows = Rows(TokenisedRecords(split.train, tokeniser), seed)
    training = replace(TRAINING, **changes)
    train(model, rows.endless(), training, steps_of(training, rows), Run(1, lambda _: None, NO_CHECKPOINTS))
    return {name: tensor.clone() for name, tensor in get_peft_model_state_dict(model).items()}


def test_the_same_seed_makes_the_same_adapter_bit_for_bit(model_folder, parent_file, split, tokeniser) -> None:
    first, second, other = (trained(model_on(model_folder, parent_file), split, tokeniser, seed) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_training_changes_the_adapter_and_not_the_base(model_folder, parent_file, split, tokeniser) -> None:
    model = model_on(model_folder, parent_file)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    trained(model, split, tokeniser)
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(before[name], parameter)}
    assert changed
    assert all("lora_" in name for name in changed)


def test_training_lowers_the_loss_on_records_it_never_saw(model_folder, parent_file, split, tokeniser) -> None:
    model = model_on(model_folder, parent_file)
    held_out = tokeniser.examples(split.held_out)
    before = evaluate(model, held_out, 2, 1)
    trained(model, split, tokeniser, steps=30)
    after = evaluate(model, held_out, 2, 1)
    assert before.tokens == after.tokens == sum(example.target_count() for example in held_out)
    assert after.loss < before.loss - 0.02


def test_the_loss_of_a_batch_is_the_sum_over_its_records_whatever_the_padding(model_folder, parent_file, split, tokeniser) -> None:
    model = model_on(model_folder, parent_file).eval()
    examples = tokeniser.examples(split.train[:7])
    together, count = loss_sum(model, collate(examples, 1, "cpu"))
    alone = [loss_sum(model, collate([example], 1, "cpu")) for example in examples]
    assert count == sum(count for _, count in alone)
    assert math.isclose(together.item(), sum(loss.item() for loss, _ in alone), rel_tol=1e-5)


def test_the_loss_equals_transformers_own(model_folder, parent_file, split, tokeniser) -> None:
    model = model_on(model_folder, parent_file).eval()
    batch = collate(tokeniser.examples(split.train[:3]), 1, "cpu")
    mine, count = loss_sum(model, batch)
    theirs = model(input_ids=batch.tokens, attention_mask=batch.attention, labels=batch.labels).loss
    assert math.isclose(mine.item() / count, theirs.item(), rel_tol=1e-5)


def test_a_version_without_change_has_the_base_models_loss(model_folder, parent_file, split, tokeniser) -> None:
    model = model_on(model_folder, parent_file)
    examples = tokeniser.examples(split.held_out)
    with model.disable_adapter():
        base = evaluate(model, examples, 2, 1)
    assert evaluate(model, examples, 2, 1) == base


def test_a_rate_that_is_far_too_high_diverges_and_says_so(model_folder, parent_file, split, tokeniser) -> None:
    with pytest.raises(DivergedError, match=r"lower training\.learningRate"):
        trained(model_on(model_folder, parent_file), split, tokeniser, learning_rate=1e30)


def test_progress_counts_every_step(model_folder, parent_file, split, tokeniser) -> None:
    seen: list[Progress] = []
    run = Run(1, seen.append, NO_CHECKPOINTS)
    train(model_on(model_folder, parent_file), endless_examples(split.train, tokeniser, 1), TRAINING, 4, run)
    assert [(now.step, now.steps) for now in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert all(math.isfinite(now.loss) and now.tokens_per_second > 0 for now in seen)


def gradient(model: PeftModel, rows: list[Example], training: Training) -> dict[str, torch.Tensor]:
    model.train()
    accumulate(model, rows, training, Run(1, lambda _: None, NO_CHECKPOINTS))
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_step_has_the_same_gradient_however_its_rows_are_cut_into_batches(
    model_folder, parent_file, split, tokeniser, batch_size
) -> None:
    rows = tokeniser.examples(split.train[:6])
    at_once = gradient(model_on(model_folder, parent_file), rows, replace(TRAINING, batch_size=6))
    cut = gradient(
        model_on(model_folder, parent_file), rows, replace(TRAINING, batch_size=batch_size, gradient_accumulation=6 // batch_size)
    )
    assert at_once.keys() == cut.keys() != set()
    for name, of_one in at_once.items():
        torch.testing.assert_close(cut[name], of_one, rtol=1e-4, atol=1e-7)


def test_activations_that_are_computed_again_change_no_gradient(model_folder, parent_file, split, tokeniser) -> None:
    rows = tokeniser.examples(split.train[:4])
    kept = gradient(model_on(model_folder, parent_file), rows, TRAINING)
    model = model_on(model_folder, parent_file)
    save_activations(model)
    again = gradient(model, rows, TRAINING)
    assert model.get_base_model().is_gradient_checkpointing
    for name, of_one in kept.items():
        torch.testing.assert_close(again[name], of_one, rtol=1e-5, atol=1e-8)


def test_a_proximal_term_keeps_the_adapter_nearer_to_its_parent(model_folder, parent_file, split, tokeniser) -> None:
    parent = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(model_on(model_folder, parent_file)).items()}

    def distance(proximal_term: float) -> float:
        after = trained(model_on(model_folder, parent_file), split, tokeniser, steps=20, proximal_term=proximal_term)
        return sum((after[name] - parent[name]).square().sum().item() for name in parent) ** 0.5

    free, held, bound = distance(0.0), distance(1.0), distance(100.0)
    assert bound < held < free


def test_the_proximal_gradient_is_mu_times_the_distance() -> None:
    weight, untouched = torch.nn.Parameter(torch.tensor([3.0, -1.0])), torch.nn.Parameter(torch.tensor([5.0]))
    weight.grad = torch.tensor([0.5, 0.5])
    pull_back([weight, untouched], [torch.tensor([1.0, 1.0]), torch.tensor([0.0])], 0.25)
    assert torch.equal(weight.grad, torch.tensor([1.0, 0.0]))
    assert untouched.grad is None


@pytest.mark.parametrize("matrix", ["A", "B"])
def test_a_frozen_matrix_stays_the_parents_bit_for_bit(model_folder, parent_file, split, tokeniser, matrix) -> None:
    model = model_on(model_folder, parent_file)
    # With B at zero A has no gradient: the first steps move it away.
    trained(model, split, tokeniser)
    before = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(model).items()}
    freeze(model, matrix)
    after = trained(model, split, tokeniser)
    kept = {name for name, tensor in before.items() if torch.equal(tensor, after[name])}
    assert kept == {name for name in before if f"lora_{matrix}" in name}


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"epochs": 1.0}, 18),
        ({"epochs": 1.0, "batch_size": 5}, 8),
        ({"epochs": 0.5}, 9),
        ({"epochs": 0.001}, 1),
        ({"epochs": 2.0, "gradient_accumulation": 4}, 9),
    ],
)
def test_epochs_become_steps_by_how_many_rows_there_are(data_folder, tokeniser, changes, steps) -> None:
    rows = Rows(TokenisedRecords(read_data(data_folder).records[:36], tokeniser), 1)
    assert steps_of(replace(TRAINING, steps=None, **changes), rows) == steps
    assert steps_of(TRAINING, rows) == 4


def test_a_base_in_four_bits_takes_less_memory_and_learns(tmp_path, split) -> None:
    # Blocks of 64 weights have a scale each, so a row must have as many.
    folder = write_model(tmp_path, width=128)
    tokeniser = Tokeniser(load_tokeniser(folder), 64)
    model = attach(load_base(folder, "cpu", "float32", "nf4"), ADAPTER)
    set_adapter(model, initial_adapter(folder, ADAPTER, 5))
    whole = load_base(folder, "cpu", "float32")
    assert model.get_base_model().get_memory_footprint() < whole.get_memory_footprint() / 2
    held_out = tokeniser.examples(split.held_out)
    before = evaluate(model, held_out, 2, 1)
    after_training = trained(model, split, tokeniser, steps=30)
    after = evaluate(model, held_out, 2, 1)
    assert after.loss < before.loss - 0.02
    assert all(tensor.dtype == torch.float32 for tensor in after_training.values())


def test_an_adapter_of_another_rank_is_refused_by_name(model_folder, parent_file) -> None:
    model = attach(load_base(model_folder, "cpu", "float32"), Adapter(4, 8, ("q_proj", "v_proj")))
    with pytest.raises(TaskNotUnderstoodError, match=r"lora_A\.weight is \(2, 32\) and should be \(4, 32\)"):
        load_adapter(model, parent_file)


def test_an_adapter_of_other_modules_is_refused_by_name(model_folder, parent_file) -> None:
    model = attach(load_base(model_folder, "cpu", "float32"), Adapter(2, 4, ("k_proj", "q_proj", "v_proj")))
    with pytest.raises(TaskNotUnderstoodError, match=r"k_proj\.lora_A\.weight is absent"):
        load_adapter(model, parent_file)


def test_target_modules_that_the_model_lacks_are_refused(model_folder) -> None:
    with pytest.raises(TaskNotUnderstoodError, match=r"adapter\.targetModules do not fit"):
        attach(load_base(model_folder, "cpu", "float32"), Adapter(2, 4, ("no_such_proj",)))
