"""
All records of the data folder: its *.jsonl and *.parquet files and its saved datasets, by name and not below.

Holds: the order of records is that of names, then of lines or rows. A bad record ends the task, or is counted and left out, as the
federation has it; a file that cannot be read at all ends it always.
Does not: choose among records (split.py) or print.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..exits import DataMalformedError, InputMissingError
from . import dataset_folder, jsonl, parquet
from .dataset_folder import is_saved_dataset, open_dataset
from .records import BadRecordError, Candidate, OnBadRecord, Record, Style, parse_record
from .report import Skipped, SkippedRecords

READERS: dict[str, Callable[[Path, str], Iterator[Candidate]]] = {".jsonl": jsonl.candidates, ".parquet": parquet.candidates}


@dataclass(frozen=True)
class Reading:
    """notes: sentences about what of the folder is not used."""

    records: list[Record]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """One file of records; name: in messages, from the data folder on."""

    file: Path
    name: str
    candidates: Callable[[Path, str], Iterator[Candidate]]


def read_data(folder: Path, style: Style = "instruction", on_bad_record: OnBadRecord = "fail") -> Reading:
    """
    Raises:
        InputMissingError: no folder, nothing in it that could hold records, or a file that cannot be opened.
        DataMalformedError: a bad record (with file and line or row) unless they are skipped, a broken file, or no record at all.
    """
    sources, notes = find_sources(folder)
    skipped = SkippedRecords()
    found = (candidate for source in sources for candidate in source.candidates(source.file, source.name))
    records = list(good_records(found, style, skipped if on_bad_record == "skip" else None))
    if not records and not skipped.count:
        names = ", ".join(source.name for source in sources)
        raise DataMalformedError(f"{names or folder}: no record; at least one line or row is needed")
    if not records:
        raise DataMalformedError(f"all {skipped.count} records are bad: {'; '.join(skipped.sentences())}")
    return Reading(records, skipped.all(), tuple(notes))


def good_records(candidates: Iterable[Candidate], style: Style, skipped: SkippedRecords | None) -> Iterator[Record]:
    """Without `skipped` a bad record is raised."""
    for candidate in candidates:
        try:
            yield parse_record(candidate, style)
        except BadRecordError as error:
            if skipped is None:
                raise
            skipped.add(error)


def find_sources(folder: Path) -> tuple[list[Source], list[str]]:
    """The files of records in the order in which they are read, and notes."""
    listed = entries(folder)
    datasets = [folder] if is_saved_dataset(folder) else [entry for entry in listed if is_saved_dataset(entry)]
    files = [entry for entry in listed if entry.suffix in READERS and entry not in datasets]
    found = [sources_of(entry, folder, is_dataset=entry in datasets) for entry in sorted(datasets + files)]
    if not found:
        what = "no *.jsonl file, no *.parquet file and no dataset of save_to_disk"
        raise InputMissingError(f"{folder} holds {what}; mount the site's data there in the agent's pod template")
    return [source for sources, _ in found for source in sources], [note for _, note in found if note]


def entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputMissingError(f"{folder} does not exist; mount the site's data there in the agent's pod template")
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise InputMissingError(f"{folder} cannot be read: {error.strerror}; the trainer runs as a user without rights") from None


def sources_of(entry: Path, folder: Path, *, is_dataset: bool) -> tuple[list[Source], str]:
    """What one entry of the data folder, or that folder itself, holds, and a note."""
    if is_dataset:
        saved = open_dataset(entry, "" if entry == folder else entry.name)
        return [Source(file, file.relative_to(folder).as_posix(), dataset_folder.candidates) for file in saved.files], saved.note
    if entry.is_dir():
        raise DataMalformedError(f"{entry.name} is a folder; move its files up, folders in folders are not searched")
    return [Source(entry, entry.name, READERS[entry.suffix])], ""
