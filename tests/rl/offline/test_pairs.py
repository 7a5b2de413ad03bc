"""Pairs of scored answers: what is kept, why the rest is not, and what OpenRLHF makes of the file."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from longreward import LongReward, Sample
from longreward.errors import ConfigError, InputError
from longreward.files.jsonlines import Appender
from longreward.schema import ScoredAnswer
from longreward.store import Store
from rl.data import prompt_files
from rl.data.prompts import Label, document_hash
from rl.offline.pair_report import REASONS, PairReport
from rl.offline.pairs import PairSection, make_pairs

POLICY = Path(__file__).parents[3] / "rl" / "toy" / "policy"
EOS = "<|end|>"
QUERY = "What did Mara do?"


def record(rollout: str, total: float | None, prompt: str = "a", **fields) -> dict:
    """As a judge worker stores it, defaults left out."""
    about = {"id": prompt, "split": "train", "rollout": rollout, "truncated": False, "tokens": 10, "time": 1.8e9}
    text = {"query": QUERY, "answer": f"Answer {rollout} ."}
    return about | text | {"total": total, "dimensions": {"helpfulness": {"score": total}}} | fields


def dimensions(**scores: float | None) -> dict:
    return {
        name: {"score": score} if score is not None else {"score": None, "status": "x"}
        for name, score in scores.items()
    }


def write_prompts(path: Path, ids: list[str], query: str = QUERY) -> None:
    with Appender(path) as file:
        for identity in ids:
            head = f"<|user|>\nDocument {identity} .\n\n"
            label = Label(identity, "train", (9, len(head) - 2), (len(head), len(head) + len(query)))
            file.append({"input": f"{head}{query}<|end|>\n<|assistant|>\n", "label": label.to_json()})


def pair(folder: Path, records: list, ids=("a",), *, fits=None, **config) -> tuple[PairReport, list[dict]]:
    """Pairs of `records`, strings among them written as they are."""
    (folder / "store").mkdir(exist_ok=True)
    lines = [one if isinstance(one, str) else json.dumps(one) for one in records]
    (folder / "store" / "answers-0-1.jsonl").write_text("".join(line + "\n" for line in lines))
    (folder / "prompts.jsonl").unlink(missing_ok=True)
    write_prompts(folder / "prompts.jsonl", list(ids))
    out = folder / "out" / "pairs.jsonl"
    report = make_pairs([folder / "store"], folder / "prompts.jsonl", out, PairSection(**config), eos=EOS, fits=fits)
    assert report == PairReport.read(out)
    assert report.prompts == report.prompts_kept + sum(report.left_out.values())
    return report, [json.loads(line) for line in out.read_text().splitlines()]


def names(rows: list[dict]) -> list[tuple[str, str]]:
    return [(row["chosen"].split()[1], row["rejected"].split()[1]) for row in rows]


def test_the_best_answer_against_the_worst(tmp_path):
    report, rows = pair(tmp_path, [record(str(i), total) for i, total in enumerate([5, 9.25, 7, 2.5, 6])])
    assert rows == [
        {
            "id": "a",
            "prompt": f"<|user|>\nDocument a .\n\n{QUERY}<|end|>\n<|assistant|>\n",
            "chosen": "Answer 1 .<|end|>",
            "rejected": "Answer 3 .<|end|>",
            "chosen_score": 9.25,
            "rejected_score": 2.5,
        }
    ]
    assert (report.prompts, report.prompts_kept, report.pairs, report.answers, report.void) == (1, 1, 1, 5, 0)
    assert (report.chosen_score, report.rejected_score, report.chosen_tokens) == (9.25, 2.5, 10)


def test_an_empty_answer_is_one_as_the_store_writes_it(tmp_path):
    def empty(rollout: str) -> dict:
        reward = asyncio.run(LongReward.from_config({"judge": {"kind": "offline"}}).score(sample))
        about = {"rollout": rollout, "split": "train", "tokens": 1, "truncated": False}
        with Store(tmp_path / "written.jsonl") as store:
            store.append(ScoredAnswer.of(sample, reward, **about))
        return json.loads((tmp_path / "written.jsonl").read_text())

    sample = Sample(id="a", context="Document a .", query=QUERY, answer="")
    report, rows = pair(tmp_path, [*(record(str(i), 5 + i) for i in range(4)), empty("4")])
    assert (report.answers, report.broken) == (5, [])
    assert [(row["chosen"], row["rejected"]) for row in rows] == [("Answer 3 .<|end|>", EOS)]


def test_void_answers_neither_count_nor_enter(tmp_path):
    without_total = record("v2", None, "b")
    del without_total["total"]
    records = [record(f"a{i}", i) for i in range(4)] + [record("v1", None)]
    records += [record(f"b{i}", i + 1, "b") for i in range(5)] + [without_total]
    report, rows = pair(tmp_path, records, ["a", "b"])
    assert [row["id"] for row in rows] == ["b"] and names(rows) == [("b4", "b0")]
    assert report.left_out == {"too_few_answers": 1}
    assert (report.answers, report.void) == (11, 2)


def test_an_answer_scored_twice_counts_once(tmp_path):
    records = [record("1", None, time=3.0), record("1", 9, time=2.0), record("2", 1), record("2", 4, time=9e9)]
    report, rows = pair(tmp_path, [*records, record("3", 5)], min_answers=3)
    assert names(rows) == [("1", "2")]
    assert (rows[0]["chosen_score"], rows[0]["rejected_score"]) == (9, 4)
    assert (report.answers, report.void, report.twice) == (3, 0, 2)
    report, _ = pair(tmp_path, [*records, record("3", 5)], min_answers=4)
    assert report.left_out == {"too_few_answers": 1}


def prompts_of(path: Path, documents: list[tuple[str, str]], *, old: bool = False) -> Path:
    """Prompts with the same question about (id, document). `old`: from before the document was kept."""
    with Appender(path) as file:
        for identity, text in documents:
            prompt, label = Label.of_text(identity, "train", text, QUERY)
            file.append({"input": prompt, "label": (replace(label, document="") if old else label).to_json()})
    return path


def paired(folder: Path, records: list[dict], prompts: Path) -> tuple[PairReport, list[dict]]:
    with Appender(folder / "store" / "answers-0.jsonl") as file:
        for one in records:
            file.append(one)
    report = make_pairs([folder / "store"], prompts, folder / "pairs.jsonl", PairSection(), eos=EOS, fits=None)
    return report, [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("old", [False, True], ids=["prompts of now", "prompts of before"])
def test_answers_about_another_document_of_the_same_id_enter_no_pair(tmp_path, old):
    """Another run's store, over other data whose ids begin at 0 too, with the same question."""
    about = {name: document_hash(f"{name} sold copper.") for name in ("Mara", "Karl")}
    records = [record(f"m{i}", 6 + i / 9, answer=f"Mara {i}", document=about["Mara"]) for i in range(6)]
    records += [record(f"k{i}", i / 9, answer=f"Karl {i}", document=about["Karl"]) for i in range(6)]
    prompts = prompts_of(tmp_path / "prompts.jsonl", [("a", "Mara sold copper.")], old=old)
    report, rows = paired(tmp_path, records, prompts)
    assert [(row["chosen"], row["rejected"]) for row in rows] == [(f"Mara 5{EOS}", f"Mara 0{EOS}")]
    assert report.left_out == {"no_prompt": 1}


def test_answers_of_before_are_paired_where_their_id_has_one_document(tmp_path):
    documents = [("a", "Mara sold copper."), ("a", "Karl sold copper."), ("b", "Lena sold copper.")]
    records = [record(f"{prompt}{i}", i, prompt, answer=f"{prompt} {i}") for prompt in "ab" for i in range(6)]
    report, rows = paired(tmp_path, records, prompts_of(tmp_path / "prompts.jsonl", documents, old=True))
    assert [row["id"] for row in rows] == ["b"], "nobody knows which document the answers of a are about"
    assert report.left_out == {"no_answers": 2, "no_prompt": 1}


def test_several_stores_may_have_the_same_rollouts(tmp_path):
    """Answers that are collected are told by number, in every run anew. A copy of a store is no second answer."""
    pair(tmp_path, [record("a/0", 9), record("a/1", 1), record("a/1", 2, answer="Again .", time=1.9e9)], min_answers=2)
    stores = [tmp_path / "store", tmp_path / "other", tmp_path / "copy"]
    with Appender(stores[1] / "answers-0.jsonl") as file:
        file.append(record("a/0", 5, answer="Of another policy ."))
        file.append(record("a/1", 1, answer="Of another policy too ."))
    with Appender(stores[2] / "answers-0.jsonl") as file:
        file.append(record("a/0", 9))
    written = []
    for order in (stores, stores[::-1]):
        out, section = tmp_path / "pairs.jsonl", PairSection(min_answers=4, per_prompt=3)
        report = make_pairs(order, tmp_path / "prompts.jsonl", out, section, eos=EOS, fits=None)
        assert (report.answers, report.twice) == (4, 2)
        written.append(out.read_bytes())
    assert written[0] == written[1]
    rows = [json.loads(line) for line in written[0].splitlines()]
    assert [(row["chosen_score"], row["rejected_score"]) for row in rows] == [(9, 1), (5, 2)]


def test_pairs_by_some_dimensions(tmp_path):
    scores = [(9, 2), (5, 8), (1, 9)]
    records = [
        record(str(i), 5, dimensions=dimensions(helpfulness=helpful, faithfulness=faithful))
        for i, (helpful, faithful) in enumerate(scores)
    ]
    assert names(pair(tmp_path, records, min_answers=3, weights={"helpfulness": 1})[1]) == [("0", "2")]
    _, rows = pair(tmp_path, records, min_answers=3, weights={"helpfulness": 1, "faithfulness": 3, "logicality": 0})
    assert names(rows) == [("1", "0")]
    assert (rows[0]["chosen_score"], rows[0]["rejected_score"]) == (7.25, 3.75)
    # One dimension missing: no weighted mean. A void total: void, whatever the dimensions.
    records += [
        record("3", 5, dimensions=dimensions(helpfulness=10)),
        record("4", None, dimensions=records[0]["dimensions"]),
    ]
    report, rows = pair(tmp_path, records, min_answers=3, weights={"helpfulness": 1, "faithfulness": 1})
    assert names(rows) == [("1", "2")] and report.void == 2
    with pytest.raises(ConfigError, match=r"pair\.weights: no answer .* was scored for completeness"):
        pair(tmp_path, records, weights={"helpfulness": 1, "completeness": 1})


def test_sums_in_another_order_are_no_difference(tmp_path):
    thirds = [(7, 8, 9), (9, 8, 7), (8, 9, 7)]
    records = [
        record(str(i), 8, dimensions=dimensions(helpfulness=a, logicality=b, faithfulness=c))
        for i, (a, b, c) in enumerate(thirds)
    ]
    weights = {"helpfulness": 0.1, "logicality": 0.1, "faithfulness": 0.1}
    report, _ = pair(tmp_path, records, min_answers=2, weights=weights)
    assert report.left_out == {"too_close": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"weights": {"helpfulness": 0}},
        {"weights": {}},
        {"weights": {"helpfulness": -1}},
        {"weights": {"helpfulness": float("nan")}},
        {"weights": {"beauty": 1}},
        {"max_length_ratio": 0.9},
        {"min_answers": 1},
        {"min_margin": 10},
        {"per_prompt": 0},
    ],
)
def test_a_section_that_cannot_work_is_refused(wrong):
    with pytest.raises(ValidationError):
        PairSection(**wrong)


def test_the_margin_is_to_be_exceeded(tmp_path):
    records = [record("0", 8.3), record("1", 8.2), record("2", 8.25)]
    assert pair(tmp_path, records, min_answers=2, min_margin=0.1)[0].left_out == {"too_close": 1}
    assert pair(tmp_path, records, min_answers=2, min_margin=0.09)[0].pairs == 1
    assert pair(tmp_path, [record("0", 8), record("1", 8)], min_answers=2)[0].left_out == {"too_close": 1}


def test_length_matched_pairs_are_those_furthest_apart_that_match(tmp_path):
    lengths = {"0": (9, 400), "1": (8, 120), "2": (3, 130), "3": (2, 210), "4": (1, 50)}
    records = [record(name, score, tokens=tokens) for name, (score, tokens) in lengths.items()]
    _, rows = pair(tmp_path, records, max_length_ratio=2)
    assert names(rows) == [("0", "3")]
    _, rows = pair(tmp_path, records, max_length_ratio=1.1, per_prompt=3)
    assert names(rows) == [("1", "2")]
    report, rows = pair(
        tmp_path, [record("0", 9, tokens=0), record("1", 1, tokens=1)], min_answers=2, max_length_ratio=9
    )
    assert rows == [] and report.left_out == {"length": 1}


def test_several_pairs_per_prompt(tmp_path):
    records = [record(str(i), i) for i in range(7)]
    assert names(pair(tmp_path, records, per_prompt=2)[1]) == [("6", "0"), ("5", "1")]
    assert names(pair(tmp_path, records, per_prompt=9)[1]) == [("6", "0"), ("5", "1"), ("4", "2")]
    assert names(pair(tmp_path, records, per_prompt=9, min_margin=2)[1]) == [("6", "0"), ("5", "1")]


def test_an_answer_that_was_cut_is_never_chosen(tmp_path):
    cut = {"truncated": True}
    records = [record("0", 9, **cut), record("1", 8), record("2", 3), record("3", 1, **cut)]
    assert names(pair(tmp_path, records, min_answers=4)[1]) == [("1", "3")]
    report, rows = pair(tmp_path, records, min_answers=4, skip_truncated=True)
    assert names(rows) == [("1", "2")] and report.cut == 2
    report, _ = pair(tmp_path, [record("0", 9, **cut), record("1", 8)], min_answers=2)
    assert report.left_out == {"unusable": 1}


def test_the_end_of_text_mark_stands_once_and_at_the_end(tmp_path):
    answers = [f"Good .{EOS}\n {EOS}", f"Mid{EOS} dle .", "Bad .\n", "", "Good ."]
    records = [record(str(i), 9 - i, answer=answer) for i, answer in enumerate(answers)]
    report, rows = pair(tmp_path, records, per_prompt=5)
    assert [(row["chosen"], row["rejected"]) for row in rows] == [
        ("Good .<|end|>", "<|end|>"),
        ("Bad .\n<|end|>", "Good .<|end|>"),
    ]
    assert report.unwritable == 1
    same = [record("0", 9, answer="Good ."), record("1", 1, answer=f"Good .{EOS}")]
    assert pair(tmp_path, same, min_answers=2)[0].left_out == {"unusable": 1}
    with pytest.raises(ConfigError, match="end-of-text token is ''"):
        make_pairs([tmp_path / "store"], tmp_path / "prompts.jsonl", tmp_path / "o", PairSection(), eos="", fits=None)


def test_pairs_that_the_trainer_would_cut_are_left_out(tmp_path):
    records = [record(f"{p}{i}", i, p) for p in "ab" for i in range(5)]
    asked = []

    def fits(prompt: str, answer: str) -> bool:
        asked.append(answer)
        return answer != "Answer a0 .<|end|>"

    report, rows = pair(tmp_path, records, ["b", "a"], fits=fits)
    assert [row["id"] for row in rows] == ["b"]
    assert (report.pairs_too_long, report.left_out) == (1, {"too_long": 1})
    assert all(answer.endswith(EOS) for answer in asked)
    report, rows = pair(tmp_path, records, ["b", "a"], fits=fits, per_prompt=2)
    assert names(rows) == [("b4", "b0"), ("b3", "b1"), ("a3", "a1")]
    assert (report.pairs_too_long, report.left_out, report.prompts_kept) == (1, {}, 2)


def test_prompts_and_answers_that_have_no_other_side(tmp_path):
    records = [record(str(i), i, "a") for i in range(5)] + [record("x", 5, "gone")]
    records += [record("h", 5, split="heldout")] + [
        record(f"q{i}", i, "b", query="Another question?") for i in range(5)
    ]
    report, rows = pair(tmp_path, records, ["b", "a", "unasked", "a"])
    assert [row["id"] for row in rows] == ["a"]
    assert report.left_out == {"no_answers": 2, "no_prompt": 2}  # b was asked something else
    assert report.answers == 11
    assert len(report.broken) == 1 and "prompts.jsonl:4: id 'a' stands there before" in report.broken[0]


def test_broken_lines_are_told_with_file_and_line(tmp_path):
    lacking = record("x", 10)
    del lacking["rollout"]
    wrong = [
        "{",
        "",
        "[1]",
        "\0\0",
        "[" * 100_000,
        lacking,
        record("x", 10.5),
        record("x", True),
        record("x", 5, tokens=-1),
    ]
    wrong += [json.dumps(record("x", 5, answer="\ud83d")), json.dumps(record("x", 5)).replace("5", "NaN")]
    records = [*wrong, *[record(str(i), i) for i in range(5)], json.dumps(record("y", 10))[:-40]]
    report, rows = pair(tmp_path, records)
    assert names(rows) == [("4", "0")]
    assert [int(problem.split(":")[1]) for problem in report.broken] == [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 17]
    assert all(problem.startswith(f"{tmp_path}/store/answers-0-1.jsonl:") for problem in report.broken)
    assert "rollout" in report.broken[4] and "<= 10" in report.broken[5]
    assert "11 unreadable lines" in report.sentence()


def test_what_only_the_judge_said_cannot_break_a_record(tmp_path):
    """Half a surrogate pair is valid for the store, in a judge's reply that was cut, say."""
    records = [record(str(i), i, seconds=float("nan")) for i in range(5)]
    records[4]["dimensions"]["helpfulness"]["calls"] = [{"kind": "helpfulness", "text": "half \ud83d"}]
    report, rows = pair(tmp_path, records)
    assert names(rows) == [("4", "0")] and report.broken == []


def test_broken_prompts_are_told(tmp_path):
    pair(tmp_path, [record(str(i), i) for i in range(5)])
    prompts = tmp_path / "prompts.jsonl"
    good = prompts.read_text()
    prompts.write_text('{"input": "x"}\n{"input": "x", "label": "{}"}\n{"input": "x", "label": "["}\n' + good)
    report = make_pairs([tmp_path / "store"], prompts, tmp_path / "p.jsonl", PairSection(), eos=EOS, fits=None)
    assert report.pairs == 1
    assert [problem.split("/")[-1].split(" ")[0] for problem in report.broken] == [
        f"prompts.jsonl:{i}:" for i in (1, 2, 3)
    ]


def test_nothing_to_read_is_an_error(tmp_path):
    arguments = (tmp_path / "prompts.jsonl", tmp_path / "out.jsonl", PairSection())
    with pytest.raises(InputError, match=r"no answers-\*\.jsonl in .*; give the store/ of a run"):
        make_pairs([tmp_path], *arguments, eos=EOS, fits=None)
    (tmp_path / "answers-0.jsonl").write_text("")
    with pytest.raises(InputError, match=r"prompts\.jsonl cannot be read"):
        make_pairs([tmp_path], *arguments, eos=EOS, fits=None)
    assert list(tmp_path.glob("*out*")) == []
    write_prompts(tmp_path / "prompts.jsonl", ["a"])
    report = make_pairs([tmp_path, tmp_path / "mistyped"], *arguments, eos=EOS, fits=None)
    assert report.broken == [f"{tmp_path}/mistyped: no answers-*.jsonl there"]
    assert (report.pairs, report.left_out) == (0, {"no_answers": 1})
    assert (tmp_path / "out.jsonl").read_text() == "" and report.sentence().startswith("0 pairs from 0 of 1 prompts")


def test_a_store_that_changes_meanwhile_is_an_error(tmp_path):
    def fits(prompt: str, answer: str) -> bool:
        (tmp_path / "store" / "answers-0-1.jsonl").write_text("")
        return True

    with pytest.raises(InputError, match="was changed while it was read"):
        pair(tmp_path, [record(str(i), i) for i in range(5)], fits=fits, per_prompt=2)


def test_the_report_tells_everything(tmp_path):
    records = [record(f"a{i}", i, "a", tokens=10 * i) for i in range(5)] + [record("b", 5, "b"), record("v", None, "b")]
    report, _ = pair(tmp_path, [*records, "{"], ["a", "b", "c"])
    sentence = report.sentence()
    assert sentence.startswith(
        "1 pairs from 1 of 3 prompts (7 answers, 1 void); score 4.00 against 0.00, 40 against 0 tokens"
    )
    assert "1 prompts: no answer in the store; 1 prompts: fewer scored answers" in sentence
    assert report.chosen_longer == 1
    rows = dict(report.rows())
    assert {f"- {words}" for words in REASONS.values()} <= rows.keys()
    assert (rows["- void, in no pair"], rows["- mean score, chosen / rejected"]) == ("1", "4.00 / 0.00")


SCORES = st.one_of(st.none(), st.integers(0, 12).map(lambda n: n / 1.2))
ANSWERS = st.lists(
    st.builds(
        lambda prompt, rollout, total, tokens, truncated, time: record(
            f"r{rollout}", total and round(total, 3), prompt, tokens=tokens, truncated=truncated, time=float(time)
        ),
        prompt=st.sampled_from("ab"),
        rollout=st.integers(0, 12),
        total=SCORES,
        tokens=st.integers(0, 5),
        truncated=st.booleans(),
        time=st.integers(0, 2),
    ),
    min_size=8,
    max_size=50,
)
CONFIGS = st.fixed_dictionaries(
    {
        "min_answers": st.integers(2, 6),
        "min_margin": st.sampled_from([0.0, 0.833, 3.0]),
        "max_length_ratio": st.sampled_from([None, 1.0, 2.0]),
        "per_prompt": st.integers(1, 4),
        "skip_truncated": st.booleans(),
    }
)


@settings(max_examples=80, deadline=None)
@given(records=ANSWERS, config=CONFIGS, seed=st.integers(0, 99))
def test_whatever_the_answers(records, config, seed):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report, rows = pair(folder, records, ["b", "a", "c"], **config)
        written = (folder / "out" / "pairs.jsonl").read_bytes()

        # The same records in another order, over two stores.
        random.Random(seed).shuffle(records)
        (folder / "store" / "answers-0-1.jsonl").unlink()
        with (
            Appender(folder / "store" / "answers-0-2.jsonl") as one,
            Appender(folder / "other" / "answers-7-7.jsonl") as two,
        ):
            for number, each in enumerate(records):
                (one, two)[number % 2].append(each)
        stores, section = [folder / "store", folder / "other"], PairSection(**config)
        again = make_pairs(stores, folder / "prompts.jsonl", folder / "again.jsonl", section, eos=EOS, fits=None)
        assert (folder / "again.jsonl").read_bytes() == written
        assert again == report

    known: dict[tuple[str, str], list[dict]] = {}
    for each in records:
        known.setdefault((each["id"], each["rollout"]), []).append(each)
    assert report.answers == len(known)
    assert report.void == sum(all(one["total"] is None for one in same) for same in known.values())
    used = [(row["id"], text.split()[1]) for row in rows for text in (row["chosen"], row["rejected"])]
    assert len(used) == len(set(used)), "an answer is used twice"
    for row in rows:
        chosen, rejected = (known[row["id"], row[side].split()[1]] for side in ("chosen", "rejected"))
        assert row["chosen_score"] in [one["total"] for one in chosen]
        assert row["rejected_score"] in [one["total"] for one in rejected]
        assert row["chosen_score"] - row["rejected_score"] > config["min_margin"]
        assert any(not one["truncated"] for one in chosen)
        assert not config["skip_truncated"] or any(not one["truncated"] for one in rejected)
        if config["max_length_ratio"]:
            ratios = [
                max(a["tokens"], b["tokens"]) <= config["max_length_ratio"] * min(a["tokens"], b["tokens"])
                for a in chosen
                for b in rejected
            ]
            assert any(ratios)
    for identity in "ab":
        scores = {key: [one["total"] for one in same if one["total"] is not None] for key, same in known.items()}
        valid = [each for key, each in scores.items() if key[0] == identity and each]
        assert len([row for row in rows if row["id"] == identity]) <= config["per_prompt"]
        assert len(valid) >= config["min_answers"] or identity not in [row["id"] for row in rows]


def test_an_online_runs_record_is_used_as_it_is(tmp_path, rows):
    """Scored by the library and stored as a judge worker does."""

    async def score() -> list[dict]:
        reward = LongReward.from_config({"judge": {"kind": "offline"}})
        found = []
        for number, one in enumerate(rows):
            sample = Sample(id="a", context=one["context"], query=QUERY, answer=one["answer"])
            scored = await reward.score(sample)
            about = {"split": "train", "rollout": f"{number:032x}", "truncated": False, "tokens": 9, "time": 1.8e9}
            with Store(tmp_path / f"{number}.jsonl") as part:
                part.append(ScoredAnswer.of(sample, scored, **about))
            found.append(json.loads((tmp_path / f"{number}.jsonl").read_text()))
        await reward.aclose()
        return found

    records = asyncio.run(score())
    for weights in (None, {"faithfulness": 2.0, "completeness": 1.0}):
        report, pairs = pair(tmp_path, records, min_answers=3, weights=weights)
        assert report.broken == [] and report.void == 0
        assert pairs[0]["chosen"] == rows[0]["answer"] + EOS


READ_BY_OPENRLHF = """
import json, sys
from types import SimpleNamespace
from openrlhf.datasets import reward_dataset, utils
from openrlhf.utils import get_tokenizer
path, policy = sys.argv[1:]
data = SimpleNamespace(prompt_key="prompt", chosen_key="chosen", rejected_key="rejected", apply_chat_template=False)
strategy = SimpleNamespace(args=SimpleNamespace(data=data), print=lambda *_: None, is_rank_0=lambda: False)
dataset = utils.blending_datasets(path, None, strategy)
tokenizer = get_tokenizer(policy, None, "right")
made = reward_dataset.RewardDataset(dataset, tokenizer, 512, strategy, is_dpo=True, num_processors=1)
items = [made[i] for i in range(len(made))]
print(json.dumps([[chosen[0].tolist(), rejected[0].tolist(), extra] for chosen, _, rejected, _, extra in items]))
"""


def test_openrlhf_trains_on_exactly_the_answers_tokens(tmp_path):
    """Its own RewardDataset: prompt, answer, end of text, and nothing between."""
    tokenizer = prompt_files.load_tokenizer(str(POLICY))
    source = tmp_path / "in.jsonl"
    with Appender(source) as file:
        for number in range(3):
            file.append(
                {"idx": f"d{number}", "context": "Mara sold copper to Otto in Lisbon.", "query": "What did Mara do?"}
            )
    prompts = tmp_path / "prompts.jsonl"
    prompt_files.prepare(source, prompts, tokenizer, 500, "train")
    good, bad = "Mara sold copper to Otto in Lisbon.", "Otto sold copper.\n"
    with Appender(tmp_path / "store" / "answers-0.jsonl") as file:
        for number in range(3):
            for i in range(5):
                answer = good if i == 0 else bad + "," * i
                file.append(record(f"{number}-{i}", 9 - i, f"d{number}", query="What did Mara do?", answer=answer))
    out = tmp_path / "pairs.jsonl"
    assert make_pairs([tmp_path / "store"], prompts, out, PairSection(), eos=tokenizer.eos_token, fits=None).pairs == 3

    words = [sys.executable, "-c", READ_BY_OPENRLHF, str(out), str(POLICY)]
    environment = {"HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "LONGREWARD_DEVICE": "cpu"}
    ran = subprocess.run(words, capture_output=True, text=True, env=os.environ | environment)
    assert ran.returncode == 0, ran.stderr
    items = json.loads(ran.stdout.splitlines()[-1])
    assert len(items) == 3

    def tokens(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    prompt = json.loads(prompts.read_text().splitlines()[0])["input"]
    for chosen, rejected, prompt_length in items:
        assert prompt_length == len(tokens(prompt))
        assert chosen == tokens(prompt) + tokens(good) + [tokenizer.eos_token_id]
        assert rejected == tokens(prompt) + tokens(bad + ",,,,") + [tokenizer.eos_token_id]
