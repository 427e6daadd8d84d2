import pytest

from rondo_trainer.data.records import Candidate, Record, parse_record
from rondo_trainer.data.split import split_records

HELD_OUT_OF_A_HUNDRED = ["32", "28", "1", "98", "5", "46", "45", "47", "60", "18", "40", "37", "66"]


def record(text: str) -> Record:
    return parse_record(Candidate("here", {"prompt": text, "completion": "x"}))


def test_a_record_keeps_its_side_whatever_stands_beside_it() -> None:
    few = split_records([record(str(n)) for n in range(200)], percent=10, most=1000)
    many = split_records([record(str(n)) for n in range(1000)][::-1], percent=10, most=1000)
    assert {r.hash for r in few.held_out} < {r.hash for r in many.held_out}
    assert {r.hash for r in few.train} < {r.hash for r in many.train}


def test_about_the_percentage_is_held_out_and_nothing_is_on_both_sides() -> None:
    split = split_records([record(str(n % 1000)) for n in range(2000)], percent=10, most=1000)
    assert 70 < len(split.held_out) < 130
    assert not {r.hash for r in split.held_out} & {r.hash for r in split.train}
    assert len(split.train) == 2 * (1000 - len(split.held_out))


def test_fewer_held_out_records_are_a_prefix_and_the_others_are_not_trained_on() -> None:
    records = [record(str(n)) for n in range(300)]
    bounded, whole = split_records(records, percent=20, most=5), split_records(records, percent=20, most=1000)
    assert bounded.held_out == whole.held_out[:5]
    assert bounded.train == whole.train


def test_the_split_of_a_hundred_records_is_that_of_every_earlier_release() -> None:
    split = split_records([record(str(n)) for n in range(100)], percent=10, most=1000)
    assert [r.messages[0][1] for r in split.held_out] == HELD_OUT_OF_A_HUNDRED


def test_texts_are_split_like_conversations() -> None:
    texts = [parse_record(Candidate("here", {"text": str(n)})) for n in range(1000)]
    split = split_records(texts, percent=10, most=1000)
    assert 70 < len(split.held_out) < 130
    assert len(split.train) + len(split.held_out) == 1000


@pytest.mark.parametrize(("count", "percent", "train", "held_out"), [(1, 10, 1, 0), (2, 1, 1, 1), (3, 0, 3, 0), (5, 100, 0, 5)])
def test_small_and_extreme_splits(count: int, percent: int, train: int, held_out: int) -> None:
    split = split_records([record(str(n)) for n in range(count)], percent, most=1000)
    assert (len(split.train), len(split.held_out)) == (train, held_out)
