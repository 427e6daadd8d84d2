"""The rows of training: passes over the records in an order drawn from the seed, packed or not."""

import itertools
from pathlib import Path

import pytest

from rondo_trainer.data.order import Rows, endless_examples
from rondo_trainer.data.packing import pack
from rondo_trainer.data.reading import read_data
from rondo_trainer.data.records import Candidate, Record, parse_record
from rondo_trainer.data.report import data_report
from rondo_trainer.data.split import split_records
from rondo_trainer.data.tokenise import Example, Tokeniser
from rondo_trainer.data.tokenised import TokenisedRecords
from rondo_trainer.exits import DataMalformedError
from rondo_trainer.model import load_tokeniser

ORDER_OF_SEED_11 = [1, 3, 2, 5, 0, 4, 7, 6, 4, 0, 7, 5, 1, 2, 6, 3]
"""torch.randperm(8) twice, from one generator: two passes over eight records."""


@pytest.fixture
def tokeniser(model_folder: Path) -> Tokeniser:
    return Tokeniser(load_tokeniser(model_folder), 64)


@pytest.fixture
def records() -> list[Record]:
    """Thirty texts of 4 to 33 letters."""
    return [parse_record(Candidate(f"line {n}", {"text": "x" * n})) for n in range(4, 34)]


def texts(rows: list[Example]) -> list[tuple[int, ...]]:
    return [tuple(example.tokens) for example in rows]


def test_a_pass_takes_each_record_once_and_the_next_pass_another_order(records: list[Record], tokeniser: Tokeniser) -> None:
    seen = texts(list(itertools.islice(endless_examples(records, tokeniser, 3), 60)))
    assert sorted(seen[:30]) == sorted(seen[30:])
    assert len(set(seen[:30])) == 30
    assert seen[:30] != seen[30:]


def test_the_order_of_a_seed_is_that_of_every_earlier_release(records: list[Record], tokeniser: Tokeniser) -> None:
    first = list(itertools.islice(endless_examples(records[:8], tokeniser, 11), 16))
    assert [len(example.tokens) - 5 for example in first] == ORDER_OF_SEED_11


def test_passes_are_the_beginning_of_what_has_no_end(records: list[Record], tokeniser: Tokeniser) -> None:
    for packing in (False, True):
        rows = Rows(TokenisedRecords(records, tokeniser), 3, packing=packing)
        three = list(rows.passes(3))
        assert three == list(itertools.islice(rows.endless(), len(three)))
        assert len(three) == rows.count(3)


@pytest.mark.parametrize(("passes", "rows"), [(1, 30), (0.5, 15), (1.1, 33), (2.02, 61), (0.001, 1)])
def test_a_part_of_a_pass_is_rounded_up_to_rows(records: list[Record], tokeniser: Tokeniser, passes: float, rows: int) -> None:
    assert Rows(TokenisedRecords(records, tokeniser), 3).count(passes) == rows


def test_records_without_a_token_to_learn_are_no_rows(tokeniser: Tokeniser) -> None:
    records = [parse_record(Candidate("here", {"prompt": "p" * n, "completion": "c"})) for n in (1, 100)]
    assert Rows(TokenisedRecords(records, tokeniser), 3).count(4) == 4


def test_records_that_all_lack_room_are_an_error_and_no_endless_loop(records: list[Record], model_folder: Path) -> None:
    prompts = [parse_record(Candidate("here", {"prompt": "p" * 20, "completion": "c"}))]
    short = Tokeniser(load_tokeniser(model_folder), 8)
    for packing in (False, True):
        with pytest.raises(DataMalformedError, match=r"none of 1 records .* raise training\.sequenceLength"):
            next(Rows(TokenisedRecords(prompts, short), 1, packing=packing).endless())


def test_packed_rows_hold_every_record_once_and_are_nearly_full(records: list[Record], tokeniser: Tokeniser) -> None:
    alone = list(Rows(TokenisedRecords(records, tokeniser), 3).passes(1))
    rows = list(Rows(TokenisedRecords(records, tokeniser), 3, packing=True).passes(1))
    assert sorted(texts([part for row in rows for part in row.parts])) == sorted(texts(alone))
    filled = [sum(len(part.tokens) for part in row.parts) for row in rows]
    assert max(filled) <= 64
    assert sum(filled[:-1]) / (64 * len(filled[:-1])) > 0.9
    assert sum(row.target_count() for row in rows) == sum(example.target_count() for example in alone)


def of(*lengths: int) -> list[Example]:
    return [Example([1] * length, [1] * length) for length in lengths]


@pytest.mark.parametrize(
    ("lengths", "look_ahead", "rows"),
    [
        ((6, 5, 4, 5), 4, [[6, 4], [5, 5]]),
        ((6, 5, 4, 5), 2, [[6], [5, 4], [5]]),
        ((6, 5, 4, 5), 1, [[6], [5], [4], [5]]),
        ((10, 10, 1), 3, [[10], [10], [1]]),
        ((9, 1, 9, 1), 2, [[9, 1], [9, 1]]),
        ((), 4, []),
    ],
)
def test_a_row_takes_the_first_that_fit_of_those_in_sight(lengths: tuple[int, ...], look_ahead: int, rows: list[list[int]]) -> None:
    assert [[len(part.tokens) for part in row.parts] for row in pack(of(*lengths), 10, look_ahead)] == rows


def test_packing_looks_no_further_than_it_must() -> None:
    drawn = itertools.count()
    endless = (of(5)[0] for _ in drawn)
    next(pack(endless, 10, look_ahead=4))
    assert next(drawn) == 4


def test_a_report_tells_people_what_became_of_their_records(tmp_path: Path, model_folder: Path) -> None:
    lines = [f'{{"prompt": "secret {n}", "completion": "{"so " * n}"}}' for n in range(1, 20)]
    (tmp_path / "notes.jsonl").write_text(
        "\n".join([*lines, '{"prompt": "secret"}', f'{{"prompt": "{"p" * 99}", "completion": "x"}}', "secret"])
    )
    found = read_data(tmp_path, on_bad_record="skip")
    split = split_records(found.records, percent=0, most=10)
    tokenised = TokenisedRecords(split.train, Tokeniser(load_tokeniser(model_folder), 64), "skip")
    assert data_report(split, len(found.records), found.skipped, [tokenised]).sentences() == [
        "20 records: 20 to train on, 0 held out for scoring",
        'skipped: 1 with no "completion" (notes.jsonl line 20)',
        "skipped: 1 with not JSON (notes.jsonl line 22)",
    ]
    assert len(list(tokenised.examples())) == 19
    assert data_report(split, len(found.records), (), [tokenised]).sentences() == [
        "20 records: 20 to train on, 0 held out for scoring",
        "cut at the sequence length: 8 of 20 records tokenised, 100 tokens lost; raise training.sequenceLength to keep them",
        "left out: 1 of 20 records tokenised, no token to learn within the sequence length",
    ]
