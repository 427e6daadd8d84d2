"""Parquet files and datasets of save_to_disk: the same records as in JSONL, and what is said of broken ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rondo_trainer import exits
from rondo_trainer.data import columns
from rondo_trainer.data.reading import read_data
from rondo_trainer.data.split import split_records
from rondo_trainer.exits import DataMalformedError, InputMissingError
from task_server import Agent

PLAIN = [{"prompt": f"secret {n}?", "completion": f"ü {n}."} for n in range(5)]
TURNS = [{"messages": [{"role": "user", "content": f"secret {n}"}, {"role": "assistant", "content": f"so {n}"}]} for n in range(5)]
TEXTS = [{"text": f"secret {n}"} for n in range(5)]
SIDES = [{"prompt": record["messages"][:1], "completion": record["messages"][1:]} for record in TURNS]


def write_parquet(file: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), file)


def write_dataset(folder: Path, shards: list[list[dict[str, Any]]], **state: Any) -> None:
    """As `datasets` 4 writes it: a stream file per shard, named in state.json in the order of the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"data-{index:05d}-of-{len(shards):05d}.arrow" for index in range(len(shards))]
    for name, rows in zip(names, shards, strict=True):
        write_stream(folder / name, [pa.RecordBatch.from_pylist(rows)])
    files = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "16e531d62d0100ea", "_split": None}
    (folder / "state.json").write_text(json.dumps({**files, **state}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}, "citation": ""}))


def write_stream(file: Path, batches: list[pa.RecordBatch]) -> None:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, batches[0].schema) as stream:
        for batch in batches:
            stream.write_batch(batch)


def write_jsonl(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.mark.parametrize("rows", [PLAIN, TURNS, TEXTS, SIDES], ids=["plain", "turns", "texts", "sides"])
def test_a_record_is_the_same_in_every_format(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write_jsonl(tmp_path / "a.jsonl", rows)
    write_parquet(tmp_path / "b.parquet", rows)
    write_dataset(tmp_path / "c", [rows[:2], rows[2:]])
    records = read_data(tmp_path).records
    in_lines, in_parquet, in_arrow = records[:5], records[5:10], records[10:]
    for others in (in_parquet, in_arrow):
        assert [(r.hash, r.messages, r.text, r.learnt_from) for r in others] == [
            (r.hash, r.messages, r.text, r.learnt_from) for r in in_lines
        ]
    assert [record.where for record in in_parquet] == [f"b.parquet row {row}" for row in range(1, 6)]
    assert in_arrow[1].where == "c/data-00000-of-00002.arrow row 2"
    assert in_arrow[2].where == "c/data-00001-of-00002.arrow row 1"


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_every_type_of_text_is_text(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"text": pa.array(["a", "b"]).cast(kind)})
    write_stream(tmp_path / "rows.arrow", table.to_batches())
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "rows.arrow"}]}')
    assert [record.text for record in read_data(tmp_path).records] == ["a", "b"]


def test_null_is_a_missing_field_and_other_columns_are_not_read(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "completion": "b", "text": None, "embedding": [1.0, 2.0]},
        {"prompt": None, "completion": None, "text": "c", "embedding": None},
    ]
    write_parquet(tmp_path / "mixed.parquet", rows)
    assert [record.text for record in read_data(tmp_path).records] == [None, "c"]


def test_rows_are_counted_over_batches_and_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "BATCH_ROWS", 3)
    pq.write_table(pa.table({"text": [str(n) for n in range(20)]}), tmp_path / "rows.parquet", row_group_size=7)
    records = read_data(tmp_path).records
    assert [record.text for record in records] == [str(n) for n in range(20)]
    assert [record.where for record in records] == [f"rows.parquet row {n + 1}" for n in range(20)]


def test_a_bad_row_is_named_or_skipped(tmp_path: Path) -> None:
    write_parquet(tmp_path / "rows.parquet", [*PLAIN[:3], {"prompt": "secret", "completion": None}, *PLAIN[3:]])
    with pytest.raises(DataMalformedError, match=r'^rows\.parquet row 4: no "completion"'):
        read_data(tmp_path)
    found = read_data(tmp_path, on_bad_record="skip")
    assert len(found.records) == 5
    assert [skipped.sentence() for skipped in found.skipped] == ['1 with no "completion" (rows.parquet row 4)']


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"prompt": [1, 2], "completion": ["secret", "secret"]}, 'column "prompt" is of type int64; it must be text'),
        ({"text": [b"secret"]}, 'column "text" is of type binary; it must be text'),
        ({"text": [["secret"]]}, 'column "text" is of type list'),
        ({"text": [[{"role": "user", "content": "secret"}]]}, 'column "text" is of type list'),
        ({"messages": ["secret"]}, 'column "messages" is of type string; it must be a list of role and content'),
        ({"messages": [["secret"]]}, 'column "messages" is of type list'),
        ({"instruction": ["secret"], "output": ["secret"]}, 'no column "messages", "prompt" and "completion", or "text"; rename'),
    ],
)
@pytest.mark.parametrize("on_bad_record", ["fail", "skip"])
def test_columns_that_hold_no_record_are_a_fault_of_the_file(tmp_path: Path, table: dict[str, Any], says: str, on_bad_record: str) -> None:
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    with pytest.raises(DataMalformedError) as refused:
        read_data(tmp_path, on_bad_record=on_bad_record)
    assert says in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_column_twice_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(DataMalformedError, match=r'rows\.parquet: 2 columns "text"; keep one'):
        read_data(tmp_path)


def test_a_text_that_is_not_utf8_is_a_fault_of_the_file(tmp_path: Path) -> None:
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"caf\xe9"], pa.binary()).buffers())
    pq.write_table(pa.table({"text": broken}), tmp_path / "rows.parquet")
    with pytest.raises(DataMalformedError, match=r"rows\.parquet: a text that is not UTF-8"):
        read_data(tmp_path, on_bad_record="skip")


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "no table": lambda _: b"secret" * 100,
    "the first half": lambda whole: whole[: len(whole) // 2],
    "all but the last byte": lambda whole: whole[:-1],
    "zeros in the middle": lambda whole: whole[:60] + bytes(len(whole) - 120) + whole[-60:],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("on_bad_record", ["fail", "skip"])
def test_a_damaged_parquet_file_ends_the_task(tmp_path: Path, damage: str, on_bad_record: str) -> None:
    write_parquet(tmp_path / "rows.parquet", PLAIN * 50)
    (tmp_path / "rows.parquet").write_bytes(DAMAGES[damage]((tmp_path / "rows.parquet").read_bytes()))
    with pytest.raises(DataMalformedError, match=r"rows\.parquet: no Parquet file, or a damaged one; copy it") as refused:
        read_data(tmp_path, on_bad_record=on_bad_record)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_arrow_file_ends_the_task(tmp_path: Path, damage: str) -> None:
    write_dataset(tmp_path, [PLAIN * 50])
    file = tmp_path / "data-00000-of-00001.arrow"
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    with pytest.raises(DataMalformedError, match=r"^data-00000-of-00001\.arrow: (not an Arrow stream to its end|no Arrow stream file)"):
        read_data(tmp_path, on_bad_record="skip")


def test_an_arrow_file_cut_between_two_batches_is_noticed(tmp_path: Path) -> None:
    write_dataset(tmp_path, [PLAIN])
    batch, file = pa.RecordBatch.from_pylist(PLAIN), tmp_path / "data-00000-of-00001.arrow"
    one = len(file.read_bytes()) - len(b"\xff\xff\xff\xff\x00\x00\x00\x00")
    write_stream(file, [batch, batch])
    file.write_bytes(file.read_bytes()[:one])
    with pa.OSFile(str(file)) as source:
        assert pa.ipc.open_stream(source).read_all().num_rows == len(PLAIN), "Arrow itself must not notice, or this tests nothing"
    with pytest.raises(DataMalformedError, match="not an Arrow stream to its end; copy the file anew"):
        read_data(tmp_path)


def test_an_empty_table_is_no_record(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "rows.parquet")
    with pytest.raises(DataMalformedError, match=r"rows\.parquet: no record"):
        read_data(tmp_path)


def test_the_data_folder_may_itself_be_a_dataset_beside_other_files(tmp_path: Path) -> None:
    write_dataset(tmp_path, [PLAIN[:1], PLAIN[1:]])
    write_jsonl(tmp_path / "more.jsonl", TEXTS[:1])
    places = [record.where for record in read_data(tmp_path).records]
    assert (places[0], places[-1]) == ("data-00000-of-00002.arrow row 1", "more.jsonl line 1")
    assert len(places) == 6


@pytest.mark.parametrize("below", [False, True])
def test_of_a_dataset_with_splits_only_train_is_read_and_the_others_are_said_to_be_left(tmp_path: Path, below: bool) -> None:
    folder = tmp_path / "corpus" if below else tmp_path
    for split, rows in {"train": PLAIN, "validation": TURNS, "test": TEXTS}.items():
        write_dataset(folder / split, [rows])
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "validation", "test"]}')
    found = read_data(tmp_path)
    assert [record.messages[0][1] for record in found.records] == [row["prompt"] for row in PLAIN]
    assert found.records[0].where == f"{'corpus/' if below else ''}train/data-00000-of-00001.arrow row 1"
    (note,) = found.notes
    assert note.endswith("only its split train is read, validation, test is not; held-out records are taken from train")


def test_a_dataset_of_train_alone_needs_no_note(tmp_path: Path) -> None:
    write_dataset(tmp_path / "train", [PLAIN])
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert read_data(tmp_path).notes == ()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("dataset_dict.json", '{"splits": ["test"]}', r"dataset_dict\.json: no split train \(but test\); save the split"),
        ("dataset_dict.json", '{"splits": "train"}', r"dataset_dict\.json: no list of splits"),
        ("dataset_dict.json", "[", r"dataset_dict\.json: no JSON object"),
        ("state.json", "[" * 100_000, r"state\.json: no JSON object; save the dataset anew"),
        ("state.json", "{}", r"state\.json: _data_files names no files of its folder"),
        ("state.json", '{"_data_files": [{"filename": "../outside.arrow"}]}', r"state\.json: _data_files names no files of its folder"),
        ("state.json", '{"_data_files": ["rows.arrow"]}', r"state\.json: _data_files names no files"),
        ("state.json", '{"_data_files": [{"filename": ".."}]}', r"\.\. does not exist|_data_files names no files"),
        (
            "state.json",
            '{"_data_files": [{"filename": "rows.arrow"}], "_indices_data_files": [{"filename": "indices.arrow"}]}',
            r"state\.json: a selection of rows beside the rows; call flatten_indices\(\)",
        ),
    ],
)
def test_a_description_that_makes_no_sense_is_named(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises((DataMalformedError, InputMissingError), match=says):
        read_data(tmp_path)


def test_a_file_that_the_description_names_and_nobody_copied_is_missing(tmp_path: Path) -> None:
    write_dataset(tmp_path / "corpus", [PLAIN[:2], PLAIN[2:]])
    (tmp_path / "corpus/data-00001-of-00002.arrow").unlink()
    with pytest.raises(InputMissingError, match=r"corpus/data-00001-of-00002\.arrow does not exist, but state\.json names it"):
        read_data(tmp_path)
    (tmp_path / "corpus/state.json").unlink()
    (tmp_path / "corpus/dataset_dict.json").write_text('{"splits": ["train"]}')
    with pytest.raises(InputMissingError, match=r"corpus/train/state\.json cannot be read: No such file"):
        read_data(tmp_path)


def test_a_whole_task_trains_on_a_dataset_and_says_what_of_it_is_not_used(
    agent: Agent, run: Callable[..., int], data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data_folder / "train.jsonl").unlink()
    write_dataset(data_folder / "corpus/train", [PLAIN, TEXTS])
    write_dataset(data_folder / "corpus/test", [TURNS])
    (data_folder / "corpus/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert run() == exits.DONE
    said = capsys.readouterr().err
    assert "corpus: only its split train is read, test is not" in said
    assert "secret" not in said
    assert agent.result["examples"] == len(split_records(read_data(data_folder).records, percent=10, most=256).train)
