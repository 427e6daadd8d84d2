"""
The rows of training in the order in which they are learnt: passes over the records, each in an order of its own drawn from the seed.

Holds: same records, seed and packing: the same rows, at every rank and in every attempt. A record is given once in a pass, and no row spans
two passes.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch

from ..exits import DataMalformedError
from .packing import Row, pack
from .records import Record
from .tokenise import Example, Tokeniser
from .tokenised import TokenisedRecords


class Rows:
    """Each call begins anew with the first pass."""

    def __init__(self, records: TokenisedRecords, seed: int, *, packing: bool = False) -> None:
        self.records = records
        self.seed = seed
        self.packing = packing

    def endless(self) -> Iterator[Row]:
        """
        Raises:
            DataMalformedError: a pass in which nothing is learnt.
        """
        for rows in self.each_pass():
            yield from rows

    def passes(self, count: int) -> Iterator[Row]:
        for rows in islice(self.each_pass(), count):
            yield from rows

    def count(self, passes: float) -> int:
        """How many rows make so many passes, the last one perhaps in part. Tokenises every record."""
        whole, part = int(passes), passes - int(passes)
        if not self.packing:
            return rounded_up(passes * sum(1 for _ in next(self.each_pass())))
        of_pass = [sum(1 for _ in rows) for rows in islice(self.each_pass(), whole + (part > 0))]
        return sum(of_pass[:whole]) + (rounded_up(part * of_pass[whole]) if part > 0 else 0)

    def each_pass(self) -> Iterator[Iterator[Row]]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            order = torch.randperm(len(self.records), generator=generator).tolist()
            yield self.one_pass(order)

    def one_pass(self, order: Sequence[int]) -> Iterator[Row]:
        found = (self.records.example(index) for index in order)
        examples: Iterator[Example] = (example for example in found if example is not None)
        rows = pack(examples, self.records.tokeniser.sequence_length) if self.packing else examples
        is_empty = True
        for row in rows:
            is_empty = False
            yield row
        if is_empty:
            raise self.nothing_to_learn()

    def nothing_to_learn(self) -> DataMalformedError:
        sentence = (
            f"none of {len(self.records)} records has a token to learn within {self.records.tokeniser.sequence_length} tokens; "
            "raise training.sequenceLength or shorten the prompts"
        )
        return DataMalformedError("; ".join([sentence, *self.records.skipped.sentences()]))


def endless_examples(records: list[Record], tokeniser: Tokeniser, seed: int) -> Iterator[Row]:
    return Rows(TokenisedRecords(records, tokeniser), seed).endless()


def rounded_up(rows: float) -> int:
    # 1.1 passes of 10 rows are 11, not the 12 that 11.000000000000002 would make.
    return math.ceil(round(rows, 6))
