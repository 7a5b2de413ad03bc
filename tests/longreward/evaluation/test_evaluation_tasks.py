"""Files in the published schemas are read as published, and what cannot be used is named by file and line."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from longreward.errors import InputError
from longreward.evaluation import load
from longreward.evaluation.tasks import DATASETS

DATA = Path(__file__).parents[2] / "data" / "evaluation"
ROW = {"idx": 0, "dataset": "qasper", "context": "A. B.", "query": "What?", "answer": ["B"]}
RAW = {"_id": "a1", "dataset": "qasper", "context": "A. B.", "input": "What?", "answers": ["B"], "length": 2}
CASE = {"idx": 1, "prompt": "A. B.\n\nWhat?", "query": "What?", "answer": "B"}


def write(path: Path, rows: list, *, as_list: bool = True) -> Path:
    text = json.dumps(rows, ensure_ascii=False) if as_list else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def read_one(tmp_path: Path, kind: str, row: dict, **more):
    (item,) = load(write(tmp_path / "rows.json", [row]), kind, **more)
    return item


def test_the_small_sets_are_read_whole() -> None:
    counts = {"longbench.json": 8, "longbench_raw.jsonl": 7, "longbench_chat.json": 5, "short.jsonl": 6}
    for name, count in counts.items():
        kind = name.split(".")[0].removesuffix("_raw")
        items = load(DATA / name, kind)
        assert len({item.id for item in items}) == len(items) == count
        turns = " ".join(item.turn for item in items)
        assert re.search("[a-z]", turns) and re.search("[\u4e00-\u9fff]", turns)


def test_aggregated_longbench_keeps_its_fields() -> None:
    rows = json.loads((DATA / "longbench.json").read_text(encoding="utf-8"))
    for row, item in zip(rows, load(DATA / "longbench.json", "longbench"), strict=True):
        assert (item.id, item.dataset, item.context, item.query) == (
            str(row["idx"]),
            *(row[name] for name in ("dataset", "context", "query")),
        )
        assert list(item.references) == row["answer"]
        assert item.turn == f"{row['context']}\n\n{row['query']}"


def test_a_list_and_lines_are_the_same(tmp_path: Path) -> None:
    rows = [ROW, ROW | {"idx": 1, "dataset": "vcsum"}]
    as_list, as_lines = (write(tmp_path / f"{flag}.json", rows, as_list=flag) for flag in (True, False))
    assert load(as_list, "longbench") == load(as_lines, "longbench")


def test_raw_rows_are_asked_their_input_and_summaries_for_a_summary() -> None:
    items = {item.dataset: item for item in load(DATA / "longbench_raw.jsonl", "longbench")}
    assert items["multifieldqa_en"].query == "How many cars does the ferry carry?"
    assert items["multifieldqa_en"].references == ("Twelve cars",)
    assert items["qmsum"].query == "Summarise what was said about the opening hours."
    assert "Summarise" in items["multi_news"].query and "概括" in items["vcsum"].query


def test_a_folder_of_raw_files_is_read_in_the_published_order(tmp_path: Path) -> None:
    for position, name in enumerate(("vcsum", "qasper", "trec", "hotpotqa")):
        write(tmp_path / f"{name}.jsonl", [RAW | {"_id": f"a{position}", "dataset": name}], as_list=False)
    assert [item.dataset for item in load(tmp_path, "longbench")] == ["qasper", "hotpotqa", "vcsum"]
    with pytest.raises(InputError, match="a folder without files of short"):
        load(tmp_path, "short")


def test_a_chat_case_is_split_where_its_query_begins() -> None:
    cases = json.loads((DATA / "longbench_chat.json").read_text(encoding="utf-8"))
    shots = json.loads((DATA / "few_shots.json").read_text(encoding="utf-8"))
    for case, item in zip(cases, load(DATA / "longbench_chat.json", "longbench_chat"), strict=True):
        assert item.turn == case["prompt"] and item.context + "\n\n" + item.query == case["prompt"]
        assert item.references == (case["answer"],)
        assert item.examples == tuple((one["answer"], one["score"]) for one in shots[case["idx"] - 1])


@pytest.mark.parametrize("prompt", ["What? Read this: A. B.", "A. B.\n\nWhat exactly?"])
def test_a_chat_case_whose_query_is_not_last_is_asked_as_it_stands(tmp_path: Path, prompt: str) -> None:
    write(tmp_path / "few_shots.json", [[]])
    item = read_one(tmp_path, "longbench_chat", CASE | {"prompt": prompt})
    assert item.turn == prompt and item.query == "What?" and item.examples == ()


def test_few_shots_may_stand_elsewhere(tmp_path: Path) -> None:
    shots = write(tmp_path / "shots.json", [[{"answer": "C", "score": "2.5"}]])
    assert read_one(tmp_path, "longbench_chat", CASE, few_shots=shots).examples == (("C", 2.5),)
    with pytest.raises(InputError, match=r"few_shots\.json cannot be read"):
        read_one(tmp_path, "longbench_chat", CASE)
    with pytest.raises(InputError, match="for longbench_chat only"):
        read_one(tmp_path, "longbench", ROW, few_shots=shots)


def test_short_rows_have_a_query_or_a_prompt() -> None:
    items = {item.id: item for item in load(DATA / "short.jsonl", "short")}
    assert items["s1"].references == ("apple, pear, plum",) and items["s4"].references == ()
    assert items["s3"].turn == items["s3"].query == "Write one sentence about rain and copper."


def test_blank_and_repeated_references_count_for_nothing(tmp_path: Path) -> None:
    row = ROW | {"answer": ["B", "", " ", "B", "b", "?"]}
    assert read_one(tmp_path, "longbench", row).references == ("B", "b")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (ROW | {"dataset": "trec"}, f"dataset 'trec' is not among those judged: {', '.join(DATASETS)}"),
        (ROW | {"dataset": None}, "dataset must be text, found NoneType"),
        (ROW | {"context": ""}, "context is empty"),
        (ROW | {"context": ["A."]}, "context must be text, found list"),
        (ROW | {"query": " "}, "query is empty"),
        (RAW | {"input": ""}, "input is empty"),
        (ROW | {"answer": []}, "answer holds no reference"),
        (ROW | {"answer": [" ", "…"]}, "answer holds no reference"),
        (ROW | {"answer": [1]}, "answer must be a text or a list of texts"),
        (RAW | {"answers": None}, "answers must be a text or a list of texts, found NoneType"),
        (ROW | {"idx": None}, "idx must be text or a whole number, found None"),
        (ROW | {"idx": 1.5}, "idx must be text or a whole number, found 1.5"),
        (ROW | {"idx": "0"}, "another row has the id 0 already"),
        (["A."], "not a JSON object (found list)"),
    ],
)
def test_a_broken_row_is_named_and_the_rest_goes_on(tmp_path: Path, row, why: str) -> None:
    path = write(tmp_path / "rows.json", [ROW, row, ROW | {"idx": 2}])
    broken: list[str] = []
    assert [item.id for item in load(path, "longbench", broken)] == ["0", "2"]
    (problem,) = broken
    assert problem.startswith(f"{path}:1: {why}")
    with pytest.raises(InputError, match=r"rows.json:1: "):
        load(path, "longbench")


def test_a_broken_line_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"idx": 1, "query": "Q?"}\n\n{"idx": 2, "query": "Q?", "reference": 5}\n{"idx"\n{"idx": 3}\n')
    broken: list[str] = []
    assert [item.id for item in load(path, "short", broken)] == ["1"]
    assert [problem.removeprefix(f"{path}:")[:22] for problem in sorted(broken)] == [
        "3: reference must be t",
        "4: not a JSON object (",
        "5: prompt must be text",
    ]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"idx": 3}, "idx must be the number of its entry in few_shots (1 to 2), found '3'"),
        ({"idx": 0}, "found '0'"),
        ({"idx": "one"}, "found 'one'"),
        ({"idx": "2"}, "few_shots entry 2: score must be a number from 1 to 10, found 11"),
        ({"idx": 2}, "few_shots entry 2: score must be a number from 1 to 10, found 11"),
        ({"prompt": ""}, "prompt is empty"),
        ({"answer": None}, "answer must be a text or a list of texts"),
    ],
)
def test_a_broken_chat_case_is_named(tmp_path: Path, change: dict, why: str) -> None:
    write(tmp_path / "few_shots.json", [[{"answer": "C", "score": 3}], [{"answer": "C", "score": 11}]])
    path = write(tmp_path / "cases.json", [CASE | change])
    with pytest.raises(InputError, match=re.escape(why)):
        load(path, "longbench_chat")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot be read: No such file"),
        ("", "holds no usable row for longbench"),
        ("[]", "holds no usable row for longbench"),
        ("[{", "the rest of the list is skipped"),
        ('[{"idx": 1}]', "rows.json:1: dataset must be text"),
        ("\xff", "not a JSON object"),
    ],
)
def test_a_file_without_a_usable_row_is_an_error(tmp_path: Path, text: str | None, why: str) -> None:
    path = tmp_path / "rows.json"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=why):
        load(path, "longbench", [] if "dataset" not in why else None)


def test_an_unknown_evaluation_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="known: longbench, longbench_chat, short"):
        load(tmp_path, "longbenchchat")  # type: ignore[arg-type]


def test_the_sets_can_be_copied_elsewhere(tmp_path: Path) -> None:
    copied = shutil.copytree(DATA, tmp_path / "evaluation")
    assert load(copied / "longbench_chat.json", "longbench_chat") == load(
        DATA / "longbench_chat.json", "longbench_chat"
    )
