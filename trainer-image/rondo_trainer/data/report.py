"""
What became of the site's records, for the site's own people.

Holds: counts, and places of a few skipped records; never a word of one.
Does not: print, or leave the site: __main__.py writes it to the trainer's own log.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .records import BadRecordError
from .split import Split

if TYPE_CHECKING:
    from .tokenised import TokenisedRecords

PLACES = 3
"""That are named of one fault: enough to find it; the rest are mended with it or come up in the next round."""


@dataclass(frozen=True)
class Skipped:
    """kind: what is wrong with these records; places: of the first few."""

    kind: str
    count: int
    places: tuple[str, ...]

    def sentence(self) -> str:
        more = ", …" if self.count > len(self.places) else ""
        return f"{self.count} with {self.kind} ({', '.join(self.places)}{more})"


class SkippedRecords:
    """Gathers bad records by their fault while they are met."""

    def __init__(self) -> None:
        self.by_kind: dict[str, Skipped] = {}

    @property
    def count(self) -> int:
        return sum(skipped.count for skipped in self.by_kind.values())

    def add(self, error: BadRecordError) -> None:
        self.by_kind[error.kind] = joined(self.by_kind.get(error.kind), Skipped(error.kind, 1, (error.where,)))

    def all(self) -> tuple[Skipped, ...]:
        return tuple(self.by_kind.values())

    def sentences(self) -> list[str]:
        return [skipped.sentence() for skipped in self.all()]


def joined(some: Skipped | None, more: Skipped) -> Skipped:
    if some is None:
        return more
    return Skipped(some.kind, some.count + more.count, (*some.places, *more.places)[:PLACES])


@dataclass(frozen=True)
class DataReport:
    """
    records: good ones in the files; train: on the side that is learnt, held_out: scored, the remaining ones are held out and not used.
    truncated, tokens_cut, left_out: of the `tokenised` records, which are those that training came to. A record is left out when none of
    its tokens that would be learnt is within the sequence length. skipped: bad records, in the files and of those tokenised.
    """

    records: int
    train: int
    held_out: int
    skipped: tuple[Skipped, ...]
    tokenised: int
    truncated: int
    tokens_cut: int
    left_out: int

    def sentences(self) -> list[str]:
        said = [f"{self.records} records: {self.train} to train on, {self.held_out} held out for scoring"]
        said += [f"skipped: {skipped.sentence()}" for skipped in self.skipped]
        if self.truncated:
            lost = f"{self.tokens_cut} tokens lost; raise training.sequenceLength to keep them"
            said.append(f"cut at the sequence length: {self.truncated} of {self.tokenised} records tokenised, {lost}")
        if self.left_out:
            said.append(f"left out: {self.left_out} of {self.tokenised} records tokenised, no token to learn within the sequence length")
        return said


def data_report(split: Split, records: int, skipped: Iterable[Skipped], tokenised: Sequence["TokenisedRecords"]) -> DataReport:
    """
    Args:
        records: good ones in the files.
        skipped: bad ones in the files.
        tokenised: training and held-out records, as far as they are tokenised by now.
    """
    by_kind: dict[str, Skipped] = {}
    for one in [*skipped, *(one for some in tokenised for one in some.skipped.all())]:
        by_kind[one.kind] = joined(by_kind.get(one.kind), one)
    return DataReport(
        records=records,
        train=len(split.train),
        held_out=len(split.held_out),
        skipped=tuple(by_kind.values()),
        tokenised=sum(some.seen for some in tokenised),
        truncated=sum(some.truncated for some in tokenised),
        tokens_cut=sum(some.tokens_cut for some in tokenised),
        left_out=sum(some.left_out for some in tokenised),
    )
