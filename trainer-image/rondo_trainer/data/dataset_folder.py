"""
A dataset that Hugging Face's `datasets` wrote with save_to_disk: a folder with state.json, which names Arrow stream files in the order of
their rows; or a folder with dataset_dict.json, which names such folders, one per split, of which only `train` is used.

Holds: only Arrow is needed to read it. A file that was cut off is noticed even where the cut is between two batches.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..exits import DataMalformedError, InputMissingError
from . import columns
from .records import Candidate

STATE, SPLITS = "state.json", "dataset_dict.json"
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""What ends an Arrow stream that was written to its end (Arrow columnar format, IPC streaming format)."""


@dataclass(frozen=True)
class SavedDataset:
    """files: in the order of their rows. note: a sentence about what is not read, or empty."""

    files: list[Path]
    note: str


def is_saved_dataset(folder: Path) -> bool:
    """
    Raises:
        InputMissingError: nobody can tell, for the folder is closed to the trainer.
    """
    try:
        return (folder / STATE).is_file() or (folder / SPLITS).is_file()
    except PermissionError as error:
        if folder.name == "lost+found":
            # Every ext4 volume has one, and only root may look into it.
            return False
        raise InputMissingError(f"{folder.name} cannot be read: {error.strerror}; the trainer runs as a user without rights") from None


def open_dataset(folder: Path, name: str) -> SavedDataset:
    """
    Args:
        name: of the folder in messages; empty for the data folder itself.

    Raises:
        DataMalformedError: no train split, or a description that makes no sense.
        InputMissingError: a file that it names is not there.
    """
    if not (folder / SPLITS).is_file():
        return SavedDataset(arrow_files(folder, name), "")
    description = inside(name, SPLITS)
    splits = load(folder / SPLITS, description).get("splits")
    if not isinstance(splits, list) or not all(isinstance(split, str) for split in splits):
        raise DataMalformedError(f"{description}: no list of splits; save the dataset anew")
    others = ", ".join(split for split in splits if split != "train")
    if "train" not in splits:
        raise DataMalformedError(f"{description}: no split train (but {others or 'nothing'}); save the split to train on by itself")
    whole = name or "the dataset"
    note = f"{whole}: only its split train is read, {others} is not; held-out records are taken from train" if others else ""
    return SavedDataset(arrow_files(folder / "train", inside(name, "train")), note)


def arrow_files(folder: Path, name: str) -> list[Path]:
    description = inside(name, STATE)
    state = load(folder / STATE, description)
    if state.get("_indices_data_files"):
        # Rows that the site had filtered out would be trained on.
        raise DataMalformedError(f"{description}: a selection of rows beside the rows; call flatten_indices() and save the dataset anew")
    entries = state.get("_data_files")
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in entries] if isinstance(entries, list) else [None]
    if not all(isinstance(file, str) and file and file == Path(file).name for file in names):
        raise DataMalformedError(f"{description}: _data_files names no files of its folder; save the dataset anew")
    for file in names:
        if not (folder / file).is_file():
            raise InputMissingError(f"{inside(name, file)} does not exist, but {STATE} names it; copy the whole folder")
    return [folder / file for file in names]


def load(file: Path, name: str) -> dict[str, Any]:
    try:
        document = json.loads(file.read_bytes())
    except OSError as error:
        raise InputMissingError(f"{name} cannot be read: {error.strerror}; copy the whole folder") from None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise DataMalformedError(f"{name}: no JSON object; save the dataset anew")
    return document


def inside(folder: str, file: str) -> str:
    return f"{folder}/{file}" if folder else file


def candidates(file: Path, name: str) -> Iterator[Candidate]:
    """
    Rows of one Arrow stream file, a few at a time.

    Raises:
        InputMissingError: the file cannot be read.
        DataMalformedError: it is no Arrow stream, a cut one, or has not the columns of a record.
    """
    with columns.reading(name, "Arrow stream"):
        import pyarrow as pa

        with pa.OSFile(str(file)) as source:
            require_end(source, name)
            with pa.ipc.open_stream(source) as stream:
                wanted = columns.record_columns(stream.schema, name)
                yield from columns.candidates((batch.select(wanted) for batch in stream), name)


def require_end(source: Any, name: str) -> None:
    """A reader takes the end of a file for the end of its stream: without this, half a file is half the records, silently."""
    size = source.size()
    source.seek(max(0, size - len(END_OF_STREAM)))
    if source.read() != END_OF_STREAM:
        raise DataMalformedError(f"{name}: not an Arrow stream to its end; copy the file anew")
    source.seek(0)
