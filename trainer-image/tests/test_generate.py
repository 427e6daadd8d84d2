"""Answers of a tiny model: which prompts it gets, and that nothing but prompt and adapter decides them."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict

from conftest import ADAPTER
from rondo_trainer.data.records import Candidate, Record, parse_record
from rondo_trainer.data.tokenise import Tokeniser
from rondo_trainer.generate import Limits, Question, generate, questions
from rondo_trainer.model import attach, load_adapter, load_base, load_tokeniser

LIMITS = Limits(records=5, new_tokens=6, batch_size=2)


@pytest.fixture
def tokeniser(model_folder: Path) -> Tokeniser:
    return Tokeniser(load_tokeniser(model_folder), 128)


@pytest.fixture
def model(model_folder: Path, parent_adapter: bytes, tmp_path: Path) -> PeftModel:
    file = tmp_path / "parent.safetensors"
    file.write_bytes(parent_adapter)
    model = attach(load_base(model_folder, "cpu", "float32"), ADAPTER)
    load_adapter(model, file)
    return model


def record(**fields: object) -> Record:
    return parse_record(Candidate("here", fields))


def sums(count: int) -> list[Record]:
    return [record(prompt=f"What is {'1 + ' * n}1?", completion=f"It is {n + 1}.") for n in range(count)]


def test_the_prompt_is_what_training_saw_and_the_reference_what_it_learnt(tokeniser: Tokeniser) -> None:
    (question,) = questions([record(prompt="Why?", completion="So.")], tokeniser, LIMITS)
    example = tokeniser.example(record(prompt="Why?", completion="So."))
    assert question.prompt == list(example.tokens[: len(question.prompt)])
    assert tokeniser.tokeniser.decode(question.prompt) == "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    assert question.reference == "So."


def test_the_last_answer_of_a_conversation_is_asked_for_and_the_earlier_ones_are_context(tokeniser: Tokeniser) -> None:
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")]
    (question,) = questions([record(messages=[{"role": role, "content": text} for role, text in turns])], tokeniser, LIMITS)
    assert question.reference == "d"
    assert tokeniser.tokeniser.decode(question.prompt).endswith(
        "assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"
    )


def test_without_a_template_the_prompt_is_the_records_own(tokeniser: Tokeniser) -> None:
    tokeniser.tokeniser.chat_template = None
    (question,) = questions([record(prompt="Why?", completion="So.")], tokeniser, LIMITS)
    assert (tokeniser.tokeniser.decode(question.prompt), question.reference) == ("Why?\n", "So.")


def test_no_more_records_are_asked_than_the_limit_and_those_without_room_are_left_out(tokeniser: Tokeniser) -> None:
    too_long = record(prompt="long " * 50, completion="x")
    assert [question.reference for question in questions([too_long, *sums(9)], tokeniser, LIMITS)] == [f"It is {n}." for n in range(1, 6)]


def test_the_same_adapter_gives_the_same_answers_and_they_end_in_time(model: PeftModel, tokeniser: Tokeniser) -> None:
    asked = questions(sums(5), tokeniser, LIMITS)
    first, second = (generate(model, asked, tokeniser, LIMITS) for _ in range(2))
    assert first == second
    assert len(first) == 5
    # A token of this tokeniser is a byte, and so at most a character.
    assert all(len(answer) <= LIMITS.new_tokens for answer in first)
    assert any(first)


def test_an_answer_does_not_depend_on_what_it_is_batched_with(model: PeftModel, tokeniser: Tokeniser) -> None:
    asked = questions(sums(5)[::-1], tokeniser, LIMITS)
    alone = [answer for question in asked for answer in generate(model, [question], tokeniser, LIMITS)]
    assert generate(model, asked, tokeniser, Limits(5, 6, batch_size=5)) == alone
    assert generate(model, asked, tokeniser, LIMITS) == alone


def test_each_token_is_the_likeliest_after_those_before_it(model: PeftModel, tokeniser: Tokeniser) -> None:
    prompt = tokeniser.tokeniser("What?")["input_ids"]
    (answer,) = generate(model, [Question(prompt, "-")], tokeniser, LIMITS)
    tokens = list(prompt)
    with torch.inference_mode():
        while len(tokens) < len(prompt) + LIMITS.new_tokens:
            token = int(model(torch.tensor([tokens])).logits[0, -1].argmax())
            if token == tokeniser.tokeniser.eos_token_id:
                break
            tokens.append(token)
    assert answer == tokeniser.tokeniser.decode(tokens[len(prompt) :], skip_special_tokens=True)


def test_what_the_model_asks_for_in_generation_is_set_aside_and_put_back(model: PeftModel, tokeniser: Tokeniser) -> None:
    asked = questions(sums(3), tokeniser, LIMITS)
    plain = generate(model, asked, tokeniser, LIMITS)
    own = model.get_base_model().generation_config
    own.do_sample, own.temperature, own.repetition_penalty, own.min_new_tokens = True, 3.0, 5.0, 6
    assert generate(model, asked, tokeniser, LIMITS) == plain
    assert model.get_base_model().generation_config is own


def test_an_answer_ends_at_the_end_token(model: PeftModel, tokeniser: Tokeniser) -> None:
    prompt = tokeniser.tokeniser("What?")["input_ids"]
    with torch.inference_mode():
        likeliest = int(model(torch.tensor([prompt])).logits[0, -1].argmax())
    model.get_base_model().generation_config.eos_token_id = [likeliest]
    assert generate(model, [Question(prompt, "-")], tokeniser, LIMITS) == [""]


def test_two_adapters_are_asked_on_one_base(model: PeftModel, tokeniser: Tokeniser, tmp_path: Path, parent_adapter: bytes) -> None:
    from safetensors.torch import save_file

    asked = questions(sums(5), tokeniser, LIMITS)
    parent = generate(model, asked, tokeniser, LIMITS)
    generator = torch.Generator().manual_seed(3)
    loud = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in get_peft_model_state_dict(model).items()}
    save_file(loud, tmp_path / "candidate.safetensors")
    load_adapter(model, tmp_path / "candidate.safetensors")
    assert generate(model, asked, tokeniser, LIMITS) != parent
    (tmp_path / "again.safetensors").write_bytes(parent_adapter)
    load_adapter(model, tmp_path / "again.safetensors")
    assert generate(model, asked, tokeniser, LIMITS) == parent


def test_no_questions_have_no_answers(model: PeftModel, tokeniser: Tokeniser) -> None:
    assert questions([], tokeniser, LIMITS) == []
    assert generate(model, [], tokeniser, LIMITS) == []
