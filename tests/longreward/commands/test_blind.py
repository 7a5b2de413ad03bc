"""`longreward blind` as a user runs it: a sheet and its key, then the tally of what people said."""

from __future__ import annotations

import json
import re
import stat
import zlib
from base64 import b64decode
from pathlib import Path

import pytest

from longreward import cli
from longreward.evaluation.people.blind import ASKED

QUERY = "What did Mara sell?"


def rows(path, policy: str, answers):
    path.write_text("".join(
        json.dumps({"idx": i, "query": QUERY, "answer": text, "context": f"Document {i}.", "policy": policy}) + "\n"
        for i, text in enumerate(answers)
    ))  # fmt: skip
    return str(path)


@pytest.fixture
def files(tmp_path):
    """Of two policies: 12 questions, and one answered alike."""
    a = rows(tmp_path / "sft-llama.jsonl", "sft-llama", [*(f"Copper, {i}." for i in range(12)), "Tin."])
    b = rows(tmp_path / "dpo-llama.jsonl", "dpo-llama", [*(f"Gold, {i}." for i in range(12)), "Tin.", "More."])
    return a, b


def make(files, out, *more) -> int:
    return cli.main(["blind", *files, "--out", str(out), *more])


def blocks(page: bytes) -> dict[str, object]:
    found = re.findall(rb'id="block-(\w+)">([^<]*)<', page)
    return {name.decode(): json.loads(zlib.decompress(b64decode(text))) for name, text in found}


def last_line(capsys) -> str:
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_the_page_does_not_say_whose_answer_is_whose(files, tmp_path, capsys):
    pages, orders = [], set()
    for seed in range(4):
        out = tmp_path / f"{seed}.html"
        assert make(files, out, "--seed", str(seed)) == 0
        told = capsys.readouterr().out
        assert "12 items of 13 questions" in told and "the same answer: 1" in told and "only in B 1" in told
        key_file = tmp_path / f"{seed}.key.json"
        assert [stat.S_IMODE(path.stat().st_mode) for path in (out, key_file)] == [0o600, 0o600]
        key = json.loads(key_file.read_text())
        assert (key["a"], key["b"], key["seed"]) == (*files, seed)
        page, firsts = out.read_bytes(), [item["first"] for item in key["items"]]
        data = blocks(page)
        unpacked = page + json.dumps(data).encode()
        assert not re.search(rb"sft|dpo|llama|policy\b(?!\")|idx", unpacked.replace(b"Content-Security-Policy", b""))
        # What the page holds is what it shows, and nothing that the order could be told by.
        assert set(data["sheet"]) == {"name", "asked", "items"} and data["sheet"]["name"] == key["sheet"]
        shown = {json.dumps(sorted(item)) for item in data["sheet"]["items"]}
        assert shown == {'["answers", "characters", "document", "query"]'}
        first = [item["answers"][0].split(",")[0] for item in data["sheet"]["items"]]
        assert first == [{"a": "Copper", "b": "Gold"}[one] for one in firsts] and firsts.count("a") == 6
        assert data["document3"] == "Document 3."
        orders.add("".join(firsts))
        pages.append(page)
    assert len(orders) == 4


def test_a_sheet_that_was_given_out_can_always_be_tallied(files, tmp_path, capsys):
    out = tmp_path / "sheet.html"
    assert make(files, out) == 0
    made = out.read_bytes(), (tmp_path / "sheet.key.json").read_bytes()
    capsys.readouterr()
    assert make(files, out) == 2  # another seed
    assert "sheet.key.json is there already, of another sheet; choose another --out" in last_line(capsys)
    assert make(files, out, "--seed", str(json.loads(made[1])["seed"])) == 0
    assert made == (out.read_bytes(), (tmp_path / "sheet.key.json").read_bytes())


def test_the_tally(files, tmp_path, capsys):
    out, places = tmp_path / "sheet.html", []
    assert make(files, out, "--seed", "1") == 0
    key = json.loads((tmp_path / "sheet.key.json").read_text())
    header = f"sheet,item,{','.join(ASKED)}\n"
    for person, cell in (("one", ["tie", ""]), ("two", ["tie", "tie"])):
        lines = []
        for number, item in enumerate(key["items"], 1):
            gold = "2" if item["first"] == "a" else "1"
            lines.append(
                f"{key['sheet']},{number},{gold},tie,{gold},{cell[number % 2]},{gold if number > 3 else 'tie'}\n"
            )
        places.append(tmp_path / f"{person}.csv")
        places[-1].write_text(header + "".join(lines))
    capsys.readouterr()
    words = ["--key", str(tmp_path / "sheet.key.json"), "--json", str(tmp_path / "tally.json")]
    assert cli.main(["blind", "--tally", *map(str, places), *words]) == 0
    told = capsys.readouterr().out
    assert re.search(r"helpfulness +92 \(76-100\) +8 \(0-24\) +0 +\+92 \(\+76 to \+100\) +100", told)
    assert re.search(r"logicality +0 +100 +0 +\+0 +100", told) and re.search(r"overall +69 \(", told)
    assert "cells left empty: completeness 6" in told and "13 items, 2 annotators" in told
    assert max(map(len, told.split("\n")[2:9])) <= 80
    found = json.loads((tmp_path / "tally.json").read_text())
    assert found["b_against_a"]["overall"]["win"]["mean"] == round(9 / 13, 4) and len(found["verdicts"]) == 12


def test_a_row_that_cannot_be_read_is_named_and_the_rest_is_made(files, tmp_path, capsys):
    with Path(files[0]).open("a") as file:
        file.write("{\n")
    # A seed that does not draw the question which both answer alike: that is no item.
    assert make(files, tmp_path / "sheet.html", "--most", "3", "--seed", "1") == 1
    told = capsys.readouterr()
    assert "3 items of 13" in told.out and "skipped" in told.err and "1 row was skipped" in told.err


def test_bad_input_is_one_sentence(files, tmp_path, capsys):
    a, b = files
    empty, other = rows(tmp_path / "empty.jsonl", "x", []), rows(tmp_path / "other.jsonl", "x", ["Tin."])
    Path(other).write_text(Path(other).read_text().replace(QUERY, "Who?"))
    void = rows(tmp_path / "void.jsonl", "x", [None])
    verdicts = tmp_path / "verdicts.csv"
    verdicts.write_text("sheet,item\n")
    (tmp_path / "no.key.json").write_text('{"sheet": 1}')
    out, key = ["--out", str(tmp_path / "sheet.html")], ["--key", str(tmp_path / "key.json")]
    for words, why in (
        ([a, b], "--out is missing; to make a sheet, give --out SHEET.html"),
        ([a, *out], "two files of answers, A.jsonl and B.jsonl, found 1"),
        ([a, b, *out, *key], "to make a sheet, leave out --key; to tally, give --tally VERDICTS.csv"),
        ([a, a, *out], "there is nothing to compare"),
        ([a, other, *out], "answer no question in common"),
        ([a, empty, *out], "empty.jsonl holds no row with an answer"),
        ([void, b, *out], "void.jsonl holds no row with an answer"),
        ([a, str(tmp_path / "none.jsonl"), *out], "cannot be read"),
        ([a, b, *out, "--input", str(tmp_path / "none.jsonl")], "none.jsonl does not exist; give the file with"),
        ([a, b, "--out", ""], "--out . is a directory"),
        ([a, b, "--out", a], "one of the files to read"),
        ([a, b, "--out", "/proc/none/x.html"], "cannot be written"),
        (["--tally", str(verdicts)], "--key is missing; to tally, give --key SHEET.key.json"),
        ([a, "--tally", str(verdicts), *key], f"to tally, leave out {a}; to make a sheet, leave --tally out"),
        (
            ["--tally", str(verdicts), *key],
            "key.json cannot be read: No such file or directory; give the SHEET.key.json",
        ),
        (["--tally", str(verdicts), "--key", str(tmp_path / "no.key.json")], "no.key.json is not the key of a sheet"),
    ):
        assert cli.main(["blind", *words]) == 2, words
        line = last_line(capsys)
        assert line.startswith("longreward: ") and why in line, line
    assert not (tmp_path / "sheet.html").exists()
    assert make(files, tmp_path / "sheet.html") == 0
    capsys.readouterr()
    key = ["--key", str(tmp_path / "sheet.key.json")]
    assert cli.main(["blind", "--tally", str(verdicts), *key]) == 2
    assert "has no column 'helpfulness'" in last_line(capsys)
    assert cli.main(["blind", "--tally", str(verdicts), str(verdicts), *key]) == 2
    assert "names a file twice" in last_line(capsys)
