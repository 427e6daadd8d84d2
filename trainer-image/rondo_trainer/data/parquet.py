"""Rows of a *.parquet file, a few at a time (columns.py)."""

from collections.abc import Iterator
from pathlib import Path

from . import columns
from .records import Candidate


def candidates(file: Path, name: str) -> Iterator[Candidate]:
    """
    Raises:
        InputMissingError: the file cannot be read.
        DataMalformedError: it is no Parquet, or has not the columns of a record.
    """
    with columns.reading(name, "Parquet"):
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile

        with pa.OSFile(str(file)) as source, ParquetFile(source) as table:
            wanted = columns.record_columns(table.schema_arrow, name)
            # One thread: as many as the node has would be started, whatever the container may use.
            yield from columns.candidates(table.iter_batches(columns.BATCH_ROWS, columns=wanted, use_threads=False), name)
