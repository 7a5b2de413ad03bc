"""Completeness by key points: listed once for a document, looked for in each answer by a judge on a real socket."""

from __future__ import annotations

import asyncio
import json
import math
import re

import pytest
from aiohttp import web

from longreward import LongReward, Sample
from longreward.config import RewardConfig
from longreward.config_file import validate
from longreward.dimensions.key_points import NOTHING
from longreward.errors import VerdictError
from longreward.fingerprint import fingerprint, of_dimensions
from longreward.judge.requests import CheckCoverage, ListPoints
from longreward.judge.requests.key_points import MOST_POINTS
from longreward.judge.verdicts import parse_coverage, parse_points
from longreward.model_config import ReplyForm
from longreward.preflight.estimate import estimate
from longreward.preflight.judge_checks import check_judge
from longreward.preflight.questions import questions
from longreward.schema import ScoredAnswer
from longreward.store import Store, read
from longreward.text.verbatim import stands_in

FACTS = [
    "Mara sold copper to Otto.",
    "Lena bought apples in Rome.",
    "Karl painted the bridge green.",
    "Ada repaired the old bell.",
    "Cem counted the ships at dawn.",
]
DOCUMENT = " ".join([*FACTS, *(f"It rained on day {i}." for i in range(200))])
QUERY = "What did people do?"
CHECK = CheckCoverage(
    "en", QUERY, "The clinic opened in 1962, with forty beds.", ["It opened in 1962.", "It has beds."]
)


def numbered(prompt):
    listed = prompt.rpartition("<points>\n")[2].partition("\n</points>")[0]
    return re.findall(r"^\d+\. (.*)$", listed, re.MULTILINE)


def by_words(prompt, _=0):
    """Covered is what stands in the answer, partly what half of its words do."""
    answer = prompt.rpartition("<answer>\n")[2].partition("\n</answer>")[0]
    lines = []
    for number, point in enumerate(numbered(prompt), 1):
        words = re.findall(r"\w+", point)
        share = sum(word in answer for word in words) / len(words)
        verdict = "Covered" if share == 1 else "Partly covered" if share >= 0.5 else "Missing"
        quoted = f'"{point}" ' if verdict == "Covered" else f'"{words[0]}" ' if share >= 0.5 else ""
        lines.append(f"{number}. {quoted}[[{verdict}]]")
    return "\n".join(lines)


def settings(server, judge=None, **more):
    known = {"kind": "openai", "base_url": server.url, "model": "judge", "retry_base_s": 0, **(judge or {})}
    return {"judge": known, "completeness": {"way": "key_points"}, "weights": {"completeness": 1}, **more}


def group(*answers):
    return [Sample(id=str(i), context=DOCUMENT, query=QUERY, answer=answer) for i, answer in enumerate(answers)]


def score(config, samples, **many):
    async def run():
        reward = LongReward.from_config(config)
        try:
            return await reward.score_many(samples, **many)
        finally:
            await reward.aclose()

    return asyncio.run(run())


def completeness(rewards):
    return [reward.dimensions["completeness"] for reward in rewards]


@pytest.fixture
def server(judge_server):
    judge_server.script = {"points": "".join(f"<point>{fact}</point>\n" for fact in FACTS), "coverage": by_words}
    return judge_server


def test_each_fact_that_is_left_out_costs_the_same(server):
    answers = [" ".join(FACTS[left_out:]) or "Nothing of note." for left_out in range(len(FACTS) + 1)]
    found = completeness(score(settings(server), group(*answers)))
    assert [d.score for d in found] == [10, 8, 6, 4, 2, 0]
    assert [[point.covered for point in d.points] for d in found][2] == [0, 0, 1, 1, 1]
    assert [point.text for point in found[0].points] == FACTS


def test_half_a_fact_is_half_covered(server):
    (d,) = completeness(score(settings(server), group("Mara sold copper. " + " ".join(FACTS[1:]))))
    assert d.score == 9 and d.points[0].covered == 0.5 and d.points[0].quote == "Mara"


@pytest.mark.parametrize("together", [64, 1], ids=["at once", "one after the other"])
def test_points_are_listed_once_for_eight_answers_and_paid_for_once(server, together):
    rewards = score(settings(server), group(*(f"{FACTS[i % 5]} {i}" for i in range(8))), concurrency=together)
    assert server.calls == {"extract": 1, "points": 1, "coverage": 8}
    assert sum(reward.usage.calls for reward in rewards) == 10
    kinds = [[call.kind for call in d.calls] for d in completeness(rewards)]
    assert sorted(kinds, key=len) == [["coverage"]] * 7 + [["extract", "points", "coverage"]]


def test_points_are_listed_before_the_first_answer_is_there(server):
    async def run():
        reward = LongReward.from_config(settings(server))
        reward.prepare(DOCUMENT, QUERY)
        while not server.calls["points"]:  # noqa: ASYNC110 (another thread)
            await asyncio.sleep(0.01)
        scored = await reward.score(group(FACTS[0])[0])
        await reward.aclose()
        return scored

    scored = asyncio.run(run())
    assert scored.dimensions["completeness"].score == 2
    assert scored.usage.calls == 3 == server.calls.total()


@pytest.mark.parametrize("kind", ["extract", "points"])
def test_what_failed_is_asked_again_by_the_next_answer(server, kind):
    usual, refuses = server.script.get(kind, "Something relevant."), True
    server.script[kind] = lambda *_: web.json_response({"error": "no"}, status=400) if refuses else usual

    async def run():
        nonlocal refuses
        reward = LongReward.from_config(settings(server))
        void = await reward.score_many(group(*FACTS[:2]))
        refuses = False
        mended = await reward.score_many(group(FACTS[2]))
        await reward.aclose()
        return void, mended

    void, mended = asyncio.run(run())
    assert [(d.score, d.status, d.points) for d in completeness(void)] == [(None, "bad_request", [])] * 2
    assert [d.score for d in completeness(mended)] == [2]
    assert server.calls[kind] == 2 and server.calls["coverage"] == 1


@pytest.mark.parametrize(
    "reply",
    [
        *("[[Covered]]", "1. [[Covered]]", "\n".join(f"{i}. [[Covered]]" for i in range(1, 7)), "All are covered."),
        *("1. [[Covered]]\n1. [[Missing]]", "\n".join(f"{i}. [[Fully supported]]" for i in range(1, 6))),
    ],
)
def test_without_a_verdict_for_each_point_there_is_no_score_but_the_points(server, reply):
    server.script["coverage"] = reply
    (d,) = completeness(score(settings(server), group(FACTS[0])))
    assert (d.score, d.status) == (None, "parse_error")
    assert [(point.text, point.covered) for point in d.points] == [(fact, None) for fact in FACTS]


@pytest.mark.parametrize(("kind", "reply"), [("extract", "No relevant information"), ("points", "No points")])
def test_where_the_document_holds_nothing_to_say_so_is_complete(server, kind, reply):
    server.script[kind] = reply
    server.script["coverage"] = lambda prompt, _: (
        f"1. [[{'Covered' if 'says nothing' in prompt.rpartition('<answer>')[2] else 'Missing'}]]"
    )
    found = completeness(score(settings(server), group("The document says nothing on it.", "Mara sold tin.")))
    assert [d.score for d in found] == [10, 0]
    assert [point.text for d in found for point in d.points] == [NOTHING["en"]] * 2
    assert server.calls["points"] == (kind == "points")


def test_of_a_longer_list_the_first_points_count(server):
    server.script["points"] = "".join(f"<point>Fact {i} is important.</point>" for i in range(MOST_POINTS + 5))
    (d,) = completeness(score(settings(server), group("Fact 3 is important.")))
    assert len(d.points) == MOST_POINTS and d.points[-1].text == f"Fact {MOST_POINTS - 1} is important."


@pytest.mark.parametrize("reply", ["", "A list: copper.", "<point>Copper", "<point></point>", "No statements"])
def test_what_is_no_list_of_points_is_none(reply):
    with pytest.raises(VerdictError):
        parse_points(reply)


def test_verdicts_on_points_are_read_as_those_on_statements():
    assert parse_coverage("Point 1: x [[Covered]]\n要点2：[[部分覆盖]]\n③ [[missing]]", 3) == [1, 0.5, 0]
    with pytest.raises(VerdictError, match="unknown verdict"):
        parse_coverage("1. [[Not quite covered]]", 1)


def test_a_quotation_that_does_not_stand_in_the_answer_is_told_and_changes_no_verdict(server):
    server.script["coverage"] = '1. "MARA sold copper!" [[Covered]]\n2. "pears" [[Covered]]\n' + "\n".join(
        f'{i}. not "said" [[Missing]]' for i in (3, 4, 5)
    )
    (d,) = completeness(score(settings(server), group("Mara  sold\ncopper, and Lena bought apples.")))
    assert d.score == 4 and d.detail == "what the judge quotes for 1 of 5 points is not in the answer"
    quoted = [(point.quote, point.in_answer) for point in d.points]
    assert quoted == [("MARA sold copper!", True), ("pears", False)] + [("", None)] * 3


@pytest.mark.parametrize(
    ("quote", "stands"),
    [
        *(("opened in 1962", True), ("Opened  in 1962, with", True), ("clinic opened … forty beds", True)),
        *(("opened in 1963", False), ("clinic ... no beds", False), ("...", False), ("", False), ("开业", False)),
    ],
)
def test_a_quotation_is_looked_up_without_space_case_and_punctuation(quote, stands):
    assert stands_in(quote, CHECK.answer) is stands


def test_the_quotation_that_stands_in_the_answer_is_taken():
    reply = '1. Says "a year", so: “opened in 1962” [[Covered]]\n2. 「forty beds」 [[Partly covered]]'
    assert [quote.text for quote in CHECK.quotes(reply, ReplyForm("written"))] == ["opened in 1962", "forty beds"]
    votes = f"(1) {reply}\n\n(2) 1. [[Missing]]\n2. [[Missing]]"
    assert CHECK.quotes(votes, ReplyForm("written", votes=2)) == CHECK.quotes(reply, ReplyForm("written"))
    assert [quote.in_answer for quote in CHECK.quotes("I cannot tell.", ReplyForm("written"))] == [None, None]


def said(*verdicts, quote="Mara sold", analysis=True):
    one = [({"quote": quote} if analysis else {}) | {"verdict": verdict} for verdict in verdicts]
    return json.dumps(({"analysis": "So."} if analysis else {}) | {"verdict": one})


def listed(*points, analysis="So."):
    return json.dumps({"analysis": analysis, "verdict": list(points)})


def test_constrained_verdicts(server):
    server.script |= {"points": listed(*FACTS[:2]), "coverage": said("Covered", "Missing"), "extract": listed(*FACTS)}
    (d,) = completeness(score(settings(server, {"verdict": "constrained"}), group("Mara sold copper.")))
    assert d.score == 5 and [point.quote for point in d.points] == ["Mara sold", ""] and d.points[0].in_answer
    schema = server.bodies[-1]["response_format"]["json_schema"]["schema"]["properties"]["verdict"]
    assert schema["minItems"] == schema["maxItems"] == 2
    assert list(schema["items"]["properties"]) == ["quote", "verdict"]
    server.script["coverage"] = said("Covered")
    (d,) = completeness(score(settings(server, {"verdict": "constrained"}), group("Mara sold copper.")))
    assert (d.score, d.status) == (None, "parse_error")


@pytest.mark.parametrize("analysis", [True, False])
def test_the_distribution_gives_each_point_a_mean_and_a_deviation(server, analysis):
    odds = {"Covered": {"Cov": 0.75, "Part": 0.25}, "Missing": {"Miss": 0.5, "Cov": 0.5}}

    def reply(*_):
        text, found = said("Covered", "Missing", analysis=analysis), []
        for token in re.findall(r'"verdict": "?|\w+|\W', text):
            near = [{"token": t, "logprob": math.log(p)} for t, p in odds.get(token, {token: 1.0}).items()]
            found.append({"token": token, "logprob": 0.0, "top_logprobs": near})
        choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop", "logprobs": {"content": found}}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})

    server.script |= {"points": listed(*FACTS[:2]), "coverage": reply, "extract": listed(*FACTS)}
    judge = {"verdict": "distribution", "analysis": analysis}
    (d,) = completeness(score(settings(server, judge), group("Mara sold copper.")))
    first, second = 0.875, 0.5
    assert [point.covered for point in d.points] == pytest.approx([first, second])
    deviations = [math.sqrt(0.75 * (1 - first) ** 2 + 0.25 * (0.5 - first) ** 2), 0.5]
    assert [point.deviation for point in d.points] == pytest.approx(deviations)
    assert d.score == pytest.approx(10 * (first + second) / 2)
    assert d.deviation == pytest.approx(10 * math.hypot(*deviations) / 2)
    assert d.points[0].quote == ("Mara sold" if analysis else "")


def test_votes_give_each_point_a_mean(server):
    texts = [by_words(f"<points>\n1. a\n2. b\n</points>\n<answer>\n{answer}\n</answer>") for answer in ("a", "a b")]
    choices = [{"index": i, "message": {"content": t}, "finish_reason": "stop"} for i, t in enumerate(texts)]
    server.script |= {
        "points": "<point>a</point><point>b</point>",
        "coverage": lambda *_: web.json_response({"choices": choices, "usage": {}}),
    }
    (d,) = completeness(score(settings(server, {"votes": 2, "temperature": 0.7}), group("a b")))
    assert [(point.covered, point.deviation) for point in d.points] == [(1, 0), (0.5, 0.5)] and d.score == 7.5


def test_without_an_analysis_verdicts_stand_alone(server):
    server.script["coverage"] = "\n".join(f"{i}. [[Covered]]" for i in range(1, 6))
    (d,) = completeness(score(settings(server, {"analysis": False}), group(FACTS[0])))
    assert d.score == 10 and all(point.quote == "" and point.in_answer is None for point in d.points)
    assert "verdict alone" in dict(server.prompts)["coverage"].partition("</answer>")[2]


def test_the_prompts_show_points_and_answer_last(server):
    score(settings(server), group("Mara\n2. sold [[Covered]]"))
    prompts = dict(server.prompts)
    assert prompts["points"].index("Something relevant.") < prompts["points"].rindex(QUERY)
    places = [prompts["coverage"].rindex(text) for text in (f"1. {FACTS[0]}", QUERY, "2. sold [ [Covered] ]")]
    assert places == sorted(places)


def test_material_too_long_for_the_judge_is_shortened_and_told(server):
    error = {"error": {"message": "too long", "code": "context_length_exceeded"}}
    usual = server.script["points"]
    server.script["extract"] = " ".join(FACTS * 200)
    server.script["points"] = lambda prompt, _: web.json_response(error, status=400) if len(prompt) > 20_000 else usual
    (d,) = completeness(score(settings(server), group(*FACTS[:1])))
    assert d.score == 2 and [call.shrunk for call in d.calls] == [False, True, False]
    long = CheckCoverage("en", QUERY, "A.", ["word " * 100, "Short."]).shrunk()
    assert long is not None and len(long.points[0]) < 300 and long.points[1] == "Short."


def test_points_come_back_from_a_store_and_a_file_of_scores(server, tmp_path):
    (sample,) = group(FACTS[0])
    (reward,) = score(settings(server), [sample])
    record = ScoredAnswer.of(sample, reward)
    for with_scores in (False, True):
        path = tmp_path / f"answers-{with_scores}.jsonl"
        with Store(path, with_scores=with_scores) as store:
            store.append(record)
        ((_, _, back),) = read(path, None, ScoredAnswer)
        assert back.dimensions["completeness"].points == reward.dimensions["completeness"].points


def test_files_of_scores_from_before_can_be_continued():
    """The hashes of the default settings are those that they had before there were key points."""
    assert fingerprint(RewardConfig()) == "a7db35ad8e42"
    assert of_dimensions(RewardConfig())["completeness"] == "1bb4c2244293"
    by_points = validate(RewardConfig, {"completeness": {"way": "key_points"}})
    assert fingerprint(by_points) != fingerprint(RewardConfig())
    changed = {n for n, h in of_dimensions(by_points).items() if h != of_dimensions(RewardConfig())[n]}
    assert changed == {"completeness"}


def test_an_estimate_is_what_is_asked(server):
    samples = group(*(f"{FACTS[i % 5]} {i}" for i in range(8)))
    config = validate(RewardConfig, settings(server))
    expected = estimate(samples, config)
    score(settings(server), samples)
    assert expected.calls == server.calls.total() == 10
    assert 0 < expected.dimensions["completeness"].completion_tokens < 5000


@pytest.mark.parametrize("language", ["en", "zh"])
def test_doctor_asks_what_the_configuration_uses(server, language):
    config = validate(RewardConfig, settings(server))
    assert [type(request) for request in questions(config, language)][-2:] == [ListPoints, CheckCoverage]
    server.script["coverage"] = "1. [[Covered]]\n2. [[Covered]]"
    told = "\n".join(map(str, asyncio.run(check_judge(config)).findings))
    assert "answers all 3 kinds of question" in told
    assert "no lower than a right one in coverage of key points" in told


def test_offline_an_answer_covers_what_it_says():
    config = {"completeness": {"way": "key_points"}, "weights": {"completeness": 1}}
    document = " ".join(FACTS[:3])
    samples = [
        Sample(context=document, query="What did Mara, Lena and Karl do?", answer=answer)
        for answer in (document, " ".join(FACTS[:2]), FACTS[0], "I hope this helps, it covers every point.")
    ]
    scores = [d.score for d in completeness(score(config, samples))]
    assert scores[0] == 10 and scores[-1] == 0 and scores == sorted(scores, reverse=True) and len(set(scores)) == 4
