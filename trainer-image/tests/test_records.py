"""What a record is, and the hash by which it is held out or not."""

import json
from typing import Any

import pytest

from rondo_trainer.data.records import BadRecordError, Candidate, Record, parse_record


def parsed(document: Any, style: str = "instruction") -> Record:
    return parse_record(Candidate("here", document), style)


def said(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


@pytest.mark.parametrize(
    ("document", "digest"),
    [
        (
            {"prompt": "What is ü?", "completion": "A letter."},
            "d1b44494048a385732c81ae21ecbb8e20153e5696b17ddd42ea9095c528aa5f3",
        ),
        (
            {"messages": said(("system", "Be brief."), ("user", "What is ü?"), ("assistant", "A letter."))},
            "40c5e44a05c1198a506040cc87e1f4926bd127aae61b957b4d9b0387dc9bec83",
        ),
        ({"text": "What is ü?"}, "36873e7be056285337697feeb61cfe6ae2ad05f7e7db5b9c450caca3a7985aec"),
    ],
)
def test_hashes_are_those_of_every_earlier_release(document: dict[str, Any], digest: str) -> None:
    assert parsed(document).hash.hex() == digest


@pytest.mark.parametrize(
    "document",
    [
        {"messages": said(("user", "a"), ("assistant", "b"))},
        {"prompt": said(("user", "a")), "completion": said(("assistant", "b"))},
        {"prompt": "a", "completion": said(("assistant", "b"))},
        {"prompt": said(("user", "a")), "completion": "b"},
        {"prompt": "a", "completion": "b", "text": "a b", "source": "elsewhere", "score": 5},
        {"prompt": "a", "completion": "b", "messages": None, "text": None},
    ],
)
def test_one_conversation_has_one_hash_however_it_is_written(document: dict[str, Any]) -> None:
    assert parsed(document).hash == parsed({"prompt": "a", "completion": "b"}).hash
    assert parsed(document).messages == (("user", "a"), ("assistant", "b"))


def test_an_assistant_in_the_prompt_is_not_learnt_but_one_in_messages_is() -> None:
    turns = said(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    assert parsed({"prompt": turns[:3], "completion": turns[3:]}).learnt_from == 3
    assert parsed({"messages": turns}).learnt_from == 0


def test_a_text_has_another_hash_than_a_conversation_of_the_same_words() -> None:
    assert parsed({"text": "a"}).text == "a"
    assert parsed({"text": "a"}).hash != parsed({"prompt": "a", "completion": "a"}).hash


@pytest.mark.parametrize("style", ["instruction", "completion"])
@pytest.mark.parametrize("document", [{"prompt": "a", "completion": "b"}, {"text": "a"}])
def test_plain_records_are_the_same_in_both_styles(style: str, document: dict[str, Any]) -> None:
    assert parsed(document, style) == parsed(document)


@pytest.mark.parametrize(
    "document",
    [
        {"messages": said(("user", "secret"), ("assistant", "secret"))},
        {"prompt": said(("user", "secret")), "completion": "secret"},
        {"prompt": "secret", "completion": said(("assistant", "secret"))},
    ],
)
def test_roles_are_refused_where_no_chat_template_is_used(document: dict[str, Any]) -> None:
    with pytest.raises(
        BadRecordError, match=r"has roles, but training\.task is completion; give texts, or set it to instruction"
    ) as refused:
        parsed(document, "completion")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (float("nan"), "a float; each line is one JSON object"),
        (["secret"], "a list; each line is one JSON object"),
        (None, "a NoneType; each line is one JSON object"),
        ({}, 'no "prompt"; a record has "prompt" and "completion", or "messages", or "text"'),
        ({"instruction": "secret", "output": "secret"}, 'no "prompt"'),
        ({"prompt": "secret"}, 'no "completion"'),
        ({"prompt": "secret", "text": "secret"}, 'no "completion"'),
        ({"completion": "secret"}, 'no "prompt"'),
        ({"prompt": "secret", "completion": "  "}, '"completion" is no text, or an empty one'),
        ({"prompt": 1, "completion": "secret"}, '"prompt" is no text'),
        ({"prompt": [], "completion": "secret"}, '"prompt" is no list, or an empty one'),
        ({"prompt": "secret", "completion": said(("user", "secret"))}, "no words of an assistant"),
        ({"text": 12}, '"text" is no text'),
        ({"text": ""}, '"text" is no text, or an empty one'),
        ({"text": ["secret"]}, '"text" is no text'),
        ({"messages": []}, '"messages" is no list, or an empty one'),
        ({"messages": "secret"}, '"messages" is no list'),
        ({"messages": {"role": ["user"], "content": ["secret"]}}, '"messages" is no list'),
        ({"messages": ["secret"]}, 'message 0 needs a "role" of system, user, assistant, tool and a text as "content"'),
        ({"messages": [said(("user", "secret"))]}, 'message 0 needs a "role"'),
        ({"messages": said(("robot", "secret"))}, 'message 0 needs a "role"'),
        ({"messages": said(("user", "secret"))}, "no words of an assistant"),
        ({"messages": [*said(("user", "secret")), {"role": "assistant", "content": None}]}, 'message 1 needs a "role"'),
        ({"messages": [*said(("user", "secret")), {"role": "assistant", "content": [{"text": "secret"}]}]}, "message 1 needs"),
        ({"messages": [{"role": ["user"], "content": "secret"}]}, 'message 0 needs a "role"'),
        ({"prompt": "secret \ud83d", "completion": "secret"}, "half of a surrogate pair"),
        ({"text": "secret \udc00"}, "half of a surrogate pair"),
    ],
)
def test_what_is_no_record_is_named_and_not_quoted(document: Any, says: str) -> None:
    with pytest.raises(BadRecordError) as refused:
        parsed(document)
    assert str(refused.value).startswith("here: ")
    assert says in str(refused.value)
    assert "secret" not in str(refused.value) + refused.value.kind


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert parsed(json.loads('{"text": "\\ud83d\\ude00"}')).text == "😀"
