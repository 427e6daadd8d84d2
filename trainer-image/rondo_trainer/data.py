"""
The site's records: read, checked, split and turned into tokens (docs/trainer.md).

Holds: a record is on the held-out side by a hash of its content alone, so that it stays there in every round and whatever is
added; only an assistant's words bear loss; a message about a record names file and line and never quotes it.
Does not: need torch. Nothing here leaves the site.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .exits import DataMalformedError, InputMissingError

IGNORED = -100
"""Label of a token without loss, as PyTorch's cross entropy has it."""

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Record:
    """A conversation. hash: sha256 of its canonical JSON, the only thing that the split looks at."""

    messages: tuple[tuple[str, str], ...]
    hash: bytes
    where: str


@dataclass(frozen=True)
class Split:
    train: list[Record]
    held_out: list[Record]


@dataclass(frozen=True)
class Example:
    """Tokens and labels of one record, equally long; a label is the token itself or IGNORED."""

    tokens: list[int]
    labels: list[int]

    def target_count(self) -> int:
        # The first token is predicted by nothing.
        return sum(label != IGNORED for label in self.labels[1:])


def read_records(folder: Path) -> list[Record]:
    """
    Every record of every *.jsonl in the folder, files by name, lines in order.

    Raises:
        InputMissingError: no folder, or no such file in it.
        DataMalformedError: a line that is no record (with file and line), or no record at all.
    """
    files = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
    if not files:
        what = "holds no *.jsonl file" if folder.is_dir() else "does not exist"
        raise InputMissingError(f"{folder} {what}; mount the site's data there in the agent's pod template")
    records = [record for file in files for record in read_file(file)]
    if not records:
        names = ", ".join(file.name for file in files)
        raise DataMalformedError(f"{names}: no record; at least one line of JSON is needed")
    return records


def read_file(file: Path) -> Iterator[Record]:
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield parse_record(line, f"{file.name} line {number}")
    except UnicodeDecodeError as error:
        raise DataMalformedError(f"{file.name}: not UTF-8 at byte {error.start} of a block; convert the file") from None
    except OSError as error:
        raise InputMissingError(f"{file.name} cannot be read: {error.strerror}; the trainer runs as a user without rights") from None


def parse_record(line: str, where: str) -> Record:
    try:
        document = json.loads(line)
    except ValueError as error:
        # The error's own text may quote the line; position and kind do not.
        at = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise DataMalformedError(f"{where}: not JSON{at}; each line is one JSON object") from None
    if not isinstance(document, dict):
        raise DataMalformedError(f"{where}: a {type(document).__name__}; each line is one JSON object")
    messages = tuple(conversation(document, where))
    canonical = json.dumps(messages, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return Record(messages=messages, hash=hashlib.sha256(canonical).digest(), where=where)


def conversation(document: dict[str, Any], where: str) -> Iterable[tuple[str, str]]:
    if "messages" in document:
        return checked_messages(document["messages"], where)
    for field in ("prompt", "completion"):
        if field not in document:
            fields = '"prompt" and "completion", or "messages"'
            raise DataMalformedError(f'{where}: no "{field}"; a record has {fields}')
        if not isinstance(document[field], str) or not document[field].strip():
            raise DataMalformedError(f'{where}: "{field}" is no text, or an empty one')
    return (("user", document["prompt"]), ("assistant", document["completion"]))


def checked_messages(messages: Any, where: str) -> Iterable[tuple[str, str]]:
    if not isinstance(messages, list) or not messages:
        raise DataMalformedError(f'{where}: "messages" is no list, or an empty one')
    pairs = []
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if role not in ROLES or not isinstance(content, str):
            raise DataMalformedError(f'{where}: message {index} needs a "role" of {", ".join(ROLES)} and a text as "content"')
        pairs.append((role, content))
    if not any(role == "assistant" and content.strip() for role, content in pairs):
        raise DataMalformedError(f"{where}: no words of an assistant; there is nothing to learn in it")
    return pairs


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


class Tokeniser:
    """Turns records into examples with the base model's own tokeniser and chat template."""

    def __init__(self, tokeniser: Any, sequence_length: int) -> None:
        self.tokeniser = tokeniser
        self.sequence_length = sequence_length

    def examples(self, records: Iterable[Record]) -> list[Example]:
        """Records of which no target token fits into the sequence length are left out."""
        found = (self.example(record) for record in records)
        return [example for example in found if example.target_count() > 0]

    def example(self, record: Record) -> Example:
        """
        Each piece is tokenised by itself, cut where generation would begin, so that training sees the same prompt tokens
        as generation does, whatever the tokeniser would have merged across that border.
        """
        tokens: list[int] = []
        labels: list[int] = []
        for text, is_target in self.pieces(record):
            piece = self.tokeniser(text, add_special_tokens=False)["input_ids"]
            tokens += piece
            labels += self.until_end_of_turn(piece) if is_target else [IGNORED] * len(piece)
        return Example(tokens[: self.sequence_length], labels[: self.sequence_length])

    def pieces(self, record: Record) -> Iterator[tuple[str, bool]]:
        """The rendered conversation in order: (text, whether it is an assistant's and so bears loss)."""
        if self.tokeniser.chat_template is None:
            yield from self.pieces_without_template(record)
            return
        messages = [{"role": role, "content": content} for role, content in record.messages]
        rendered = ""
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self.render(record, messages[:index], add_generation_prompt=True)
            after = self.render(record, messages[: index + 1], add_generation_prompt=False)
            if not before.startswith(rendered) or not after.startswith(before):
                raise DataMalformedError(f"{record.where}: the base model's chat template rewrites earlier messages; give single turns")
            yield before[len(rendered) :], False
            yield after[len(before) :], True
            rendered = after

    def pieces_without_template(self, record: Record) -> Iterator[tuple[str, bool]]:
        if [role for role, _ in record.messages] != ["user", "assistant"]:
            raise DataMalformedError(f"{record.where}: the base model has no chat template; give prompt and completion")
        (_, prompt), (_, completion) = record.messages
        yield prompt + "\n", False
        yield completion + (self.tokeniser.eos_token or ""), True

    def render(self, record: Record, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        from jinja2 import TemplateError

        try:
            return self.tokeniser.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
        except TemplateError as error:
            raise DataMalformedError(f"{record.where}: the base model's chat template refuses this conversation ({error})") from None

    def until_end_of_turn(self, piece: list[int]) -> list[int]:
        """What a template writes behind the end token (a line break, mostly) is never generated: no loss on it."""
        end = self.tokeniser.eos_token_id
        last = len(piece) - 1 - piece[::-1].index(end) if end in piece else len(piece) - 1
        return piece[: last + 1] + [IGNORED] * (len(piece) - last - 1)
