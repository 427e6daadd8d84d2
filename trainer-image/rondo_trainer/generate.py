"""
Answers of a model to the last question of held-out records, to be compared with their references (metrics.py).

Holds: the prompt is what training saw before the answer, token by token; decoding is greedy and nothing else (what the base model's
own generation_config.json asks for, sampling or penalties, is set aside), so that the same adapter gives the same answers.
Does not: put an adapter onto the model. To compare two, the caller swaps them on the one base (model.load_adapter).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .data.records import Record
from .data.tokenise import IGNORED, Tokeniser

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True)
class Limits:
    """
    records: the first that have a question; a few dozen tell a broken adapter from a sound one, and each costs as much as
    new_tokens steps of the model. new_tokens: of an answer; one that is longer is cut. batch_size: answered together.
    """

    records: int = 32
    new_tokens: int = 64
    batch_size: int = 8


@dataclass(frozen=True)
class Question:
    """prompt: tokens, up to where an assistant's last message begins; reference: the text of that message."""

    prompt: list[int]
    reference: str


def questions(records: Iterable[Record], tokeniser: Tokeniser, limits: Limits) -> list[Question]:
    """Left out: records without question or reference, and those whose prompt and answer would exceed the sequence length together."""
    found: list[Question] = []
    for record in records:
        if len(found) == limits.records:
            break
        question = last_question(record, tokeniser)
        if question is not None and len(question.prompt) + limits.new_tokens <= tokeniser.sequence_length:
            found.append(question)
    return found


def last_question(record: Record, tokeniser: Tokeniser) -> Question | None:
    pieces = list(tokeniser.pieces(record))
    targets = [index for index, (_, is_target) in enumerate(pieces) if is_target]
    if not targets or targets[-1] == 0:
        return None
    tokenised = [tokeniser.tokeniser(text, add_special_tokens=False)["input_ids"] for text, _ in pieces[: targets[-1] + 1]]
    answer = [token for token in tokeniser.until_end_of_turn(tokenised[-1]) if token != IGNORED]
    reference = tokeniser.tokeniser.decode(answer, skip_special_tokens=True)
    if not reference.strip():
        return None
    return Question([token for piece in tokenised[:-1] for token in piece], reference)


def generate(model: "PeftModel", asked: list[Question], tokeniser: Tokeniser, limits: Limits) -> list[str]:
    """One answer per question, in their order, without the token that ends it. The model is in evaluation mode afterwards."""
    # By length, so that little is padding; the answers go back to their questions' places.
    order = sorted(range(len(asked)), key=lambda index: len(asked[index].prompt))
    answers = [""] * len(asked)
    model.eval()
    with torch.inference_mode(), greedy(model, tokeniser, limits) as end_tokens:
        for start in range(0, len(order), limits.batch_size):
            places = order[start : start + limits.batch_size]
            for place, tokens in zip(places, answer_batch(model, [asked[place].prompt for place in places]), strict=True):
                answers[place] = tokeniser.tokeniser.decode(until(tokens, end_tokens), skip_special_tokens=True)
    return answers


def answer_batch(model: "PeftModel", prompts: list[list[int]]) -> list[list[int]]:
    """Padding stands on the left: a prompt must end where its answer begins."""
    base = model.get_base_model()
    longest = max(len(prompt) for prompt in prompts)
    tokens = torch.full((len(prompts), longest), base.generation_config.pad_token_id)
    attention = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
        attention[row, longest - len(prompt) :] = 1
    # PEFT's own generate would put back the generation config that greedy() has set aside.
    made = base.generate(input_ids=tokens.to(base.device), attention_mask=attention.to(base.device))
    return made[:, longest:].tolist()


def until(tokens: list[int], end_tokens: set[int]) -> list[int]:
    ends = [index for index, token in enumerate(tokens) if token in end_tokens]
    return tokens[: ends[0]] if ends else tokens


@contextmanager
def greedy(model: "PeftModel", tokeniser: Tokeniser, limits: Limits) -> Iterator[set[int]]:
    """The base model decodes greedily meanwhile. Gives the tokens that end an answer: the tokeniser's, and those the model names."""
    from transformers import GenerationConfig

    base = model.get_base_model()
    own = base.generation_config
    end_tokens = set(as_list(own.eos_token_id)) | set(as_list(tokeniser.tokeniser.eos_token_id))
    pad_token = tokeniser.tokeniser.pad_token_id
    base.generation_config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=limits.new_tokens,
        eos_token_id=sorted(end_tokens) or None,
        # Never seen by the model, so that any token does where the tokeniser has none for it.
        pad_token_id=pad_token if pad_token is not None else 0,
    )
    try:
        yield end_tokens
    finally:
        base.generation_config = own


def as_list(tokens: Any) -> list[int]:
    """A model's end token is one, several, or none."""
    if tokens is None:
        return []
    return tokens if isinstance(tokens, list) else [tokens]
