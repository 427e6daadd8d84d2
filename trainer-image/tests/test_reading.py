"""The data folder: what is found in it, in which order, and what ends the task."""

import json
import os
from pathlib import Path

import pytest

from conftest import write_records
from rondo_trainer.data import jsonl
from rondo_trainer.data.reading import read_data
from rondo_trainer.exits import DataMalformedError, InputMissingError

GOOD = '{"prompt": "secret question", "completion": "secret answer"}'


def test_files_are_read_by_name_and_lines_in_order(tmp_path: Path) -> None:
    write_records(tmp_path / "b.jsonl", 2)
    (tmp_path / "a.jsonl").write_text(GOOD)
    (tmp_path / "notes.txt").write_text("no data")
    assert [record.where for record in read_data(tmp_path).records] == ["a.jsonl line 1", "b.jsonl line 1", "b.jsonl line 2"]


def test_a_folder_without_data_and_a_folder_that_is_not_there_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text(GOOD)
    with pytest.raises(InputMissingError, match=r"holds no \*\.jsonl file, no \*\.parquet file and no dataset of save_to_disk; mount"):
        read_data(tmp_path)
    with pytest.raises(InputMissingError, match="does not exist; mount"):
        read_data(tmp_path / "elsewhere")


def test_folders_below_are_not_searched(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(GOOD)
    (tmp_path / "below").mkdir()
    write_records(tmp_path / "below/b.jsonl", 2)
    assert len(read_data(tmp_path).records) == 1


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_a_folder_with_the_name_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jsonl").write_text(GOOD)
    (tmp_path / name).mkdir()
    with pytest.raises(DataMalformedError, match=f"{name} is a folder; move its files up"):
        read_data(tmp_path)


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_a_file_that_cannot_be_opened_is_missing(tmp_path: Path, name: str) -> None:
    # A link to itself: what root, who may open everything, cannot open either.
    (tmp_path / name).symlink_to(tmp_path / name)
    with pytest.raises(InputMissingError, match=rf"{name} cannot be read: Too many levels"):
        read_data(tmp_path)


def test_a_folder_that_nobody_may_look_into_is_missing_and_lost_and_found_is_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text(GOOD)
    closed = {tmp_path / "lost+found"}
    real = Path.is_file

    def is_file(path: Path) -> bool:
        if path.parent in closed:
            raise PermissionError(13, "Permission denied")
        return real(path)

    (tmp_path / "lost+found").mkdir()
    monkeypatch.setattr(Path, "is_file", is_file)
    assert len(read_data(tmp_path).records) == 1
    closed.add(tmp_path / "clinic")
    (tmp_path / "clinic").mkdir()
    with pytest.raises(InputMissingError, match="clinic cannot be read: Permission denied"):
        read_data(tmp_path)


NASTY = [
    ("a record cut off", b'{"prompt": "secret", "completion": "sec\n', "not JSON at column"),
    (
        "a last line cut off",
        b'{"prompt": "secret", "completion": "sec',
        "; the file ends with this line, perhaps too early",
    ),
    ("a list", b'["secret"]\n', "a list; each line is one JSON object"),
    ("NaN", b"NaN\n", "a float; each line is one JSON object"),
    ("NUL bytes, as after a crash", b"\0" * 512 + b"\n", "not JSON at column 1"),
    ("a NUL byte in a text", b'{"text": "sec\0ret"}\n', "not JSON at column"),
    ("two records in a line", GOOD.encode() * 2 + b"\n", "not JSON at column"),
    ("JSON nested too deep", b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "JSON nested too deep"),
    ("a number too long to read", b'{"text": ' + b"9" * 10_000 + b"}\n", "not JSON that can be read"),
    ("a field twice", b'{"text": "secret", "text": "other"}\n', "a field twice in one object"),
    ("a role twice", b'{"messages": [{"role": "user", "role": "assistant", "content": "secret"}]}\n', "a field twice in one object"),
    ("a number for a text", b'{"prompt": "secret", "completion": 7}\n', '"completion" is no text'),
    ("half a surrogate pair", b'{"text": "secret \\ud83d"}\n', "half of a surrogate pair"),
    ("messages in messages", b'{"messages": [[{"role": "user", "content": "secret"}]]}\n', "message 0 needs"),
    ("a byte order mark in the middle", b"\xef\xbb\xbf" + GOOD.encode() + b"\n", "not JSON at column 1"),
]


@pytest.mark.parametrize(("line", "says"), [(line, says) for _, line, says in NASTY], ids=[title for title, _, _ in NASTY])
def test_a_bad_line_is_named_and_not_quoted_or_skipped(tmp_path: Path, line: bytes, says: str) -> None:
    (tmp_path / "notes.jsonl").write_bytes(f"{GOOD}\n".encode() * 6 + line)
    with pytest.raises(DataMalformedError) as refused:
        read_data(tmp_path)
    assert str(refused.value).startswith("notes.jsonl line 7: ")
    assert says in str(refused.value)
    assert "secret" not in str(refused.value)
    skipping = read_data(tmp_path, on_bad_record="skip")
    assert len(skipping.records) == 6
    (skipped,) = skipping.skipped
    assert (skipped.count, skipped.places) == (1, ("notes.jsonl line 7",))
    assert "secret" not in skipped.sentence()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\n\xef\xbb\xbf", "not JSON at column 1"),
        (b"", "notes.jsonl: no record"),
        (b"\n \r\n\t\n", "notes.jsonl: no record"),
        (b"\xef\xbb\xbf", "notes.jsonl: no record"),
    ],
)
@pytest.mark.parametrize("on_bad_record", ["fail", "skip"])
def test_a_file_without_a_record_is_empty(tmp_path: Path, content: bytes, says: str, on_bad_record: str) -> None:
    (tmp_path / "notes.jsonl").write_bytes(content)
    with pytest.raises(DataMalformedError, match=says if on_bad_record == "fail" else "no record|all 1 records are bad: 1 with not JSON"):
        read_data(tmp_path, on_bad_record=on_bad_record)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"text": "caf\xe9"}\n', "notes.jsonl line 1: not UTF-8 at byte 14; convert the file"),
        (f"{GOOD}\n".encode() + b"\xc0\xaf\n", "notes.jsonl line 2: not UTF-8 at byte 1"),
        (f"{GOOD}\n".encode("utf-16"), "notes.jsonl line 1: UTF-16, not UTF-8; convert the file"),
        (b'{"text": "\xed\xa0\x80"}\n', "not UTF-8 at byte 11"),
    ],
)
@pytest.mark.parametrize("on_bad_record", ["fail", "skip"])
def test_a_file_that_is_not_utf8_is_broken_as_a_whole(tmp_path: Path, content: bytes, says: str, on_bad_record: str) -> None:
    (tmp_path / "notes.jsonl").write_bytes(content)
    with pytest.raises(DataMalformedError, match=says):
        read_data(tmp_path, on_bad_record=on_bad_record)


def test_a_byte_order_mark_and_windows_line_ends_make_no_difference(tmp_path: Path) -> None:
    (tmp_path / "unix.jsonl").write_text(f"{GOOD}\n{GOOD}\n")
    (tmp_path / "windows.jsonl").write_bytes(b"\xef\xbb\xbf" + f"{GOOD}\r\n\r\n{GOOD}\r\n".encode())
    records = read_data(tmp_path).records
    assert [record.where for record in records[2:]] == ["windows.jsonl line 1", "windows.jsonl line 3"]
    assert len({record.hash for record in records}) == 1


def test_line_separators_inside_a_text_end_no_line(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text(json.dumps({"text": "a\u2028b\x85c"}, ensure_ascii=False) + "\n", newline="")
    assert [record.text for record in read_data(tmp_path).records] == ["a\u2028b\x85c"]


def test_a_field_twice_that_nobody_reads_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text('{"text": "a", "tag": 1, "tag": 2}\n')
    assert len(read_data(tmp_path).records) == 1


def test_a_line_of_fifty_megabytes_is_read(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text(json.dumps({"text": "x" * (50 << 20)}) + "\n")
    (record,) = read_data(tmp_path).records
    assert len(record.text) == 50 << 20


def test_a_line_beyond_the_bound_is_never_read_as_a_whole(tmp_path: Path) -> None:
    with (tmp_path / "notes.jsonl").open("wb") as file:
        # A hole of 100 GiB between two good lines: who would read it whole would need as much memory.
        file.write(f"{GOOD}\n".encode())
        os.truncate(file.fileno(), 100 << 30)
    with pytest.raises(DataMalformedError, match=r"notes\.jsonl line 2: a line of more than 64 MiB"):
        read_data(tmp_path)


@pytest.mark.parametrize(("length", "bad"), [(99, 0), (100, 0), (101, 1), (250, 1), (1000, 1)])
def test_the_bound_is_of_the_line_and_the_lines_after_it_keep_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, bad: int
) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 100)
    line = json.dumps({"text": ""}).replace('""', f'"{"x" * (length - 12)}"')
    assert len(line) == length
    (tmp_path / "notes.jsonl").write_text(f"{GOOD}\n{line}\n{GOOD}\n")
    found = read_data(tmp_path, on_bad_record="skip")
    assert [record.where for record in found.records if record.text is None] == ["notes.jsonl line 1", "notes.jsonl line 3"]
    assert sum(skipped.count for skipped in found.skipped) == bad


def test_skipped_records_are_counted_by_what_is_wrong_with_three_places_each(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{GOOD}\n{{"prompt": "secret"\n{{"prompt": "secret"}}\n')
    (tmp_path / "b.jsonl").write_text('{"messages": "secret\n' * 4)
    found = read_data(tmp_path, on_bad_record="skip")
    assert [skipped.sentence() for skipped in found.skipped] == [
        "5 with not JSON (a.jsonl line 2, b.jsonl line 1, b.jsonl line 2, …)",
        '1 with no "completion" (a.jsonl line 3)',
    ]


def test_skipping_everything_is_an_error_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "secret"}\n{"prompt": "secret"}\n')
    with pytest.raises(DataMalformedError, match=r'all 2 records are bad: 2 with no "completion" \(a\.jsonl line 1, a\.jsonl line 2\)'):
        read_data(tmp_path, on_bad_record="skip")


def test_messages_under_completion_end_the_task_before_pytorch_is_needed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    with pytest.raises(DataMalformedError, match=r"a\.jsonl line 1: .messages. has roles, but training\.task is completion"):
        read_data(tmp_path, "completion")
