"""
How near an answer is to its reference, besides loss: exact match, and ROUGE-L (Lin 2004, "ROUGE: A Package for Automatic
Evaluation of Summaries", section 3: the longest common subsequence of words; F1, that is beta = 1).

Holds: for ASCII text the words are those of the rouge-score package without stemming (lower case, runs of [a-z0-9]), and so is the
number. It differs elsewhere, where that package drops every letter beyond them: here a word is a run of letters, digits and their
marks in any script, after NFKC and case folding; in scripts that put no space between words each letter is a word.
Does not: need torch, or know where an answer comes from (generate.py).
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

MOST_WORDS = 2048
"""Of either text: bounds a comparison, which grows with their product, to a few milliseconds. Answers are a few dozen words long."""

UNSPACED = (
    (0x0E00, 0x0EFF, "Thai, Lao"),
    (0x1000, 0x109F, "Myanmar"),
    (0x1780, 0x17FF, "Khmer"),
    (0x3040, 0x30FF, "Hiragana, Katakana"),
    (0x3400, 0x4DBF, "CJK ideographs, extension A"),
    (0x4E00, 0x9FFF, "CJK ideographs"),
    (0xF900, 0xFAFF, "CJK compatibility ideographs"),
    (0x20000, 0x3FFFF, "CJK ideographs, further extensions"),
)
"""Blocks of scripts that are written without spaces between words (Unicode, Blocks.txt)."""


@dataclass(frozen=True)
class Quality:
    """Means over records, each in [0, 1]."""

    records: int
    exact_match: float
    rouge_l: float


def quality(answers: Sequence[str], references: Sequence[str]) -> Quality | None:
    """None where there is nothing to compare."""
    pairs = list(zip(answers, references, strict=True))
    if not pairs:
        return None
    return Quality(
        records=len(pairs),
        exact_match=sum(exact_match(*pair) for pair in pairs) / len(pairs),
        rouge_l=sum(rouge_l(*pair) for pair in pairs) / len(pairs),
    )


def exact_match(answer: str, reference: str) -> bool:
    """Equal but for case, white space, and ways to write the same characters; punctuation counts."""
    return " ".join(folded(answer).split()) == " ".join(folded(reference).split())


def rouge_l(answer: str, reference: str) -> float:
    """F1 of ROUGE-L; 0 where either has no word, as in rouge-score."""
    given, wanted = words(answer), words(reference)
    common = common_length(given, wanted)
    # 2PR / (P + R) with P = common / given and R = common / wanted.
    return 2 * common / (len(given) + len(wanted)) if common else 0.0


def folded(text: str) -> str:
    """Unicode 3.13, D146: compatibility caseless; folding may leave what NFKC would compose."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def words(text: str) -> list[str]:
    """The first MOST_WORDS of them."""
    found: list[str] = []
    is_open = False  # whether a letter would continue the last word
    for character in folded(text):
        kind = unicodedata.category(character)
        if kind == "Cf":  # joiners and soft hyphens belong to no word, and end none
            continue
        is_mark, alone = kind[0] == "M", is_unspaced(character)
        if kind[0] not in "LMN":
            is_open = False
        elif found and (is_mark or (is_open and not alone)):
            found[-1] += character
        elif len(found) == MOST_WORDS:
            break
        else:
            found.append(character)
            is_open = not alone
    return found


def is_unspaced(character: str) -> bool:
    point = ord(character)
    return any(first <= point <= last for first, last, _ in UNSPACED)


def common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """
    Length of a longest common subsequence, by whole rows of the usual table at once: Hyyrö 2004, "Bit-parallel LCS-length computation
    revisited". A bit of row is 0 where the table grows by one from that word of first to the next.
    """
    places: dict[str, int] = {}
    for index, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << index
    every = (1 << len(first)) - 1
    row = every
    for word in second:
        match = row & places.get(word, 0)
        row = ((row + match) | (row - match)) & every
    return len(first) - row.bit_count()
