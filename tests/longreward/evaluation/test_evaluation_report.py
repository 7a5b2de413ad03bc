"""Means of means and their intervals, voids left out and told, JSON and Markdown."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest

from longreward.evaluation import EvaluationItem, ItemOutcome, paper_table, summarise, summarise_pairs
from longreward.evaluation.intervals import mean_of_datasets, means_of_columns
from longreward.prompts import EVALUATION_VERSION
from longreward.schema import JudgeCall, Usage

UNIT = (0.0, 1.0)


def outcomes(values: dict[str, list[float | None]]) -> list[ItemOutcome]:
    """Scored items, by dataset; None is void."""
    return [
        ItemOutcome(
            EvaluationItem(f"{dataset}-{i}", dataset, "A.", "What?", ("B",)),
            value,
            "ok" if value is not None else "parse_error",
            calls=[JudgeCall(kind="evaluate_qa", usage=Usage(calls=1, prompt_tokens=10))],
        )
        for dataset, of_dataset in values.items()
        for i, value in enumerate(of_dataset)
    ]


BASE = {"qasper": [0.0, 1.0, 0.5, 0.5], "hotpotqa": [0.0, 0.5], "musique": [0.5, 1.0], "vcsum": [0.25, 0.75, None]}
TUNED = {"qasper": [0.5, 1.0, 0.5, 1.0], "hotpotqa": [0.5, None], "musique": [1.0, 1.0], "vcsum": [0.25, 1.0, 0.5]}


def test_classes_and_average_are_means_of_datasets_means() -> None:
    lines = {line.name: line.policies[0] for line in summarise({"base": outcomes(BASE)}).lines}
    assert list(lines) == [
        *("qasper", "hotpotqa", "musique", "vcsum"),
        *("single_doc_qa", "multi_doc_qa", "summarization"),
        "average",
    ]
    means = {name: one.mean for name, one in lines.items()}
    assert (means["qasper"], means["hotpotqa"], means["musique"], means["vcsum"]) == (0.5, 0.25, 0.75, 0.5)
    assert (means["single_doc_qa"], means["multi_doc_qa"], means["average"]) == (0.5, 0.5, 0.5)
    assert (lines["vcsum"].n, lines["average"].n) == (2, 10)


def test_a_large_dataset_weighs_no_more_than_a_small_one() -> None:
    result = summarise({"base": outcomes({"qasper": [1.0] * 99, "vcsum": [0.0, 0.0, 0.0]})})
    assert result.average.policies[0].mean == 0.5


def test_where_all_of_a_dataset_is_void_its_class_and_the_average_have_no_mean() -> None:
    result = summarise({"base": outcomes({"qasper": [1.0, 0.5], "hotpotqa": [1.0, 0.0], "musique": [None, None]})})
    means = {line.name: line.policies[0].mean for line in result.lines}
    assert means == {
        **{"qasper": 0.75, "hotpotqa": 0.5, "musique": None},
        **{"single_doc_qa": 0.75, "multi_doc_qa": None, "average": None},
    }
    assert "| **average** | -, n=4 |" in result.markdown()


def test_two_policies_are_compared_item_by_item() -> None:
    result = summarise({"base": outcomes(BASE), "tuned": outcomes(TUNED)})
    changes = {line.name: line.difference for line in result.lines}
    assert all(change is not None for change in changes.values())
    # Of the items that both have: hotpotqa 1 of 2, vcsum 2 of 3.
    assert {name: (round(one.mean, 4), one.n) for name, one in changes.items()} == {
        **{"qasper": (0.25, 4), "hotpotqa": (0.5, 1), "musique": (0.25, 2), "vcsum": (0.125, 2)},
        **{"single_doc_qa": (0.25, 4), "multi_doc_qa": (0.375, 3), "summarization": (0.125, 2)},
        "average": (0.2812, 9),
    }
    # The same change everywhere is surer than two unrelated means would be.
    base = {"qasper": [i / 40 for i in range(20)]}
    moved = {"qasper": [value + 0.25 + i % 2 / 40 for i, value in enumerate(base["qasper"])]}
    line = summarise({"base": outcomes(base), "tuned": outcomes(moved)}).average
    low, high = line.difference.interval
    assert 0.25 < low < line.difference.mean < high < 0.28
    assert line.policies[0].interval[1] - line.policies[0].interval[0] > 5 * (high - low)


def test_json_holds_all_that_the_table_shows() -> None:
    result = summarise({"base": outcomes(BASE), "tuned": outcomes(TUNED)}, judge="judge-x")
    data = json.loads(json.dumps(result.to_json()))
    assert (data["evaluation"], data["scale"], data["judge"]) == ("longbench", [0, 1], "judge-x")
    assert data["prompts"] == EVALUATION_VERSION and "bootstrap" in data["intervals"]
    base = data["policies"]["base"]
    assert (base["items"], base["void"], base["usage"]["calls"]) == (11, {"parse_error": 1}, 11)
    assert base["datasets"]["vcsum"] == {"mean": 0.5, "interval": base["datasets"]["vcsum"]["interval"], "n": 2}
    assert base["classes"].keys() == {"single_doc_qa", "multi_doc_qa", "summarization"}
    low, high = base["average"]["interval"]
    assert 0 <= low < base["average"]["mean"] < high <= 1
    assert data["difference"]["of"] == ["tuned", "minus", "base"]
    assert data["difference"]["average"]["mean"] == 0.2812
    assert summarise({"base": outcomes(BASE)}).to_json()["difference"] is None


def test_the_table_tells_means_intervals_and_voids() -> None:
    text = summarise({"base": outcomes(BASE), "runs|tuned": outcomes(TUNED)}, judge="offline").markdown()
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert table[0] == "| LongBench, 0 to 1 | base | runs\\|tuned | runs\\|tuned - base |"
    assert {line.replace("\\|", "").count("|") for line in table} == {5} and len(table) == 2 + 8
    assert table[-1].startswith("| **average** | 0.500 (0.") and "| +0.281 (+0." in table[-1]
    assert "base: 1 of 11 void and left out (1 parse_error)." in text
    assert "Judge: offline." in text and "95% percentile bootstrap" in text


def test_chat_is_one_mean_from_1_to_10() -> None:
    result = summarise({"base": outcomes({"longbench_chat": [1.0, 10.0, 6.5, None]})})
    data = result.to_json()
    assert (data["evaluation"], data["scale"]) == ("longbench_chat", [1, 10])
    assert data["policies"]["base"]["average"]["mean"] == 5.8333
    assert "datasets" not in data["policies"]["base"]
    assert (
        "| LongBench-Chat, 1 to 10 | base |" in result.markdown()
        and "| 5.83 (1.00 to 10.00), n=3 |" in result.markdown()
    )


@pytest.mark.parametrize(
    "scored",
    [
        {},
        {"a": [], "b": []},
        dict.fromkeys("abc", outcomes(BASE)),
        {"a": outcomes({"qasper": [1.0], "longbench_chat": [5.0]})},
        {"a": outcomes({"short": [1.0]})},
    ],
)
def test_what_cannot_be_reported_is_refused(scored: dict) -> None:
    with pytest.raises(ValueError, match=r"policy or two|must all be of"):
        summarise(scored)


def test_wins_ties_and_losses() -> None:
    item = EvaluationItem("1", "short", "", "Name a metal.", ())
    values = [1.0, 1.0, 1.0, 0.5, 0.0, None]
    pairs = [ItemOutcome(item, value, "ok" if value is not None else "timeout") for value in values]
    result = summarise_pairs("base", "tuned", pairs)
    data = json.loads(json.dumps(result.to_json()))
    assert (data["wins_a"], data["ties"], data["wins_b"], data["items"]) == (1, 1, 3, 6)
    assert data["score_of_b"]["mean"] == 0.7 and data["score_of_b"]["n"] == 5
    low, high = data["score_of_b"]["interval"]
    assert 0 <= low < 0.7 < high <= 1
    text = result.markdown()
    assert "| Short requests, compared | tuned wins | ties | base wins | tuned over base, 0 to 1 |" in text
    assert "| all | 3 | 1 | 1 | 0.700 (" in text and "pairs: 1 of 6 void and left out (1 timeout)." in text


# --- intervals ---


CHAT_VALUES = {"longbench_chat": [8.0, 7.0, None, 6.0]}


def test_the_papers_table_is_on_its_scale_and_averages_its_four_columns() -> None:
    found = paper_table({"base": outcomes(BASE | CHAT_VALUES), "tuned": outcomes(TUNED | CHAT_VALUES)}, "gpt-4o")
    means = {name: (one["mean"], one["n"]) for name, one in found.to_json()["base"].items()}
    assert means == {
        **{"longbench_chat": (70, 3), "single_doc_qa": (50, 4), "multi_doc_qa": (50, 4), "summarization": (50, 2)},
        "average": (55, 13),
    }
    base = found.policies["base"]
    (low, high), ends = base["average"].interval, [one.interval for one in base.values()]
    # Columns of their own data move apart: their mean is surer than any of them.
    assert low < 55 < high and high - low < min(top - bottom for bottom, top in ends[1:4])
    page = found.markdown()
    heads = "LongBench-Chat | Single-doc QA | Multi-doc QA | Summarization | Average"
    assert page.splitlines()[0] == f"| The paper's table, 0 to 100 | {heads} |"
    assert "| base | 70.0 (" in page and "| tuned | 70.0 (" in page and "Judge: gpt-4o." in page


@pytest.mark.parametrize(
    ("values", "columns"),
    [
        (CHAT_VALUES, ["longbench_chat"]),
        (BASE, ["single_doc_qa", "multi_doc_qa", "summarization"]),
        (BASE | {"longbench_chat": [None]}, ["longbench_chat", "single_doc_qa", "multi_doc_qa", "summarization"]),
    ],
)
def test_without_one_of_the_four_columns_there_is_no_average(values: dict, columns: list[str]) -> None:
    assert list(paper_table({"base": outcomes(values)}).policies["base"]) == columns


def test_a_column_without_some_of_its_datasets_says_so() -> None:
    found = paper_table({"base": outcomes(BASE | CHAT_VALUES)})
    columns = found.to_json()["base"]
    assert columns["single_doc_qa"]["missing"] == ["narrativeqa", "multifieldqa_en", "multifieldqa_zh"]
    assert "missing" not in columns["longbench_chat"] and "missing" not in columns["average"]
    page = found.markdown()
    assert "Single-doc QA without narrativeqa, multifieldqa_en, multifieldqa_zh." in page
    assert "LongBench-Chat without" not in page
    # A column that is not there at all is no column without datasets.
    assert " without " not in paper_table({"base": outcomes(CHAT_VALUES)}).markdown()


def test_each_column_has_the_interval_that_it_has_by_itself() -> None:
    draw = random.Random(1)
    columns = [[[draw.random() for _ in range(20)], [draw.random() for _ in range(9)]] for _ in range(3)]
    found, _ = means_of_columns(columns, [UNIT] * 3)
    assert found == [mean_of_datasets(datasets, UNIT) for datasets in columns]


def test_a_column_alone_has_the_interval_of_its_datasets() -> None:
    values = [[0.1, 0.9, 0.4], [0.3, 0.6]]
    (column,), average = means_of_columns([values], [UNIT])
    assert column == average == mean_of_datasets(values, UNIT)


def test_the_same_values_give_the_same_interval() -> None:
    values = [[0.0, 0.5, 1.0, 1.0], [0.5, 0.5, 0.0]]
    assert mean_of_datasets(values, UNIT) == mean_of_datasets(values, UNIT)


@pytest.mark.parametrize(("size", "held"), [(12, 0.8), (60, 0.88)])
def test_the_interval_holds_the_true_mean_most_of_the_time(size: int, held: float) -> None:
    draw = random.Random(1)
    hits = 0
    for _ in range(60):
        one = mean_of_datasets([draw.choices([0.0, 0.5, 1.0], [2, 3, 5], k=size) for _ in range(2)], UNIT)
        assert one.interval is not None
        hits += one.interval[0] <= 0.65 <= one.interval[1]
    assert held <= hits / 60


def test_more_items_make_it_narrower() -> None:
    widths = [one[1] - one[0] for n in (4, 40, 400) if (one := mean_of_datasets([[0.0, 1.0] * n], UNIT).interval)]
    assert widths == sorted(widths, reverse=True) and widths[0] > 5 * widths[-1]


def test_a_dataset_of_one_item_spreads_like_all_items_together() -> None:
    one = mean_of_datasets([[0.0], [1.0], [0.5], [0.5]], UNIT)
    assert one.mean == 0.5 and one.interval is not None and one.interval[0] < 0.3 < 0.7 < one.interval[1]
    many = [0.0, 0.5, 1.0] * 20
    with_one, without = mean_of_datasets([many, [1.0]], UNIT).interval, mean_of_datasets([many, many], UNIT).interval
    assert with_one is not None and without is not None
    assert with_one[1] - with_one[0] > 3 * (without[1] - without[0])


@pytest.mark.parametrize(
    ("datasets", "mean"),
    [
        ([], None),
        ([[]], None),
        ([[0.5, 1.0], []], None),
        ([[0.5]], 0.5),
        ([[1.0, 1.0, 1.0]], 1.0),
        ([[1.0, 1.0], [0.0, 0.0]], 0.5),
    ],
)
def test_what_tells_nothing_of_the_spread_has_no_interval(datasets: list[list[float]], mean: float | None) -> None:
    one = mean_of_datasets(datasets, UNIT)
    assert (one.mean, one.interval) == (mean, None)
    assert one.text(2) == ("-" if mean is None else f"{mean:.2f}")


def test_evaluating_uses_no_framework() -> None:
    heavy = ("torch", "ray", "transformers", "vllm", "openrlhf", "deepspeed", "openai", "scipy")
    code = f"import sys, longreward.evaluation; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
