"""Examples that share a row know nothing of each other, in a real model."""

import math
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, MambaConfig, PretrainedConfig

from conftest import ADAPTER
from rondo_trainer.data.packing import Packed
from rondo_trainer.data.records import Candidate, parse_record
from rondo_trainer.data.tokenise import IGNORED, Example, Tokeniser
from rondo_trainer.exits import TaskNotUnderstoodError
from rondo_trainer.isolation import require_isolation
from rondo_trainer.loss import collate, loss_sum
from rondo_trainer.model import attach, load_adapter, load_base, load_tokeniser, lora_config

SMALL = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip


@pytest.fixture
def model(model_folder: Path, parent_adapter: bytes, tmp_path: Path) -> PeftModel:
    (tmp_path / "parent.safetensors").write_bytes(parent_adapter)
    model = attach(load_base(model_folder, "cpu", "float32"), ADAPTER)
    load_adapter(model, tmp_path / "parent.safetensors")
    torch.manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            # The parent changes nothing; an adapter that does must be kept apart as well.
            parameter.data.normal_(std=0.1)
    return model.eval()


@pytest.fixture
def examples(model_folder: Path) -> list[Example]:
    tokeniser = Tokeniser(load_tokeniser(model_folder), 64)
    documents = [
        {"text": "a text of which all is learnt, its first token but in a row"},
        {"prompt": "Why?", "completion": "So."},
        {"text": "b"},
        {"prompt": "And then?", "completion": "Another one, longer."},
    ]
    return tokeniser.examples(parse_record(Candidate("here", document)) for document in documents)


def alone(model: PeftModel, examples: list[Example]) -> tuple[float, int]:
    losses = [loss_sum(model, collate([example], 1, "cpu")) for example in examples]
    return sum(loss.item() for loss, _ in losses), sum(count for _, count in losses)


def gradient(model: PeftModel, rows: list[Example | Packed]) -> torch.Tensor:
    model.zero_grad()
    loss_sum(model, collate(rows, 1, "cpu"))[0].backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


def rows_of(examples: list[Example]) -> dict[str, list[Example | Packed]]:
    a, b, c, d = examples
    return {
        "all in one row": [Packed((a, b, c, d))],
        "two rows, the second padded": [Packed((a, b, c)), Packed((d,))],
        "the other way round": [Packed((d, c)), Packed((b, a))],
        "beside one that is not packed": [Packed((a, b)), c, d],
    }


@pytest.mark.parametrize("which", ["all in one row", "two rows, the second padded", "the other way round", "beside one that is not packed"])
def test_the_loss_of_packed_rows_is_the_sum_of_their_examples_own(model: PeftModel, examples: list[Example], which: str) -> None:
    rows = rows_of(examples)[which]
    expected, count = alone(model, examples)
    together, counted = loss_sum(model, collate(rows, 1, "cpu"))
    assert counted == count == sum(row.target_count() for row in rows)
    assert math.isclose(together.item(), expected, abs_tol=1e-4)
    assert torch.allclose(gradient(model, rows), gradient(model, list(examples)), atol=1e-4)


def test_examples_joined_without_being_kept_apart_would_have_another_loss(model: PeftModel, examples: list[Example]) -> None:
    a, b, *_ = examples
    joined = Example([*a.tokens, *b.tokens], [*a.labels, IGNORED, *b.labels[1:]])
    expected, _ = alone(model, [a, b])
    assert abs(loss_sum(model, collate([joined], 1, "cpu"))[0].item() - expected) > 0.01, (
        "the tests above would pass whatever attention does"
    )


def test_no_label_crosses_from_one_example_to_the_next(examples: list[Example]) -> None:
    batch = collate([Packed(tuple(examples))], 1, "cpu")
    begins = (batch.positions[0] == 0).nonzero().flatten().tolist()
    assert len(begins) == len(examples)
    assert all(batch.labels[0, begin] == IGNORED for begin in begins)


def test_a_single_example_in_a_row_is_no_packed_row(model: PeftModel, examples: list[Example]) -> None:
    packed, plain = collate([Packed((example,)) for example in examples], 1, "cpu"), collate(examples, 1, "cpu")
    assert packed.positions is None
    assert torch.equal(packed.attention, plain.attention)
    assert torch.equal(packed.tokens, plain.tokens)


def model_of(config: PretrainedConfig, **changes: str) -> PeftModel:
    torch.manual_seed(3)
    base = AutoModelForCausalLM.from_config(config, **changes).requires_grad_(False)
    modules = ("x_proj",) if config.model_type == "mamba" else ADAPTER.target_modules
    adapter = lora_config(ADAPTER)
    adapter.target_modules = set(modules)
    return get_peft_model(base, adapter).eval()


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "gemma3_text"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_common_models_keep_examples_apart(kind: str, attention: str) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(kind, **SMALL, head_dim=8, sliding_window=4, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    require_isolation(model_of(config, attn_implementation=attention))


def test_a_model_whose_state_runs_along_the_row_is_refused() -> None:
    mamba = model_of(MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=4))
    with pytest.raises(TaskNotUnderstoodError, match="mixes the examples of a packed row; set it to false"):
        require_isolation(mamba)


def test_a_model_that_takes_positions_and_does_not_heed_them_is_refused(model: PeftModel, monkeypatch: pytest.MonkeyPatch) -> None:
    require_isolation(model)
    base = model.get_base_model()
    forward = base.forward

    def heedless(position_ids: torch.Tensor | None = None, **inputs: torch.Tensor) -> torch.Tensor:
        return forward(**inputs)

    monkeypatch.setattr(base, "forward", heedless)
    with pytest.raises(TaskNotUnderstoodError, match=r"training\.packing is true"):
        require_isolation(model)


def test_the_question_leaves_no_gradient_and_no_hook(model: PeftModel) -> None:
    require_isolation(model)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.get_base_model().get_input_embeddings()._forward_hooks
