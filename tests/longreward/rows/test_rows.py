"""Rows come out of whatever file holds them; what cannot be used is passed over and named, never a traceback."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import random
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
from pyarrow import ipc, parquet

from longreward import rows
from longreward.errors import InputError

ROWS = [
    {"idx": number, "context": f"Mara sold copper.\n玛拉 {number}", "query": "What?", "answer": "She sold it."}
    for number in range(3)
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABLE = pyarrow.Table.from_pylist(ROWS)


def arrow(path: Path, make: Callable[..., Any]) -> None:
    with make(str(path), TABLE.schema) as writer:
        writer.write_table(TABLE)


def zstd(text: bytes) -> bytes:
    packed: bytes = pyarrow.compress(text, codec="zstd", asbytes=True)
    return packed


TEXTS = {
    "lines": LINES.encode(),
    "lines, no last line end": LINES.strip().encode(),
    "lines of Windows": LINES.replace("\n", "\r\n").encode(),
    "lines after empty ones": b"\n \n" + LINES.encode(),
    "byte order mark": codecs.BOM_UTF8 + LINES.encode(),
    "UTF-16, as PowerShell writes": LINES.encode("utf-16"),
    "UTF-16, big end first": codecs.BOM_UTF16_BE + LINES.encode("utf-16-be"),
    "UTF-16 without a mark": LINES.encode("utf-16-le"),
    "UTF-32": LINES.encode("utf-32"),
    "list on one line": json.dumps(ROWS).encode(),
    "list over lines": json.dumps(ROWS, indent=1, ensure_ascii=False).encode(),
    "list behind a byte order mark": codecs.BOM_UTF8 + json.dumps(ROWS, indent=1).encode(),
    "list in UTF-16": json.dumps(ROWS, indent=1).encode("utf-16"),
    "list with a row a line": ("[\n" + ",\n".join(LINES.splitlines()) + "\n]\n").encode(),
    "objects over lines, as jq writes": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "gzip": gzip.compress(LINES.encode()),
    "gzip of two parts": gzip.compress(LINES.encode()[:60]) + gzip.compress(LINES.encode()[60:]),
    "gzip of a list": gzip.compress(json.dumps(ROWS).encode()),
    "gzip of UTF-16": gzip.compress(LINES.encode("utf-16")),
    "bzip2": bz2.compress(LINES.encode()),
    "xz": lzma.compress(LINES.encode()),
    "zstd": zstd(LINES.encode()),
    "zstd of two parts": zstd(LINES.encode()[:60]) + zstd(LINES.encode()[60:]),
}


@pytest.mark.parametrize("form", TEXTS)
def test_a_text_file_is_read_whatever_its_name(tmp_path: Path, form: str) -> None:
    source, broken = tmp_path / "rows.data", []
    source.write_bytes(TEXTS[form])
    assert [row for _, row in rows.read(source, broken)] == ROWS and broken == []


@pytest.mark.parametrize("form", ["lines", "lines after empty ones", "byte order mark", "lines of Windows"])
def test_an_offset_is_where_the_row_stands(tmp_path: Path, form: str) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_bytes(TEXTS[form])
    found = list(rows.read_with_offsets(source, []))
    assert [json.loads(source.read_bytes()[place:].splitlines()[0]) for _, place, _ in found] == ROWS


@pytest.mark.parametrize("form", ["parquet", "arrow file", "arrow stream"])
def test_a_table_is_read(tmp_path: Path, form: str) -> None:
    source, broken = tmp_path / "rows", []
    if form == "parquet":
        parquet.write_table(TABLE, source)
    else:
        arrow(source, ipc.new_file if form == "arrow file" else ipc.new_stream)
    assert list(rows.read(source, broken)) == list(enumerate(ROWS, 1)) and broken == []
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(InputError, match=r"is an? \w+ file that cannot be read .*; write it again"):
        list(rows.read(source, broken))


def test_a_saved_data_set_is_read_and_its_splits_are_named(tmp_path: Path) -> None:
    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=saved, test=saved.select([1])).save_to_disk(tmp_path / "two")
    assert [row for _, row in rows.read(tmp_path / "one")] == ROWS
    assert [row for _, row in rows.read(tmp_path / "two" / "test")] == ROWS[1:2]
    assert [row for _, row in rows.read(Path(f"{tmp_path / 'two'}:test"))] == ROWS[1:2]
    with pytest.raises(InputError, match=r"of 2 splits; give one of them: .*two/test, .*two/train"):
        list(rows.read(tmp_path / "two"))
    with pytest.raises(InputError, match=r"two:none cannot be loaded \(KeyError: 'none'\); check its name, its split"):
        list(rows.read(Path(f"{tmp_path / 'two'}:none")))
    with pytest.raises(InputError, match="is a folder without a saved data set"):
        list(rows.read(tmp_path))


def test_a_folder_as_the_hub_has_it_is_read_by_its_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set" / "data").mkdir(parents=True)
    for split, table in (("train", TABLE), ("test", TABLE.slice(1, 1))):
        parquet.write_table(table, tmp_path / "set" / "data" / f"{split}-00000-of-00001.parquet")
    source = Path(f"{tmp_path / 'set'}:test")
    assert rows.exists(source) and [row for _, row in rows.read(source)] == ROWS[1:2]


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("THUDM/LongReward-10k:sft", ("THUDM/LongReward-10k", None, "sft")),
        ("owner/set.v2:english:train", ("owner/set.v2", "english", "train")),
    ],
)
def test_a_data_set_of_the_hub_is_asked_for_by_name_and_split(
    monkeypatch: pytest.MonkeyPatch, name: str, asked: tuple[str, str | None, str]
) -> None:
    calls = []

    def load(name: str, configuration: str | None, *, split: str) -> list[dict[str, Any]]:
        calls.append((name, configuration, split))
        return ROWS

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert rows.exists(Path(name)) and [row for _, row in rows.read(Path(name))] == ROWS
    assert calls == [asked]

    def away(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", away)
    with pytest.raises(
        InputError, match=r"cannot be loaded \(ConnectionError: Couldn't reach the hub\); check its name"
    ):
        list(rows.read(Path(name)))


@pytest.mark.parametrize("name", ["none.jsonl", "folder/none.jsonl", "a/b/c:train", "C:/rows.jsonl", "owner/set"])
def test_what_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert not rows.exists(Path(name))
    with pytest.raises(InputError, match=r"cannot be read: No such file.*OWNER/NAME:SPLIT"):
        list(rows.read(Path(name)))


@pytest.mark.parametrize(
    ("form", "package"), [("parquet", "pyarrow"), ("arrow", "pyarrow"), ("zstd", "pyarrow"), ("saved", "datasets")]
)
def test_without_its_library_a_form_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, package: str
) -> None:
    source = tmp_path / "rows"
    if form == "saved":
        datasets.Dataset.from_list(ROWS).save_to_disk(source)
    else:
        head = {"parquet": b"PAR1", "arrow": b"ARROW1\0\0", "zstd": zstd(LINES.encode())}
        source.write_bytes(head[form])
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs {package}.*pip install 'longreward\[files\]'"):
        list(rows.read(source))


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(LINES)
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        archive.write(tmp_path / "rows.jsonl")
    with tarfile.open(tmp_path / "rows.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "rows.jsonl")
    for name, form in (("rows.zip", "zip archive"), ("rows.tar.gz", "tar archive")):
        with pytest.raises(InputError, match=f"{name} is a {form}.*; unpack it"):
            list(rows.read(tmp_path / name))


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, zstd], ids=["gzip", "bzip2", "xz", "zstd"]
)
def test_a_compressed_file_that_breaks_off_gives_what_was_whole(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """As a download that was stopped."""
    noise = random.Random(1)
    lines = [json.dumps({"idx": n, "context": f"{noise.getrandbits(4000):x}"}) + "\n" for n in range(6000)]
    packed = pack("".join(lines).encode())
    source, broken = tmp_path / "rows", []
    source.write_bytes(packed[: len(packed) * 4 // 5])
    found = [row["idx"] for _, row in rows.read(source, broken)]
    assert 0 < len(found) < 6000 and found == list(range(len(found)))
    assert len(broken) == 1 and f"{source}:{len(found) + 1}: " in broken[0] and "the rest of it is skipped" in broken[0]
    source.write_bytes(packed[:9])
    with pytest.raises(InputError, match="cannot be decompressed"):
        list(rows.read(source, broken))


DEEP = '{"a": ' + "[" * 200_000 + "]" * 200_000 + "}"
GOOD = json.dumps(ROWS[0])
UNUSABLE = {
    "deep": (DEEP, "too deeply nested"),
    "deep and not closed": (DEEP[:100_000], ""),
    "NUL in a text": ('{"idx": 1, "answer": "She\\u0000 sold."}', "answer holds a NUL character"),
    "NUL in a list of texts": ('{"answers": ["a", "b\\u0000"]}', "answers holds a NUL character"),
    "NULs, as a crash leaves": ("\0\0\0\0", "not"),
    "half a surrogate pair": ('{"idx": 1, "query": "cut \\ud83d"}', "query has half a surrogate pair"),
    "half a pair in a list": ('{"answers": ["cut \\udc3c"]}', "answers has half a surrogate pair"),
    "a list": ("[1]", "not a JSON object"),
    "a number": ("17", "not a JSON object"),
    "null": ("null", "not a JSON object"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_row_that_no_one_can_use_is_passed_over(tmp_path: Path, kind: str) -> None:
    text, why = UNUSABLE[kind]
    source, broken = tmp_path / "rows.jsonl", []
    source.write_text(f"{GOOD}\n{text}\n{GOOD}\n")
    assert [number for number, _ in rows.read(source, broken)] == [1, 3]
    assert len(broken) == 1 and broken[0].startswith(f"{source}:2: ") and why in broken[0]
    with pytest.raises(InputError, match=r"rows.jsonl:2: "):
        list(rows.read(source))


@pytest.mark.parametrize(
    "kind", [kind for kind in UNUSABLE if kind not in ("deep and not closed", "NULs, as a crash leaves")]
)
def test_in_a_list_it_is_passed_over_too(tmp_path: Path, kind: str) -> None:
    text, why = UNUSABLE[kind]
    source, broken = tmp_path / "rows.json", []
    source.write_text(f"[\n{GOOD},\n{text},\n{GOOD}\n]\n")
    assert [number for number, _ in rows.read(source, broken)] == [2, 4]
    assert len(broken) == 1 and broken[0].startswith(f"{source}:3: ") and why in broken[0]


@pytest.mark.parametrize("end", [-1, -2, -40, len(GOOD) + 2])
def test_a_list_that_breaks_off_says_so(tmp_path: Path, end: int) -> None:
    source, broken = tmp_path / "rows.json", []
    source.write_text(f"[{GOOD}, {GOOD}]"[:end])
    assert len(list(rows.read(source, broken))) == (2 if end == -1 else 1)
    assert len(broken) == 1 and ("breaks off" in broken[0] or "the rest of the list is skipped" in broken[0])


def test_bytes_that_are_no_utf8_spoil_their_own_row_only(tmp_path: Path) -> None:
    latin = '{"idx": 1, "answer": "caf\xe9"}'.encode("latin-1")
    for name, data in (
        ("l.jsonl", latin + b"\n" + LINES.encode()),
        ("l.json", b"[" + latin + b",\n" + GOOD.encode() + b"]"),
    ):
        source, broken = tmp_path / name, []
        source.write_bytes(data)
        assert {row["idx"] for _, row in rows.read(source, broken)} >= {0}
        assert len(broken) == 1 and f"{name}:1: " in broken[0]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"[]", b" [ ] "], ids=["nothing", "empty lines", "[]", "[ ]"])
def test_no_rows_is_no_error_of_the_reader(tmp_path: Path, data: bytes) -> None:
    source, broken = tmp_path / "rows", []
    source.write_bytes(data)
    assert list(rows.read(source, broken)) == [] and broken == []


NAN = float("nan")


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"idx": 11}, "11"),
        ({"idx": "11"}, "11"),
        ({"idx": 11.0}, "11"),
        ({"idx": 0}, "0"),
        ({"idx": -0.0}, "0"),
        ({"idx": None, "id": "doc-7"}, "doc-7"),
        ({"idx": NAN, "id": "doc-7"}, "doc-7"),
        ({"idx": "", "id": 7.0}, "7"),
        ({"id": "llama-11-7"}, "llama-11-7"),
        ({"idx": None, "id": None}, "5"),
        ({"idx": NAN}, "5"),
        ({}, "5"),
    ],
    ids=repr,
)
def test_one_id_has_one_name_however_it_is_written(row: dict[str, Any], found: str) -> None:
    assert rows.row_id(row, 5) == found


@pytest.mark.parametrize("idx", [True, 1.5, float("inf"), [1], {"$oid": "1"}], ids=repr)
def test_what_is_no_id_is_said(idx: Any) -> None:
    with pytest.raises(ValueError, match="idx must be text or a whole number, found"):
        rows.row_id({"idx": idx, "id": 1}, 5)


def test_a_row_without_an_id_has_none_where_its_number_may_not_stand_for_it() -> None:
    with pytest.raises(ValueError, match="found None"):
        rows.row_id({"idx": None}, None)
