import json
from pathlib import Path

import pytest

from conftest import write_records
from rondo_trainer.data import IGNORED, Record, Tokeniser, parse_record, read_records, split_records
from rondo_trainer.exits import DataMalformedError, InputMissingError
from rondo_trainer.loss import collate
from rondo_trainer.model import load_tokeniser

GOOD = '{"prompt": "secret question", "completion": "secret answer"}'


def record(prompt: str, completion: str) -> Record:
    return parse_record(json.dumps({"prompt": prompt, "completion": completion}), "here")


def test_prompt_and_completion_and_messages_are_the_same_conversation() -> None:
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert parse_record(json.dumps({"messages": said}), "here") == record("a", "b")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"prompt": "secret question", "completion": "secret', "not JSON at column"),
        ("NaN", "a float; each line is one JSON object"),
        ('["secret"]', "a list; each line is one JSON object"),
        ('{"prompt": "secret"}', 'no "completion"'),
        ('{"completion": "secret"}', 'no "prompt"'),
        ('{"prompt": "secret", "completion": "  "}', '"completion" is no text, or an empty one'),
        ('{"prompt": 1, "completion": "secret"}', '"prompt" is no text'),
        ('{"messages": []}', '"messages" is no list, or an empty one'),
        ('{"messages": [{"role": "robot", "content": "secret"}]}', 'message 0 needs a "role" of'),
        ('{"messages": [{"role": "user", "content": "secret"}]}', "no words of an assistant"),
    ],
)
def test_a_malformed_line_is_named_and_not_quoted(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "notes.jsonl").write_text(f"{GOOD}\n" * 6 + line + "\n")
    with pytest.raises(DataMalformedError) as refused:
        read_records(tmp_path)
    assert str(refused.value).startswith("notes.jsonl line 7: ")
    assert says in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_file_that_is_not_utf8_is_malformed(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_bytes(b'{"prompt": "caf\xe9"}\n')
    with pytest.raises(DataMalformedError, match="not UTF-8"):
        read_records(tmp_path)


def test_blank_lines_are_no_records_and_a_file_of_them_is_empty(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text("\n \n")
    with pytest.raises(DataMalformedError, match="no record"):
        read_records(tmp_path)


def test_a_folder_without_jsonl_and_a_folder_that_is_not_there_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text(GOOD)
    with pytest.raises(InputMissingError, match=r"holds no \*\.jsonl file; mount"):
        read_records(tmp_path)
    with pytest.raises(InputMissingError, match="does not exist; mount"):
        read_records(tmp_path / "elsewhere")


def test_files_are_read_by_name_and_lines_in_order(tmp_path: Path) -> None:
    write_records(tmp_path / "b.jsonl", 2)
    (tmp_path / "a.jsonl").write_text(GOOD)
    assert [record.where for record in read_records(tmp_path)] == ["a.jsonl line 1", "b.jsonl line 1", "b.jsonl line 2"]


def test_a_record_keeps_its_side_whatever_stands_beside_it() -> None:
    few = split_records([record(str(n), "x") for n in range(200)], percent=10, most=1000)
    many = split_records([record(str(n), "x") for n in range(1000)][::-1], percent=10, most=1000)
    assert {r.hash for r in few.held_out} < {r.hash for r in many.held_out}
    assert {r.hash for r in few.train} < {r.hash for r in many.train}


def test_about_the_percentage_is_held_out_and_nothing_is_on_both_sides() -> None:
    split = split_records([record(str(n % 1000), "x") for n in range(2000)], percent=10, most=1000)
    assert 70 < len(split.held_out) < 130
    assert not {r.hash for r in split.held_out} & {r.hash for r in split.train}
    assert len(split.train) == 2 * (1000 - len(split.held_out))


def test_fewer_held_out_records_are_a_prefix_and_the_others_are_not_trained_on() -> None:
    records = [record(str(n), "x") for n in range(300)]
    bounded, whole = split_records(records, percent=20, most=5), split_records(records, percent=20, most=1000)
    assert bounded.held_out == whole.held_out[:5]
    assert bounded.train == whole.train


@pytest.mark.parametrize(("count", "percent", "train", "held_out"), [(1, 10, 1, 0), (2, 1, 1, 1), (3, 0, 3, 0), (5, 100, 0, 5)])
def test_small_and_extreme_splits(count: int, percent: int, train: int, held_out: int) -> None:
    split = split_records([record(str(n), "y") for n in range(count)], percent, most=1000)
    assert (len(split.train), len(split.held_out)) == (train, held_out)


def test_loss_is_on_the_completion_and_its_end_alone(model_folder: Path) -> None:
    tokeniser = load_tokeniser(model_folder)
    example = Tokeniser(tokeniser, 256).example(record("Why?", "So."))
    learnt = [label for label in example.labels if label != IGNORED]
    assert tokeniser.decode(learnt) == "So.<|im_end|>"
    assert tokeniser.decode(example.tokens) == "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nSo.<|im_end|>\n"


def test_every_turn_of_the_assistant_is_learnt(model_folder: Path) -> None:
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    said = [{"role": role, "content": content} for role, content in turns]
    tokeniser = load_tokeniser(model_folder)
    example = Tokeniser(tokeniser, 256).example(parse_record(json.dumps({"messages": said}), "here"))
    assert tokeniser.decode([label for label in example.labels if label != IGNORED]) == "b<|im_end|>d<|im_end|>"


def test_a_template_that_rewrites_earlier_turns_is_refused(model_folder: Path) -> None:
    tokeniser = load_tokeniser(model_folder)
    tokeniser.chat_template = "{{ messages | length }}{{ messages[-1]['content'] }}"
    with pytest.raises(DataMalformedError, match="here: the base model's chat template"):
        Tokeniser(tokeniser, 256).example(record("a", "b"))


def test_a_template_that_refuses_a_conversation_is_the_datas_fault(model_folder: Path) -> None:
    tokeniser = load_tokeniser(model_folder)
    tokeniser.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(DataMalformedError, match="here: the base model's chat template refuses"):
        Tokeniser(tokeniser, 256).example(record("a", "b"))


def test_without_a_template_prompt_and_completion_are_joined(model_folder: Path) -> None:
    tokeniser = load_tokeniser(model_folder)
    tokeniser.chat_template = None
    example = Tokeniser(tokeniser, 256).example(record("a", "b"))
    assert tokeniser.decode(example.tokens) == "a\nb<|im_end|>"


def test_records_without_room_for_a_target_are_left_out(model_folder: Path) -> None:
    tokeniser = Tokeniser(load_tokeniser(model_folder), 64)
    assert len(tokeniser.examples([record("long " * 50, "x"), record("short", "x")])) == 1


def test_padding_bears_no_loss_although_it_is_the_end_token(model_folder: Path) -> None:
    tokeniser = load_tokeniser(model_folder)
    assert tokeniser.pad_token_id == tokeniser.eos_token_id
    short, long = (Tokeniser(tokeniser, 256).example(record("a", text)) for text in ("b", "a longer answer"))
    batch = collate([short, long], tokeniser.pad_token_id, "cpu")
    for row, example in enumerate([short, long]):
        assert int((batch.labels[row] != IGNORED).sum()) == example.target_count()
        assert int(batch.attention[row].sum()) == len(example.tokens)
    assert int((batch.labels == tokeniser.eos_token_id).sum()) == 2
