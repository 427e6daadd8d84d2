"""DP-SGD on small models of the families that federations train, with Opacus' own hooks."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from rondo_trainer.data.tokenise import IGNORED, Example
from rondo_trainer.exits import DataMalformedError, DivergedError, TaskNotUnderstoodError
from rondo_trainer.loss import collate
from rondo_trainer.privacy import dp_sgd
from rondo_trainer.privacy.dp_sgd import PrivateTraining, clipped_sum, losses_by_token, per_record_gradients, train_privately, trainable
from rondo_trainer.train import Progress

VOCABULARY = 50
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SETTINGS = PrivateTraining(steps=3, batch_size=4, learning_rate=0.01, noise_multiplier=1.0, max_grad_norm=0.01, sample_rate=0.5)
UNCLIPPED = replace(SETTINGS, max_grad_norm=1e9)
PAD = 0


def llama(dtype: torch.dtype = torch.float32) -> PeftModel:
    base = LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2, max_position_embeddings=64))
    return with_lora(base.to(dtype), ["q_proj", "v_proj", "down_proj"])


def qwen() -> PeftModel:
    base = Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True))
    return with_lora(base, ["k_proj", "o_proj", "up_proj"])


def gpt2() -> PeftModel:
    # Tied by default, and its layers are Conv1D instead of Linear.
    base = GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_positions=64, n_embd=16, n_layer=2, n_head=4, resid_pdrop=0, attn_pdrop=0, embd_pdrop=0)
    )
    return with_lora(base, ["c_attn", "c_fc"])


def with_lora(base: torch.nn.Module, modules: list[str]) -> PeftModel:
    model = get_peft_model(base.requires_grad_(False), LoraConfig(r=2, lora_alpha=4, target_modules=modules, task_type="CAUSAL_LM"))
    for weight in trainable(model):
        # B is zero in a fresh adapter, and then A has no gradient: nothing would be seen of half of the weights.
        weight.data = 0.3 * torch.randn_like(weight, dtype=torch.float32)
    return model


MODELS = {"llama": llama, "llama in bfloat16": lambda: llama(torch.bfloat16), "qwen, tied": qwen, "gpt2, tied": gpt2}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(7)


@pytest.fixture(params=MODELS)
def any_model(request: pytest.FixtureRequest, seeded: None) -> PeftModel:
    return MODELS[request.param]().train()


def records(count: int = 10, seed: int = 3) -> list[Example]:
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        length = int(generator.integers(6, 20))
        tokens = generator.integers(1, VOCABULARY, length).tolist()
        prompt = int(generator.integers(1, length - 2))
        found.append(Example(tokens, [IGNORED] * prompt + tokens[prompt:]))
    return found


def flat_sum(model: PeftModel, sample: list[Example], settings: PrivateTraining) -> torch.Tensor:
    with per_record_gradients(model):
        return torch.cat([part.flatten() for part in clipped_sum(model, sample, settings, PAD).gradients]).double()


def plain_gradient(model: PeftModel, sample: list[Example]) -> torch.Tensor:
    """The same sum over records, one by one through plain autograd."""
    model.zero_grad()
    for example in sample:
        losses, targets = losses_by_token(model, collate([example], PAD, torch.device("cpu")))
        (losses.sum() / targets.sum()).backward()
    found = torch.cat([weight.grad.flatten() for weight in trainable(model)]).double()
    model.zero_grad(set_to_none=True)
    return found


def tolerance(model: PeftModel) -> float:
    return 2e-2 if next(model.get_base_model().parameters()).dtype == torch.bfloat16 else 1e-4


def canary(model: PeftModel) -> Example:
    """Of many, the record with the largest gradient."""
    return max(records(40, seed=9), key=lambda example: flat_sum(model, [example], UNCLIPPED).norm())


def test_the_sum_without_clipping_is_the_plain_gradient(any_model) -> None:
    sample = records(7)
    expected = plain_gradient(any_model, sample)
    found = flat_sum(any_model, sample, UNCLIPPED)
    assert (found - expected).norm() < tolerance(any_model) * expected.norm()


def test_each_record_is_clipped_by_its_norm_over_all_tensors_together(any_model) -> None:
    sample = records(5)
    own = [plain_gradient(any_model, [example]) for example in sample]
    most = sorted(gradient.norm().item() for gradient in own)[2]
    expected = sum(gradient * min(1.0, most / gradient.norm().item()) for gradient in own)
    found = flat_sum(any_model, sample, replace(SETTINGS, max_grad_norm=most))
    assert (found - expected).norm() < tolerance(any_model) * expected.norm()


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_how_many_records_are_computed_at_a_time_changes_nothing(batch_size: int) -> None:
    model, sample = llama(), records(7)
    whole = flat_sum(model, sample, SETTINGS)
    assert (flat_sum(model, sample, replace(SETTINGS, batch_size=batch_size)) - whole).norm() < 1e-5 * whole.norm()


def test_a_canary_more_or_less_moves_the_sum_by_the_clipping_norm_and_no_further(any_model) -> None:
    sample, most = records(), SETTINGS.max_grad_norm
    inserted = canary(any_model)
    moved = (flat_sum(any_model, [*sample, inserted], SETTINGS) - flat_sum(any_model, sample, SETTINGS)).norm()
    # In bfloat16 the other rows change by a rounding when a batch's padding does.
    within = 1 + 10 * tolerance(any_model)
    assert 0.9 * most < moved <= most * within


def test_a_replaced_record_moves_the_sum_by_at_most_twice_the_clipping_norm() -> None:
    model, sample, most = llama(), records(), SETTINGS.max_grad_norm
    moves = []
    for other in records(12, seed=21):
        moves.append((flat_sum(model, [*sample[1:], other], SETTINGS) - flat_sum(model, sample, SETTINGS)).norm().item())
    assert max(moves) <= 2 * most * 1.001
    # More than one record's worth: the bound for adding and removing does not hold for replacing.
    assert max(moves) > most


def test_without_clipping_the_same_audit_finds_the_bound_violated() -> None:
    model, sample = llama(), records()
    moved = (flat_sum(model, [*sample, canary(model)], UNCLIPPED) - flat_sum(model, sample, UNCLIPPED)).norm()
    assert moved > 10 * SETTINGS.max_grad_norm


def test_a_record_of_many_tokens_weighs_like_one_of_few() -> None:
    model = llama()
    example = records(1)[0]
    losses, targets = losses_by_token(model, collate([example], PAD, torch.device("cpu")))
    (losses.sum() / targets.sum()).backward()
    mean = torch.cat([weight.grad.flatten() for weight in trainable(model)]).double()
    model.zero_grad(set_to_none=True)
    assert (flat_sum(model, [example], UNCLIPPED) - mean).norm() < 1e-4 * mean.norm()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_record_that_is_not_finite_counts_as_nothing_and_takes_no_other_with_it(any_model, value: float) -> None:
    # Were the others of its physical batch lost with it, one record would move the sum by the norms of them all.
    sample = sorted(records(6), key=lambda example: len(example.tokens))
    together = replace(SETTINGS, batch_size=6)
    whole = flat_sum(any_model, sample[1:], together)

    def spoil_the_first(_module, _given, embedded):
        return torch.cat([torch.full_like(embedded[:1], value), embedded[1:]])

    hook = any_model.get_input_embeddings().register_forward_hook(spoil_the_first)
    found = flat_sum(any_model, sample, together)
    hook.remove()
    assert torch.isfinite(found).all()
    assert (found - whole).norm() < tolerance(any_model) * whole.norm()


def test_an_empty_batch_sums_to_zero() -> None:
    assert flat_sum(llama(), [], SETTINGS).norm() == 0


def without_chance(monkeypatch: pytest.MonkeyPatch, batches: list[list[int]]) -> None:
    """Fixes who is sampled; the noise stays."""
    left: Iterator[list[int]] = iter(batches)
    monkeypatch.setattr(dp_sgd, "poisson_sample", lambda *_: np.array(next(left), dtype=int))


def test_with_hardly_any_noise_or_clipping_it_is_adamw_on_the_expected_batch(any_model, monkeypatch) -> None:
    batches, examples = [[0, 3, 4], [1, 2, 5, 6, 9], [7]], records()
    settings = replace(UNCLIPPED, noise_multiplier=1e-18)
    start = [weight.detach().clone() for weight in trainable(any_model)]
    optimiser = torch.optim.AdamW(trainable(any_model), lr=settings.learning_rate, weight_decay=0.0)
    for batch in batches:
        plain = plain_gradient(any_model, [examples[index] for index in batch])
        place = 0
        for weight in trainable(any_model):
            weight.grad = (plain[place : place + weight.numel()] / (0.5 * len(examples))).float().view_as(weight)
            place += weight.numel()
        optimiser.step()
    expected = torch.cat([weight.detach().flatten().clone() for weight in trainable(any_model)])
    for weight, value in zip(trainable(any_model), start, strict=True):
        weight.data.copy_(value)
    without_chance(monkeypatch, batches)
    train_privately(any_model, examples, settings, PAD, lambda _: None)
    found = torch.cat([weight.detach().flatten() for weight in trainable(any_model)])
    moved = expected - torch.cat([value.flatten() for value in start])
    # Adam divides by the gradient's own size: where that is near zero, rounding decides its sign.
    assert (found - expected).norm() < max(50 * tolerance(any_model), 0.01) * moved.norm() / 2


def test_the_noise_of_a_step_is_added_once_and_divided_by_the_expected_batch(monkeypatch) -> None:
    model = llama()
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: seen.append(torch.cat([w.grad.flatten() for w in trainable(model)])))
    # 0, 2 and 10 records, at most 4 at a time: were noise added to each part, or the actual size divided by, it would show.
    without_chance(monkeypatch, [[], [0, 1], list(range(10))] * 20)
    settings = replace(SETTINGS, steps=60, batch_size=4, noise_multiplier=3.0, max_grad_norm=1e-6, sample_rate=0.25)
    train_privately(model, records(), settings, PAD, lambda _: None)
    expected = 3.0 * 1e-6 / (0.25 * 10)
    for size in range(3):
        gradients = torch.stack(seen[size::3]).double()
        centred = gradients - gradients.mean(dim=0)
        deviation = math.sqrt(centred.pow(2).sum().item() / (19 * gradients.shape[1]))
        # Some 12,000 draws: 7 standard deviations of the estimate are 5 %.
        assert math.isclose(deviation, expected, rel_tol=0.05), f"batch number {size}"


def test_noise_is_another_in_each_run_whatever_the_seed() -> None:
    adapters = []
    for _ in range(2):
        torch.manual_seed(7)
        model = llama()
        train_privately(model, records(), replace(SETTINGS, sample_rate=1.0), PAD, lambda _: None)
        adapters.append(torch.cat([weight.detach().flatten() for weight in trainable(model)]))
    assert not torch.equal(*adapters)


def test_it_learns_where_the_noise_is_small_beside_the_records(any_model) -> None:
    examples = [Example([5, 6, 7, 8, 9, 10], [IGNORED, 6, 7, 8, 9, 10])] * 30
    settings = replace(SETTINGS, steps=25, learning_rate=0.05, noise_multiplier=0.05, max_grad_norm=1.0, losses="reported", batch_size=16)
    seen: list[Progress] = []
    trained = train_privately(any_model, examples, settings, PAD, seen.append)
    assert seen[-1].loss < seen[0].loss - 0.1
    assert min(now.loss for now in seen) < trained.loss < max(now.loss for now in seen)


def test_no_loss_leaves_unless_it_is_asked_for_and_every_step_is_reported() -> None:
    seen: list[Progress] = []
    trained = train_privately(llama(), records(), SETTINGS, PAD, seen.append)
    assert trained.loss is None
    assert trained.steps == 3
    assert [(now.step, now.steps, now.loss) for now in seen] == [(1, 3, None), (2, 3, None), (3, 3, None)]


def test_a_plain_model_is_left_behind(any_model) -> None:
    before = traces(any_model)
    train_privately(any_model, records(), SETTINGS, PAD, lambda _: None)
    assert traces(any_model) == before
    assert all(weight.dtype == torch.float32 and weight.grad is None for weight in trainable(any_model))


def test_a_plain_model_is_left_behind_when_the_run_is_interrupted(monkeypatch) -> None:
    model = llama()
    before = traces(model)

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(dp_sgd, "cross_entropy", stop)
    with pytest.raises(KeyboardInterrupt):
        train_privately(model, records(), replace(SETTINGS, sample_rate=1.0), PAD, lambda _: None)
    assert traces(model) == before


def traces(model: PeftModel) -> list[tuple[str, list[str], int]]:
    modules = [
        (name, sorted(vars(module)), len(module._forward_hooks) + len(module._backward_hooks)) for name, module in model.named_modules()
    ]
    return modules + [(name, sorted(vars(weight)), 0) for name, weight in model.named_parameters()]


def test_the_base_does_not_change(any_model) -> None:
    before = {name: weight.detach().clone() for name, weight in any_model.named_parameters()}
    train_privately(any_model, records(), SETTINGS, PAD, lambda _: None)
    changed = {name for name, weight in any_model.named_parameters() if not torch.equal(before[name], weight)}
    assert changed == {name for name, weight in any_model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("rate", [1e20, 1e30])
def test_a_rate_that_is_far_too_high_diverges_and_says_so(rate: float) -> None:
    with pytest.raises(DivergedError, match=r"lower training\.learningRate"):
        train_privately(llama(), records(), replace(SETTINGS, learning_rate=rate), PAD, lambda _: None)


def test_no_records_are_an_error() -> None:
    with pytest.raises(DataMalformedError, match="no record"):
        train_privately(llama(), [], SETTINGS, PAD, lambda _: None)


def test_an_adapter_on_an_embedding_is_refused_by_name() -> None:
    base = LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2, max_position_embeddings=64))
    model = with_lora(base, ["embed_tokens", "q_proj"])
    with pytest.raises(TaskNotUnderstoodError, match=r"embed_tokens.* adapter\.targetModules"):
        train_privately(model, records(), SETTINGS, PAD, lambda _: None)


def test_the_models_of_the_trainer_itself_can_be_trained(model_folder: Path, parent_adapter: bytes, tmp_path: Path) -> None:
    from conftest import ADAPTER
    from rondo_trainer.model import attach, load_adapter, load_base

    (tmp_path / "parent.safetensors").write_bytes(parent_adapter)
    model = attach(load_base(model_folder, "cpu", "bfloat16"), ADAPTER)
    load_adapter(model, tmp_path / "parent.safetensors")
    before = [weight.detach().clone() for weight in trainable(model)]
    train_privately(model, records(), SETTINGS, PAD, lambda _: None)
    assert not any(torch.equal(old, new) for old, new in zip(before, trainable(model), strict=True))
