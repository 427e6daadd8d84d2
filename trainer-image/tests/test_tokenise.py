"""Tokens of a record, and which of them are learnt, with a real tokeniser and chat template."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from rondo_trainer.data.records import Candidate, Record, parse_record
from rondo_trainer.data.tokenise import IGNORED, Example, Tokeniser
from rondo_trainer.data.tokenised import TokenisedRecords
from rondo_trainer.exits import DataMalformedError
from rondo_trainer.loss import collate
from rondo_trainer.model import load_tokeniser


def parsed(**document: Any) -> Record:
    return parse_record(Candidate("here", document))


def record(prompt: str, completion: str) -> Record:
    return parsed(prompt=prompt, completion=completion)


def turns(*words: str) -> list[dict[str, str]]:
    return [{"role": "assistant" if index % 2 else "user", "content": said} for index, said in enumerate(words)]


@pytest.fixture
def tokeniser(model_folder: Path) -> Any:
    return load_tokeniser(model_folder)


@pytest.fixture
def beginning(tokeniser: Any) -> Any:
    """A tokeniser that begins every text with <|im_start|>, as Llama's does with <|begin_of_text|>."""
    tokeniser.backend_tokenizer.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 0)])
    assert tokeniser("a")["input_ids"][0] == 0
    return tokeniser


def written(tokeniser: Any, example: Example) -> tuple[str, str]:
    """All of it, and what of it is learnt."""
    return tokeniser.decode(list(example.tokens)), tokeniser.decode([label for label in example.labels if label != IGNORED])


def test_loss_is_on_the_completion_and_its_end_alone(tokeniser: Any) -> None:
    example = Tokeniser(tokeniser, 256).example(record("Why?", "So."))
    all_of_it = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nSo.<|im_end|>\n"
    assert written(tokeniser, example) == (all_of_it, "So.<|im_end|>")


def test_every_turn_of_the_assistant_is_learnt(tokeniser: Any) -> None:
    example = Tokeniser(tokeniser, 256).example(parsed(messages=turns("a", "b", "c", "d")))
    assert written(tokeniser, example)[1] == "b<|im_end|>d<|im_end|>"


def test_of_a_prompt_of_messages_nothing_is_learnt(tokeniser: Any) -> None:
    whole, parts = (
        Tokeniser(tokeniser, 256).example(one)
        for one in (parsed(messages=turns("a", "b", "c", "d")), parsed(prompt=turns("a", "b", "c"), completion=turns("c", "d")[1:]))
    )
    assert parts.tokens == whole.tokens
    assert written(tokeniser, parts)[1] == "d<|im_end|>"


def test_completion_writes_prompt_and_completion_one_after_the_other(tokeniser: Any) -> None:
    example = Tokeniser(tokeniser, 256, "completion").example(record("def f(", "x): pass"))
    assert written(tokeniser, example) == ("def f(x): pass<|im_end|>", "x): pass<|im_end|>")


@pytest.mark.parametrize("style", ["instruction", "completion"])
@pytest.mark.parametrize("text", ["Once upon a time", "Once upon a time<|im_end|>"])
def test_of_a_text_every_token_is_learnt_and_one_end(tokeniser: Any, style: str, text: str) -> None:
    example = Tokeniser(tokeniser, 256, style).example(parsed(text=text))
    assert written(tokeniser, example) == ("Once upon a time<|im_end|>", "Once upon a time<|im_end|>")
    assert example.target_count() == len(example.tokens) - 1, "nothing predicts the first token"


def test_a_model_whose_texts_begin_with_a_token_gets_it_where_no_template_writes_it(beginning: Any) -> None:
    in_template = Tokeniser(beginning, 256).example(record("a", "b"))
    assert written(beginning, in_template)[0].startswith("<|im_start|>user\na<|im_end|>")
    for style, one in (("completion", record("a", "b")), ("instruction", parsed(text="ab")), ("completion", parsed(text="<|im_start|>ab"))):
        example = Tokeniser(beginning, 256, style).example(one)
        assert beginning.decode(list(example.tokens)) == "<|im_start|>ab<|im_end|>"
        assert example.labels[0] == IGNORED or one.text == "<|im_start|>ab"


def test_what_is_cut_at_the_sequence_length_is_counted(tokeniser: Any) -> None:
    whole = Tokeniser(tokeniser, 256, "completion").example(record("abc", "defgh"))
    cut = Tokeniser(tokeniser, 5, "completion").example(record("abc", "defgh"))
    assert (whole.cut, cut.cut) == (0, len(whole.tokens) - 5)
    assert written(tokeniser, cut) == ("abcde", "de")


def test_a_template_that_rewrites_earlier_turns_is_refused(tokeniser: Any) -> None:
    tokeniser.chat_template = "{{ messages | length }}{{ messages[-1]['content'] }}"
    with pytest.raises(DataMalformedError, match="here: the base model's chat template"):
        Tokeniser(tokeniser, 256).example(record("a", "b"))


def test_a_template_that_refuses_a_conversation_is_the_datas_fault(tokeniser: Any) -> None:
    tokeniser.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(DataMalformedError, match="here: the base model's chat template refuses"):
        Tokeniser(tokeniser, 256).example(record("a", "b"))


def test_without_a_template_prompt_and_completion_are_joined(tokeniser: Any) -> None:
    tokeniser.chat_template = None
    assert tokeniser.decode(list(Tokeniser(tokeniser, 256).example(record("a", "b")).tokens)) == "a\nb<|im_end|>"


def test_without_a_template_more_turns_are_refused(tokeniser: Any) -> None:
    tokeniser.chat_template = None
    with pytest.raises(DataMalformedError, match="here: the base model has no chat template; give prompt and completion"):
        Tokeniser(tokeniser, 256).example(parsed(messages=turns("a", "b", "c", "d")))


def test_records_without_room_for_a_target_are_left_out(tokeniser: Any) -> None:
    assert len(Tokeniser(tokeniser, 64).examples([record("long " * 50, "x"), record("short", "x")])) == 1


def test_padding_bears_no_loss_although_it_is_the_end_token(tokeniser: Any) -> None:
    assert tokeniser.pad_token_id == tokeniser.eos_token_id
    short, long = (Tokeniser(tokeniser, 256).example(record("a", text)) for text in ("b", "a longer answer"))
    batch = collate([short, long], tokeniser.pad_token_id, "cpu")
    for row, example in enumerate([short, long]):
        assert int((batch.labels[row] != IGNORED).sum()) == example.target_count()
        assert int(batch.attention[row].sum()) == len(example.tokens)
    assert int((batch.labels == tokeniser.eos_token_id).sum()) == 2


def test_each_record_is_counted_once_however_often_it_is_asked_for(tokeniser: Any) -> None:
    records = [record("a", "b" * 100), record("a" * 100, "b"), parsed(text="short")]
    tokenised = TokenisedRecords(records, Tokeniser(tokeniser, 64), cached_tokens=0)
    for _ in range(3):
        assert [example.target_count() > 0 for example in tokenised.examples()] == [True, True]
    assert (tokenised.seen, tokenised.truncated, tokenised.left_out) == (3, 1, 1)
    assert tokenised.tokens_cut == Tokeniser(tokeniser, 64).example(records[0]).cut


def test_examples_are_the_same_with_and_without_room_to_keep_them(tokeniser: Any) -> None:
    records = [parsed(text=f"record {n}") for n in range(10)]
    for cached_tokens, kept in ((0, 0), (25, 2), (1000, 10)):
        tokenised = TokenisedRecords(records, Tokeniser(tokeniser, 64), cached_tokens=cached_tokens)
        assert [list(tokenised.examples()) for _ in range(2)] == 2 * [Tokeniser(tokeniser, 64).examples(records)]
        assert len(tokenised.known) == kept


def test_a_record_that_the_template_refuses_is_skipped_where_bad_records_are(tokeniser: Any) -> None:
    tokeniser.chat_template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('secret') }}{% endif %}" + tokeniser.chat_template
    records = [record("a", "b"), parsed(messages=[{"role": "system", "content": "secret"}, *turns("a", "b")])]
    with pytest.raises(DataMalformedError):
        list(TokenisedRecords(records, Tokeniser(tokeniser, 64)).examples())
    tokenised = TokenisedRecords(records, Tokeniser(tokeniser, 64), "skip")
    assert [len(list(tokenised.examples())) for _ in range(2)] == [1, 1]
    assert tokenised.skipped.sentences() == ["1 with turns that the base model's chat template refuses (here)"]
