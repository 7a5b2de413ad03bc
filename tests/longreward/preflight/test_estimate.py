"""What judging will cost: the calls are those that are made, and a person can read it before anything is spent."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from longreward import LongReward, RewardConfig, Sample
from longreward.config_file import validate
from longreward.preflight.estimate import Estimate, estimate, throughput
from longreward.text.amounts import clock, duration, money, rounded
from longreward.text.sentences import split_sentences
from longreward.text.tokens import tokens_in

QUERY = "What did the merchants sell?"
GOODS = "copper silver apples wool salt amber tin linen pepper ink barley honey".split()
DIMENSION_OF = {"statements": "faithfulness", "verify": "faithfulness", "verify_many": "faithfulness"}
DIMENSION_OF |= {"extract": "completeness"}


def list_sentences(prompt: str, _: int) -> str:
    """The judge's reply where each sentence of the answer is a statement."""
    answer = prompt.rpartition("<answer>\n")[2].partition("\n</answer>")[0]
    return "\n".join(f"<statement>{sentence}</statement>" for sentence in split_sentences(answer))


def configured(**sections) -> RewardConfig:
    return validate(RewardConfig, sections)


def sentences(count: int, seed: object) -> str:
    rng = random.Random(str(seed))
    seller, buyer = (rng.choice("BDFGKLMNPRST") + rng.choice(["alin", "era", "ino", "osta"]) for _ in range(2))
    return " ".join(
        f"{seller} sold {rng.choice(GOODS)} to {buyer} for {rng.randrange(10**6)} crowns." for _ in range(count)
    )


def samples(documents: int = 1, answers: int = 10, stated: int = 10, length: int = 200, first: int = 0) -> list[Sample]:
    return [
        Sample(id=f"{d}-{a}", context=sentences(length, d), query=QUERY, answer=sentences(stated, f"{d}-{a}"))
        for d in range(first, first + documents)
        for a in range(answers)
    ]


@pytest.mark.parametrize(("statements_per_call", "calls"), [(1, 148), (3, 88)])
def test_a_group_of_ten_at_eight_chunks_and_ten_statements(statements_per_call, calls):
    # 200 sentences of 9 tokens are 8 chunks of 225.
    config = configured(chunking={"extraction_tokens": 225}, faithfulness={"statements_per_call": statements_per_call})
    expected = estimate(samples(), config)
    assert expected.calls == calls
    assert expected.dimensions["completeness"].calls == 8 + 10
    assert (expected.answers, expected.documents, expected.sampled) == (10, 1, 1)


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"faithfulness": {"statements_per_call": 3}},
        {"faithfulness": {"skip_verbatim": True}},
        {"weights": {"helpfulness": 1, "faithfulness": 2}},
        {"weights": {"completeness": 1, "logicality": 0}},
        {"retrieval": {"top_k": 2}, "chunking": {"evidence_tokens": 32, "extraction_tokens": 100}},
    ],
)
def test_the_calls_are_those_that_are_made(judge_server, sections):
    """Where the judge finds each sentence to be a statement the calls agree exactly, the prompts within a tenth."""

    judge_server.script = {"statements": list_sentences, "extract": lambda p, _: "x " * 300}
    config = configured(
        **{"chunking": {"extraction_tokens": 300, "evidence_tokens": 64}} | sections,
        judge={"kind": "openai", "base_url": judge_server.url, "model": "judge"},
    )
    some = samples(documents=3, answers=3, stated=5)
    # Said by another answer, said by the document itself, nothing said at all.
    if config.faithfulness.statements_per_call == 1:  # in batches it matters which of the two comes first
        some[1].answer = some[0].answer + " Lena sold nothing."
    some[4].answer += " " + split_sentences(some[4].context)[7]
    some[8].answer = " ... "
    asyncio.run(score(config, some))

    expected = estimate(some, config)
    calls: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for kind, prompt in judge_server.prompts:
        calls[DIMENSION_OF.get(kind, kind)] += 1
        tokens[DIMENSION_OF.get(kind, kind)] += tokens_in(prompt)
    assert {name: usage.calls for name, usage in expected.dimensions.items()} == calls
    for name, usage in expected.dimensions.items():
        assert usage.prompt_tokens == pytest.approx(tokens[name], rel=0.1), name


async def score(config: RewardConfig, some: list[Sample]) -> None:
    reward = LongReward.from_config(config)
    try:
        results = await reward.score_many(some)
        assert all(result.total is not None for result in results)
    finally:
        await reward.aclose()


def test_a_token_is_about_four_letters_or_one_chinese_character():
    assert tokens_in("letters and words " * 70) == pytest.approx(300, rel=0.01)
    assert tokens_in("北京的铜价上涨" * 100) == 700


def test_answers_that_are_not_written_yet():
    context = sentences(200, 1)
    config = configured(chunking={"extraction_tokens": 225})
    expected = estimate([(context, QUERY)], config, answers_per_prompt=10)
    # 300 tokens make ten statements.
    assert expected.calls == 148 and expected.answers == 10
    assert estimate([(context, QUERY), (context, QUERY)], config, answers_per_prompt=10) == expected
    assert estimate(samples()[:3], config, answers_per_prompt=10).answers == 10
    longer = estimate([(context, QUERY)], config, answers_per_prompt=10, answer_tokens=600)
    assert longer.calls == 248
    rated = expected.dimensions["helpfulness"].prompt_tokens
    assert longer.dimensions["helpfulness"].prompt_tokens - rated == pytest.approx(10 * 300, rel=0.05)
    assert estimate([("", QUERY)], config).dimensions["completeness"].calls == 1


def test_price_and_scale():
    price = {"prompt_per_million": 2.0, "completion_per_million": 10.0}
    expected = estimate(samples(), configured(judge={"price": price}))
    assert expected.cost == pytest.approx(2e-6 * expected.prompt_tokens + 1e-5 * expected.completion_tokens)
    assert sum(usage.cost for usage in expected.dimensions.values()) == pytest.approx(expected.cost)
    assert estimate(samples(), configured()).cost == 0
    double = expected.scaled(2)
    assert (double.calls, double.answers, double.cost) == (2 * expected.calls, 20, pytest.approx(2 * expected.cost))
    assert double.dimensions["faithfulness"].calls == 2 * expected.dimensions["faithfulness"].calls
    assert Estimate.model_validate_json(expected.model_dump_json()) == expected


def test_nothing_is_asked_about_empty_answers_and_in_an_empty_file():
    empty = [Sample(context="Something.", query=QUERY, answer=answer) for answer in ("", " \n", "...!")]
    for items in (empty, []):
        expected = estimate(items, configured())
        assert expected.calls == expected.tokens == expected.answers == expected.documents == 0


def test_a_sample_of_the_documents_stands_for_all_in_any_order():
    rng = random.Random(1)
    many = []
    for d in range(300):
        stated, length = rng.randrange(2, 9), rng.randrange(5, 120)
        many += samples(answers=rng.randrange(1, 4), stated=stated, length=length, first=d)
    config = configured(chunking={"extraction_tokens": 100})
    whole, sampled = estimate(many, config, sample=1000), estimate(many, config, sample=60)
    assert sampled.sampled == 60 and (sampled.answers, sampled.documents) == (whole.answers, whole.documents)
    for name, usage in whole.dimensions.items():
        assert sampled.dimensions[name].calls == pytest.approx(usage.calls, rel=0.05)
        assert sampled.dimensions[name].prompt_tokens == pytest.approx(usage.prompt_tokens, rel=0.1)
    rng.shuffle(many)
    assert estimate(many, config, sample=60).calls == pytest.approx(sampled.calls, rel=0.001)


def test_long_data_is_not_held_in_memory():
    prompts = ((f"{i} {'word ' * 100_000}", QUERY) for i in range(100))
    tracemalloc.start()
    expected = estimate(prompts, configured(weights={"helpfulness": 1}), sample=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert expected.answers == 100
    assert peak < 10e6  # all contexts together are 50 MB


def test_what_decides_how_long_it_takes():
    expected = Estimate(calls=6000, prompt_tokens=5_000_000, completion_tokens=1_000_000)
    free = configured(judge={"max_in_flight": 100}).judge
    pace = throughput(expected, free, 2.0)
    assert pace.seconds == 120 and pace.binding == "judge.max_in_flight" and pace.calls_per_second == 50
    assert pace.tokens_per_minute == 3_000_000
    urls = [{"base_url": f"http://host{i}/v1"} for i in range(3)]
    limited = configured(judge={"endpoints": urls, "requests_per_minute": 1000, "tokens_per_minute": 400_000}).judge
    pace = throughput(expected, limited, 2.0)
    assert pace.in_flight == 3 * 256
    assert pace.seconds_by["judge.requests_per_minute"] == 120
    assert pace.seconds == 300 and pace.binding == "judge.tokens_per_minute"
    limited.endpoints[0].tokens_per_minute = 2_000_000
    assert throughput(expected, limited, 2.0).seconds_by["judge.tokens_per_minute"] == 360e6 / 2_800_000
    assert throughput(Estimate(calls=1), free, 2.0).seconds == 4
    assert throughput(Estimate(), free, 2.0).seconds == 0


def test_amounts_in_words():
    assert [rounded(n) for n in (0, 9999, 10_000, 999_499, 999_500, 2.14e6, 3.5e9)] == (
        ["0", "9,999", "10k", "999k", "1M", "2.14M", "3.5B"]
    )
    assert [money(x) for x in (0, 1234.5, 0.5, 0.047, 0.003, 1e-6)] == (
        ["0.00", "1,234.50", "0.50", "0.047", "0.0030", "under 0.0001"]
    )
    assert [duration(s) for s in (0.5, 59.4, 60, 148, 3599.9, 7260, 3e5)] == (
        ["0.5 s", "59 s", "1 min", "2 min 28 s", "60 min", "2 h 1 min", "3.5 days"]
    )
    assert [clock(s) for s in (0, 65.4, 3599.6, 4500)] == ["0:00", "1:05", "1:00:00", "1:15:00"]


# The command


def run(*arguments, command="estimate", **options) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "longreward", command, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, **options)


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def source(tmp_path) -> Path:
    some = [sample.model_dump() for sample in samples(documents=2, answers=3, stated=4)]
    return write(tmp_path / "in.jsonl", [some[0], *some])


def row_of(text: str, name: str, title: str = "") -> list[str]:
    after = text.partition(title)[2] if title else text
    return next(line.split() for line in after.splitlines() if line.startswith(name))


def test_the_command_tells_calls_cost_and_time(source):
    done = run(
        *(source, "judge.price.prompt_per_million=2", "chunking.extraction_tokens=225", "judge.spend.max_cost=0.001"),
        *("judge.requests_per_minute=30", "--latency", "1"),
        env={"COLUMNS": "80"},
    )
    assert done.returncode == 0, done.stderr
    # Per document 8 chunks; per answer 3 ratings, the list of statements and four of them.
    assert row_of(done.stdout, "total")[1] == str(2 * 8 + 6 * 8)
    assert float(row_of(done.stdout, "total")[-1]) > 0
    assert "6 answers about 2 documents" in done.stdout
    assert "2 min 8 s by judge.requests_per_minute <- this decides" in done.stdout
    assert "of judge.spend.max_cost=0.001, DOES NOT FIT" in done.stdout
    assert "\x1b" not in done.stdout


def test_without_a_price_it_says_how_to_give_one(source):
    done = run(source)
    assert row_of(done.stdout, "total")[-1] == "-" and "judge.price.prompt_per_million=" in done.stdout
    config = source.with_name("reward.yaml")
    config.write_text("judge: {price: {completion_per_million: 3}}\nweights: {logicality: 1}\n")
    priced = run(source, "--config", config)
    assert row_of(priced.stdout, "total")[1] == "6" and row_of(priced.stdout, "total")[-1] != "-"


def test_prompts_get_as_many_answers_as_are_asked_for(tmp_path):
    prompts = [sample.model_dump(exclude={"answer"}) for sample in samples(documents=2, answers=1)]
    source = write(tmp_path / "prompts.jsonl", [*prompts, prompts[0] | {"answer": None}])
    done = run(source, "--answers", "10", "--answer-tokens", "90", "chunking.extraction_tokens=225")
    assert row_of(done.stdout, "total")[1] == str(2 * (8 + 10 * (4 + 3)))
    assert "10 per prompt, of 90 tokens" in done.stdout
    assert "2 answers" in run(source).stdout


def test_how_far_it_was_off(source, tmp_path, judge_server):
    judge_server.script = {"statements": lambda prompt, _: "\n".join(list_sentences(prompt, _).splitlines()[:2])}
    judge = ("--judge", "openai", "--base-url", judge_server.url, "--model", "judge", "chunking.extraction_tokens=225")
    out = tmp_path / "out.jsonl"
    assert run(source, "--out", out, *judge, command="score").returncode == 0
    made = judge_server.calls.total()
    done = run(source, *judge, "--against", out)
    assert done.returncode == 0, done.stderr
    assert judge_server.calls.total() == made  # estimating asks nothing
    assert row_of(done.stdout, "helpfulness", "6 answers scored")[1:3] == ["6", "1.00"]
    assert row_of(done.stdout, "completeness", "6 answers scored")[1:3] == ["22", "1.00"]
    # The judge found two statements where four were expected.
    assert row_of(done.stdout, "faithfulness", "6 answers scored")[1:3] == ["18", "0.60"]
    assert row_of(done.stdout, "total", "6 answers scored")[1] == str(made)
    assert "compare with care" not in done.stdout
    other = run(source, *judge, "--against", out, "retrieval.top_k=1")
    assert "scored with another configuration" in other.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing.jsonl"], "missing.jsonl cannot be read"),
        (["broken.jsonl"], "no readable row with context and query; first problem: broken.jsonl:1: query must be text"),
        (["in.jsonl", "--against", "none.jsonl"], "none.jsonl cannot be read"),
        (["in.jsonl", "--against", "in.jsonl"], "in.jsonl:1: not a scored answer"),
        (["in.jsonl", "--against", "empty.jsonl"], "empty.jsonl holds no scores"),
        (["in.jsonl", "judge.prize=1"], "unknown key 'judge.prize'; did you mean 'price'?"),
        (["in.jsonl", "--judge", "openai"], "judge.base_url and judge.model is not set"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(source, tmp_path, arguments, sentence):
    write(tmp_path / "broken.jsonl", [{"context": "x"}])
    write(tmp_path / "empty.jsonl", [])
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "wrong", [["--answers", "0"], ["--latency", "-1"], ["--latency", "soon"], ["--answer-tokens", "x"]]
)
def test_a_wrong_number_is_named(source, wrong):
    done = run(source, *wrong)
    assert done.returncode == 2 and repr(wrong[1]) in done.stderr


def test_broken_rows_are_named_and_the_rest_is_estimated(source):
    with source.open("a", encoding="utf-8") as file:
        file.write('not json\n{"context": "x", "query": 3}\n')
    done = run(source)
    assert done.returncode == 1
    assert "6 answers about 2 documents" in done.stdout
    for part in ("in.jsonl:8: not a JSON object", "in.jsonl:9: query must be text, found int", "2 rows were skipped"):
        assert part in done.stderr
