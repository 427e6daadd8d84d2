"""
Tokens of a record, and which of them are learnt.

Holds: only an assistant's words bear loss, with the token that ends them; of a text every token does. Each piece is tokenised by
itself, cut where generation would begin, so that training sees the prompt as generation does.
Does not: choose records (split.py) or put them together (packing.py).
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .records import BadRecordError, Fault, Record, Style

IGNORED = -100
"""Label of a token without loss, as PyTorch's cross entropy has it."""


@dataclass(frozen=True)
class Example:
    """Tokens and labels of one record, equally long; a label is the token itself or IGNORED. cut: tokens that found no room."""

    tokens: Sequence[int]
    labels: Sequence[int]
    cut: int = 0

    @property
    def parts(self) -> tuple["Example", ...]:
        return (self,)

    def target_count(self) -> int:
        # The first token is predicted by nothing.
        return sum(label != IGNORED for label in self.labels[1:])


class Tokeniser:
    """Turns records into examples with the base model's own tokeniser and, in the style instruction, its chat template."""

    def __init__(self, tokeniser: Any, sequence_length: int, style: Style = "instruction") -> None:
        self.tokeniser = tokeniser
        self.sequence_length = sequence_length
        self.style = style
        self.first = first_token(tokeniser)

    def examples(self, records: Iterable[Record]) -> list[Example]:
        """Records of which no target token fits into the sequence length are left out."""
        found = (self.example(record) for record in records)
        return [example for example in found if example.target_count() > 0]

    def example(self, record: Record) -> Example:
        """
        Raises:
            BadRecordError: the chat template has no form for this conversation.
        """
        tokens: list[int] = []
        labels: list[int] = []
        for text, is_target in self.pieces(record):
            piece = self.tokeniser(text, add_special_tokens=False)["input_ids"]
            if not tokens and self.is_raw(record) and piece[:1] != self.first:
                tokens += self.first
                labels += [IGNORED] * len(tokens)
            tokens += piece
            labels += self.until_end_of_turn(piece) if is_target else [IGNORED] * len(piece)
        kept = self.sequence_length
        # Four bytes a token instead of the thirty of a list of integers: a site's records are kept so between passes.
        return Example(array("i", tokens[:kept]), array("i", labels[:kept]), max(0, len(tokens) - kept))

    def is_raw(self, record: Record) -> bool:
        """Whether no chat template has a say in it."""
        return record.text is not None or self.style == "completion"

    def pieces(self, record: Record) -> Iterator[tuple[str, bool]]:
        """What is written, in order: (text, whether it bears loss)."""
        if record.text is not None:
            yield self.ended(record.text), True
        elif self.style == "completion":
            yield from self.pieces_without_template(record, between="")
        elif self.tokeniser.chat_template is None:
            yield from self.pieces_without_template(record, between="\n")
        else:
            yield from self.pieces_of_template(record)

    def ended(self, text: str) -> str:
        end = self.tokeniser.eos_token or ""
        return text if text.endswith(end) else text + end

    def pieces_of_template(self, record: Record) -> Iterator[tuple[str, bool]]:
        messages = [{"role": role, "content": content} for role, content in record.messages]
        rendered = ""
        for index, message in enumerate(messages):
            if message["role"] != "assistant" or index < record.learnt_from:
                continue
            before = self.render(record, messages[:index], add_generation_prompt=True)
            after = self.render(record, messages[: index + 1], add_generation_prompt=False)
            if not before.startswith(rendered) or not after.startswith(before):
                kind = "turns that the base model's chat template rewrites"
                sentence = "the base model's chat template rewrites earlier messages; give single turns"
                raise BadRecordError(record.where, Fault(kind, sentence))
            yield before[len(rendered) :], False
            yield after[len(before) :], True
            rendered = after

    def pieces_without_template(self, record: Record, between: str) -> Iterator[tuple[str, bool]]:
        if [role for role, _ in record.messages] != ["user", "assistant"]:
            sentence = "the base model has no chat template; give prompt and completion"
            raise BadRecordError(record.where, Fault("turns, but no chat template of the base model", sentence))
        (_, prompt), (_, completion) = record.messages
        yield prompt + between, False
        yield self.ended(completion), True

    def render(self, record: Record, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        from jinja2 import TemplateError

        try:
            return self.tokeniser.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
        except TemplateError as error:
            sentence = f"the base model's chat template refuses this conversation ({error})"
            raise BadRecordError(record.where, Fault("turns that the base model's chat template refuses", sentence)) from None

    def until_end_of_turn(self, piece: list[int]) -> list[int]:
        """What a template writes behind the end token (a line break, mostly) is never generated: no loss on it."""
        end = self.tokeniser.eos_token_id
        last = len(piece) - 1 - piece[::-1].index(end) if end in piece else len(piece) - 1
        return piece[: last + 1] + [IGNORED] * (len(piece) - last - 1)


def first_token(tokeniser: Any) -> list[int]:
    """
    The token that every text begins with for this model (Llama's <|begin_of_text|>), if there is one: a chat template writes it by
    itself, elsewhere it must be added, or training would not see what generation does.
    """
    first = tokeniser.bos_token_id
    return [first] if first is not None and tokeniser("")["input_ids"][:1] == [first] else []
