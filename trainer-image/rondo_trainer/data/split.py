"""
Which records are held out: never trained on, and used to score adapters.

Holds: a record is on its side by its hash alone, so that it stays there in every round and whatever is added or reordered; copies are
on the same side.
"""

from dataclasses import dataclass

from .records import Record


@dataclass(frozen=True)
class Split:
    train: list[Record]
    held_out: list[Record]


def split_records(records: list[Record], percent: int, most: int) -> Split:
    """
    Args:
        percent: of the hash's range that is held out, 0 to 100.
        most: held-out records that are used; those with the lowest hashes, so that the choice is as stable as the split.

    A record that occurs twice is on one side only. With fewer records than the percentage needs, the one with the lowest hash
    is held out, unless it is the only one.
    """
    bound = (2**64 * percent) // 100
    position = {record.hash: int.from_bytes(record.hash[:8], "big") for record in records}
    if percent > 0 and len(position) > 1:
        bound = max(bound, min(position.values()) + 1)
    unique = {record.hash: record for record in records}
    held_out = sorted((r for r in unique.values() if position[r.hash] < bound), key=lambda record: record.hash)
    train = [record for record in records if position[record.hash] >= bound]
    return Split(train=train, held_out=held_out[:most])
