"""Exact match and ROUGE-L against numbers computed by hand."""

import random
from collections.abc import Sequence

import pytest

from rondo_trainer.metrics import MOST_WORDS, Quality, common_length, exact_match, quality, rouge_l, words


@pytest.mark.parametrize(
    ("answer", "reference", "f1"),
    [
        # Lin 2004, section 3.1: of "police killed the gunman" S2 keeps "police … the gunman" (3 of 4), S3 "the gunman" (2 of 4).
        ("police kill the gunman", "police killed the gunman", 3 / 4),
        ("the gunman kill police", "police killed the gunman", 2 / 4),
        # P = 2/2, R = 2/4.
        ("the gunman", "police killed the gunman", 2 * (1 * 0.5) / 1.5),
        # P = 3/6, R = 3/3.
        ("a x b y c z", "a b c", 2 * (0.5 * 1) / 1.5),
        ("The cat.", "the CAT!", 1.0),
        ("dog", "cat", 0.0),
        ("", "cat", 0.0),
        ("...", "...", 0.0),  # no word in either, as rouge-score has it
        # Five of six and of seven letters: 2 * 5 / 13.
        ("我们喜欢学习", "我们都喜欢学问", 2 * 5 / 13),
        ("Café", "cafe", 0.0),
        ("ДА, нет", "да нет", 1.0),
    ],
)
def test_rouge_l_is_the_number_computed_by_hand(answer: str, reference: str, f1: float) -> None:
    assert rouge_l(answer, reference) == pytest.approx(f1)
    assert rouge_l(reference, answer) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The cat's 3 mats_2!", ["the", "cat", "s", "3", "mats", "2"]),  # [a-z0-9]+, as rouge-score
        ("Café déjà-vu", ["café", "déjà", "vu"]),
        ("cafe\u0301", ["café"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("मैं हिन्दी", ["मैं", "हिन्दी"]),
        ("한국어 공부", ["한국어", "공부"]),
        ("使う API2 版", ["使", "う", "api2", "版"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("co\u00adoperate", ["cooperate"]),
        ("\uff46\uff55\uff4c\uff4c", ["full"]),
        ("", []),
    ],
)
def test_words_are_runs_of_letters_in_any_script(text: str, found: list[str]) -> None:
    assert words(text) == found


@pytest.mark.parametrize(
    ("answer", "reference", "equal"),
    [
        ("Paris", " paris\n", True),
        ("New\u00a0 York", "new york", True),
        ("ﬁve", "FIVE", True),
        ("Straße", "STRASSE", True),
        ("Paris.", "Paris", False),
        ("", "", True),
        ("4", "5", False),
    ],
)
def test_exact_match_forgives_case_and_white_space_and_nothing_else(answer: str, reference: str, equal: bool) -> None:
    assert exact_match(answer, reference) is equal


def test_the_common_length_is_that_of_the_usual_table() -> None:
    draw = random.Random(7)
    for _ in range(300):
        first, second = (draw.choices("abcd", k=draw.randrange(70)) for _ in range(2))
        assert common_length(first, second) == by_table(first, second), (first, second)


def by_table(first: Sequence[str], second: Sequence[str]) -> int:
    row = [0] * (len(second) + 1)
    for word in first:
        above = row
        row = [0]
        for column, other in enumerate(second, start=1):
            row.append(above[column - 1] + 1 if word == other else max(above[column], row[-1]))
    return row[-1]


def test_what_stands_behind_the_bound_does_not_count() -> None:
    long = "word " * MOST_WORDS
    assert rouge_l(long + "and more", long) == 1.0
    assert len(words(long * 3)) == MOST_WORDS


def test_quality_is_the_mean_over_records_and_nothing_of_nothing() -> None:
    assert quality(["Yes", "a b"], ["yes.", "a b c d"]) == Quality(records=2, exact_match=0.0, rouge_l=pytest.approx((1 + 2 / 3) / 2))
    assert quality(["b"], ["B"]) == Quality(1, 1.0, 1.0)
    assert quality([], []) is None
    with pytest.raises(ValueError, match="argument 2 is"):
        quality(["a"], [])
