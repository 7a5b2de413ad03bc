"""JSON-lines files survive kills, torn lines and odd text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from longreward.errors import InputError
from longreward.files import jsonlines


def test_what_was_appended_is_read_back(tmp_path):
    path = tmp_path / "deep" / "answers.jsonl"
    with jsonlines.Appender(path) as answers:
        answers.append({"text": "zwei\nZeilen, 中文, \x00"})
    with jsonlines.Appender(path) as answers:
        answers.append({"text": "lone surrogate \ud800"})
    texts = [record["text"] for _, record in jsonlines.read(path)]
    assert texts == ["zwei\nZeilen, 中文, \x00", "lone surrogate \ud800"]


def test_a_line_cut_by_a_kill_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2, "te')
    with jsonlines.Appender(path) as answers:
        answers.append({"n": 3})
    broken: list[str] = []
    assert [record["n"] for _, record in jsonlines.read(path, broken)] == [1, 3]
    assert len(broken) == 1 and f"{path}:2" in broken[0]


def test_broken_lines_are_errors_where_no_one_collects_them(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(InputError, match=r"answers.jsonl:1: not a JSON object"):
        list(jsonlines.read(path))
    with pytest.raises(InputError, match="cannot be read"):
        list(jsonlines.read(tmp_path / "none.jsonl"))


def test_rewriting_replaces_the_file_in_one_step(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"n": 1}\n')

    def fails():
        yield {"n": 2}
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        jsonlines.rewrite(path, fails())
    assert path.read_text() == '{"n": 1}\n'
    jsonlines.rewrite(path, [{"n": 3}])
    assert path.read_text() == '{"n": 3}\n'
    assert [file.name for file in tmp_path.iterdir()] == ["answers.jsonl"]


def append(path: Path) -> None:
    with jsonlines.Appender(path) as answers:
        answers.append({"n": 1})


WRITERS = [
    append,
    lambda path: jsonlines.rewrite(path, [{"n": 1}]),
    lambda path: jsonlines.write_json(path, {"n": 1}),
    lambda path: jsonlines.write_text(path, "text"),
]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("mode", [None, 0o600, 0o640, 0o644])
def test_a_file_keeps_its_mode_and_a_new_one_is_private(tmp_path, write, mode):
    path, before = tmp_path / "answers.jsonl", os.umask(0o022)
    try:
        if mode is not None:
            path.touch()
            path.chmod(mode)
        write(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == (0o600 if mode is None else mode)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", WRITERS[1:])
def test_links_in_the_way_are_not_followed(tmp_path, write):
    """Beside the file, under the names that its new version used to have."""
    path, precious = tmp_path / "answers.jsonl", tmp_path / "precious"
    precious.write_text("precious")
    for name in (f".answers.jsonl.{os.getpid()}.tmp", "answers.part", ".answers.jsonl.part"):
        (tmp_path / name).symlink_to(precious)
    write(path)
    assert precious.read_text() == "precious" and path.stat().st_size and not path.is_symlink()


def test_a_version_that_fails_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    path = tmp_path / "answers.jsonl"
    append(path)
    with pytest.raises(TypeError):
        jsonlines.rewrite(path, [{"n": 2}, {"n": object()}])
    assert path.read_bytes() == b'{"n": 1}\n' and list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_replaced_is_named_and_nothing_stays_beside_it(tmp_path):
    path = tmp_path / "spend.json"
    (path / "folder").mkdir(parents=True)
    with pytest.raises(OSError) as failed:
        jsonlines.write_json(path, {})
    assert failed.value.filename == str(path) and list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError) as failed:
        jsonlines.write_json(tmp_path / "gone" / "spend.json", {})
    assert failed.value.filename == str(tmp_path / "gone" / "spend.json")
