"""
Records that stand in columns: what Parquet and Arrow files have in common.

Holds: only the columns of a record are read, a few rows at a time; a column whose type can hold no record is a fault of the file, not
of each row. A message names file, column and row, never a value.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..exits import DataMalformedError, InputMissingError
from .records import FIELDS, Candidate

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 1024
"""Rows that are Python objects at once: a few MB of ordinary text, and calls into Arrow that are rare enough not to matter."""


def record_columns(schema: "pa.Schema", name: str) -> list[str]:
    """
    Raises:
        DataMalformedError: the file has none of a record's columns, one of them twice, or one of a type that holds no words.
    """
    columns = [field for field in FIELDS if field in schema.names]
    if not columns:
        raise DataMalformedError(f'{name}: no column "messages", "prompt" and "completion", or "text"; rename the columns')
    for column in columns:
        if len(found := schema.get_all_field_indices(column)) > 1:
            raise DataMalformedError(f'{name}: {len(found)} columns "{column}"; keep one')
        if not may_hold(column, schema.field(column).type):
            found_type, needed = str(schema.field(column).type), "a list of role and content" if column == "messages" else "text"
            raise DataMalformedError(f'{name}: column "{column}" is of type {found_type[:60]}; it must be {needed}')
    return columns


def may_hold(column: str, kind: "pa.DataType") -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_null(kind):
        return True
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    is_messages = is_list and types.is_struct(kind.value_type)
    return is_messages if column == "messages" else is_text or (is_messages and column != "text")


def candidates(batches: Iterable["pa.RecordBatch"], name: str) -> Iterator[Candidate]:
    """Rows are counted from 1, as lines are."""
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            for row in batch.slice(start, BATCH_ROWS).to_pylist():
                number += 1
                yield Candidate(f"{name} row {number}", row)


@contextmanager
def reading(name: str, kind: str) -> Iterator[None]:
    """Turns what Arrow raises into what the site can do about it. Arrow's own message may quote what it read."""
    import pyarrow as pa

    try:
        yield
    except OSError as error:
        # Arrow raises the same class for a file that the system refuses (with its number) and for one whose bytes make no sense.
        if error.errno:
            reason = os.strerror(error.errno)
            raise InputMissingError(f"{name} cannot be read: {reason}; the trainer runs as a user without rights") from None
        raise broken(name, kind) from None
    except UnicodeDecodeError:
        raise DataMalformedError(f"{name}: a text that is not UTF-8; write the file anew") from None
    except (pa.ArrowException, ValueError):
        raise broken(name, kind) from None


def broken(name: str, kind: str) -> DataMalformedError:
    return DataMalformedError(f"{name}: no {kind} file, or a damaged one; copy it or write it anew")
