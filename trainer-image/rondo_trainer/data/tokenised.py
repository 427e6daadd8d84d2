"""
The examples of a list of records, each made when it is first asked for.

Holds: an example depends on its record alone, so that it is the same whenever it is made; memory is bounded, and beyond the bound
examples are made anew. Bad records and those without a token to learn are counted once and never given.
Does not: know an order (order.py).
"""

from collections.abc import Iterator, Sequence

from .records import BadRecordError, OnBadRecord, Record
from .report import SkippedRecords
from .tokenise import Example, Tokeniser

CACHED_TOKENS = 64 << 20
"""Half a GB: token and label are four bytes each. What a round of common length comes to fits; beyond it an example is made anew when its
turn comes again, which is little beside a step on it."""

UNSEEN, GIVEN, NOTHING = range(3)


class TokenisedRecords:
    """truncated, tokens_cut, left_out, skipped: of the `seen` records that were asked for by now."""

    def __init__(
        self, records: Sequence[Record], tokeniser: Tokeniser, on_bad_record: OnBadRecord = "fail", cached_tokens: int = CACHED_TOKENS
    ) -> None:
        self.records = records
        self.tokeniser = tokeniser
        self.is_skipping = on_bad_record == "skip"
        self.room = cached_tokens
        self.known: dict[int, Example] = {}
        self.state = bytearray(len(records))
        self.seen, self.truncated, self.tokens_cut, self.left_out = 0, 0, 0, 0
        self.skipped = SkippedRecords()

    def __len__(self) -> int:
        """Records, whether or not they have anything to learn."""
        return len(self.records)

    def example(self, index: int) -> Example | None:
        """
        None: nothing is learnt from this record.

        Raises:
            BadRecordError: the base model's chat template has no form for it, and bad records are not skipped.
        """
        if self.state[index] == NOTHING:
            return None
        if index in self.known:
            return self.known[index]
        example = self.made(index)
        if example is not None and len(example.tokens) <= self.room:
            self.room -= len(example.tokens)
            self.known[index] = example
        return example

    def made(self, index: int) -> Example | None:
        is_first = self.state[index] == UNSEEN
        self.seen += is_first
        self.state[index] = NOTHING
        try:
            example = self.tokeniser.example(self.records[index])
        except BadRecordError as error:
            if not self.is_skipping:
                raise
            self.skipped.add(error)
            return None
        if example.target_count() == 0:
            self.left_out += 1
            return None
        self.state[index] = GIVEN
        if is_first:
            self.truncated += example.cut > 0
            self.tokens_cut += example.cut
        return example

    def examples(self) -> Iterator[Example]:
        """Of all records that have something to learn, in their order."""
        for index in range(len(self)):
            if (example := self.example(index)) is not None:
                yield example
