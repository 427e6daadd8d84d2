"""
One record of the site: which fields it may have, and its hash (docs/trainer.md).

Holds: the hash is of the words alone, so that a record has the same one in every format, file and place; it does not change between
releases, for the held-out split hangs on it. A message about a record names its place and its fault and never its words.
Does not: open files or need torch.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..exits import DataMalformedError

Style = Literal["instruction", "completion"]
"""instruction: the base model's chat template; completion: prompt and completion one after the other, without it."""
OnBadRecord = Literal["fail", "skip"]

ROLES = ("system", "user", "assistant", "tool")
FIELDS = ("messages", "prompt", "completion", "text")
"""Of a record, in the order in which they are looked for. Others are ignored."""

Message = tuple[str, str]
"""Role and words."""


@dataclass(frozen=True, slots=True)
class Record:
    """
    Either text, which is learnt as it stands, or a conversation: messages, learnt where an assistant speaks from the message
    number learnt_from on. hash: sha256 of its canonical JSON, the only thing that the split looks at.
    """

    messages: tuple[Message, ...]
    hash: bytes
    where: str
    text: str | None = None
    learnt_from: int = 0


@dataclass(frozen=True)
class Fault:
    """kind: the same words for every record of the same fault, for they are counted by it; sentence: with what is needed instead."""

    kind: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """What stands in one place of a file. document: a value of JSON, or why there is none."""

    where: str
    document: Any


class BadRecordError(DataMalformedError):
    """One record is none; the others of its file may be good."""

    def __init__(self, where: str, fault: Fault) -> None:
        super().__init__(f"{where}: {fault.sentence}")
        self.where = where
        self.kind = fault.kind


def parse_record(candidate: Candidate, style: Style = "instruction") -> Record:
    """
    Raises:
        BadRecordError: with the place and what is wrong there.
    """
    where, document = candidate.where, candidate.document
    if isinstance(document, Fault):
        raise BadRecordError(where, document)
    if not isinstance(document, dict):
        raise BadRecordError(where, Fault("no JSON object", f"a {type(document).__name__}; each line is one JSON object"))
    # A table has every column in every row: null there is what a missing field is in a line.
    fields = {name: document[name] for name in FIELDS if document.get(name) is not None}
    if fields.keys() == {"text"}:
        return text_record(fields["text"], where)
    if style == "completion":
        require_plain(fields, where)
    if "messages" in fields:
        messages, learnt_from = checked_messages(fields["messages"], "messages", where), 0
    else:
        prompt = one_side(fields, "prompt", "user", where)
        messages, learnt_from = prompt + one_side(fields, "completion", "assistant", where), len(prompt)
    if not any(role == "assistant" and words.strip() for role, words in messages[learnt_from:]):
        raise BadRecordError(where, Fault("no words of an assistant", "no words of an assistant; there is nothing to learn in it"))
    return Record(messages, content_hash(messages, where), where, learnt_from=learnt_from)


def text_record(text: Any, where: str) -> Record:
    require_text(text, "text", where)
    return Record((), content_hash({"text": text}, where), where, text=text)


def require_plain(fields: Mapping[str, Any], where: str) -> None:
    """Roles are written by a chat template, which this style does without."""
    for name in ("messages", "prompt", "completion"):
        if isinstance(fields.get(name), list):
            sentence = f'"{name}" has roles, but training.task is completion; give texts, or set it to instruction'
            raise BadRecordError(where, Fault("roles without a chat template", sentence))


def one_side(fields: Mapping[str, Any], name: str, role: str, where: str) -> tuple[Message, ...]:
    """A text, or a list of messages (TRL's conversational prompt and completion)."""
    if name not in fields:
        allowed = '"prompt" and "completion", or "messages", or "text"'
        raise BadRecordError(where, Fault(f'no "{name}"', f'no "{name}"; a record has {allowed}'))
    if isinstance(fields[name], list):
        return checked_messages(fields[name], name, where)
    require_text(fields[name], name, where)
    return ((role, fields[name]),)


def require_text(value: Any, name: str, where: str) -> None:
    if not isinstance(value, str) or not value.strip():
        fault = f'"{name}" is no text, or an empty one'
        raise BadRecordError(where, Fault(fault, fault))


def checked_messages(messages: Any, name: str, where: str) -> tuple[Message, ...]:
    if not isinstance(messages, list) or not messages:
        fault = f'"{name}" is no list, or an empty one'
        raise BadRecordError(where, Fault(fault, fault))
    pairs = []
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if role not in ROLES or not isinstance(content, str):
            needed = f'needs a "role" of {", ".join(ROLES)} and a text as "content"'
            raise BadRecordError(where, Fault('a message without role or "content"', f"message {index} {needed}"))
        pairs.append((role, content))
    return tuple(pairs)


def content_hash(content: Any, where: str) -> bytes:
    canonical = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    try:
        return hashlib.sha256(canonical.encode()).digest()
    except UnicodeEncodeError:
        sentence = "half of a surrogate pair (\\ud800 to \\udfff alone), which is no character; export the record anew"
        raise BadRecordError(where, Fault("half of a surrogate pair", sentence)) from None
