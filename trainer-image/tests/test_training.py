import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict

from conftest import ADAPTER
from rondo_trainer.data import Split, Tokeniser, read_records, split_records
from rondo_trainer.evaluate import evaluate
from rondo_trainer.exits import DataMalformedError, DivergedError, TaskNotUnderstoodError
from rondo_trainer.loss import collate, loss_sum
from rondo_trainer.model import attach, load_adapter, load_base, load_tokeniser
from rondo_trainer.task import Adapter, Training
from rondo_trainer.train import Progress, endless_examples, train

TRAINING = Training(steps=4, batch_size=2, sequence_length=64, learning_rate=0.01)


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
    return split_records(read_records(data_folder), percent=10, most=256)


def model_on(folder: Path, parent_file: Path) -> PeftModel:
    model = attach(load_base(folder, "cpu", "float32"), ADAPTER)
    load_adapter(model, parent_file)
    return model


def trained(model: PeftModel, split: Split, tokeniser: Tokeniser, seed: int = 3, **changes: float) -> dict[str, torch.Tensor]:
    examples = endless_examples(split.train, tokeniser, seed)
    train(model, examples, replace(TRAINING, **changes), 1, lambda _: None)
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
    train(model_on(model_folder, parent_file), endless_examples(split.train, tokeniser, 1), TRAINING, 1, seen.append)
    assert [(now.step, now.steps) for now in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert all(math.isfinite(now.loss) and now.tokens_per_second > 0 for now in seen)


def test_a_pass_takes_each_record_once_and_the_next_pass_another_order(split, tokeniser) -> None:
    count = len(split.train)
    seen = [tuple(example.tokens) for example in itertools.islice(endless_examples(split.train, tokeniser, 3), 2 * count)]
    assert sorted(seen[:count]) == sorted(seen[count:])
    assert len(set(seen[:count])) == count
    assert seen[:count] != seen[count:]


def test_records_that_all_lack_room_are_an_error_and_no_endless_loop(model_folder, split) -> None:
    with pytest.raises(DataMalformedError, match=r"raise training\.sequenceLength"):
        next(endless_examples(split.train, Tokeniser(load_tokeniser(model_folder), 8), 1))


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
