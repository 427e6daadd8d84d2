"""
Lines of JSON: what stands in each line of a *.jsonl file, UTF-8 with or without a byte order mark, lines ended by \n or \r\n.

Holds: a line is looked at by itself, and at most MAX_LINE_BYTES of it are in memory. A broken line is a candidate without a document;
a file that is not UTF-8 is broken as a whole, for then every line of it is in doubt.
Does not: know what a record is (records.py).
"""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..exits import DataMalformedError, InputMissingError
from .records import FIELDS, Candidate, Fault

MAX_LINE_BYTES = 64 << 20
"""Some ten million tokens: no record is so long, but a file without line breaks, or one JSON list of everything, is."""
OURS = frozenset((*FIELDS, "role", "content"))
TOO_LONG = Fault("a line of more than 64 MiB", "a line of more than 64 MiB; each line is one JSON object")
TOO_DEEP = Fault("JSON nested too deep", "JSON nested too deep to be read; a record is flat")
REPEATED = Fault("a field twice in one object", "a field twice in one object; which of the two counts is anybody's guess, keep one")


def candidates(file: Path, name: str) -> Iterator[Candidate]:
    """
    Blank lines are none.

    Raises:
        InputMissingError: the file cannot be read.
        DataMalformedError: it is not UTF-8.
    """
    try:
        with file.open("rb") as lines:
            yield from each_line(lines, name)
    except OSError as error:
        raise InputMissingError(f"{name} cannot be read: {error.strerror}; the trainer runs as a user without rights") from None


def each_line(lines: BinaryIO, name: str) -> Iterator[Candidate]:
    number = 0
    while line := lines.readline(MAX_LINE_BYTES + 1):
        number += 1
        where = f"{name} line {number}"
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            yield Candidate(where, TOO_LONG)
            leave_line(lines)
            continue
        text = decoded(line, where, is_first=number == 1)
        if text.strip():
            yield Candidate(where, parse_line(text))


def leave_line(lines: BinaryIO) -> None:
    while (rest := lines.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
        pass


def decoded(line: bytes, where: str, *, is_first: bool) -> str:
    if is_first and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataMalformedError(f"{where}: UTF-16, not UTF-8; convert the file")
    try:
        return line.removeprefix(codecs.BOM_UTF8 if is_first else b"").decode()
    except UnicodeDecodeError as error:
        raise DataMalformedError(f"{where}: not UTF-8 at byte {error.start + 1}; convert the file") from None


class RepeatedFieldError(Exception):
    """One of the fields that are read stands twice in an object."""


def parse_line(text: str) -> Any:
    """The document, or a Fault: the parser's own message may quote the line, its position does not."""
    try:
        return json.loads(text, object_pairs_hook=without_repeats)
    except RepeatedFieldError:
        return REPEATED
    except RecursionError:
        return TOO_DEEP
    except json.JSONDecodeError as error:
        cut = "" if text.endswith("\n") else "; the file ends with this line, perhaps too early"
        return Fault("not JSON", f"not JSON at column {error.colno}; each line is one JSON object{cut}")
    except ValueError:
        # An integer of thousands of digits, which Python refuses to read.
        return Fault("not JSON", "not JSON that can be read; each line is one JSON object")


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs if name in OURS]
        if len(set(names)) < len(names):
            raise RepeatedFieldError
    return document
